"""Questions in other words by a model of the run: what it is asked, and which of its texts take a question's place.

They stand in for the rewording by GPT-4o of Reliability-Aware Alignment (arXiv 2406.19032, Section 4.1). Models need
follow no instructions: solved examples show the form. A text that is not taken leaves the question as it was.
"""

import collections
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from selw2s_jax.data import rewording, tasks, variations, written_tasks

FILE = (
    "rewordings.parquet"  # example_id, variation (from 1), written, outcome, text ("" where it is not taken)
)
KEPT = "kept"

# Of each outcome but `KEPT`, what is said of such texts; the first that holds counts.
_SAID = {
    "empty": "have no text",
    "unfinished": "were cut off at variations.max_new_tokens",
    "long": "are more than twice as long",
    "short": "are less than half as long",
    "numbers": "have other numbers",
    "no_question": "ask nothing, where the original does",
    "shown": "are a solved example's",
    "same": "are the original words",
    "repeated": "are another variation's words",
}
_LEAST_LONG = 40  # characters by which a text may be longer, however short the original is

_INSTRUCTION = (
    "### Instruction: Write each text in other words. Keep its meaning, its names and all of its numbers."
)
_SHOTS = (
    (
        "A baker sells 12 loaves a day at $3 each. How much money does she make in 5 days?",
        "Every day, a baker sells 12 loaves for $3 each. How much money does she earn in 5 days?",
    ),
    (
        "Which gas do plants take from the air to make sugar?",
        "To make sugar, what gas is taken from the air by plants?",
    ),
    (
        "Tom had 20 marbles. He gave 5 of them to Ann, and then he found 4 more. How many marbles does he have now?",
        "Tom owned 20 marbles. After giving Ann 5 of them, he found another 4. How many marbles are his now?",
    ),
    (
        "I told my sister that I had fed her 2 cats, though I had forgotten.",
        "Though I had forgotten to feed her 2 cats, I told my sister that it was done.",
    ),
    (
        "A train goes 60 miles in an hour, then 45 miles in each of the next 2 hours. How far has it gone by then?",
        "In an hour a train goes 60 miles, and in each of the 2 hours after it 45 miles. How far has it gone by then?",
    ),
)
_ASKED, _SAYING = "\n### Text:", "\n### In other words:"


class _Rewording(written_tasks.WrittenTask):
    """A text in, the same in other words out. Nothing reads the answers as of their kind."""

    def prompt(self, question: tasks.Question, variation: variations.Variation | None = None) -> str:
        shots = "".join(f"{_ASKED} {text}{_SAYING} {said}" for text, said in _SHOTS)
        return f"{_INSTRUCTION}{shots}{_ASKED} {question.text}{_SAYING}"


TASK = _Rewording("rewording", "number", ("",))


def choose(original: str, written: Sequence[str], finish: Sequence[str]) -> list[tuple[str, str]]:
    """Which texts take the place of a question.

    Args:
        original: text of the question.
        written: what a model wrote to it, in the order of its variations.
        finish: why each ended, as of `inference.writing.Answers`.

    Returns:
        Of each its text, "" where it is not taken, and the outcome: `KEPT`, or why not.
    """
    taken = {_words(text): "shown" for shot in _SHOTS for text in shot} | {_words(original): "same"}
    found = []
    for one, why in zip(written, finish, strict=True):
        text, is_whole = _read(original, one)
        outcome = "unfinished" if text and is_whole and why == "length" else _fault(original, text, taken)
        if outcome == KEPT:
            taken[_words(text)] = "repeated"
        found.append((text if outcome == KEPT else "", outcome))
    return found


def _read(original: str, written: str) -> tuple[str, bool]:
    """The text that was written, and whether that is all of it: of one line where the original has one."""
    whole = written.strip()
    text = whole.partition("###")[0].strip()
    if "\n" not in original.strip():
        text = text.partition("\n")[0].strip()
    return text, text == whole


def _fault(original: str, text: str, taken: dict[str, str]) -> str:
    if not _words(text):
        return "empty"
    if len(text) > max(2 * len(original), len(original) + _LEAST_LONG):
        return "long"
    if 2 * len(text) < len(original):  # an answer, too
        return "short"
    if not rewording.same_numbers(original, text):
        return "numbers"
    if "?" in original and "?" not in text:  # it was answered, or gone on with
        return "no_question"
    return taken.get(_words(text), KEPT)


def _words(text: str) -> str:
    """What two texts share that differ in case, spaces and punctuation alone."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def make_table(
    example_ids: Sequence[str], originals: Sequence[str], written: Sequence[Sequence[str]], finish: Sequence
) -> dict[str, Any]:
    """Columns of `FILE`, a row for each question and variation.

    Args:
        example_ids, originals: of Q questions.
        written, finish: `[Q][N]`, as of `choose`.
    """
    rows = [
        (name, number, own, outcome, text)
        for name, original, texts, ends in zip(example_ids, originals, written, finish, strict=True)
        for number, (own, (text, outcome)) in enumerate(
            zip(texts, choose(original, texts, ends), strict=True), 1
        )
    ]
    name, number, own, outcome, text = map(list, zip(*rows, strict=True))
    return {
        "example_id": name,
        "variation": np.array(number, np.int32),
        "written": own,
        "outcome": outcome,
        "text": text,
    }


def by_question(table: dict[str, Any]) -> dict[str, list[str]]:
    """Of each example_id of a table of `FILE` its N texts, in the order of the variations; "" where none is taken."""
    found: dict[str, list[str]] = {}
    for row in np.argsort(table["variation"], kind="stable"):
        found.setdefault(table["example_id"][row], []).append(table["text"][row])
    return found


def count(outcomes: Iterable[str]) -> dict[str, int]:
    """How many there are of each outcome, zeros too."""
    found = collections.Counter(outcomes)
    return {name: found[name] for name in (KEPT, *_SAID)}


def describe(counts: dict[str, int]) -> str:
    """Why texts were not taken, for people; "" where all were."""
    return ", ".join(f"{counts[name]} {said}" for name, said in _SAID.items() if counts[name])
