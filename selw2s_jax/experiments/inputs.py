"""Everything a run reads, found and checked before any device work: models, tokenizers, tasks, splits."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import fitting, sources, splits, task_files, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, pretrained, tokenizers, weight_files
from selw2s_jax.method import objectives
from selw2s_jax.method import registry as method_registry
from selw2s_jax.models import registry
from selw2s_jax.runtime import artifacts, remote
from selw2s_jax.stages import pretrain
from selw2s_jax.worlds import smoke, world


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that the stages read.

    Attributes:
        weak: None in a run of P(IK) alone.
        by_seed: the splits of each base seed.
        recipes: how the run itself makes models, by role.
        notes: what a reader of the results has to know.
        is_papers_data: whether data and conversion are those of the paper's tables.
    """

    weak: pretrained.Model | None
    strong: pretrained.Model
    by_seed: dict[int, splits.SeedData]
    recipes: dict[str, world.Recipe]
    notes: tuple[str, ...]
    is_papers_data: bool

    @property
    def models(self) -> tuple[pretrained.Model, ...]:
        """Those that there are, the strong one last."""
        return (self.strong,) if self.weak is None else (self.weak, self.strong)

    @property
    def test(self) -> splits.Split:
        """The test set: every seed tests on the same items."""
        return next(iter(self.by_seed.values())).test


def prepare(config: ml_collections.ConfigDict, workdir) -> Inputs:
    """Finds, reads and checks every input.

    Raises:
        UserError: the first thing that is wrong.
    """
    notes: list[str] = []
    # The data first: models can be long downloads.
    by_seed, is_papers_data = read_data(config, workdir, notes)
    is_p_ik_alone = method_registry.is_p_ik_alone(config.methods)
    weak = None if is_p_ik_alone else _find_model(config, "weak", workdir, notes)
    strong = _find_model(config, "strong", workdir, notes)
    for base, data in by_seed.items():
        by_seed[base], dropped = fitting.fit(
            data, weak, strong, overlong=config.data.overlong, ceiling_split=config.ceiling.split
        )
        notes += dropped
    _check_room_to_write(config, by_seed, strong)
    recipes = make_recipes(config, [model for model in (weak, strong) if model], workdir)
    return Inputs(weak, strong, by_seed, recipes, tuple(dict.fromkeys(notes)), is_papers_data)


def read_data(
    config: ml_collections.ConfigDict, workdir, notes: list[str]
) -> tuple[dict[int, splits.SeedData], bool]:
    """The splits of each base seed, of all lengths, and whether data and conversion are those of the paper's tables.

    Args:
        notes: what a reader of the results has to know of the data is added.

    Raises:
        UserError: the first thing that is wrong.
    """
    source = config.data.source
    if source == smoke.GENERATED:
        source = str(smoke.data_folder(workdir / "inputs"))
        notes.append("the questions are generated and the checkpoints random: the numbers mean nothing")
    elif source == world.NAME:
        source = str(world.data_folder(world.world_config(config), workdir / "inputs"))
    task, train_questions, test_questions = _read_task(config, source, notes)
    if task.is_generated and not method_registry.is_p_ik_alone(config.methods):
        raise UserError(
            f"config.task={task.name} has answers to write, not to judge: only P(IK) can be trained and tested on it; "
            "set config.methods=p_ik_only or choose another task"
        )
    test = _convert(config, task, test_questions, config.seed.test_conversion)
    test = splits.sample_examples(test, config.data.num_test, seed=config.seed.test_conversion)
    by_seed = {
        base: _seed_data(config, task, train_questions, test, source, base, notes) for base in config.seeds
    }
    is_papers_data = (
        config.data.train_file is None
        and config.data.source not in (smoke.GENERATED, world.NAME)
        and (config.data.num_train, config.data.num_test) == (20_000, None)
        and config.data.conversion == "coin"
        and not config.weak.label_noise
        and not any(sources.is_divided(one, source=source) for one in _tasks_of(config, task))
    )
    return by_seed, is_papers_data


def _check_room_to_write(config, by_seed: dict[int, splits.SeedData], strong: pretrained.Model) -> None:
    splits_read = [
        split for data in by_seed.values() for split in (data.test, data.p_ik, data.p_ik_test) if split
    ]
    wanted, context = config.generation.max_new_tokens, strong.config.max_seq_len
    if wanted >= context and any(split.task.is_generated for split in splits_read):
        raise UserError(
            f"config.generation.max_new_tokens={wanted} leaves no room for a question in the context of {context} "
            f"tokens of strong.model={strong.name}: lower it"
        )


def _tasks_of(config, task: tasks.Task) -> list[tasks.Task]:
    """The tasks whose questions a run reads: its own, and that of P(IK) unless this is in a file of the user's."""
    reads_another = (
        objectives.needs_p_ik_data(config) and config.p_ik.file is None and not objectives.is_own_task(config)
    )
    return [task, tasks.get_task(config.p_ik.task)] if reads_another else [task]


