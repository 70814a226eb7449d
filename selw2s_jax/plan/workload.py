"""What a run works on: its models by their sizes, and its stages and batches as far as data is at hand.

Nothing is downloaded, and no weights are needed.
"""

import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from selw2s_jax.data import answer_tokens, batches, members, splits, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import continual, data, inputs, selective
from selw2s_jax.hf import loader, pretrained, tokenizers
from selw2s_jax.method import objectives
from selw2s_jax.method import registry as method_registry
from selw2s_jax.models import registry
from selw2s_jax.run import forms
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import train, training
from selw2s_jax.worlds import smoke, world

# Tokens of rows that are planned for where nothing was measured; a guess at the usual example of each task.
DEFAULT_LENGTHS = {"sciq": (128,), "boolq": (256, 512), "cosmos_qa": (256,), "arc": (128,), "gsm8k": (256,)}
_OTHER_LENGTHS = (128, 512)
# Questions of the splits that are trained on and tested on, as the hub has them (ARC: Easy and Challenge together).
_PUBLISHED = {
    "sciq": (11_679, 1_000),
    "boolq": (9_427, 3_270),
    "cosmos_qa": (25_262, 2_985),
    "arc": (3_370, 3_548),
    "winogrande": (40_398, 1_267),
}


class Sizes(NamedTuple):
    """Of the examples of a train step.

    Attributes:
        length: tokens of each.
        shape: (rows, tokens) of a batch, its micro-batches together, where batches were packed.
        num_answer: of its tokens, those of the answer that is learnt; 0 of class heads.
        num_places: that a row of this shape has for answer tokens.
    """

    length: int
    shape: tuple[int, int] | None = None
    num_answer: int = 0
    num_places: int | None = None

    @property
    def of_completion(self) -> dict[str, Any]:
        """As `Programs.completion_step` takes them: a prompt has a token at least, an answer too."""
        num_answer = max(min(self.num_answer, self.length - 1), 1)
        return self._asdict() | {"num_answer": num_answer, "length": max(self.length, 2)}


def default_sizes(config: ml_collections.ConfigDict) -> tuple[Sizes, ...]:
    """Of examples of the config's task, within its limit."""
    lengths = DEFAULT_LENGTHS.get(config.task, _OTHER_LENGTHS)
    return tuple(Sizes(one) for one in dict.fromkeys(min(one, config.data.max_length) for one in lengths))


def find_model(config: ml_collections.ConfigDict, role: str, workdir, number: int = 0) -> pretrained.Model:
    """A model by its sizes; with its tokenizer where that is at hand, and never with weights.

    Args:
        number: as of `pretrained.Model`.

    Raises:
        UserError: sizes that are neither in the registry nor in a config.json at hand.
    """
    section, made = inputs.section_of(config, role, number), workdir / "inputs"
    name, tokenizer = section.model, None
    if name == world.NAME:
        return inputs.world_model(config, role, inputs.make_recipes(config, workdir), workdir, number)
    folder = None
    if name in smoke.RANDOM_MODELS:
        folder = smoke.model_folder(name, made)
        sizes = loader.read_model_config(folder)
    else:
        entry = registry.find_model(name)
        try:
            folder = loader.resolve(name, section.revision)
        except UserError:
            if entry is None:
                raise
        sizes = loader.read_model_config(folder) if entry is None else entry.config
    tokenizer_folder = section.tokenizer or folder
    if tokenizer_folder is not None:
        try:
            tokenizer = tokenizers.load_tokenizer(tokenizer_folder, bos=config.model.bos)
        except UserError:
            if section.tokenizer is not None:
                raise
    return pretrained.Model(
        role=role,
        name=name,
        folder=pathlib.Path(folder or name),
        config=sizes,
        tokenizer=tokenizer,
        fingerprint="" if tokenizer is None else tokenizer.fingerprint,
        learning_rate=section.learning_rate
        or config.training.learning_rate
        or pretrained.default_learning_rate(sizes),
        max_length=min(config.data.max_length, sizes.max_seq_len),
        number=number,
    )


class Stage(NamedTuple):
    """A stage of the run.

    Attributes:
        is_done: whether its artifact is in the workdir; None where the weights that its key names are not at hand.
    """

    label: str
    detail: str
    is_done: bool | None


