"""Checks of a config whose models learn classes: weak models, own labels, P(IK), calibration, kernels, teachers."""

from selw2s_jax.data import members, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import teachers
from selw2s_jax.method import objectives, registry

MOST_KERNEL_ROWS = 10_000


def _check_self_labels(config) -> None:
    section = config.self_label
    if section.num_shots % 2 or section.num_shots < 2:
        raise UserError(
            f"config.self_label.num_shots={section.num_shots} must be even and at least 2: "
            "the shots hold as many right as wrong answers"
        )
    if section.source == "file" and section.file is None:
        raise UserError("config.self_label.source=file needs self_label.file: JSONL of {example_id, label}")
    if section.soft and section.source == "class_head":
        raise UserError("config.self_label.soft=True has no meaning with self_label.source=class_head")


def _check_p_ik(config) -> None:
    section = config.p_ik
    if section.num_test and section.file is not None:
        raise UserError(
            "config.p_ik.num_test tests P(IK) on p_ik.task's test split: set it to 0 with p_ik.file"
        )
    if section.mask == "file" and section.scores_file is None:
        raise UserError("config.p_ik.mask=file needs p_ik.scores_file: JSONL of {example_id, p_ik}")
    uses_p_ik = [method for name in config.methods if (method := registry.METHODS[name]).uses_p_ik]
    is_read = not uses_p_ik or any(method.p_ik_from == "config" for method in uses_p_ik)
    if section.stage == "frozen" and section.mask == "online" and is_read:
        raise UserError(
            "config.p_ik.stage=frozen has no head in training: set p_ik.mask=frozen_scores (or file)"
        )
    has_students = not registry.is_p_ik_alone(config.methods)
    if has_students and objectives.needs_p_ik_data(config) and objectives.is_own_task(config):
        raise UserError(
            f"config.p_ik.task={section.task} is the student's own task, whose ground truth it must not see; "
            "choose another task"
        )


def _check_members(config) -> None:
    section, every = config.weak, members.of(config)
    if section.members and section.model is not None:
        raise UserError(
            f"config.weak.members={','.join(section.members)} are in the place of weak.model={section.model}: "
            "set weak.model=None, or leave weak.members out"
        )
    if "" in (names := [member.model for member in every]):
        raise UserError(
            f"config.weak.members={','.join(section.members)} holds a task without a model: MODEL@TASK"
        )
    if len(set(names)) > 1 and (
        given := [key for key in ("revision", "tokenizer") if section[key] is not None]
    ):
        raise UserError(
            f"config.weak.{given[0]}={section[given[0]]} is of one model, and weak.members name "
            f"{', '.join(dict.fromkeys(names))}: give folders as members, or leave it out"
        )
    for name in members.other_tasks(config):
        if tasks.get_task(name, role="task of config.weak.task or weak.members").is_generated:
            raise UserError(
                f"config.weak.task or weak.members: {name} has answers to write, not to judge; choose another task"
            )
    _check_disagreement(config, len(every))


def _check_disagreement(config, num_models: int) -> None:
    """That there are several weak models where a method chooses or weighs by how far they disagree."""
    if config.selection.disagreement_above < 0:
        raise UserError(
            f"config.selection.disagreement_above={config.selection.disagreement_above} must not be negative"
        )
    for name in config.methods:
        method = registry.METHODS[name]
        selector = method.rule_options.get("selector", config.selection.selector)
        if num_models < 2 and method.weight is not None:
            raise UserError(
                f"method {name!r} weighs rows by how many weak models agree, and there is one: name several by "
                "weak.members, or choose another method"
            )
        if num_models < 2 and method.label_rule == "selective" and selector == "by_disagreement":
            raise UserError(
                f"method {name!r} chooses by how far weak models disagree, and there is one: name several by "
                "weak.members, or choose another method or selection.selector"
            )


def _check_calibration(config) -> None:
    if config.calibration.folds < 2:
        raise UserError(
            f"config.calibration.folds={config.calibration.folds} must be 2 or more: weak models are trained on all "
            "folds but one"
        )


_KERNEL_MATRICES = 6  # of n x n float64 that are there at a time


def _check_kernels(config) -> None:
    num_rows = config.analysis.num_rows
    if num_rows < 2:
        raise UserError(f"config.analysis.num_rows={num_rows} must be 2 or more: kernels compare rows")
    if num_rows > MOST_KERNEL_ROWS:
        needed = _KERNEL_MATRICES * 8 * num_rows**2 / 1e9
        raise UserError(
            f"config.analysis.num_rows={num_rows} would take {needed:.0f} GB for matrices of that many rows and "
            f"columns in float64: set it to {MOST_KERNEL_ROWS} or less"
        )


def _check_chain(config) -> None:
    if "chain" in teachers.read_by(config) and not config.chain.models:
        raise UserError(
            "config.chain.models is empty, and method 'chain' hands labels on over models between the weak and the "
            "strong one: name them, or leave out chain"
        )


CHECKS = (_check_members, _check_self_labels, _check_p_ik, _check_calibration, _check_kernels, _check_chain)
