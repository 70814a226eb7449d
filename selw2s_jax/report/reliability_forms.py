"""What reports read of results.json on the reliability of written labels, and that it is what `analysis` writes."""

from collections.abc import Iterable
from typing import Any

from selw2s_jax.analysis import reliability
from selw2s_jax.runtime import json_forms

_NUMBER = (int, float)
_NUMBER_OR_NONE = (int, float, type(None))
_INTERVAL = {"low": _NUMBER_OR_NONE, "high": _NUMBER_OR_NONE}
_ACCURACY = {"n": int, "right": int, "unparsed": int, "share": _NUMBER_OR_NONE} | _INTERVAL
_LABELS = dict.fromkeys(reliability.LABELS, _ACCURACY)
_LETTERS = {
    "n": int,
    "chosen": [int],
    "right": [int],
    "expected": [_NUMBER],
    **{key: [_NUMBER_OR_NONE] for key in ("share", "low", "high")},
}
_TABLES = ("mean", "low", "high")
_FORM = {
    "seed": int,
    **dict.fromkeys(("questions", "variations", "left_out"), int),
    **dict.fromkeys(("kind", "ties", "unparsed"), str),
    **dict.fromkeys(("percentile", "temperature"), _NUMBER),
    "unparsed_answers": {"n": int, "count": int},
    "entropies": [{"entropy": _NUMBER, "counts": [str], "questions": int, "share": _NUMBER} | _LABELS],
    "weighted": {"share": _NUMBER_OR_NONE} | _INTERVAL,
    "scores": {"weak": [str], "truth": [str], "n": [[int]], **{key: [[_NUMBER_OR_NONE]] for key in _TABLES}},
    "auroc": [
        {
            **dict.fromkeys(("score", "label"), str),
            **dict.fromkeys(("n", "wrong"), int),
            **dict.fromkeys(("auroc", "auroc_low", "auroc_high"), _NUMBER_OR_NONE),
        }
    ],
}
_OR_NONE = {
    "filter": {"tau": _NUMBER, "kept": int, "kept_share": _NUMBER, "before": _LABELS, "after": _LABELS},
    "letters": {
        "letters": [str],
        "original": _LETTERS,
        "varied": _LETTERS | {"chi_square": _NUMBER_OR_NONE, "p_value": _NUMBER_OR_NONE},
    },
    "conflicts": {"n": int, "count": int},
}


def checked(entry: Any) -> dict[str, Any]:
    """An entry of "reliability".

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, _FORM)
    for name, form in _OR_NONE.items():
        if entry[name] is not None:
            json_forms.check(entry[name], form)
    _check(entry["kind"] in reliability.KINDS, "kind")
    _check(0 <= entry["left_out"] <= entry["questions"] and entry["variations"] >= 0, "numbers of questions")
    _check(0 <= entry["unparsed_answers"]["count"] <= entry["unparsed_answers"]["n"], "unparsed_answers")
    for bar in entry["entropies"]:
        _check(0 <= bar["questions"] <= entry["questions"] and bar["entropy"] >= 0, "entropies")
        _check_shares(bar["share"])
        _check_labels(bar)
    if entry["filter"] is not None:
        _check(0 <= entry["filter"]["kept"] <= entry["questions"], "filter")
        _check_shares(entry["filter"]["kept_share"])
        for when in ("before", "after"):
            _check_labels(entry["filter"][when])
    _check_shares(*entry["weighted"].values())
    _check_scores(entry["scores"])
    for area in entry["auroc"]:
        _check(0 <= area["wrong"] <= area["n"], "auroc")
        _check_shares(*(area[f"auroc{end}"] for end in ("", "_low", "_high")))
    if entry["letters"] is not None:
        _check_letters(entry["letters"])
    if entry["conflicts"] is not None:
        _check(0 <= entry["conflicts"]["count"] <= entry["conflicts"]["n"], "conflicts")
    return entry


def _check_labels(labels: dict[str, Any]) -> None:
    for name in reliability.LABELS:
        found = labels[name]
        _check(0 <= found["right"] <= found["n"] and 0 <= found["unparsed"] <= found["n"], name)
        _check_shares(*(found[key] for key in ("share", "low", "high")))


def _check_scores(scores: dict[str, Any]) -> None:
    """Checks that every table has a row for each weak label and a column for each truth."""
    for name in ("n", *_TABLES):
        table = scores[name]
        _check(len(table) == len(scores["weak"]), "scores")
        _check(all(len(row) == len(scores["truth"]) for row in table), "scores")
    for row in scores["n"]:
        _check(all(number >= 0 for number in row), "scores")
    for name in _TABLES:
        for row in scores[name]:
            _check_shares(*row)
    present = [
        (n == 0) == (mean is None)
        for of_n, means in zip(scores["n"], scores["mean"], strict=True)
        for n, mean in zip(of_n, means, strict=True)
    ]
    _check(all(present), "scores")


def _check_letters(letters: dict[str, Any]) -> None:
    for of_prompts in (letters["original"], letters["varied"]):
        for name in ("chosen", "right", "expected", "share", "low", "high"):
            _check(len(of_prompts[name]) == len(letters["letters"]), "letters")
        counts = (*of_prompts["chosen"], *of_prompts["right"], *of_prompts["expected"], of_prompts["n"])
        _check(all(count >= 0 for count in counts), "letters")
        _check_shares(*(value for name in ("share", "low", "high") for value in of_prompts[name]))
    _check_shares(letters["varied"]["p_value"])


def _check_shares(*values: float | None) -> None:
    _check(all(0 <= value <= 1 for value in _there(values)), "share")


def _there(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _check(is_so: bool, name: str) -> None:
    if not is_so:
        raise ValueError(f"reliability has another {name} than a run writes")
