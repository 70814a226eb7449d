"""What a run leaves in its workdir, by name: manifests, the list of a sweep's cells, artifacts by key."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from selw2s_jax import errors
from selw2s_jax.data import members, model_names
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts, storage

MANIFEST_FILE = "manifest.json"  # what a run was made of, in its folder
RESULTS_FILE = "results.json"  # what it found, beside the manifest
TRUTH_FILE = "test_labels.json"  # the ground truth of the test set, in a workdir
CONFIG_FILE = "config.json"  # the config of a run, in its folder, and of a sweep
CONFIG_COPY = "config.py"  # the text of the file that it came from, in the workdir
# Of manifest.json and results.json; raised when a key that they have changes its meaning or goes.
SCHEMA_VERSION = 1
P_IK_ITEMS_FILE = "p_ik_items.parquet"  # P(IK) of every question that it was tested on, beside results.json
SWEEP_FILE = "sweep.json"  # the cells of a sweep, in its workdir
RUNS_FOLDER = "runs"  # of the folders of the cells, in its workdir


def read(workdir: epath.Path) -> dict[str, Any]:
    """The manifest of the run in a workdir: of the one that was last started, or else last finished.

    Raises:
        UserError: no such workdir, no run in it, or a manifest that cannot be read.
    """
    if not workdir.is_dir():
        raise UserError(f"workdir {workdir} is not there; give the --workdir of a run")
    path = workdir / MANIFEST_FILE
    if not path.is_file():
        path = workdir / RESULTS_FILE
    if not path.is_file():
        raise UserError(
            f"workdir {workdir} has no run in it; run python -m selw2s_jax.main --workdir={workdir} first"
        )
    try:
        content = errors.parse_json(path.read_text(encoding="utf-8"))
        manifest = content if path.name == MANIFEST_FILE else content["manifest"]
        complete = {"config", "models", "students"} <= manifest.keys()
        is_later = manifest.get("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read; run the same config in {workdir} again to mend it"
        ) from error
    if is_later:
        raise UserError(
            f"{path} is of a later version of selw2s_jax (its schema_version is {manifest['schema_version']}, and this "
            f"one reads {SCHEMA_VERSION}): install that version"
        )
    if not complete:
        raise UserError(
            f"{path} lists no students; run the same config in {workdir} again to have them listed"
        )
    return manifest


def identity(manifest: Mapping[str, Any]) -> str:
    """What tells a run from others in its folder: its config and stages."""
    return artifacts.content_hash([manifest["config"], [stage["key"] for stage in manifest["stages"]]])[:16]


def title_of(model: Mapping[str, Any]) -> str:
    """What readers know a model of a manifest by."""
    return model.get("title") or model_names.short(model["name"])


def weak_name(
    manifest: Mapping[str, Any], name_of: Callable[[Mapping[str, Any]], str] = title_of
) -> str | None:
    """The weak models of a run together; None in a run that has none.

    Args:
        name_of: a model of the manifest -> what it is called.
    """
    models = manifest["models"]
    if "weak" not in models:
        return None
    every = members.of(manifest["config"])
    slots = ["weak", *(f"weak-{number}" for number in range(1, len(every)))]
    return members.describe([name_of(models[slot]) for slot in slots], every)


def read_all(workdir: epath.Path) -> dict[str, dict[str, Any]]:
    """The manifests of the runs in a workdir by name: of the one run, "", or of those of a sweep that have begun."""
    cells = read_cells(workdir)
    if cells is None:
        return {"": read(workdir)}
    names = [cell["name"] for cell in cells]
    folders = {name: workdir / RUNS_FOLDER / name for name in names}
    return {name: read(folder) for name, folder in folders.items() if folder.is_dir()}


_LONGEST_NAME = 255  # bytes, of a folder on any system


def _is_folder_name(value: Any) -> bool:
    """Whether a value can name a folder, and one below the folder it is looked for in."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    path = pathlib.PurePath(value)
    if path.is_absolute() or ".." in path.parts:
        return False
    return all(len(part.encode(errors="surrogatepass")) <= _LONGEST_NAME for part in path.parts)


def read_cells(workdir: epath.Path) -> list[dict[str, Any]] | None:
    """The cells that `SWEEP_FILE` lists, each with name, axes, config_hash and stages; None where there is none.

    Raises:
        UserError: the content is not what a run wrote.
    """
    try:
        content = storage.read_bytes(workdir / SWEEP_FILE)
        if content is None:
            return None
        cells = errors.parse_json(content)["cells"]
        complete = all(_is_folder_name(cell["name"]) and isinstance(cell["axes"], dict) for cell in cells)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise UserError(
            f"{workdir}/{SWEEP_FILE} cannot be read; run the same config in {workdir} again to mend it"
        )
    return cells