def _find_model(config, role: str, workdir, notes: list[str]) -> pretrained.Model:
    made = workdir / "inputs"
    section = config[role]
    name = section.model
    if name == world.NAME:
        return world_model(config, role, workdir)
    if name in smoke.RANDOM_MODELS:
        folder = remote.local_copy(smoke.model_folder(name, made))
    else:
        folder = loader.resolve(name, section.revision)
        entry = registry.MODELS.get(name)
        if entry is not None and entry.revision is None and section.revision is None:
            notes.append(f"{role}.model={name}: no revision is pinned, the hub's newest was taken")
    # The strong model answers few-shot prompts, so its language-model head must be there.
    model_config = loader.check_checkpoint(folder, lm_head=role == "strong")
    tokenizer_folder = folder if section.tokenizer is None else section.tokenizer
    tokenizer = tokenizers.load_tokenizer(tokenizer_folder)
    tokenizers.check_tokenizer(tokenizer, model_config.vocab_size, f"{role}.model={name}")
    weights = weight_files.fingerprint(folder, cache_dir=made.parent / ".cache")
    learning_rate = section.learning_rate or config.training.learning_rate
    return pretrained.Model(
        role=role,
        name=name,
        folder=folder,
        config=model_config,
        tokenizer=tokenizer,
        fingerprint=artifacts.content_hash([weights, tokenizer.fingerprint]),
        learning_rate=learning_rate or pretrained.default_learning_rate(model_config),
        max_length=min(config.data.max_length, model_config.max_seq_len),
    )


def make_recipes(config: ml_collections.ConfigDict, models, workdir) -> dict[str, world.Recipe]:
    """How the run itself makes those of its models that it has to make, by role."""
    return {model.role: _make_recipe(config, model.role, workdir) for model in models if model.is_made}


def _make_recipe(config: ml_collections.ConfigDict, role: str, workdir) -> world.Recipe:
    return world.recipe(config, role, world.data_folder(world.world_config(config), workdir / "inputs"))


def world_model(config: ml_collections.ConfigDict, role: str, workdir) -> pretrained.Model:
    """A language model of the generated world, which a stage of the run pretrains."""
    recipe = _make_recipe(config, role, workdir)
    tokenizer = tokenizers.load_tokenizer(recipe.tokenizer_folder)
    folder = artifacts.Store(workdir).path(pretrain.NAME, recipe.inputs)
    return pretrained.Model(
        role=role,
        name=f"{world.NAME}-{config.world.seed}-{role}",
        folder=folder,
        config=recipe.model,
        tokenizer=tokenizer,
        fingerprint=artifacts.content_hash([folder.name, tokenizer.fingerprint]),
        learning_rate=(
            config[role].learning_rate
            or config.training.learning_rate
            or pretrained.default_learning_rate(recipe.model)
        ),
        max_length=min(config.data.max_length, recipe.model.max_seq_len),
        is_made=True,
    )


def _read_task(config, source: str, notes: list[str]):
    if config.data.train_file is not None:
        if config.task in tasks.TASKS:
            notes.append(
                f"task {config.task} is {config.data.train_file} here, not the data set of that name: "
                "call it otherwise by config.task=NAME"
            )
        train, test = task_files.load_user_splits(config.task, config.data.train_file, config.data.test_file)
        return task_files.user_task(config.task, train, instruction=config.data.instruction), train, test
    task = tasks.get_task(config.task, role="config.task")
    if config.data.instruction is not None:
        task = dataclasses.replace(task, instruction=config.data.instruction)
    notes += sources.notes(task, source=source)
    train = sources.load_questions(task, "train", source=source)
    return task, train, sources.load_questions(task, "test", source=source)


def _convert(config, task: tasks.Task, questions, seed: int) -> list[tasks.Example]:
    return tasks.convert(task, questions, mode=config.data.conversion, seed=seed)


def _seed_data(config, task, train_questions, test, source, base: int, notes: list[str]) -> splits.SeedData:
    examples = _convert(config, task, train_questions, config_lib.seed_for(config, base, "conversion"))
    if method_registry.is_p_ik_alone(config.methods):
        halves, read = (None, None), test
        shot_source = [example for example in examples if not example.is_of_any(_questions_of(test))]
    else:
        halves = splits.sample_and_halve(
            examples,
            num_train=config.data.num_train,
            seed=config_lib.seed_for(config, base, "split"),
            sample=config.data.sample,
        )
        shot_source, read = halves[0], [*halves[1], *test]
    shots = ()
    if _uses_shots(config):
        num_shots, shot_seed = config.self_label.num_shots, config_lib.seed_for(config, base, "shots")
        shots = splits.pick_shots(shot_source, num_shots=num_shots, seed=shot_seed)
    p_ik = p_ik_test = None
    if objectives.needs_p_ik_data(config):
        p_ik = _p_ik_split(config, (task, examples), read, source, base, notes)
        p_ik_test = _p_ik_test_split(config, source, p_ik, notes)
    make = functools.partial(splits.Split, task=task, prompt=config.p_ik.prompt, shots=shots)
    return splits.SeedData(*(half and make(half) for half in halves), make(test), p_ik, p_ik_test)


