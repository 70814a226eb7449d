"""Generated questions in the files and columns of the real data sets: for smoke runs without any download.

The questions are about living and lifeless things, so that a few steps of training find the signal. They show
that the pipeline runs; their numbers mean nothing.
"""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selw2s_jax.data import by_id

if TYPE_CHECKING:
    import pyarrow as pa

ALIVE = ("fox", "owl", "crab", "fern", "moss", "trout", "wasp", "pine", "hare", "toad", "oak", "eel")
LIFELESS = (
    "rock",
    "salt",
    "coin",
    "brick",
    "chalk",
    "glass",
    "iron",
    "spoon",
    "clay",
    "rope",
    "lamp",
    "ring",
)
_PLACES = ("garden", "valley", "harbor", "forest", "market", "desert", "island", "meadow", "castle", "river")
_PEOPLE = ("Ada", "Bruno", "Clara", "Dmitri", "Elena", "Farid", "Grace", "Hugo")
_NONE_OF_THE_ABOVE = "None of the above choices ."


def write_generated_data(
    folder: str | pathlib.Path, *, seed: int = 0, num_train: int = 256, num_test: int = 64
) -> None:
    """Writes files like those of SciQ, BoolQ, CosmosQA, ARC, Winogrande and GSM8K, train and test, under `folder`.

    Args:
        folder: made if needed; laid out as `sources` reads it. Files there of the same names are replaced.
        seed: with the sizes, decides every question.
        num_train, num_test: rows per split, at least 2; ARC's are divided between ARC-Easy and ARC-Challenge.
    """
    easy = {"train": num_train // 2, "test": num_test // 2}
    makers = (
        ("sciq", "test", _sciq_row, _sciq_schema, num_train, num_test),
        ("boolq", "validation", _boolq_row, _boolq_schema, num_train, num_test),
        ("cosmos_qa", "validation", _cosmos_qa_row, _cosmos_qa_schema, num_train, num_test),
        ("ai2_arc/ARC-Easy", "test", _arc_row, _arc_schema, easy["train"], easy["test"]),
        (
            "ai2_arc/ARC-Challenge",
            "test",
            _arc_row,
            _arc_schema,
            num_train - easy["train"],
            num_test - easy["test"],
        ),
        ("winogrande/winogrande_xl", "validation", _winogrande_row, _winogrande_schema, num_train, num_test),
        ("gsm8k/main", "test", gsm8k_row, _gsm8k_schema, num_train, num_test),
    )
    for subset, test_name, make_row, schema, train_rows, test_rows in makers:
        for split, num_rows in (("train", train_rows), (test_name, test_rows)):
            rows = [make_row(Draws(seed, f"{subset}/{split}/{row}"), row) for row in range(num_rows)]
            write_rows(pathlib.Path(folder, subset, f"{split}.parquet"), rows, schema())


class Draws:
    """Draws for one row, each keyed by (seed, row name, number of the draw)."""

    def __init__(self, seed: int, name: str):
        self._seed = seed
        self._name = name
        self._count = 0

    def below(self, limit: int) -> int:
        """A whole number from 0, less than `limit`."""
        self._count += 1
        return int(by_id.keyed_uniform(self._seed, f"generated {self._count}", self._name) * limit)

    def some(self, words: Sequence[str], count: int) -> list[str]:
        """Different words."""
        left = list(words)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def one(self, words: Sequence[str]) -> str:
        """A word."""
        return words[self.below(len(words))]


def _sciq_row(draws: Draws, row: int) -> dict[str, Any]:
    wrong = draws.some(LIFELESS, 3)
    return {
        "question": f"Which thing in the {draws.one(_PLACES)} of case {row} is alive?",
        "distractor3": wrong[2],
        "distractor1": wrong[0],
        "distractor2": wrong[1],
        "correct_answer": draws.one(ALIVE),
        "support": "",
    }


def _boolq_row(draws: Draws, row: int) -> dict[str, Any]:
    place = draws.one(_PLACES)
    # About 62 % are true, as in BoolQ.
    answer = draws.below(100) < 62
    thing = draws.one(ALIVE if answer else LIFELESS)
    return {
        "question": f"is the thing in the {place} alive",
        "answer": answer,
        "passage": f"On day {row} {draws.one(_PEOPLE)} found a {thing} in the {place}.",
    }


def _cosmos_qa_row(draws: Draws, row: int) -> dict[str, Any]:
    person = draws.one(_PEOPLE)
    thing = draws.one(ALIVE)
    choices = [*draws.some(LIFELESS, 3), _NONE_OF_THE_ABOVE]
    label = draws.below(4)
    if label < 3:
        choices[label] = thing
    return {
        "id": f"generated-{row}",
        "context": f"On day {row} {person} walked to the {draws.one(_PLACES)} and looked at a {thing} .",
        "question": f"What did {person} look at ?",
        **{f"answer{index}": choice for index, choice in enumerate(choices)},
        "label": label,
    }


def _arc_row(draws: Draws, row: int) -> dict[str, Any]:
    choices = draws.some(LIFELESS, 4)
    answer = draws.below(4)
    choices[answer] = draws.one(ALIVE)
    labels = ["A", "B", "C", "D"] if draws.below(10) else ["1", "2", "3", "4"]
    return {
        "id": f"generated_{row}",
        "question": f"Which of the things near the {draws.one(_PLACES)} of case {row} can grow?",
        "choices": {"text": choices, "label": labels},
        "answerKey": labels[answer],
    }


def _winogrande_row(draws: Draws, row: int) -> dict[str, Any]:
    answer = draws.below(2)
    options = [draws.one(LIFELESS), draws.one(LIFELESS)]
    options[answer] = draws.one(ALIVE)
    return {
        "sentence": f"On day {row} in the {draws.one(_PLACES)} we saw the {options[0]} and the {options[1]} "
        "because the _ had grown.",
        "option1": options[0],
        "option2": options[1],
        "answer": str(answer + 1),
    }


def gsm8k_row(draws: Draws, row: int) -> dict[str, Any]:
    """A question whose answer is a number."""
    person = draws.one(_PEOPLE)
    first, second = 2 + draws.below(48), 2 + draws.below(48)
    total = first + second
    return {
        "question": f"On day {row} {person} found {first} coins in the {draws.one(_PLACES)} and {second} more "
        f"at home. How many coins did {person} find?",
        "answer": f"{person} found {first}+{second}=<<{first}+{second}={total}>>{total} coins.\n#### {total}",
    }


def write_rows(path: pathlib.Path, rows: list[dict[str, Any]], schema: "pa.Schema | None" = None) -> None:
    """Writes rows as parquet.

    Args:
        schema: None for that of their values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def _strings(*names: str) -> list[tuple[str, "pa.DataType"]]:
    import pyarrow as pa

    return [(name, pa.string()) for name in names]


def _sciq_schema() -> "pa.Schema":
    import pyarrow as pa

    names = ("question", "distractor3", "distractor1", "distractor2", "correct_answer", "support")
    return pa.schema(_strings(*names))


def _boolq_schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([*_strings("question"), ("answer", pa.bool_()), *_strings("passage")])


def _cosmos_qa_schema() -> "pa.Schema":
    import pyarrow as pa

    names = ("id", "context", "question", "answer0", "answer1", "answer2", "answer3")
    return pa.schema([*_strings(*names), ("label", pa.int32())])


def _arc_schema() -> "pa.Schema":
    import pyarrow as pa

    texts = pa.list_(pa.field("element", pa.string()))
    choices = pa.struct([("text", texts), ("label", texts)])
    return pa.schema([*_strings("id", "question"), ("choices", choices), *_strings("answerKey")])


def _winogrande_schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(_strings("sentence", "option1", "option2", "answer"))


def _gsm8k_schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(_strings("question", "answer"))
