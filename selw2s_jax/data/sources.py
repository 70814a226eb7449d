"""Reads a task's questions from the Hugging Face hub or from a folder of parquet files.

A folder has `{subset folder}/{split}.parquet` with the hub's columns, for example `sciq/train.parquet`,
`boolq/validation.parquet`, `ai2_arc/ARC-Easy/train.parquet`, `winogrande/winogrande_xl/validation.parquet`, or the
files as the hub's clients name them (`data.folders`).
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from selw2s_jax import errors
from selw2s_jax.data import (
    by_id,
    folders,
    more_tasks,  # noqa: F401, registers tasks
    parquet,
    rows,
    tasks,
)
from selw2s_jax.runtime import remote

if TYPE_CHECKING:
    import pyarrow as pa

HUB = "hub"

# Of the contexts, where one file has to serve as train and test.
_TRAIN_SHARE_OF_CONTEXTS = 0.7


def load_questions(
    task: tasks.Task, split: str, *, source: str, subsets: str | None = None
) -> list[tasks.Question]:
    """The questions of one split, in the order of the files.

    Args:
        task: a task of the registry.
        split: `train` or `test` (for BoolQ, CosmosQA and Winogrande the test split is their validation split).
        source: `hub`, or a folder laid out as above.
        subsets: names joined by `+` (ARC: `easy+challenge`, `easy`, `challenge`); None reads all of them.

    Raises:
        UserError: the task has no such split, nothing there, no network, damaged or empty file, missing column,
          wrong type, bad row; one line that names the file, the row (from 0, as in the example_id) and the
          remedy.
    """
    if split not in task.splits:
        raise errors.UserError(
            f"task {task.name} has no {split} split (it has: {', '.join(task.splits) or 'none'}); name one in "
            "Task.splits, or choose another task"
        )
    chosen = _choose_subsets(task, subsets)
    if source == HUB:
        return [q for subset in chosen for q in _read_hub(task, subset, split)]
    folder = remote.local_copy(source)
    if not folder.is_dir():
        raise errors.UserError(
            f"data.source {source!r} is neither 'hub' nor a folder; make the folder or set 'hub'"
        )
    return [q for subset in chosen for q in _read_folder(task, subset, split, folder)]


def notes(task: tasks.Task, *, source: str) -> tuple[str, ...]:
    """What a reader of the results has to know of this source, one sentence each."""
    if source == HUB:
        if task.hub_revision is None or task.hub_parquet:
            return (f"{task.name}: {task.hub_name} on the hub is not pinned to a commit.",)
        return ()
    folder = remote.local_copy(source)
    return tuple(
        f"{task.name}: {folders.path(subset, task.splits['train'], folder)} is not there, so "
        f"{task.splits['test']}.parquet is divided by context or question, about 70 % train and 30 % test: "
        "for trials, not comparable with published results."
        for subset in task.subsets
        if _must_split_by_context(task, subset, folder)
    )


def is_divided(task: tasks.Task, *, source: str) -> bool:
    """Whether train and test are parts of one file here, as no other place has them."""
    folder = remote.local_copy(source)
    return source != HUB and any(_must_split_by_context(task, subset, folder) for subset in task.subsets)


def _choose_subsets(task: tasks.Task, names: str | None) -> list[tasks.Subset]:
    if names is None:
        return list(task.subsets)
    known = {subset.name: subset for subset in task.subsets}
    wanted = names.split("+")
    unknown = [name for name in wanted if name not in known]
    if unknown or len(set(wanted)) < len(wanted):
        raise errors.UserError(
            f"{names!r} does not name parts of task {task.name}; join some of {', '.join(known)} by '+'"
        )
    return [known[name] for name in wanted]


def _must_split_by_context(task: tasks.Task, subset: tasks.Subset, folder: pathlib.Path) -> bool:
    if not task.split_by_context:
        return False
    train, test = (folders.find(task, subset, task.splits[split], folder) for split in ("train", "test"))
    return not train and bool(test)


def _read_folder(
    task: tasks.Task, subset: tasks.Subset, split: str, folder: pathlib.Path
) -> list[tasks.Question]:
    is_divided = _must_split_by_context(task, subset, folder)
    file_split = task.splits["test" if is_divided else split]
    parts = folders.find(task, subset, file_split, folder)
    if not parts:
        raise errors.UserError(
            f"{folders.path(subset, file_split, folder)} is missing; put split '{file_split}' of "
            f"{_hub_label(task, subset)} there as parquet, or set data.source=hub"
            f"{folders.others(task, subset, folder)}"
        )
    questions: list[tasks.Question] = []
    for path in parts:
        table = parquet.read(path, [*task.columns, *task.optional_columns])
        if table.num_rows or (path == parts[-1] and not questions):  # a part may be empty, all of them not
            questions += _parse(task, subset, split, table, path, first=len(questions))
    if is_divided:
        is_train = split == "train"
        questions = [q for q in questions if _is_train_context(q.context or q.text) == is_train]
        if not questions:
            raise errors.UserError(
                f"{parts[0]} has too few contexts to divide; add the data set's train.parquet"
            )
    return questions


def _is_train_context(context: str) -> bool:
    """One fixed division for all seeds, so that every run tests on the same items."""
    return by_id.keyed_uniform(0, "split by context", context) < _TRAIN_SHARE_OF_CONTEXTS


def _hub_label(task: tasks.Task, subset: tasks.Subset) -> str:
    config = "" if subset.hub_config in (None, "default") else f" ({subset.hub_config})"
    return f"{task.hub_name}{config}"


def _read_hub(task: tasks.Task, subset: tasks.Subset, split: str) -> list[tasks.Question]:
    file_split = task.splits[split]
    where = f"{_hub_label(task, subset)} split '{file_split}'"
    try:
        if task.hub_parquet:
            import huggingface_hub

            path = huggingface_hub.hf_hub_download(
                task.hub_name,
                f"{subset.hub_config}/{file_split}/0000.parquet",
                repo_type="dataset",
                revision=task.hub_revision,
            )
        else:
            import datasets

            loaded = datasets.load_dataset(
                task.hub_name, subset.hub_config, split=file_split, revision=task.hub_revision
            )
    except (
        Exception
    ) as error:  # the hub's libraries raise kinds of their own, of OSError, ValueError and httpx
        if fault := errors.disk_fault(error):
            raise errors.UserError(
                f"cannot keep {where} ({fault}); or set HF_HOME to another folder"
            ) from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise errors.UserError(
            f"cannot load {where} from the hub: {reason} - connect to the network, or put the split "
            f"as parquet at FOLDER/{subset.folder}/{file_split}.parquet and set data.source=FOLDER"
        ) from error
    if task.hub_parquet:
        table = parquet.read(path, [*task.columns, *task.optional_columns])
    else:
        table = loaded.with_format("arrow")[:]
    return _parse(task, subset, split, table, where)


def _parse(
    task: tasks.Task,
    subset: tasks.Subset,
    split: str,
    table: "pa.Table",
    where: str | pathlib.Path,
    first: int = 0,
) -> list[tasks.Question]:
    """Checks the columns, then reads row by row.

    Args:
        where: names the file in errors.
        first: rows of the split that stand in files before this one.
    """
    optional = {name: kind for name, kind in task.optional_columns.items() if name in table.schema.names}
    kinds = {**task.columns, **optional}
    _check_columns(kinds, table, where, f"use the columns of {_hub_label(task, subset)}")
    prefix = f"{subset.name}-" if len(task.subsets) > 1 else ""
    columns = parquet.values(table, list(kinds), where)
    missing = (None,) * (len(task.optional_columns) - len(optional))
    questions, faults = [], []
    for row, values in enumerate(zip(*columns, strict=True)):
        try:
            read = task.read_row(*map(_of_kind, values, kinds.values()), *missing)
            parts = tasks.RowParts(*read)
        except ValueError as error:
            faults.append((row, str(error)))
        else:
            name = f"{task.name}/{split}/{prefix}{first + row}"
            questions.append(tasks.Question(question_id=name, **parts._asdict()))
    if faults:
        described = rows.describe(faults, table.num_rows, "row")
        raise errors.UserError(f"{where}: {described}; mend or remove the row{'s' * (len(faults) > 1)}")
    return questions


def _check_columns(
    kinds: Mapping[str, str], table: "pa.Table", where: str | pathlib.Path, remedy: str
) -> None:
    if twice := parquet.repeated(table, kinds):
        raise errors.UserError(f"{where}: column '{twice}' occurs twice; {remedy}, each once")
    for name, kind in kinds.items():
        if name not in table.schema.names:
            found = ", ".join(table.schema.names) or "none"
            raise errors.UserError(f"{where}: column '{name}' is missing (found: {found}); {remedy}")
        column = table.column(name)
        if not COLUMN_KINDS[kind](column.type):
            raise errors.UserError(f"{where}: column '{name}' is {column.type}, not {kind}; {remedy}")
        if column.null_count:
            row, more = column.is_null().to_pylist().index(True), column.null_count - 1
            raise errors.UserError(
                f"{where}: row {row} has no value in column '{name}'{f' (+{more} more)' * (more > 0)}; "
                "mend or remove the row"
            )
    if table.num_rows == 0:
        raise errors.UserError(f"{where} has no rows; {remedy} and at least one row")


def _of_kind(value: Any, kind: str) -> Any:
    """A value as `Task.read_row` takes it: also where a table library made floats of whole numbers or of truth."""
    if kind not in ("integer", "true/false") or isinstance(value, bool):
        return value
    number = rows.whole_number(value)
    if number is None or (kind == "true/false" and number not in (0, 1)):
        raise ValueError(f"{rows.show(value)} is not {kind}")
    return number if kind == "integer" else bool(number)


def _value_type(column_type: "pa.DataType") -> "pa.DataType":
    """Of a dictionary column, that of its values."""
    import pyarrow as pa

    return column_type.value_type if pa.types.is_dictionary(column_type) else column_type


def _is_string(column_type: "pa.DataType") -> bool:
    import pyarrow as pa

    found = _value_type(column_type)
    return pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)


def _is_integer(column_type: "pa.DataType") -> bool:
    import pyarrow as pa

    found = _value_type(column_type)
    return pa.types.is_integer(found) or pa.types.is_floating(found)


def _is_boolean(column_type: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_boolean(column_type) or _is_integer(column_type)


def _is_string_list(column_type: "pa.DataType") -> bool:
    import pyarrow as pa

    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(is_kind(column_type) for is_kind in kinds) and _is_string(column_type.value_type)


def _is_choices_struct(column_type: "pa.DataType") -> bool:
    import pyarrow as pa

    def has_string_list(field: str) -> bool:
        return column_type.get_field_index(field) >= 0 and _is_string_list(column_type.field(field).type)

    return pa.types.is_struct(column_type) and has_string_list("text") and has_string_list("label")


# The kinds of column that `Task.columns` may name.
COLUMN_KINDS: dict[str, Callable[["pa.DataType"], bool]] = {
    "string": _is_string,
    "integer": _is_integer,
    "true/false": _is_boolean,
    "list of strings": _is_string_list,
    "struct of text and label lists": _is_choices_struct,
}
