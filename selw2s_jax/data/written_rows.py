"""The questions of a written task, read from the hub, a folder or a user's files, by the splits that its roles name."""

import dataclasses
from collections.abc import Mapping, Sequence

from selw2s_jax.data import (
    choice_rows,
    doubts,
    folders,
    sources,
    task_files,
    tasks,
    written_catalogue,  # noqa: F401, registers the paper's tasks
    written_tasks,
)
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import remote

Questions = Mapping[str, Sequence[tasks.Question]]  # by the data set's own name of the split


def load(
    task: written_tasks.WrittenTask, *, source: str, found: doubts.Found
) -> tuple[written_tasks.WrittenTask, Questions]:
    """The questions of all splits that the roles of a task read.

    Args:
        source: "hub", or a folder laid out as `data.sources` says. One that lacks the split of a role divides what it
            has among the roles, and a note says so.
        found: is given what a reader of the results has to know.

    Returns:
        The task, with its roles as they are read, and the questions of its splits.

    Raises:
        UserError: as `sources.load_questions`.
    """
    if source != sources.HUB and remote.local_copy(source).is_dir():
        task = _divided(task, source, found)
    for note in sources.notes(task.source, source=source):
        found.note(note)
    names = dict.fromkeys(one.split for one in task.rows.values())
    questions = {name: sources.load_questions(task.source, name, source=source) for name in names}
    repeated = sum(map(written_tasks.has_equal_choices, (q for one in questions.values() for q in one)))
    if repeated:
        found.note(
            f"{task.name}: {repeated} of {sum(map(len, questions.values()))} questions offer the same choice twice, "
            "and are asked as they are"
        )
    return task, questions


def load_files(
    name: str,
    train_file: str,
    test_file: str | None = None,
    *,
    instruction: str | None = None,
    found: doubts.Found,
) -> tuple[written_tasks.WrittenTask, Questions]:
    """The task of a user's files, and its questions; as `load`.

    The train file is halved into the weak model's and the student's; without a test file a fifth of it is held out.

    Raises:
        UserError: as `task_files.load_user_splits`; statements to judge; or questions that cannot be asked.
    """
    train, test = task_files.load_user_splits(name, train_file, test_file, found=found, fault_of=_fault)
    return written_tasks.user_task(name, train, instruction=instruction), {"train": train, "test": test}


def _fault(row: choice_rows.Row) -> str | None:
    """What is wrong with a user's row, which can be read, as a question with a written answer."""
    if row.num_repeated:
        return written_tasks.EQUAL_CHOICES
    if row.question.choices is None and not row.question.solution:
        return None  # the file as a whole is of another form, which is said once
    return written_tasks.user_task("", [row.question]).fault(row.question)


def check(task: written_tasks.WrittenTask, questions: Sequence[tasks.Question]) -> None:
    """Raises UserError where questions cannot be asked, with the first one and what is wrong."""
    faults = [(one.question_id, fault) for one in questions if (fault := task.fault(one))]
    if faults:
        raise UserError(
            f"task {task.name}: {len(faults)} of {len(questions)} questions cannot be asked; {faults[0][0]}: "
            f"{faults[0][1]}; mend or remove it"
        )


def _divided(task: written_tasks.WrittenTask, source: str, found: doubts.Found) -> written_tasks.WrittenTask:
    """The task itself; or, where the folder lacks splits, with the roles that share what is there."""
    folder, of_files = remote.local_copy(source), task.source
    names = [one.split for one in task.rows.values()]
    kept = {
        name
        for name in (*names, *task.trial_splits)
        if all(folders.find(of_files, subset, name, folder) for subset in task.subsets)
    }
    missing = [name for name in dict.fromkeys(names) if name not in kept]
    candidates = [name for name in (*reversed(names), *task.trial_splits) if name in kept]
    if not missing or not candidates or not task.is_divisible:
        return task  # what is missing is named when it is read
    shared = candidates[0]
    sharing = [role for role, one in task.rows.items() if one.split in (*missing, shared)]
    divided = {
        role: dataclasses.replace(task.rows[role], split=shared, part=(number, len(sharing)))
        for number, role in enumerate(sharing)
    }
    paths = " and ".join(str(folders.path(task.subsets[0], name, folder)) for name in missing)
    found.note(
        f"{task.name}: {paths} {'is' if len(missing) == 1 else 'are'} not there, so {shared}.parquet is divided "
        f"equally: {', '.join(sharing)}; for trials, not comparable with published results."
    )
    return task.altered(rows={**task.rows, **divided})
