"""What a run reads of the Hugging Face hub, as it is in the hub's cache: for a machine that later has no network."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from selw2s_jax.data import members, more_tasks, tasks, written_tasks  # noqa: F401, more_tasks registers tasks
from selw2s_jax.hf import model_folders, pretrained
from selw2s_jax.method import objectives


class Item(NamedTuple):
    """A model or a data set.

    Attributes:
        kind: "model" or "data".
        name: on the hub, or of a folder.
        num_bytes: on the disk; None of what is not in the hub's cache.
        where: its folder.
    """

    kind: str
    name: str
    num_bytes: int | None
    where: str


def find(configs: Sequence[ml_collections.ConfigDict], models: Sequence[pretrained.Model]) -> list[Item]:
    """All that the runs of these configs read, each once; models and data are there.

    Args:
        models: of the runs.
    """
    sizes = _cached_sizes()
    folders = dict.fromkeys(pathlib.Path(model.folder) for model in models if model.folder is not None)
    found = [_model(folder) for folder in folders]
    for config in configs:
        found += _data(config, sizes)
    return list(dict.fromkeys(found))


def _model(folder: pathlib.Path) -> Item:
    if (cached := model_folders.hub_snapshot(folder)) is None:
        return Item("model", folder.name, None, str(folder))
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Item("model", cached[0], num_bytes, str(folder))


def _data(config: ml_collections.ConfigDict, sizes: dict[str, tuple[int, str]]) -> list[Item]:
    """The data sets that a config names, where they are read from the hub."""
    if config.data.source != "hub":
        return []
    is_written = config.supervision == "completion"
    known = written_tasks.WRITTEN_TASKS if is_written else tasks.TASKS
    own = () if config.data.train_file else (config.task,)
    has_p_ik = not is_written and objectives.needs_p_ik_data(config) and not config.p_ik.file
    p_ik = (config.p_ik.task,) if has_p_ik else ()
    names = dict.fromkeys((*own, *p_ik, *members.other_tasks(config), *config.continual.tasks))
    hub_names = dict.fromkeys(known[name].hub_name for name in names if name in known)
    return [Item("data", name, *sizes[name]) for name in hub_names if name in sizes]


def _cached_sizes() -> dict[str, tuple[int, str]]:
    """Bytes and folder of the data sets in the hub's cache, by name."""
    import huggingface_hub

    try:
        cache = huggingface_hub.scan_cache_dir()
    except huggingface_hub.errors.CacheNotFound:
        return {}
    return {
        repo.repo_id: (repo.size_on_disk, str(repo.repo_path))
        for repo in cache.repos
        if repo.repo_type == "dataset"
    }


def describe(items: Sequence[Item]) -> list[str]:
    """The same for a terminal."""
    if all(item.num_bytes is None for item in items):
        return ["nothing of this run is on the Hugging Face hub"]
    lines = []
    for item in items:
        size = "a folder here" if item.num_bytes is None else f"{item.num_bytes / 1e9:.2f} GB"
        lines.append(f"  {item.kind:5}  {item.name}  {size}  {item.where}")
    total = sum(item.num_bytes or 0 for item in items)
    lines.append(
        f"all of it is here, {total / 1e9:.2f} GB from the hub: with HF_HUB_OFFLINE=1 the run needs no network, here "
        "or where HF_HOME is copied to"
    )
    return lines
