"""What a page ends with: questions as models read them, what runs were made of, and the terms of the page."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selw2s_jax.report import glossary, page, stored

_STUDENTS = (
    "A weak model is fine-tuned on ground truth and labels new data; a strong one, the student, is trained on those "
    "flawed labels. The ceiling is the strong model trained on ground truth instead. PGR, performance gap recovered, "
    "says how much of the gap between weak model and ceiling a student closes.",
    "All numbers of a task are of the same test items for every method and seed, and computed from the predictions "
    "that the runs stored. A gain of a method that selects labels is evidence for selection only where it is also a "
    "gain over the controls.",
)
_P_IK = (
    "P(IK) is the strong model's own estimate of whether it knows the answer to a question (IK) or not (IDK). A head "
    "on the model is trained on questions of one task, with whether the untouched model's few-shot answer is right as "
    "its target, and is tested on questions of that task (in distribution) or of another one (out of distribution): "
    "its AUROC says how well it tells known from unknown questions, its calibration whether it can be taken for a "
    "probability."
)
# What stands before the last part of an absolute path, at the beginning of a word or behind = , : or a quotation mark.
_ABOVE = re.compile(r"""(?:^|(?<=[\s=,:'"]))(?:~[^/\s,:]*)?/(?!/)(?:[^/\s,:'"]+/)*""")
_CUT = "Folders are shown by their last part; config.json and manifest.json of the run have them whole."
_LONG = 120  # letters of a value that is written once


def how_to_read(runs: Sequence[stored.Run]) -> list[str]:
    """What is measured here, in a few sentences."""
    has_students = any(run.has_classifiers for run in runs)
    has_p_ik = any(run.has_probabilities or run.p_ik for run in runs)
    return [page.paragraph(text) for text in (*_STUDENTS * has_students, *[_P_IK] * has_p_ik)]


def terms(runs: Sequence[stored.Run], of_columns: glossary.Glossary) -> list[str]:
    """The methods, and what headings mean; once all tables are shown."""
    return [
        page.heading(2, "Methods", "methods"),
        page.definitions(_described(runs).items()),
        page.heading(2, "Terms", "terms"),
        *how_to_read(runs),
        *of_columns.parts(),
    ]


def _described(runs: Sequence[stored.Run]) -> dict[str, str]:
    """What each method is, with the options that it was given."""
    described: dict[str, str] = {}
    options: dict[str, dict[str, None]] = {}
    for run in runs:
        # P(IK) alone may be tested without being listed.
        for method in (*run.methods, *(entry["method"] for entry in run.p_ik)):
            facts = run.facts(method)
            described[method] = facts.description
            options.setdefault(method, {})[facts.options or "none of its own"] = None
    return {
        method: f"{text}; options: {' or '.join(given)}"
        if (given := [*options[method]]) != ["none of its own"]
        else text
        for method, text in described.items()
    }


def examples(runs: Iterable[stored.Run]) -> list[str]:
    """One question per task as each model reads it, folded; nothing where the manifests have none."""
    texts: dict[tuple[str, str], str] = {}
    for run in runs:
        for example in run.manifest.get("examples", []):
            texts.setdefault((example["task"], example["reader"]), example["text"])
    return [
        page.folded(f"{task}: {reader}", [page.listing(text)])
        for (task, reader), text in sorted(texts.items())
    ]


def settings(names: Mapping[str, stored.Run]) -> list[str]:
    """The config and the manifest of every run, each behind a line that opens it."""
    parts = []
    for name, run in names.items():
        others = {key: value for key, value in run.manifest.items() if key not in ("config", "examples")}
        about = f"{name}: " if len(names) > 1 else ""
        parts += [
            page.folded(f"{about}config", [page.listing(listed(without_folders(run.config)))]),
            page.folded(
                f"{about}manifest: code, libraries, devices, models, students and stages",
                [
                    page.paragraph(f"Workdir {run.workdir.name}"),
                    page.listing(listed(without_folders(others))),
                ],
            ),
        ]
    return [page.paragraph(_CUT), *parts]


def without_folders(value: Any) -> Any:
    """A JSON value, of whose absolute paths the last part is left: a page is for others than the user of a machine.

    Those of texts with spaces, which may be of questions, stay as they are, but for commands.
    """
    if isinstance(value, dict):
        return {
            key: _of_command(one) if key == "command" else without_folders(one) for key, one in value.items()
        }
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    if isinstance(value, str) and not re.search(r"\s", value):
        return _of_command(value)
    return value


def _of_command(text: Any) -> Any:
    return _ABOVE.sub(".../", text) if isinstance(text, str) else text


def listed(values: Mapping[str, Any]) -> str:
    """JSON with a line for each key, and for each member of a list of objects; what is long is written once.

    Where it stands again, as the few-shot prompt of every student, it is said where it stood first.
    """
    seen: dict[str, str] = {}

    def text(value: Any, place: str) -> str:
        if isinstance(value, dict):
            inner = (f"{json.dumps(key)}: {text(one, f'{place}.{key}')}" for key, one in value.items())
            written = f"{{{', '.join(inner)}}}"
        else:
            written = json.dumps(value, ensure_ascii=False)
        whole = json.dumps(value, ensure_ascii=False, sort_keys=True)
        if len(whole) <= _LONG:
            return written
        first = seen.setdefault(whole, place)
        return written if first == place else f"<as {first}>"

    lines = []
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            members = (f"  {text(member, f'{key}[{number}]')}" for number, member in enumerate(value))
            lines += [f"{key}:", *members]
        else:
            lines.append(f"{key}: {text(value, key)}")
    return "\n".join(lines)
