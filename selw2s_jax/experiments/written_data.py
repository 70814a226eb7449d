"""Questions of a run whose models write, found and read before any device work, and how they are varied."""

from collections.abc import Collection
from typing import NamedTuple

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import (
    answers,
    doubts,
    variation_plans,
    written_rows,
    written_splits,
    written_tasks,
)
from selw2s_jax.errors import UserError
from selw2s_jax.worlds import smoke, world


class Read(NamedTuple):
    """What was read.

    Attributes:
        by_seed: the questions of each base seed, by role.
        notes: what a reader of the results has to know.
        doubts: those of the notes that are reasons to doubt the results.
        is_papers_data: whether data and prompts are those of the paper's tables.
    """

    by_seed: dict[int, written_splits.WrittenData]
    notes: list[str]
    doubts: list[doubts.Doubt]
    is_papers_data: bool


def read(config: ml_collections.ConfigDict, workdir) -> Read:
    """The questions of every base seed.

    Raises:
        UserError: the first thing that is wrong.
    """
    found, data = doubts.Found(), config.data
    if data.num_train < 2:
        raise UserError(f"config.data.num_train={data.num_train} cannot be halved; give at least 2")
    task, questions = _load(config, workdir, found)
    task = _read_by(task, config.answers)
    by_seed = {
        seed: written_splits.divide(
            task,
            questions,
            seed=config_lib.seed_for(config, seed, "split"),
            found=found,
            test_seed=config.seed.test_conversion,
            num_train=data.num_train // 2,
            num_test=data.num_test,
            overlap_action=data.overlap,
            sample=data.sample,
        )
        for seed in config.seeds
    }
    written_splits.look_for_overlap(by_seed.values(), found)
    notes = [*found.notes, *map(str, found.doubts)]
    return Read(by_seed, notes, found.doubts, _is_papers(config, task))


def _load(config: ml_collections.ConfigDict, workdir, found: doubts.Found):
    data = config.data
    if data.train_file is not None:
        return written_rows.load_files(
            config.task, data.train_file, data.test_file, instruction=data.instruction, found=found
        )
    if data.source == world.NAME:
        return world.written_data(config)
    task = written_tasks.get(config.task, role="config.task")
    if config.task == "mmlu":
        task = task.with_weak_rows(data.mmlu_train)
    source = data.source
    if source == smoke.GENERATED:
        source = str(smoke.written_data_folder(workdir / "inputs"))
        found.notes.append("the questions are generated: the numbers mean nothing")
    return written_rows.load(task, source=source, found=found)


def _read_by(
    task: written_tasks.WrittenTask, section: ml_collections.ConfigDict
) -> written_tasks.WrittenTask:
    """The task with the reading that `config.answers` names; by default, or where nothing is written, as it is."""
    if section.by == "score" or section.reading == answers.RULES:
        return task
    if type(task).parse is not written_tasks.WrittenTask.parse:
        raise UserError(
            f"config.answers.reading={section.reading}, and the task {task.name} reads its answers itself: set it to "
            f"{answers.RULES}"
        )
    return task.altered(reading=section.reading)


def _is_papers(config: ml_collections.ConfigDict, task: written_tasks.WrittenTask) -> bool:
    """Whether data are those of the paper's tables: whole, and as its Appendix B divides them."""
    data = config.data
    is_whole = data.num_train >= 20_000 and data.num_test is None and data.overlap != "drop"
    is_own = task.name in written_tasks.WRITTEN_TASKS and task.rows == written_tasks.get(task.name).rows
    is_read = data.train_file is None and data.source not in (smoke.GENERATED, world.NAME)
    return is_whole and is_own and is_read and not _differs(config, task.kind)


def _differs(config: ml_collections.ConfigDict, kind: str) -> bool:
    """Whether answers or their reliability are others than those of the paper's tables, where these say."""
    usual = config_lib.default_config()
    usual.variations.count = 2 if kind == "words" else usual.variations.count
    keys = ("variations.kind", "variations.count", "answers.by", "loss.mean", "training.match_steps")
    of_scores = tuple(f"reliability.{key}" for key in usual.reliability)
    return any(config_lib.get(config, key) != config_lib.get(usual, key) for key in (*keys, *of_scores))


def variation_settings(
    config: ml_collections.ConfigDict, seed: int, asked: Collection[str]
) -> variation_plans.Plan:
    """How the questions of a base seed are varied; `asked` are the example_ids of all seeds."""
    section = config.variations
    return variation_plans.Plan(
        kind=section.kind,
        count=section.count,
        seed=config_lib.seed_for(config, seed, "sampling"),
        cyclic=section.cyclic,
        file=section.file,
        asked=frozenset(asked),
    )
