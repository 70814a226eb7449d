"""Safe edits of questions: what they do, what they pass over, and that no number is lost."""

import collections
import random

import pytest

from selw2s_jax.data import gsm8k, rewording, variations
from selw2s_jax.errors import UserError

EDITS = {edit.__name__: edit for group in rewording._GROUPS for edit in group}
QUESTION = "She doesn't sell 5 of her twelve eggs. If 20% are $2 each, how much isn't sold?"


@pytest.mark.parametrize(
    ("edit", "text", "expected"),
    [
        ("_digits_to_words", "3 eggs and 12 more eggs, 13 hens", "Three eggs and twelve more eggs, 13 hens"),
        ("_digits_to_words", "Of 5. 6 are left (7 are not)", "Of 5. Six are left (seven are not)"),
        ("_digits_to_words", "1 egg, $5 each, 5% of it, 2.5 pies, 1/2 pie, 3 cm, 3-4 eggs, 2 + 3 eggs", None),
        ("_digits_to_words", "In 2020, 1,000 eggs, 3x eggs, x3 eggs, 7:30", None),
        ("_words_to_digits", "Two eggs and twelve hens", "2 eggs and 12 hens"),
        (
            "_words_to_digits",
            "one egg, two hundred eggs, two dozen, a hundred and two eggs, twenty two eggs",
            None,
        ),
        ("_words_to_digits", "two-thirds of it, two thirds of it, twenty-two eggs, forty two, second", None),
        ("_words_to_digits", "two and a half eggs, five out of nine", None),
        (
            "_dollars_to_words",
            "It costs $5. And $1 for it, $1,200.50 each",
            "It costs 5 dollars. And 1 dollar for it, 1,200.50 dollars each",
        ),
        ("_dollars_to_words", "a $5 bill, $5 million, $5-$10, $5/egg, $5k, US$5 coins", None),
        ("_percent_to_word", "50% of 20 % off", "50 percent of 20 percent off"),
        ("_percent_to_word", "50%-off, % of it, 5%%", None),
        (
            "_expand",
            "I'm sure he can't. Don\u2019t go, they won't",
            "I am sure he cannot. Do not go, they will not",
        ),
        ("_expand", "Don't you? Isn't it? It's his, he'd go, John's, isn't the egg here?", None),
        ("_contract", "He does not go, and cannot. Do not!", "He doesn't go, and can't. Don't!"),
        ("_contract", "Is not it so? It is, we have, donot", None),
    ],
)
def test_edits(edit, text, expected):
    found = EDITS[edit](text)
    assert found == (text if expected is None else expected)
    assert rewording.numbers_survive(text, found)


@pytest.mark.parametrize(
    ("before", "after", "survives"),
    [
        ("5 eggs for $2.50", "for 2.50 dollars, five eggs", True),
        ("twenty-two eggs", "22 eggs", True),
        ("22 eggs", "twenty two eggs", True),
        ("1,000 eggs", "1000 eggs", True),
        ("one of the eggs", "an egg", True),
        ("5 eggs", "eggs", False),
        ("5 eggs", "6 eggs", False),
        ("5 and 5 eggs", "5 eggs", False),
        ("5 eggs", "5 eggs of 5", False),
        ("5 eggs", "55 eggs", False),
        ("eggs", "5 eggs", False),
    ],
)
def test_numbers_survive(before, after, survives):
    assert rewording.numbers_survive(before, after) is survives


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("twelve eggs", "12 eggs", True),
        ("one of twelve eggs", "an egg of the dozen and twelve", True),
        ("1 of twelve eggs", "an egg of twelve", False),
        ("twelve eggs", "ten eggs", False),
        ("eggs", "twelve eggs", False),
    ],
)
def test_same_numbers(one, other, is_same):
    assert rewording.same_numbers(one, other) is rewording.same_numbers(other, one) is is_same


def test_variations_differ_and_are_as_many_as_there_are():
    found = rewording.reword("a", QUESTION, count=1000, seed=0, num_wordings=3)
    assert len(found) == len(set(found)) == (3 * 2) * 3 * 2 * 2 * 2
    assert variations.Variation(text=QUESTION) in found
    texts = {one.text for one in found}
    assert (
        "She does not sell five of her twelve eggs. If 20 percent are 2 dollars each, how much is not sold?"
        in texts
    )
    assert all(
        collections.Counter(gsm8k.numbers(text)) <= collections.Counter({5: 1, 12: 1, 20: 1, 2: 1})
        for text in texts
    )
    plain = rewording.reword("a", "Why?", count=5, seed=0)
    assert set(plain) == {
        variations.Variation(text="Why?", is_instruction_behind=way) for way in (False, True)
    }


def test_variations_are_a_function_of_seed_and_example():
    def five(name="a", seed=0):
        return rewording.reword(name, QUESTION, count=5, seed=seed, num_wordings=2)

    assert five() == five() and len(set(five())) == 5
    assert five() != five("b") and five() != five(seed=1)
    assert rewording.reword("a", QUESTION, count=3, seed=0, num_wordings=2) == five()[:3]
    first = collections.Counter(
        rewording.reword(str(i), "Why?", count=1, seed=0, num_wordings=2)[0] for i in range(400)
    )
    assert len(first) == 4 and all(70 < count < 130 for count in first.values())


def test_no_number_of_variations_is_refused():
    with pytest.raises(UserError, match=r"variations\.count is 0"):
        rewording.reword("a", "Why?", count=0, seed=0)


def test_any_text_keeps_its_numbers():
    others = (
        "do",
        "not",
        "cannot",
        "I'm",
        "two",
        "twenty",
        "hundred",
        "of",
        "$1.50",
        "20",
        "%",
        "and",
        "a",
        ".",
        "?",
    )
    pieces = (*QUESTION.split(), *others, ",", "-", "1/2", "+", "=", "5", "12", "\n")
    for number in range(60):
        generator = random.Random(number)
        text = generator.choice((" ", " ", "")).join(generator.choices(pieces, k=generator.randint(0, 30)))
        for one in rewording.reword(str(number), text, count=50, seed=0):
            assert rewording.numbers_survive(text, one.text), (text, one.text)


def test_the_data_sets_own_questions_are_reworded(real_data):
    path = real_data / "gsm8k" / "main" / "test.parquet"
    if not path.exists():
        pytest.skip(f"GSM8K not found at {path}")
    parquet = pytest.importorskip("pyarrow.parquet")
    questions = parquet.read_table(path)["question"].to_pylist()[:60]
    found = [rewording.reword(str(i), text, count=5, seed=0) for i, text in enumerate(questions)]
    assert sum(len({one.text for one in of_one}) > 1 for of_one in found) > 35
