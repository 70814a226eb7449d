"""Where the parquet files of a data set are in a folder: as we name them, or as the hub's clients leave them.

`sciq/train.parquet` is what a folder made for this project has. Downloading the repository of a data set gives
`sciq/data/train-00000-of-00001.parquet` or, of one with several configs,
`ai2_arc/ARC-Easy/train-00000-of-00001.parquet`, in as many parts as there are; its
parquet conversion has `cosmos_qa/default/train/0000.parquet`; and the client's cache keeps all of it under
`datasets--allenai--sciq/snapshots/<commit>`.
"""

import pathlib
import re
from collections.abc import Iterator

from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError

_MOST_SHOWN = 3


def find(task: tasks.Task, subset: tasks.Subset, file_split: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """The parts of a split in their order, none where there is nothing; the first place that has any counts.

    Raises:
        UserError: parts are missing, or are of two versions of the data set.
    """
    for place in _places(task, subset, folder):
        if (single := place / f"{file_split}.parquet").exists():
            return [single]
        of_many = [
            (int(match[1]), int(match[2]), path)
            for path in sorted(place.glob(f"{file_split}-*-of-*.parquet"))
            if (match := re.fullmatch(r".*-([0-9]+)-of-([0-9]+)", path.stem))
        ]
        numbered = sorted(path for path in (place / file_split).glob("[0-9]*.parquet"))
        of_many = of_many or [(i, len(numbered), path) for i, path in enumerate(numbered)]
        if of_many:
            return _whole(of_many, place, file_split)
    return []


def path(subset: tasks.Subset, file_split: str, folder: pathlib.Path) -> pathlib.Path:
    """Where a split is looked for first, and where to put it."""
    return folder / subset.folder / f"{file_split}.parquet"


def others(task: tasks.Task, subset: tasks.Subset, folder: pathlib.Path) -> str:
    """Parquet files that are there under other names, as the end of a message; "" for none."""
    base = next((place for place in _bases(task, subset, folder) if place.is_dir()), None)
    names = [] if base is None else [str(one.relative_to(base)) for one in sorted(base.rglob("*.parquet"))]
    shown = ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")
    return f" (in {base} there are: {shown})" if names else ""


def _bases(task: tasks.Task, subset: tasks.Subset, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders that the data set as a whole may be in."""
    names = [pathlib.PurePath(subset.folder).parts[0]]
    if task.hub_name:
        cached = f"datasets--{task.hub_name.replace('/', '--')}"
        names += [task.hub_name.rpartition("/")[2], task.hub_name, cached]
    for name in names:
        yield from _snapshots(folder / name, task.hub_revision)
        if folder.name == name:  # data.source is the data set's own folder
            yield from _snapshots(folder, task.hub_revision)


def _snapshots(base: pathlib.Path, revision: str | None) -> list[pathlib.Path]:
    """A folder itself, or, in the cache of the hub's client, what it has of the wanted commit, else of the newest."""
    if not base.name.startswith("datasets--"):
        return [base]
    wanted = [revision or ""]
    if (main := base / "refs" / "main").is_file():
        wanted.append(main.read_text(errors="replace").strip())
    kept = {one.name: one for one in sorted(base.glob("snapshots/*"))}
    chosen = [kept[name] for name in wanted if name in kept]
    return chosen[:1] or list(kept.values())[:1] * (len(kept) == 1)


def _places(task: tasks.Task, subset: tasks.Subset, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders that the files of a subset may be in."""
    within = "/".join(pathlib.PurePath(subset.folder).parts[1:])
    inner = dict.fromkeys([within, subset.hub_config or within])
    if not within:  # the data set has one config, which the hub calls by this name
        inner |= dict.fromkeys(["", "default"])
    for base in _bases(task, subset, folder):
        for name in inner:
            yield base / name
            yield base / name / "data"


def _whole(
    found: list[tuple[int, int, pathlib.Path]], place: pathlib.Path, file_split: str
) -> list[pathlib.Path]:
    """The files of parts (number, count, file), all of them."""
    counts = {count for _, count, _ in found}
    if len(counts) > 1:
        raise UserError(
            f"{place} has parts of split '{file_split}' of two versions ({found[0][2].name}, {found[-1][2].name}); "
            "remove one of them"
        )
    (count,) = counts
    missing = sorted({*range(count)} - {number for number, _, _ in found})
    if missing or len(found) > count:
        fault = f"part {missing[0]} is missing" if missing else "there are more"
        raise UserError(
            f"{place} has {len(found)} of {count} parts of split '{file_split}', {fault}; download the data set again"
        )
    return [one for _, _, one in sorted(found)]
