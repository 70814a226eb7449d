"""A study's registration: what it compares, how and on what, written into its workdir before a student is trained.

`preregistration.json` is written once. A run that finds it puts the hash of its bytes, as `sha256sum` prints it, into
its manifests with the number of students that were trained by then; what is registered can afterwards be neither
changed nor put there without a reader of the report being told.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax import errors
from selw2s_jax.analysis import methods
from selw2s_jax.errors import UserError
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts, json_forms, storage

FILE = "preregistration.json"
TEST = "two-way bootstrap over test items and seeds, two-sided"
# Labels of other trainings.
_NO_STUDENT = re.compile(r"(weak(-\d+)?( fold \d+ of \d+)?|ceiling|P\(IK\) alone), seed \d+")
_FORM = {
    "time": str,
    "config": dict,
    "config_hash": str,
    "code": {"source": str},
    "comparisons": [{"first": str, "second": str}],
    "test": {"kind": str, "correction": str, "num_tests": int, "level": float},
    "runs": [{"name": str, "task": str, "seeds": [int], "n": int, "labels_hash": str, "texts_hash": str}],
}
_ENTRY = {"sha256": str, "students_before": int, "differing": list}


class Registration(NamedTuple):
    """The file, as it is now.

    Attributes:
        sha256: of its bytes, in hex.
        content: None where it is not what the command wrote.
    """

    sha256: str
    content: dict[str, Any] | None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """What is compared."""
        return [(one["first"], one["second"]) for one in self.content["comparisons"]] if self.content else []


class Standing(NamedTuple):
    """How a run stands to the registration of its workdir.

    Attributes:
        found: the file; None where it is gone.
        entry: of the run's manifest, with `sha256` and `students_before` of when the run first met a registration and
            `differing`, of when it was last started: a key of the config, or the code, with the value that is
            registered and the one that was run, for each that differs. None where the run met none.
    """

    found: Registration | None
    entry: dict[str, Any] | None

    @property
    def holds(self) -> bool:
        """Whether it is what was written before the run's first student was trained."""
        return (
            self.found is not None
            and self.found.content is not None
            and self.entry is not None
            and self.entry["sha256"] == self.found.sha256
            and not self.entry["students_before"]
        )


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """`posterior:posterior_shuffled,selective:finetune` as pairs.

    Raises:
        UserError: a part is no pair of names.
    """
    pairs = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        names = tuple(name.strip() for name in part.split(":"))
        if len(names) != 2 or not all(names):
            raise UserError(f"--compare: {part!r} is no pair: give METHOD:OTHER, several with commas")
        pairs.append(names)
    return pairs


def check_pairs(
    pairs: Sequence[tuple[str, str]] | None, known: Mapping[str, methods.Facts]
) -> list[tuple[str, str]]:
    """The pairs that a study compares; `methods.default_pairs` without any.

    Args:
        known: the models that are tested, by name.

    Raises:
        UserError: a name is none of these, a pair is there twice, or there is none.
    """
    if pairs is None:
        pairs = methods.default_pairs(known)
    for pair in pairs:
        if absent := [name for name in pair if name not in known]:
            raise UserError(
                f"--compare: {absent[0]!r} is no model that is tested here: choose of {', '.join(known)}, or add it to "
                "--config.methods"
            )
        if len({*pair}) < 2:
            raise UserError(f"--compare: {':'.join(pair)} compares {pair[0]} with itself: name two models")
    different = {frozenset(pair) for pair in pairs}
    if len(different) < len(pairs):
        raise UserError("--compare names two models twice, in one order or the other: name each pair once")
    if not pairs:
        raise UserError("the config has no two models to compare: add methods, or name a pair in --compare")
    return list(pairs)