class Training(NamedTuple):
    """The batches of a training run.

    Attributes:
        label: whose.
        num_examples: by kind, "task" and "p_ik".
        num_tokens: that are trained on, over the whole run; None without a tokenizer, and of probes, as the following.
        num_slots: of tokens in all rows, padding included.
        shapes: (rows, tokens) of the micro-batches.
        mean_share: of the slots that batches of the largest shape have, those that batches have on average.
        mean_length: tokens of an example on average.
        mean_answer: those of its answer, which a model learns to write; 0 of class heads.
        places: of each shape, that a row of it has for answer tokens.
        num_micro: micro-batches of a step.
    """

    label: str
    role: str
    num_examples: dict[str, int]
    num_steps: int
    num_tokens: int | None = None
    num_slots: int | None = None
    shapes: tuple[tuple[int, int], ...] = ()
    mean_share: float = 1.0
    mean_length: float | None = None
    mean_answer: float = 0.0
    places: tuple[int, ...] = ()
    num_micro: int = 1

    @property
    def is_of_p_ik_alone(self) -> bool:
        """Whether no task is learnt in it."""
        return set(self.num_examples) == {"p_ik"}

    def sizes(self, shape: tuple[int, int]) -> Sizes:
        """Of examples, as batches have them whose micro-batches have that shape."""
        num_rows, length = shape
        of_batch = (num_rows * self.num_micro, length)
        if not self.mean_answer:
            return Sizes(length, of_batch)
        num_places = self.places[self.shapes.index(shape)]
        return Sizes(round(self.mean_length), of_batch, max(round(self.mean_answer), 1), num_places)

    @property
    def largest(self) -> Sizes:
        """Those of its largest batches."""
        return self.sizes(max(self.shapes, key=math.prod))


class Workload(NamedTuple):
    """What is known of a run without running it.

    Attributes:
        models: by slot, the strong one last.
        stages: in their order.
        trainings: of the first seed, one for all students with the same batches; none where data is not at hand.
        missing: what is not at hand, and what is not known for it.
        ordered: the stages themselves, of all seeds, for `total.of_stages`; none where sizes of the data are not known.
    """

    models: dict[str, pretrained.Model]
    stages: tuple[Stage, ...]
    trainings: tuple[Training, ...]
    missing: tuple[str, ...]
    ordered: tuple[stage_lib.Stage, ...] = ()


MakeBatches = Callable[..., batches.TrainBatches]


class Source(NamedTuple):
    """Where the workload of a form of supervision comes from.

    Attributes:
        read: (config, models, workdir) -> inputs, of models without weights or tokenizers; a UserError where data is
            not at hand.
        published: config -> sizes of the splits, as far as they are published; None where that does not say them.
        without_data: (config, models, sizes) -> inputs that can be counted alone; empty without sizes.
        experiment: (config, inputs) -> the `run.forms.Experiment`.
        trainings: (config, experiment) -> those that are listed, by label.
    """

    read: Callable[..., Any]
    published: Callable[[ml_collections.ConfigDict], dict[str, int] | None]
    without_data: Callable[..., Any]
    experiment: Callable[..., Any]
    trainings: Callable[..., dict[str, training.Training]]


def find_models(config: ml_collections.ConfigDict, workdir) -> dict[str, pretrained.Model]:
    """The models of a run by `pretrained.Model.slot`, the strong one last."""
    find = functools.partial(find_model, config, workdir=workdir)
    weak = () if method_registry.is_p_ik_alone(config.methods) else inputs.find_weak(config, find)
    return {model.slot: model for model in (*weak, *inputs.find_chain(config, find), find("strong"))}


def _of_role(models: dict[str, pretrained.Model], role: str) -> tuple[pretrained.Model, ...]:
    return tuple(model for model in models.values() if model.role == role)


