"""Cases of `support.fuzz`: texts that a model may write, and files of paraphrases."""

import fractions
import pathlib
import random

from support import fuzz, fuzz_rows

from selw2s_jax.data import answers, variations

WRITTEN = "written answers"
PARAPHRASES = "paraphrases"
_PIECES = (
    *("A", "B", "D", "E", "a", "b", "I", "Paris", "paris", "London", "a dog", "right", "wrong", "not", "n't", "isn't"),
    *("answer is", "Answer:", "option", "choice", "or", "and", "/", ",", ".", ")", "(", ":", ";", "]", "*", "_", '"'),
    *("'", "\u2019", "\u201c", "-", "\u2013", "=", "#", "###", "####", "$", "%", "5", "18.0", "1/2", "1,000", "e9"),
    *("\n", "\r\n", "\t", " ", " ", " ", "\u00a0", "\u2028", "\x00", "\ud800", "\u0130", "\u00df", "\x1b[31m"),
)  # fmt: skip
_CHOICES = (
    ("Paris", "Paris, Texas", "London", "a dog"),
    ("A", "B", "a", "and B"),
    ("", " ", "***", "\ud800"),
    ("right", "wrong"),
    ("1", "1.5", "-1", "1/2", "10%"),
    ("\u0130", "i\u0307", "stra\u00dfe", "STRASSE"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
)


@fuzz.register(WRITTEN)
def written_answers(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A text of pieces that mean something to the rules, read in every way."""
    del folder
    pieces = generator.choices(_PIECES, k=generator.choice((1, 2, 3, 5, 8, 30, 400)))
    text = generator.choice(("", " ")).join(pieces)
    choices, words = (
        generator.choice(_CHOICES),
        generator.choice((("right", "wrong"), ("a", "not"), ("B.", "it is"))),
    )

    def read():
        return [
            answers.parse_in_full("choice", text, choices=choices),
            answers.parse_in_full("words", text, words=words),
            answers.parse_in_full("number", text),
        ]

    def check(found) -> None:
        for parsed, most in zip(found, (len(choices), 2, None), strict=True):
            assert (parsed.answer is None) == (parsed.rule is None), parsed
            if parsed.answer is not None and most is None:
                assert isinstance(parsed.answer, fractions.Fraction), parsed
            elif parsed.answer is not None:
                assert type(parsed.answer) is int and 0 <= parsed.answer < most, parsed
        behind = f"{text}\n### Answer: B right 77"
        assert answers.parse_in_full("choice", behind, choices=choices) == found[0]

    return fuzz.Case(f"{text[:300]!r} of {choices} and {words}", read, check)


@fuzz.register(PARAPHRASES)
def paraphrases(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A file of paraphrases of a few questions."""
    path = folder / f"paraphrases{generator.choice(('.jsonl', '.jsonl', '.csv', '.parquet'))}"
    ids = [f"a{i}" for i in range(generator.randint(1, 4))]
    rows = [{"example_id": name, "paraphrases": [f"Is {name} it?", f"It is {name}?"]} for name in ids]
    if generator.random() < 0.5:
        place = generator.randrange(len(rows))
        rows[place] = fuzz.damage_values(generator, rows[place])
    what = fuzz_rows.write(generator, path, rows)
    count = generator.choice((1, 2, 2, 3))

    def check(found) -> None:
        assert list(found) == ids and all(len(set(texts)) == count for texts in found.values()), found
        assert all(text.strip() and text.encode() for texts in found.values() for text in texts), found

    return fuzz.Case(what, lambda: variations.read_paraphrases(path, ids, count=count), check)
