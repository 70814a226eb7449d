"""Generated questions in the files of the data sets whose answers are written, for smoke runs; see `generated`."""

import pathlib
from typing import Any

from selw2s_jax.worlds import generated

_PLACES = ("garden", "valley", "harbor", "forest", "market", "desert", "island", "meadow")


def write(folder: str | pathlib.Path, *, seed: int = 0, num_rows: int = 90) -> None:
    """Writes files like those of MMLU, HellaSwag, ETHICS and GSM8K under `folder`, all splits that tasks read.

    Args:
        folder: made if needed; laid out as `data.sources` reads it.
        seed: decides every question.
        num_rows: of a split.
    """
    makers = (
        ("mmlu/all", ("dev", "validation", "test", "auxiliary_train"), _mmlu_row),
        ("hellaswag", ("train", "validation"), _hellaswag_row),
        ("ethics/commonsense", ("train", "validation"), _ethics_row),
        ("gsm8k/main", ("train", "test"), generated.gsm8k_row),
    )
    for subset, names, make_row in makers:
        for split in names:
            rows = [
                make_row(generated.Draws(seed, f"written/{subset}/{split}/{row}"), row)
                for row in range(num_rows)
            ]
            generated.write_rows(pathlib.Path(folder, subset, f"{split}.parquet"), rows)


def _choices(draws: generated.Draws) -> tuple[list[str], int]:
    """Three lifeless things and a living one, and its place."""
    choices, answer = draws.some(generated.LIFELESS, 4), draws.below(4)
    choices[answer] = draws.one(generated.ALIVE)
    return choices, answer


def _mmlu_row(draws: generated.Draws, row: int) -> dict[str, Any]:
    choices, answer = _choices(draws)
    return {
        "question": f"Which thing in the {draws.one(_PLACES)} of case {row} is alive?",
        "subject": "natural_things",
        "choices": choices,
        "answer": answer,
    }


def _hellaswag_row(draws: generated.Draws, row: int) -> dict[str, Any]:
    choices, answer = _choices(draws)
    return {
        "ctx": f"On day {row} something grew in the {draws.one(_PLACES)}. It",
        "endings": [f"was a {choice}" for choice in choices],
        "label": str(answer),
    }


def _ethics_row(draws: generated.Draws, row: int) -> dict[str, Any]:
    label = draws.below(2)
    what = draws.one(generated.ALIVE if label else generated.LIFELESS)
    return {
        "label": label,
        "input": f"On day {row} I stepped on a {what} in the {draws.one(_PLACES)}.",
        "is_short": bool(draws.below(2)),
    }