def find(
    config: ml_collections.ConfigDict, workdir, make_batches: MakeBatches, source: Source | None = None
) -> Workload:
    """Looks for models, data and tokenizers.

    Args:
        make_batches: `programs.Programs.train_batches`, whose rows are those of the target's mesh.
        source: of the config's form of supervision; default that of class heads.
    """
    source, models = source or CLASS_HEADS, find_models(config, workdir)
    try:
        found = source.read(config, models, workdir)
    except UserError as error:
        reason = str(error).partition(" - ")[0]
        if "OfflineModeIsEnabled" in reason:  # by `targets.set_environment`
            reason = "not on this machine, and a plan downloads nothing"
        sizes = source.published(config)
        unknown = "sizes of splits, steps and token counts are not known"
        if sizes is not None:
            unknown = "token counts are not known; hours are those of the published sizes"
        targets = _targets(source.experiment(config, source.without_data(config, models, sizes)))
        ordered = stage_lib.in_order(targets, identity=lambda stage: stage.label) if sizes else ()
        return Workload(
            models,
            _outline(targets, has_data=False),
            (),
            (f"the data ({reason}): {unknown}",),
            tuple(ordered),
        )
    missing = []
    if without := list(dict.fromkeys(model.role for model in models.values() if model.tokenizer is None)):
        missing.append(
            f"the tokenizer of the {' and '.join(without)} model: token counts are not known, nor which examples are "
            "too long"
        )
    has_weights = all(_has_weights(config, model) for model in models.values())
    if not has_weights:
        missing.append("the weights: which stages are done is not known")
    has_keys = has_weights and not without
    if has_keys:
        found = forms.get(config).prepare(config, workdir)  # with fingerprints of the weights
    experiment = source.experiment(config, found)
    stages = _targets(experiment)
    ordered = stage_lib.in_order(stages, identity=lambda stage: stage.label)
    if not without:
        for stage in ordered:
            stage.check()
    if has_keys:
        listed = _list_stages(forms.get(config).experiment(config, found), workdir)
    else:
        listed = _outline(stages, has_data=True)
    chosen = source.trainings(config, experiment)
    trainings = tuple(_training(label, stage, make_batches) for label, stage in chosen.items())
    return Workload(models, listed, trainings, tuple(missing), tuple(ordered))


def _has_weights(config: ml_collections.ConfigDict, model: pretrained.Model) -> bool:
    if model.is_made or model.name in smoke.RANDOM_MODELS:
        return True
    try:
        section = inputs.section_of(config, model.role, model.number)
        loader.check_checkpoint(loader.resolve(model.name, section.revision), lm_head=model.role == "strong")
    except UserError:
        return False
    return True


def _read(config: ml_collections.ConfigDict, models: dict[str, pretrained.Model], workdir) -> inputs.Inputs:
    """As `inputs.prepare`, for models without weights or tokenizers."""
    reader = data.DataReader(config, workdir)
    by_seed, notes = reader.read(), reader.notes
    if all(model.tokenizer is not None for model in models.values()):
        by_seed, dropped = inputs.fit(
            config, by_seed, _of_role(models, "weak"), models["strong"], _of_role(models, "chain")
        )
        notes += dropped
    return _inputs(models, by_seed, inputs.make_recipes(config, workdir), tuple(notes))


def _inputs(models: dict[str, pretrained.Model], by_seed, recipes, notes: tuple[str, ...]) -> inputs.Inputs:
    weak, chain = _of_role(models, "weak"), _of_role(models, "chain")
    return inputs.Inputs(weak, models["strong"], by_seed, recipes, notes, False, chain=chain)


def _list_stages(experiment: selective.Experiment, workdir) -> tuple[Stage, ...]:
    store, stages = artifacts.Store(workdir), stage_lib.in_order(_targets(experiment))
    # Those of an earlier task, which models go on from, are listed with that.
    last = experiment.last if isinstance(experiment, continual.Experiment) else None
    earlier = {stage.key for stage in stage_lib.in_order(_targets(last))} if last else set()
    return tuple(
        Stage(stage.label, stage.detail, stage_lib.find(store, stage) is not None)
        for stage in stages
        if stage.key not in earlier
    )


def _outline(targets: list[stage_lib.Stage], *, has_data: bool) -> tuple[Stage, ...]:
    """The stages where their keys are not known: by label, with their sizes where the splits are at hand."""
    ordered = stage_lib.in_order(targets, identity=lambda stage: stage.label)
    return tuple(Stage(stage.label, stage.detail if has_data else "", None) for stage in ordered)


def _targets(experiment: selective.Experiment) -> list[stage_lib.Stage]:
    return [stage for of_model in experiment.targets() for stage in of_model]


def _published(config: ml_collections.ConfigDict) -> dict[str, int] | None:
    """Examples of the splits by what is published of the config's data sets; None where that does not say it."""
    own = (
        config.data.train_file,
        config.data.test_file,
        config.p_ik.file,
        config.p_ik.data,
        config.weak.task,
    )
    is_usual = config.data.source == "hub" and config.data.conversion == "coin" and not any(own)
    by_rows = config.weak.members or config.evaluation.held_out or config.continual.tasks
    if not is_usual or by_rows or not {config.task, config.p_ik.task} <= _PUBLISHED.keys():
        return None
    (num_train, num_test), of_p_ik = _PUBLISHED[config.task], _PUBLISHED[config.p_ik.task]
    return {
        "half": min(config.data.num_train, num_train) // 2,
        "test": min(config.data.num_test or num_test, num_test),
        "p_ik": min(config.p_ik.num_train or of_p_ik[0], of_p_ik[0]),
        "p_ik_test": min(config.p_ik.num_test, of_p_ik[1]),
    }


