"""What lies around the folder of a model: the hub's cache as it is on disk, adapters, folders that hold one."""

import pathlib
import re

from selw2s_jax import errors

CONFIG_NAME = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model*.safetensors", "adapter_model*.bin")


def is_folder(path: pathlib.Path) -> bool:
    """Whether there is a folder; there is none of a name that no file can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def step_into(folder: pathlib.Path, revision: str | None = None) -> pathlib.Path:
    """The folder with the files of a model: of a repository in the hub's cache, `models--ORG--NAME`, its snapshot.

    Args:
        revision: commit, branch or tag of a snapshot; by default that of the branch main, or the only one.

    Raises:
        UserError: there are several snapshots or not the one of the revision, or a revision of a folder without any.
    """
    snapshots = folder / "snapshots"
    if not is_folder(snapshots) or (folder / CONFIG_NAME).exists():
        if revision is not None:
            raise errors.UserError(
                f"revision {revision!r} is of a name on the hub, and {folder} is a folder: leave the revision out, or "
                "give the name"
            )
        return folder
    commits = sorted(path.name for path in snapshots.iterdir() if path.is_dir())
    for name in ("main",) if revision is None else (revision,):
        if revision is not None and name in commits:
            return snapshots / name
        commit = _read_ref(folder / "refs" / name)
        if commit in commits:
            return snapshots / commit
    if revision is None and len(commits) == 1:
        return snapshots / commits[0]
    wanted = "no snapshot is of main" if revision is None else f"no snapshot is of {revision!r}"
    raise errors.UserError(
        f"{folder} is a repository in the hub's cache and {wanted}: give {folder}/snapshots/COMMIT"
        + (f", of which there are {', '.join(commits[:5])}" if commits else ", which is missing: copy it too")
    )


def _read_ref(path: pathlib.Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def refuse_adapter(folder: pathlib.Path) -> None:
    """Raises a UserError where a folder holds a low-rank adapter of PEFT, beside a model's weights or without them."""
    found = [path for pattern in _ADAPTER_FILES for path in folder.glob(pattern)]
    if not found and not (folder / ADAPTER_CONFIG).exists():
        return
    if list(folder.glob("model*.safetensors")):
        raise errors.UserError(
            f"{folder} holds a low-rank adapter (PEFT) beside a model's weights, and which of them is meant is open: "
            f"move {ADAPTER_CONFIG} and adapter_model.* away, or merge the adapter (merge_and_unload) and save the "
            "model anew"
        )
    raise adapter_error(folder)


def adapter_error(folder: pathlib.Path) -> errors.UserError:
    """What is wrong with the weights of an adapter in the place of a model's."""
    return errors.UserError(
        f"{folder} is a low-rank adapter (PEFT) of another model{_base_of(folder)}, not a model: merge it with PEFT "
        "(AutoPeftModelForCausalLM.from_pretrained(...).merge_and_unload().save_pretrained(FOLDER)) and give that "
        "folder"
    )


def _base_of(folder: pathlib.Path) -> str:
    try:
        settings = errors.parse_json((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        name = settings["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f", {name[:200]}" if isinstance(name, str) and name else ""


def explain_missing(path: pathlib.Path) -> errors.UserError:
    """Why a file that every model's folder has is not in one.

    Raises:
        UserError: the folder is an adapter's.
    """
    folder, name = path.parent, path.name
    if name == CONFIG_NAME:
        refuse_adapter(folder)
    if path.is_symlink():
        return errors.UserError(
            f"{path} is a link to {path.readlink()}, which is not there: copy the folder with what its links lead to "
            "(cp -rL)"
        )
    inside = sorted(str(found.parent) for found in folder.glob(f"*/{name}"))
    inside += sorted(str(found.parent) for found in folder.glob(f"models--*/snapshots/*/{name}"))
    inside += sorted(str(found.parent) for found in folder.glob(f"snapshots/*/{name}"))
    if inside:
        listed = ", ".join(inside[:3]) + (f" and {len(inside) - 3} more" if len(inside) > 3 else "")
        return errors.UserError(f"{path} is missing, and there is one in {listed}: give that folder")
    return errors.UserError(f"{path} is missing: download the checkpoint folder again")


_CACHED = re.compile(r"models--(?P<org>.+?)--(?P<name>.+)/snapshots/(?P<revision>[^/]+)")


def hub_snapshot(folder: pathlib.PurePath) -> tuple[str, str] | None:
    """Name and commit of the hub's model whose snapshot in the hub's cache a folder is; None of another folder."""
    found = _CACHED.search(folder.as_posix())
    return None if found is None else (f"{found['org']}/{found['name']}", found["revision"])
