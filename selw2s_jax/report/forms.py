"""The forms, of `runtime.json_forms`, of what reports read of manifest.json and results.json."""

from typing import Any

from selw2s_jax.analysis import results
from selw2s_jax.runtime import json_forms

_NUMBER = (int, float, type(None))  # null stands for what was not finite
_TEXT = (str, type(None))
_OF_A_SEED = {"method": str, "seed": int}
_STORED = _OF_A_SEED | {"key": str}

MANIFEST = {
    "config": {
        "task": str,
        "methods": [str],
        "seeds": [int],
        "weak": {"model": _TEXT, "members?": [str], "task?": _TEXT},
        "strong": {"model": _TEXT},
        "p_ik": {"task": str, "gamma": (int, float), "mask?": str},
        "training": {"batch_size": int},
    },
    "models": {"strong": {"name": str, "title?": str}, "weak?": {"name": str, "title?": str}},
    "students": [_STORED],
    "test": {
        "labels_hash": str,
        "is_papers_data": bool,
        "evaluations": [_STORED | {"stage?": str}],
        "members?": [_STORED],
    },
    "stages": [{"label": str, "name": str, "key": str}],
    "examples?": [{"task": str, "reader": str, "text": str}],
}

_SECOND_HALF = (
    "ik_rate", "self_accuracy_on_ik", "weak_accuracy_on_ik", "weak_accuracy", "prior_accuracy", "target_accuracy",
    "smoothing_move", "smoothing_flips", "p_ik_auroc",
)  # fmt: skip
DIAGNOSIS = _OF_A_SEED | {"self_weight": _NUMBER, "effective_neighbours": _NUMBER}
DIAGNOSIS["second_half"] = dict.fromkeys(_SECOND_HALF, _NUMBER)

_BAND = {"n": int} | dict.fromkeys(("low", "high", "accuracy", "auroc", "ece"), _NUMBER)
P_IK_TEST = {
    **_OF_A_SEED,
    **dict.fromkeys(("train_task", "test_task", "distribution"), str),
    **dict.fromkeys(("n", "known"), int),
    **dict.fromkeys(("auroc", "auroc_low", "auroc_high", "brier", "ece", "ik_rate", "ik_precision"), _NUMBER),
    "bands": [_BAND],
}


def check_seeds(manifest: dict[str, Any]) -> None:
    """Checks that each method of a manifest is evaluated, and trained, once for a seed of the config.

    Raises:
        ValueError: it is not.
    """
    test = manifest["test"]
    for entries in (manifest["students"], test["evaluations"], test.get("members", [])):
        named = [(entry["method"], entry["seed"]) for entry in entries]
        if len(set(named)) < len(named) or not {seed for _, seed in named} <= set(
            manifest["config"]["seeds"]
        ):
            raise ValueError("a method is there twice for a seed, or for one that is not of the config")


def check_p_ik_test(entry: dict[str, Any]) -> None:
    """Checks an entry of "p_ik" in results.json.

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, P_IK_TEST)
    if entry["distribution"] not in results.DISTRIBUTIONS or not 0 <= entry["known"] <= entry["n"]:
        raise ValueError(
            f"{entry['distribution']!r:.60} is no distribution, or more questions are known than there are"
        )