def _without_data(
    config: ml_collections.ConfigDict,
    models: dict[str, pretrained.Model],
    sizes: dict[str, int] | None = None,
) -> inputs.Inputs:
    """Inputs with the splits that the config asks for, which can be counted alone; empty without `sizes`."""

    def split(name: str, size: str = "half") -> splits.Split:
        task = tasks.TASKS.get(name, tasks.TASKS["sciq"])  # a user's own is judged like SciQ
        return splits.Split(range(sizes[size] if sizes else 0), task, config.p_ik.prompt, ())

    has_halves, has_p_ik = "weak" in models, objectives.needs_p_ik_data(config)
    halves = (split(config.task), split(config.task)) if has_halves else (None, None)
    p_ik = split(config.p_ik.task, "p_ik") if has_p_ik else None
    has_p_ik_test = has_p_ik and config.p_ik.num_test and not objectives.is_own_task(config)
    p_ik_test = split(config.p_ik.task, "p_ik_test") if has_p_ik_test else None
    of_weak = {task: split(task) for task in members.other_tasks(config)}
    held_out = split(config.task) if has_halves and config.evaluation.held_out else None
    of_seed = splits.SeedData(*halves, split(config.task, "test"), p_ik, p_ik_test, held_out, of_weak)
    return _inputs(models, dict.fromkeys(config.seeds, of_seed), {}, ())


def _trainings(config: ml_collections.ConfigDict, experiment: selective.Experiment) -> dict[str, train.Train]:
    """One for all students with the same batches."""
    seed = config.seeds[0]
    if not experiment.inputs.weak:
        chosen = {"P(IK)": experiment.p_ik_model(seed)}
    else:
        chosen = {
            experiment.name_of(number): experiment.weak(seed, number)
            for number in range(len(experiment.inputs.weak))
        }
        chosen["ceiling"] = experiment.ceiling(seed)
        students = [experiment.student(seed, name) for name in config.methods]
        chosen |= _earlier_students(students)
        for which, has_p_ik in (("without", False), ("with", True)):
            alike = [s for s in students if s.task is not None and (s.p_ik is not None) == has_p_ik]
            whole = [s for s in alike if len(s.task) == len(s.task.split)]
            chosen |= {s.label: s for s in alike if s not in whole}
            if whole:  # all have the same batches
                chosen[f"students {which} P(IK)"] = whole[0]
    return chosen


def _earlier_students(students: list[train.Train]) -> dict[str, train.Train]:
    """The students that teach these, by label."""
    needed = stage_lib.in_order(students, identity=lambda stage: stage.label)
    return {
        stage.label: stage
        for stage in needed
        if isinstance(stage, train.Train) and stage.role == "student" and stage not in students
    }


def _training(label: str, stage: training.Training, make_batches: MakeBatches) -> Training:
    names = {batches.TASK: "task", batches.P_IK: "p_ik"}
    num_examples = {names[kind]: number for kind, number in stage.num_expected.items()}
    listed = Training(label, stage.model.slot, num_examples, stage.num_steps)
    if stage.model.tokenizer is None or stage.is_probe:
        return listed
    sets = stage.expected_sets()
    sizes = {kind: stage.batch_sizes[kind] for kind in sets}
    data = make_batches(stage.model, sets, sizes, stage.num_steps, stage.order_seed)
    largest = max(rows * length for rows, length in data.shapes) * data.num_micro
    answers = [
        one.columns[answer_tokens.COLUMN] for one in sets.values() if answer_tokens.COLUMN in one.columns
    ]
    return listed._replace(
        num_tokens=data.num_tokens,
        num_slots=data.num_slots,
        shapes=tuple(data.shapes),
        mean_share=data.num_slots / (stage.num_steps * largest),
        mean_length=data.num_tokens / (stage.num_steps * sum(sizes.values())),
        mean_answer=float(np.mean(np.concatenate(answers))) if answers else 0.0,
        places=tuple(data.answer_places),
        num_micro=data.num_micro,
    )


CLASS_HEADS = Source(_read, _published, _without_data, selective.Experiment, _trainings)
