"""What runs keep besides their artifacts, by the folder of each: manifest, results, predictions of every test item."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from selw2s_jax import errors
from selw2s_jax.data import item_predictions
from selw2s_jax.errors import UserError
from selw2s_jax.run import manifests
from selw2s_jax.runtime import json_forms, storage

_MANIFEST = {
    "config": {"task": str, "seeds": [int]},
    "stages": [{"label": str, "name": str, "key": str, "needs?": [str]}],
    "students": [{"method": str, "seed": int, "key": str}],
    "models": dict,
    "libraries?": dict,
    "started?": {"date": str, "command": (str, type(None))},
    "test": {"n": int, "labels_hash": str, "evaluations": [{"method": str, "seed": int, "key": str}]},
}
_RECORD = {"task": str, "method": str, "seed": int, "n": int, "correct": int}
_P_IK = {"method": str, "seed": int, "test_task": str, "distribution": str, "auroc": (float, int, type(None))}
_RESULTS = {"records": [_RECORD], "p_ik": [_P_IK]}


class Kept(NamedTuple):
    """A run.

    Attributes:
        folder: of its files.
        workdir: of its artifacts, which is another one for a cell of a sweep.
        manifest: of its last start.
        results: results.json; None until it is finished, or where that is of another config.
    """

    folder: epath.Path
    workdir: epath.Path
    manifest: dict[str, Any]
    results: dict[str, Any] | None

    def predictions(self, columns: Sequence[str] | None = None) -> Any:
        """Its `item_predictions`, or columns of these, as a `pyarrow.Table`; None where it has none."""
        return item_predictions.read(self.folder, manifests.identity(self.manifest), columns)


def read(workdir: epath.PathLike) -> dict[str, Kept]:
    """The run in a workdir by the name "", or those of a sweep that have begun by theirs.

    Raises:
        UserError: there is none, or a file is damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    found = {}
    for name, manifest in manifests.read_all(workdir).items():
        folder = workdir / manifests.RUNS_FOLDER / name if name else workdir
        with _as_line(folder / manifests.MANIFEST_FILE):
            json_forms.check(manifest, _MANIFEST)
        found[name] = Kept(folder, _root(workdir), manifest, _read_results(folder, manifest))
    if not found:
        raise UserError(
            f"workdir {workdir} has no run that has begun; run python -m selw2s_jax.main there first"
        )
    return found


def _root(workdir: epath.Path) -> epath.Path:
    """The workdir itself, or of the folder of a cell that of its sweep."""
    above = workdir.parent.parent
    is_cell = workdir.parent.name == manifests.RUNS_FOLDER and (above / manifests.SWEEP_FILE).is_file()
    return above if is_cell else workdir


def _read_results(folder: epath.Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    path = folder / manifests.RESULTS_FILE
    content = storage.read_bytes(path)
    if content is None:
        return None
    with _as_line(path):
        results = errors.parse_json(content)
        json_forms.check(results, _RESULTS)
        is_of_it = manifests.identity(results["manifest"]) == manifests.identity(manifest)
    return results if is_of_it else None


@contextlib.contextmanager
def _as_line(path: epath.Path) -> Iterator[None]:
    """Turns errors of a damaged file into a line that names it."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not as a run writes it ({errors.one_line(error)}); run the same config again to mend it"
        ) from error


def as_text(value: Any) -> str:
    """A value of a config or manifest in a line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