def check_new(workdir: epath.Path) -> None:
    """Checks that a workdir can still have a registration.

    Raises:
        UserError: it has one, or a student is trained.
    """
    if (found := read(workdir)) is not None:
        when = f" of {found.content['time']}" if found.content else ""
        raise UserError(
            f"workdir {workdir} has a registration{when} already, and a study is registered once: choose another "
            "--workdir"
        )
    if trained := trained_students(workdir):
        raise UserError(
            f"workdir {workdir} has {len(trained)} trained students already, {trained[0]} among them: a study is "
            "registered before; choose another --workdir"
        )


def trained_students(workdir: epath.Path) -> list[str]:
    """Labels of the finished trainings in a workdir, but those of weak models, ceilings and P(IK)."""
    store, labels = artifacts.Store(workdir), []
    for key in artifacts.finished_keys(workdir, "train"):
        label = str(store.find_by_key("train", key).read_json("summary.json")["label"])
        labels += [] if _NO_STUDENT.fullmatch(label) else [label]
    return sorted(labels)


def write(workdir: epath.Path, content: dict[str, Any]) -> Registration:
    """Writes a registration, at once."""
    json_forms.check(content, _FORM)
    data = (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    storage.write_bytes(workdir / FILE, data)
    return _parse(data)


def read(workdir: epath.Path) -> Registration | None:
    """The registration of a workdir; None where it has none."""
    data = storage.read_bytes(workdir / FILE)
    return None if data is None else _parse(data)


def _parse(data: bytes) -> Registration:
    try:
        content = errors.parse_json(data)
        json_forms.check(content, _FORM)
        is_whole = (
            artifacts.content_hash(content["config"])[:16] == content["config_hash"]
            and content["test"]["num_tests"] == len(content["comparisons"]) > 0
            and 0 < content["test"]["level"] < 1
            and all(one["seeds"] for one in content["runs"])
            and content["runs"]
        )
    except ValueError:
        is_whole = False
    return Registration(hashlib.sha256(data).hexdigest(), content if is_whole else None)


def of_run(workdir: epath.Path, config: dict[str, Any], source: str) -> dict[str, Any] | None:
    """What the manifests of a run that is about to start say of its workdir's registration, as `Standing` has it.

    Args:
        config: of the run, as JSON values.
        source: hash of its code.
    """
    found, entry = read(workdir), _earlier(workdir)
    if found is None and entry is None:
        return None
    if entry is None:
        entry = {"sha256": found.sha256, "students_before": len(trained_students(workdir))}
    differing = [] if found is None or found.content is None else _differing(found.content, config, source)
    return {name: entry[name] for name in ("sha256", "students_before")} | {"differing": differing}


def _differing(content: Mapping[str, Any], config: dict[str, Any], source: str) -> list[dict[str, Any]]:
    keys = config_lib.differing_keys(content["config"], config)
    found = [
        {"key": f"config.{key}", "registered": _value(content["config"], key), "run": _value(config, key)}
        for key in keys
    ]
    if content["code"]["source"] != source:
        found.append({"key": "code", "registered": content["code"]["source"], "run": source})
    return found


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part)
    return config


def _earlier(workdir: epath.Path) -> dict[str, Any] | None:
    """The entry of the first manifest of an earlier start in a workdir that has one."""
    runs = workdir / manifests.RUNS_FOLDER
    for folder in (workdir, *(runs / name for name in storage.names(runs))):
        data = storage.read_bytes(folder / manifests.MANIFEST_FILE)
        try:
            entry = entry_of(errors.parse_json(data)) if data is not None else None
        except (ValueError, AttributeError):
            continue  # it is about to be written anew
        if entry is not None:
            return entry
    return None


def entry_of(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a manifest says of the registration; None where the run met none.

    Raises:
        ValueError: it is none that a run wrote.
    """
    entry = manifest.get("registration")
    if entry is not None:
        json_forms.check(entry, _ENTRY)
        for one in entry["differing"]:
            json_forms.check(one, {"key": str})
            if not {"registered", "run"} <= one.keys():
                raise ValueError(f"{one!r:.60} has no values")
    return entry
