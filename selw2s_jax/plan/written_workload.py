"""What a run works on whose models write, as far as data and tokenizers are at hand; see `plan.workload`."""

import itertools

import ml_collections

from selw2s_jax.data import tasks, variation_plans, variations, written_splits, written_tasks
from selw2s_jax.experiments import inputs, written, written_data, written_inputs
from selw2s_jax.hf import pretrained
from selw2s_jax.plan import workload
from selw2s_jax.stages import complete, training

# Tokens of a prompt with its answer, and of the answer, where nothing was measured. Means of prompts alone and of
# answers by the tokenizer of Llama 2: HellaSwag 155 and 18, MMLU 166 and 14, ETHICS 289 and 3, GSM8K 111 and 127 with
# the solution.
_LENGTHS = {"hellaswag": (192, 18), "mmlu": (192, 14), "ethics_commonsense": (320, 3), "gsm8k": (256, 127)}
_OTHER = (256, 16)
# Questions of each role as the hub has them (`written_catalogue`).
_PUBLISHED = {
    "hellaswag": (5_000, 5_000, 5_000),
    "mmlu": (285, 1_531, 14_042),
    "ethics_commonsense": (6_955, 6_955, 3_885),
    "gsm8k": (3_736, 3_737, 1_319),
}
# Kinds of variations that can be planned of questions without text; of the others each is of other words.
_WITHOUT_TEXT = ("permutation", "words", "sampling", variation_plans.MODEL)


def default_sizes(config: ml_collections.ConfigDict) -> tuple[workload.Sizes, ...]:
    """Of the rows of the config's task, within its limit."""
    length, num_answer = _LENGTHS.get(config.task, _OTHER)
    return (workload.Sizes(min(length, config.data.max_length), num_answer=num_answer),)


def _read(config: ml_collections.ConfigDict, models: dict[str, pretrained.Model], workdir):
    """As `written_inputs.prepare`, for models without weights or tokenizers."""
    found, weak, strong = written_data.read(config, workdir), models["weak"], models["strong"]
    if weak.tokenizer is None or strong.tokenizer is None:
        data = next(iter(found.by_seed.values()))
        sizes = {role: len(getattr(data, role)) for role in written_tasks.ROLES}
        return _stand_ins(config, models, sizes, data.test.task)
    by_seed, plans, dropped = written_inputs.vary(config, found.by_seed, weak, strong)
    recipes = inputs.make_recipes(config, workdir)
    notes = (*found.notes, *dropped)
    return written_inputs.Inputs(weak, strong, by_seed, plans, recipes, notes, found.is_papers_data)


def _published(config: ml_collections.ConfigDict) -> dict[str, int] | None:
    data, numbers = config.data, _PUBLISHED.get(config.task)
    if numbers is None or data.source != "hub" or data.train_file is not None or data.mmlu_train != "dev":
        return None
    sizes = dict(zip(written_tasks.ROLES, numbers, strict=True))
    limits = {"weak": data.num_train // 2, "student": data.num_train // 2, "test": data.num_test}
    return {role: min(size, limits[role] or size) for role, size in sizes.items()}


def _without_data(
    config: ml_collections.ConfigDict, models: dict[str, pretrained.Model], sizes: dict[str, int] | None
):
    task = written_tasks.WRITTEN_TASKS.get(config.task, written_tasks.WRITTEN_TASKS["hellaswag"])
    return _stand_ins(config, models, sizes or dict.fromkeys(written_tasks.ROLES, 0), task)


def _stand_ins(
    config: ml_collections.ConfigDict,
    models: dict[str, pretrained.Model],
    sizes: dict[str, int],
    task: written_tasks.WrittenTask,
) -> written_inputs.Inputs:
    """Inputs with questions that can be counted, and say nothing."""
    words = next(iter(task.instructions_by_words), ("a", "b"))
    choices = words if task.kind == "words" else ("a", "b", "c", "d")

    def split(role: str) -> written_splits.WrittenSplit:
        made = [
            tasks.Question(f"{task.name}/{role}/{number}", "", choices, 0, solution="1")
            for number in range(sizes[role])
        ]
        return written_splits.WrittenSplit(task, made)

    data = written_splits.WrittenData(*map(split, ("weak", "student", "test")))
    varied = written_data.variation_settings(config, config.seeds[0], ())
    if variation_plans.kind_of(task.kind, varied) in _WITHOUT_TEXT:
        plan = variation_plans.plan(data.student, varied)
    else:
        texts = (f"in other words {number}" for number in range(varied.count))
        plan = [tuple(variations.Variation(text=text) for text in texts)] * len(data.student)
    by_seed, plans = dict.fromkeys(config.seeds, data), dict.fromkeys(config.seeds, plan)
    return written_inputs.Inputs(models["weak"], models["strong"], by_seed, plans, {}, (), False)


def _trainings(
    config: ml_collections.ConfigDict, experiment: written.Experiment
) -> dict[str, training.Training]:
    """Weak model, P(IK), ceiling, and one for all methods with as many rows; the one with the most of them last."""
    seed = config.seeds[0]
    students = [(name, experiment.student(seed, name)) for name in config.methods]
    chosen: dict[str, training.Training] = {"weak": experiment.weak(seed)}
    if experiment.has_p_ik:
        chosen["P(IK)"] = experiment.p_ik_model(seed)
    chosen["ceiling"] = experiment.ceiling(seed)

    def size(one: tuple[str, complete.Complete]) -> int:
        return one[1].rows.num_expected

    for number, of_number in itertools.groupby(sorted(students, key=size), key=size):
        (name, stage), *others = of_number
        if number:
            chosen[name + (f" and {len(others)} more" if others else "")] = stage
    return chosen


COMPLETIONS = workload.Source(_read, _published, _without_data, written.Experiment, _trainings)
