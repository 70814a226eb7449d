"""What two finished runs of one config have otherwise: artifacts, weights, tables, results, metrics of each step."""

import json
import math
import os
import pathlib
from typing import Any

import numpy as np

# Not a function of the config: when, how long, on which devices, by which process.
_VARYING = {"seconds", "first_step_seconds", "started", "ended", "hostname"}


def unfinished_checkpoints(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Folders that Orbax has not given their final name."""
    return [
        pathlib.Path(folder) / name
        for folder, names, _ in os.walk(workdir)
        for name in names
        if "orbax-checkpoint-tmp" in name
    ]


def artifact_folders(workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finished artifacts by `stage/key`."""
    folders = [path.parent for path in sorted(workdir.glob("artifacts/*/*/manifest.json"))]
    return {f"{path.parent.name}/{path.name}": path for path in folders}


def weights(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays of a trained or pretrained artifact by path."""
    import jax
    import orbax.checkpoint as ocp
    import safetensors.numpy

    if not (folder / "params").is_dir():
        files = folder.glob("*.safetensors")
        return {name: x for path in files for name, x in safetensors.numpy.load_file(path).items()}
    path = (folder / "params").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        saved = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        tree = checkpointer.restore(path, restore_args=as_numpy)
    return {
        jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def steady(value: Any) -> Any:
    """A JSON value without what differs from one run of a config to the next."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in _VARYING}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def metrics_of_steps(workdir: pathlib.Path) -> dict[str, list[str]]:
    """Lines of every metrics log."""
    return {path.name: path.read_text().splitlines() for path in workdir.glob("logs/*.jsonl")}


def unfinished_artifacts(workdir: pathlib.Path) -> list[pathlib.Path]:
    """What is in the folders of artifacts that have no manifest yet."""
    files = workdir.glob("artifacts/*/*/*")
    return [path for path in files if not path.with_name("manifest.json").exists()]


def differences(expected: pathlib.Path, found: pathlib.Path) -> list[str]:
    """What the second workdir has otherwise than the first, bit for bit; times do not count."""
    wanted, given = artifact_folders(expected), artifact_folders(found)
    differing = [f"artifact {name} is in one run only" for name in sorted(wanted.keys() ^ given.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        differing += [f"artifact {name}: {what}" for what in _artifact_differences(wanted[name], given[name])]
    left = [*unfinished_artifacts(found), *unfinished_checkpoints(found), *found.glob("checkpoints/*")]
    differing += [f"left behind: {path.relative_to(found)}" for path in left]
    for name in ("results.json", "config.json"):
        values = [steady(json.loads((folder / name).read_text())) for folder in (expected, found)]
        if values[0] != values[1]:
            differing.append(f"{name} differs")
    wanted_lines, given_lines = metrics_of_steps(expected), metrics_of_steps(found)
    differing += [
        f"log {name} is in one run only" for name in sorted(wanted_lines.keys() ^ given_lines.keys())
    ]
    for name in sorted(wanted_lines.keys() & given_lines.keys()):
        if wanted_lines[name] != given_lines[name]:
            steps = [json.loads(line)["step"] for line in given_lines[name]]
            once = steps == [json.loads(line)["step"] for line in wanted_lines[name]]
            differing.append(f"log {name}: {'other values' if once else f'other steps: {steps}'}")
    return differing


def _artifact_differences(expected: pathlib.Path, found: pathlib.Path) -> list[str]:
    wanted, given = weights(expected), weights(found)
    differing = [f"weights {name}" for name in sorted(wanted.keys() ^ given.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        a, b = wanted[name], given[name]
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
            differing.append(f"weights {name}")
    # Orbax's files are not the same bytes each time, and the manifest has their hashes; their arrays are.
    files = [sorted(p.name for p in folder.iterdir() if p.is_file()) for folder in (expected, found)]
    if files[0] != files[1]:
        return [*differing, f"files {files[0]} and {files[1]}"]
    for name in set(files[0]) - {"manifest.json"}:
        contents = [(folder / name).read_bytes() for folder in (expected, found)]
        if name.endswith(".json"):
            contents = [steady(json.loads(content)) for content in contents]
        if contents[0] != contents[1]:
            differing.append(f"file {name}")
    return differing


def largest_deviation(expected: pathlib.Path, found: pathlib.Path) -> float:
    """Largest difference of two runs' weights, in units of the array's largest value; infinite where keys differ."""
    wanted, given = artifact_folders(expected), artifact_folders(found)
    if wanted.keys() != given.keys():
        return math.inf
    worst = 0.0
    for name in wanted:
        a, b = weights(wanted[name]), weights(given[name])
        if a.keys() != b.keys():
            return math.inf
        for key in a:
            deviation, scale = float(np.abs(a[key] - b[key]).max()), float(np.abs(a[key]).max())
            if deviation:
                worst = max(worst, deviation / scale if scale else math.inf)
    return worst
