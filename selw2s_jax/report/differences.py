"""What two runs have otherwise: settings, versions, inputs, and results, with tests on the items that both answered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import comparisons, formats
from selw2s_jax.errors import UserError
from selw2s_jax.report import kept

_VERSIONS = (
    "schema_version",
    "version",
    "source",
    "commit",
    "libraries",
    "platform",
    "kind",
    "devices",
    "processes",
)
_OF_MODELS = ("name", "fingerprint", "learning_rate", "max_length")
_OF_TESTS = ("n", "labels_hash", "is_papers_data")


class _Key(NamedTuple):
    """What results of two runs are paired by."""

    task: str
    test: str
    method: str
    seed: int


class _Outcome(NamedTuple):
    """Right answers of a model.

    Attributes:
        items: by example_id the truth, and whether the model is right; None where the run kept no predictions.
    """

    n: int
    correct: int
    items: Mapping[str, tuple[Any, bool]] | None = None


def text(first: Mapping[str, kept.Kept], second: Mapping[str, kept.Kept]) -> str:
    """The differences of the runs of two workdirs, A and B: those of one run each, or of runs of one name each.

    Raises:
        UserError: no two runs can be paired.
    """
    if len(first) == len(second) == 1:
        pairs = {"": (*first.values(), *second.values())}
    else:
        pairs = {name: (first[name], second[name]) for name in first if name in second}
    if not pairs:
        raise UserError(
            f"--diff: the runs of the two workdirs have other names ({', '.join(first)}; {', '.join(second)}): give "
            "the folders of two runs, as DIR/runs/NAME"
        )
    parts = []
    for name, (run, other) in pairs.items():
        parts += [[f"# {name}"]] if name else []
        parts += [_origins(run, other), *_settings(run, other), *_results(run, other)]
    for side, mine, theirs in (("A", first, second), ("B", second, first)):
        if alone := [name for name in mine if len(pairs) < len(mine) and name not in theirs]:
            parts.append([f"runs in {side} alone: {', '.join(alone)}"])
    return "\n\n".join("\n".join(part) for part in parts if part)


def _origins(first: kept.Kept, second: kept.Kept) -> list[str]:
    rows = []
    for side, run in (("A", first), ("B", second)):
        started = run.manifest.get("started") or {}
        state = "" if run.results else "not finished"
        rows.append([side, str(run.folder), started.get("date", ""), started.get("command") or "", state])
    return formats.aligned(rows).splitlines()


def _settings(first: kept.Kept, second: kept.Kept) -> Iterable[list[str]]:
    mine, theirs = first.manifest, second.manifest
    yield _differing("settings that differ", mine["config"], theirs["config"])
    yield _differing("versions that differ", _of(mine, _VERSIONS), _of(theirs, _VERSIONS))
    yield _differing("inputs that differ", _inputs(mine), _inputs(theirs))


def _of(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _inputs(manifest: Mapping[str, Any]) -> dict[str, Any]:
    models = {slot: _of(model, _OF_MODELS) for slot, model in manifest["models"].items()}
    return {"models": models, "test": _of(manifest["test"], _OF_TESTS)}


def _differing(title: str, mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    keys = config_lib.differing_keys(mine, theirs)
    rows = [[key, _value(mine, key), _value(theirs, key)] for key in keys]
    # A key that came later is null where it was not there.
    rows = [row for row in rows if row[1] != row[2]]
    if not rows:
        return [f"{title}: none"]
    return [title, *formats.aligned([["key", "A", "B"], *rows]).splitlines()]


def _value(values: Any, key: str) -> str:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return formats.NOTHING if values is None else kept.as_text(values)


def _results(first: kept.Kept, second: kept.Kept) -> Iterable[list[str]]:
    mine, theirs = _outcomes(first), _outcomes(second)
    both = [key for key in mine if key in theirs]
    pairs = {key: _Pair.of(mine[key], theirs[key]) for key in both}
    differing = {key: pair for key, pair in pairs.items() if not pair.is_same}
    if not differing:
        yield [f"results that differ: none of {len(both)}"]
    else:
        title = f"results that differ: {len(differing)} of {len(both)} (accuracy in per cent, McNemar's exact test)"
        rows = [_HEADER, *(pair.cells(key) for key, pair in differing.items())]
        yield [title, *formats.aligned(rows, left=range(3)).splitlines()]
        yield _means(pairs)
    if any(outcome.items is None for outcome in (*mine.values(), *theirs.values())):
        yield [
            "a run without predictions.parquet is compared by its accuracies alone: run its config again to have it"
        ]
    for side, here, there in (("A", mine, theirs), ("B", theirs, mine)):
        if alone := [_in_words(key) for key in here if key not in there]:
            yield [f"results in {side} alone: {', '.join(alone)}"]
    yield _areas(first, second)


_HEADER = [
    "task",
    "test",
    "method",
    "seed",
    "n",
    "A",
    "B",
    "B minus A",
    "shared",
    "A alone right",
    "B alone right",
    "p",
]


class _Pair(NamedTuple):
    """What two runs say of one method and seed.

    Attributes:
        ids: `[N]` of the items that both answered, with the same truth.
        correct: `[2, N]` bool of these; None where a run kept no predictions.
    """

    first: _Outcome
    second: _Outcome
    ids: list[str]
    correct: np.ndarray | None

    @classmethod
    def of(cls, first: _Outcome, second: _Outcome) -> "_Pair":
        if first.items is None or second.items is None:
            return cls(first, second, [], None)
        mine, theirs = first.items, second.items
        ids = sorted(name for name in mine if name in theirs and mine[name][0] == theirs[name][0])
        correct = np.array([[items[name][1] for name in ids] for items in (mine, theirs)], bool)
        return cls(first, second, ids, correct.reshape(2, len(ids)))

    @property
    def is_same(self) -> bool:
        """Whether both are right on the same items, or as often where that is all that is known."""
        counts = (self.first.n, self.first.correct) == (self.second.n, self.second.correct)
        if self.correct is None:
            return counts
        return counts and len(self.ids) == self.first.n and bool((self.correct[0] == self.correct[1]).all())

    def cells(self, key: _Key) -> list[str]:
        accuracies = [one.correct / one.n for one in (self.first, self.second)]
        sizes = dict.fromkeys(str(one.n) for one in (self.first, self.second))
        line = [*map(str, key), " and ".join(sizes), *map(formats.percent, accuracies)]
        line.append(f"{100 * (accuracies[1] - accuracies[0]):+.2f}")
        if self.correct is None or not self.ids:
            return line + [formats.NOTHING] * 4
        found = comparisons.mcnemar(*self.correct)
        return [*line, str(len(self.ids)), str(found.only_first), str(found.only_second), _p(found.p_value)]


def _in_words(key: _Key) -> str:
    test = "" if key.test == key.task else f" (tested on {key.test})"
    return f"{key.task} {key.method} seed {key.seed}{test}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _means(pairs: Mapping[_Key, _Pair]) -> list[str]:
    """Mean differences over the seeds that both runs have, on the items that all of them share."""
    by_method: dict[tuple[str, str, str], list[_Pair]] = {}
    for key, pair in pairs.items():
        if pair.ids:
            by_method.setdefault((key.task, key.test, key.method), []).append(pair)
    rows = []
    for name, of_method in by_method.items():
        if all(pair.is_same for pair in of_method):
            continue
        shared = sorted(set.intersection(*(set(pair.ids) for pair in of_method)))
        places = [np.searchsorted(pair.ids, shared) for pair in of_method]  # which are sorted
        if not shared:
            continue
        first, second = (
            np.stack([pair.correct[side][place] for pair, place in zip(of_method, places, strict=True)])
            for side in (0, 1)
        )
        change = comparisons.bootstrap_difference(second, first)
        interval = f"{100 * change.low:+.2f} to {100 * change.high:+.2f}"
        counts = [str(len(of_method)), str(len(shared))]
        rows.append([*name, *counts, f"{100 * change.mean:+.2f}", interval, _p(change.p_value)])
    if not rows:
        return []
    header = ["task", "test", "method", "seeds", "shared", "B minus A", "95 % interval", "p"]
    title = "means over seeds, on the shared items (bootstrapped over items and seeds)"
    return [title, *formats.aligned([header, *rows], left=range(3)).splitlines()]


def _outcomes(run: kept.Kept) -> dict[_Key, _Outcome]:
    """By task, test, method and seed, from the predictions or, where there are none, from the records."""
    wanted = (*_Key._fields, "example_id", "label", "correct")  # without the texts
    table = None if run.results is None else run.predictions(wanted)
    if table is None:
        records = [] if run.results is None else run.results["records"]
        return {
            _Key(one["task"], one["task"], one["method"], one["seed"]): _Outcome(one["n"], one["correct"])
            for one in records
        }
    found: dict[_Key, dict[str, tuple[Any, bool]]] = {}
    columns = [table[name].to_pylist() for name in wanted]
    for *key, name, label, correct in zip(*columns, strict=True):
        found.setdefault(_Key(*key), {})[name] = (label, correct)
    return {
        key: _Outcome(len(items), sum(correct for _, correct in items.values()), items)
        for key, items in found.items()
    }


def _areas(first: kept.Kept, second: kept.Kept) -> list[str]:
    """AUROC of P(IK), where it differs."""
    areas: list[dict[tuple, float | None]] = [{}, {}]
    for found, run in zip(areas, (first, second), strict=True):
        for test in (run.results or {}).get("p_ik", ()):
            found[test["method"], test["seed"], test["test_task"], test["distribution"]] = test["auroc"]
    rows = [_area_cells(key, areas[0][key], areas[1][key]) for key in areas[0] if key in areas[1]]
    rows = [row for row in rows if row[-3] != row[-2]]
    if not rows:
        return []
    header = ["P(IK) of", "seed", "tested on", "distribution", "AUROC A", "AUROC B", "B minus A"]
    return [f"AUROC of P(IK) that differ: {len(rows)}", *formats.aligned([header, *rows]).splitlines()]


def _area_cells(key: Sequence[Any], mine: float | None, theirs: float | None) -> list[str]:
    shown = [formats.NOTHING if value is None else f"{value:.4f}" for value in (mine, theirs)]
    change = formats.NOTHING if None in (mine, theirs) else f"{theirs - mine:+.4f}"
    return [*map(str, key), *shown, change]
