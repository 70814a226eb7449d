"""What reports read of results.json: lists of entries, each checked, so that a damaged file is told from a whole one.

A new analysis is a row of `LISTS`, and a field of `stored.Run`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.report import (
    continual_forms,
    evaluations,
    forms,
    frequency_forms,
    kernel_forms,
    label_forms,
    p_ik_questions,
    reliability_forms,
)
from selw2s_jax.run import manifests
from selw2s_jax.runtime import json_forms, storage

# By the field of `stored.Run`: checks an entry of such a list and returns what the report keeps of it. Runs of earlier
# versions have none.
LISTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    **{name: functools.partial(label_forms.checked, name) for name in label_forms.FORMS},
    "member_labels": label_forms.checked_member,
    "kernels": kernel_forms.checked,
    "reliability": reliability_forms.checked,
    "continual": continual_forms.checked,
    "by_frequency": frequency_forms.checked,
}
_KEYS = {"member_labels": "members"}  # of results.json, where it is another


def checked(path: epath.Path, workdir: epath.Path, read: Callable[[], Any]) -> Any:
    """`read()`, with errors of a damaged file as one line."""
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} cannot be read; run the same config in {workdir} again to mend it, finished stages are kept"
        ) from error


def read(
    workdir: epath.Path, manifest: dict[str, Any], root: epath.Path, texts: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """What a `stored.Run` has of results.json and of the questions beside it; and why parts are missing.

    Args:
        workdir: of the run.
        root: where its command is run again, for messages.
        texts: of questions, each kept once; grows.

    Raises:
        UserError: a file is damaged.
    """
    path = workdir / manifests.RESULTS_FILE
    content = storage.read_bytes(path)
    nothing = {"diagnostics": [], "p_ik": [], "p_ik_items": {}, "notes": [], "warnings": []}
    unfinished = f"{_of_results(manifest)}, which the run writes when it ends"
    if content is None:
        return nothing, [unfinished]

    def parse() -> dict[str, Any]:
        stored_results = errors.parse_json(content)
        if any(stored_results["manifest"][key] != manifest[key] for key in ("config", "stages")):
            return {}
        return {
            "diagnostics": [_diagnosis(entry) for entry in stored_results["diagnostics"]],
            "p_ik": [_p_ik_test(entry) for entry in stored_results["p_ik"]],
            "p_ik_items": {},
            "notes": [str(note) for note in stored_results["notes"]],
            # Earlier versions had none.
            "warnings": [
                (str(one["observation"]), str(one["remedy"])) for one in stored_results.get("warnings", [])
            ],
            **{
                name: [check(entry) for entry in _entries(stored_results.get(_KEYS.get(name, name), []))]
                for name, check in LISTS.items()
            },
        }

    parts = checked(path, root, parse)
    if not parts:
        return nothing, [f"{unfinished} (results.json is of an earlier config)"]
    if not parts["p_ik"]:
        return parts, []
    if any(entry is None for entry in parts["p_ik"]):
        of_another = (
            "tests of P(IK): results.json has them as another version wrote them; run the config again"
        )
        return parts | {"p_ik": []}, [of_another]
    path = workdir / manifests.P_IK_ITEMS_FILE
    items = checked(path, root, lambda: p_ik_questions.read(path, parts["p_ik"], texts))
    if items is None:
        return parts, [
            f"{manifests.P_IK_ITEMS_FILE}, P(IK) of every question, which the run writes when it ends"
        ]
    return parts | {"p_ik_items": items}, []


def _entries(found: Any) -> Any:
    """A list of results.json, or what stands in it once, as a list."""
    return [found] if isinstance(found, dict) else found


def _of_results(manifest: Mapping[str, Any]) -> str:
    """What a report takes from results.json."""
    stages = {evaluations.stage_of(entry) for entry in manifest["test"]["evaluations"]}
    if evaluations.WRITTEN in stages:
        return "the reliability of the weak labels"
    return "label diagnostics and tests of P(IK)" if stages else "tests of P(IK)"


def _p_ik_test(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """A test of P(IK); None where an earlier version wrote it."""
    if not forms.P_IK_TEST.keys() <= entry.keys():
        return None
    forms.check_p_ik_test(entry)
    return {name: entry[name] for name in forms.P_IK_TEST}


def _diagnosis(entry: Mapping[str, Any]) -> dict[str, Any]:
    json_forms.check(entry, forms.DIAGNOSIS)
    names = (*forms.DIAGNOSIS, *forms.DIAGNOSIS["second_half"])
    values = entry | entry["second_half"]
    return {name: values[name] for name in names if name != "second_half"}