def _questions_of(examples: Iterable[tasks.Example]) -> set[str]:
    return {name for example in examples for name in example.known_as}


def _uses_shots(config) -> bool:
    """Whether any model reads solved problems of the task: only few-shot answers and fewshot inputs do."""
    methods = [method_registry.METHODS[name] for name in config.methods]
    answers_half = config.self_label.source == "fewshot" and any(m.uses_self_labels for m in methods)
    answers_test = config.p_ik.num_test > 0 or method_registry.is_p_ik_alone(config.methods)
    return answers_half or answers_test or config.p_ik.prompt == "fewshot"


def _p_ik_split(
    config, own, read: Sequence[tasks.Example], source, base: int, notes: list[str]
) -> splits.Split:
    """The examples that P(IK) is trained on, with ground truth: none is of a question that is read elsewhere.

    Args:
        own: the run's own task and the examples of its train split.
        read: the examples of the student and of the test.
    """
    section = config.p_ik
    if objectives.is_own_task(config) and section.data is None:
        task, examples = own
    else:
        task, questions = _p_ik_questions(config, source, notes)
        examples = _convert(config, task, questions, config_lib.seed_for(config, base, "conversion"))
    elsewhere = _questions_of(read)
    left = [example for example in examples if not example.is_of_any(elsewhere)]
    if len(left) < len(examples):
        dropped = len(examples) - len(left)
        notes.append(
            f"p_ik: {dropped} of {len(examples)} examples dropped, as the student or the test has them"
        )
    if not left:
        raise UserError(
            "every P(IK) example is one of the student's or the test's; choose another p_ik.task or file"
        )
    num_shots, shot_seed = config.self_label.num_shots, config_lib.seed_for(config, base, "shots")
    shots = splits.pick_shots(left, num_shots=num_shots, seed=shot_seed)
    shown = {shot.group for shot in shots}
    rest = [example for example in left if example.group not in shown]
    if not rest:
        raise UserError(
            f"config.self_label.num_shots={num_shots} takes every question of {task.name} that P(IK) could be trained "
            "on: lower it"
        )
    split_seed = config_lib.seed_for(config, base, "split")
    rest = splits.sample_examples(rest, section.num_train, seed=split_seed, sample=config.data.sample)
    return splits.Split(rest, task, section.prompt, shots)


def _p_ik_questions(config, source, notes: list[str]):
    """The task that P(IK) is trained on, where it is not the run's own, and its questions."""
    section = config.p_ik
    if section.file is None:
        task = tasks.get_task(section.task, role="config.p_ik.task")
        notes += sources.notes(task, source=source)
        return task, sources.load_questions(task, "train", source=source, subsets=section.data)
    questions = task_files.load_user_questions(section.file, section.task, "train")
    is_alone = method_registry.is_p_ik_alone(config.methods)
    students = [] if is_alone else [config.data.train_file, config.data.test_file]
    own = [remote.local_copy(path) for path in students if path]
    if any(path.exists() and path.samefile(remote.local_copy(section.file)) for path in own):
        raise UserError(
            f"config.p_ik.file={section.file} is the student's own file, whose ground truth it must not see; "
            "choose another file"
        )
    if section.task in tasks.TASKS:
        notes.append(
            f"p_ik.task={section.task} is {section.file} here, not the data set of that name: call it otherwise by "
            "config.p_ik.task=NAME"
        )
    return task_files.user_task(section.task, questions), questions


def _p_ik_test_split(config, source, p_ik: splits.Split, notes: list[str]) -> splits.Split | None:
    """Questions of the P(IK) task's test split, the same for every seed, with the prompt of the P(IK) examples.

    None in a run of P(IK) alone: what it is tested on is the run's own test set.
    """
    section = config.p_ik
    if not section.num_test:
        return None
    if method_registry.is_p_ik_alone(config.methods):
        notes.append(
            f"p_ik.num_test={section.num_test} is not used: P(IK) alone is tested on config.task={config.task}"
        )
        return None
    task = tasks.get_task(section.task)
    questions = sources.load_questions(task, "test", source=source, subsets=section.data)
    examples = _convert(config, task, questions, config.seed.test_conversion)
    examples = splits.sample_examples(examples, section.num_test, seed=config.seed.test_conversion)
    trained = _questions_of((*p_ik.examples, *p_ik.shots))
    held_out = [example for example in examples if not example.is_of_any(trained)]
    if len(held_out) < len(examples):
        notes.append(
            f"p_ik test: {len(examples) - len(held_out)} of {len(examples)} examples dropped, as P(IK) trains on them"
        )
    if not held_out:
        raise UserError(
            f"config.p_ik.num_test={section.num_test}: P(IK) trains on every question of {task.name}'s test split; "
            "set it to 0 or choose another p_ik.task"
        )
    return dataclasses.replace(p_ik, examples=held_out)
