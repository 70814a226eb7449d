"""What written answers say: tables of texts by rule, and texts of all kinds, which never fail."""

import fractions
import functools

import hypothesis
import hypothesis.strategies as st
import pytest
from support import fuzz, fuzz_answers

from selw2s_jax.data import answers, gsm8k

F = fractions.Fraction
CITIES = ("Paris", "Paris, Texas", "London", "New  York")
GENES = ("Aa", "AA", "aa", "a dog")
NUMBERS = ("1", "10", "1.5", "-5", "$5")


def choice(text: str, choices=CITIES) -> answers.Parsed:
    return answers.parse_in_full("choice", text, choices=choices)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The letter ends: by the text's end, a line's, or a sign.
        ("B", 1),
        (" B", 1),
        (" B\n\nBecause it is.", 1),
        ("B \n", 1),
        ("B\r\nbecause", 1),
        (" B. Paris, Texas", 1),
        ("B) because", 1),
        ("B: because", 1),
        ("B, because A is wrong", 1),
        ("B; yes", 1),
        ("B] yes", 1),
        ("**B** is it", 1),
        ('"B"', 1),
        ("\u201cB\u201d is right", 1),
        ("`B`", 1),
        ("(B)", 1),
        ("[B] London", 1),
        ("{B}", 1),
        ("_B_", 1),
        ("\n\n  * (D) *", 3),
        ("B.Paris", 1),
        ("D", 3),
        # Or its own text follows.
        ("C London", 2),
        ("C - London", 2),
        ("C \u2013 london is big", 2),
        ("D \u2014 New York", 3),
        ("C Paris", None),
        ("C Londoner", None),
        ("B is the answer", None),
        ("E", None),
        ("E. Rome", None),
        ("Because", None),
        ("A-level", None),
        ("A's best", None),
        ("A.M. or P.M.", None),
        ("B&B", None),
        # A small letter.
        ("b. it is", 1),
        ("b) it is", 1),
        ("b: it is", 1),
        ("(b) it is", 1),
        ("b", None),
        ("b, it is", None),
        ("a city", None),
        ("e.g. a city", None),
        # Joined to another.
        ("A, B", None),
        ("A,B and C", None),
        ("A/B", None),
        ("A and B", None),
        ("A or B", None),
        ("(A) or (B)", None),
        ("A) and/or B)", None),
        ("a) or b)", None),
        ("A or option B", None),
        ("A & B", None),
        ("A and A", None),
        ("A, A", 0),
        ("A, and that is it", 0),
        ("A. B", 0),
        ("B, E is not a choice", 1),
        # Behind "answer is" and the like.
        ("The answer is B", 1),
        ("the ANSWER IS (B).", 1),
        ("I say the answer is: **B**", 1),
        ("Answer: B", 1),
        ("answer:B", 1),
        ("It is option B because", 1),
        ("I take choice [C]", 2),
        ("The answer is b)", 1),
        ("The answer is b", 1),
        ("The answer is b because", 1),
        ("The answer is a", 0),
        ("The answer is a city", None),
        ("The answer is not B", None),
        ("It is not option B", None),
        ("It isn't option B but option C", 2),
        ("not the correct answer: B", None),
        ("The answer is B. So the answer is B", 1),
        ("The answer is B, no, the answer is C", None),
        ("The answer is A or B", None),
        ("The answer is E", None),
        ("The answer is Bern", None),
        ("The options A and B", None),
        ("Options: A", None),
        ("London: the answer is not A", 2),
        ("Paris. Option A, or is it option C?", 0),
        # The text.
        ("Paris", 0),
        ("paris is the capital", 0),
        ("Paris, Texas", 1),
        ("paris,  TEXAS is it", 1),
        ("Paris, France", 0),
        ('"London"', 2),
        ("New York", 3),
        ("new\nyork city", 3),
        ("Parisian", None),
        ("In Paris", None),
        # Cut at the next prompt, and nothing.
        ("London ### Question: A or B?", 2),
        ("### B", None),
        ("####\nB", None),
        ("B #### 5", None),
        ("B\n### Answer: C", 1),
        ("The answer is ### B", None),
        ("", None),
        ("  \n ** ( ", None),
        ("I do not know.", None),
        ("\ud800B", None),
    ],
)
def test_choices(text, expected):
    assert answers.parse("choice", text, choices=CITIES) == expected == choice(text).answer
    assert (choice(text).rule is None) == (expected is None)


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("AA", GENES, 1),
        ("aa is it", GENES, 2),
        ("aA", GENES, None),  # three are alike, and none is written so
        ("A dog", GENES, 3),  # the article
        ("The answer is A dog", GENES, None),
        ("D, A dog is it", GENES, 3),
        ("B, A dog is it", GENES, None),
        ("B_cells", GENES, None),
        ("D. and C", ("x", "y", "z", "and C"), 3),
        ("A dog", ("dog", "cat"), 0),
        ("10", NUMBERS, 1),
        ("1", NUMBERS, 0),
        ("1.5", NUMBERS, 2),
        ("1.", NUMBERS, 0),
        ("1.7", NUMBERS, None),
        ("100", NUMBERS, None),
        ("-5", NUMBERS, 3),
        ("$5 each", NUMBERS, 4),
        ("D - -5", NUMBERS, 3),
        ("same", ("same", "same"), None),
        ("B same", ("same", "same"), 1),
        ("Z", [str(i) for i in range(26)], 25),
        ("A", ["only"], 0),
        ("(x + 1)", ("(x + 1)", "(x + 2)"), 0),
        ("**", ("**", "*"), None),
        ("D.C. it is", ("Rome", "D.C.", "x", "y"), 1),
    ],
)
def test_choices_that_are_nearly_alike(text, choices, expected):
    assert answers.parse("choice", text, choices=choices) == expected


@pytest.mark.parametrize(
    ("text", "rule", "conflicts"),
    [
        ("B. Paris, Texas", "letter", False),
        ("B. London", "letter", True),
        ("A. Paris, Texas", "letter", True),  # more of another's text than of its own
        ("C - london", "letter", False),
        ("D\nLondon", "letter", True),
        ("D. Because of London", "letter", False),
        ("The answer is C. London", "named", False),
        ("The answer is C: Paris", "named", True),
        ("London", "text", False),
        ("who knows", None, False),
    ],
)
def test_letters_against_texts(text, rule, conflicts):
    assert choice(text)[1:] == (rule, conflicts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("acceptable", 0),
        (" Unacceptable.", 1),
        ("**ACCEPTABLE**, as it is", 0),
        ("acceptable, not unacceptable", 0),
        ("acceptable or unacceptable", None),
        ('"acceptable" or "unacceptable"?', None),
        ("acceptable/unacceptable", None),
        ("unacceptable, or acceptable", None),
        ("acceptable or not", None),
        ("acceptable or so it seems", 0),
        ("not acceptable", 1),
        ("Not unacceptable", 0),
        ("not acceptable or unacceptable", None),
        ("It is acceptable.", 0),
        ("It is not acceptable.", 1),
        ("It isn't acceptable.", 1),
        ("It cannot be considered acceptable", 1),
        ("not an acceptable thing", 1),
        ("I find it acceptable, as acceptable as can be", 0),
        ("It is acceptable, no, not acceptable", None),
        ("It is acceptable, not unacceptable", None),
        ("Whether it is acceptable or not", None),
        ("I do not know\nacceptable", None),
        ("acceptably", None),
        ("un-acceptable", None),
        ("so acceptable-ish", None),
        ("\n\nunacceptable\nacceptable", 1),
        ("### acceptable", None),
        ("hm ### acceptable", None),
        ("", None),
    ],
)
def test_words(text, expected):
    assert answers.parse("words", text, words=("acceptable", "unacceptable")) == expected
    swapped = answers.parse("words", text, words=["unacceptable", "acceptable"])
    assert swapped == (None if expected is None else 1 - expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 18\nShe sells 16 - 7 = 9 eggs.", 18),
        ("18", 18),
        ("18.00", 18),
        ("$18", 18),
        ("**$18**", 18),
        ("(-5)", -5),
        ("3/4 of it", F(3, 4)),
        ("1,234.50 dollars", F("1234.5")),
        ("50%", 50),
        ("18 dollars for 3 eggs", 18),
        ("\n\n 18\n19", 18),
        # Behind the last mark.
        ("5\n#### 18", 18),
        ("#### 18\n#### 19", 19),
        ("####\n18", 18),
        ("7 is it\n#### unknown", 7),
        ("#### 18 ### 19", 18),
        ("#### ##### 18", 18),
        # Behind the last equals sign.
        ("16 - 3 - 4 = 9", 9),
        ("16 - 3 = 13, 13 - 4 = 9 eggs for 2", 9),
        ("x = $5", 5),
        ("18 = what?", 18),
        ("5 eggs = x, so the answer is 7 of 9", 7),
        # Behind "answer is", the last.
        ("The answer is 18 of 20", 18),
        ("The answer is about 18, 20 at most", 18),
        ("Of 20, answer: 18 (not 19)", 18),
        ("Is the answer is 3? The answer is 4 or 5", 4),
        ("She has 3, 4, and 5", 5),
        ("The answer is unknown, 3 or 4", 3),
        ("So 4 or 3. The answer is unknown", 3),
        ("She sells them\nfor 18", None),
        ("none", None),
        ("", None),
        ("### 18", None),
        ("1" * 5000, None),
    ],
)
def test_numbers(text, expected):
    found = answers.parse("number", text)
    assert found == expected and isinstance(found, fractions.Fraction | None)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("letter", {}, "unknown kind of answers 'letter'; choose one of choice, words, number"),
        ("choice", {}, "choices must be a list of 1 to 26 texts, found None"),
        ("choice", {"choices": []}, "choices must be"),
        ("choice", {"choices": "ab"}, "choices must be"),
        ("choice", {"choices": ["a"] * 27}, "choices must be"),
        ("words", {}, "words must be two that differ, found None"),
        ("words", {"words": ("right", "Right ")}, "words must be"),
        ("words", {"words": ("right",)}, "words must be"),
        ("words", {"words": ("right", "wrong", "right")}, "words must be"),
    ],
)
def test_what_cannot_be_asked_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        answers.parse(kind, "A", **options)


def test_damaged_texts_have_an_answer_or_none():
    assert not (found := fuzz.faults(fuzz_answers.WRITTEN, range(400))), "\n\n".join(found)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.sampled_from(range(4)),
    st.sampled_from([" {}. {}", " {}", "\n({}) {}", "The answer is {}.", "**{}** {}"]),
)
def test_what_is_written_in_form_is_read_back(index, form):
    choices = ("the first", "a second", "B", "and C")
    text = form.format("ABCD"[index], choices[index])
    assert answers.parse_in_full("choice", text, choices=choices)[::2] == (index, False)
    assert answers.parse("number", f" {index}\n5 + 6 = 11") == index


def test_the_data_sets_own_solutions_are_read(real_data):
    path = real_data / "gsm8k" / "main" / "test.parquet"
    if not path.exists():
        pytest.skip(f"GSM8K not found at {path}")
    parquet = pytest.importorskip("pyarrow.parquet")
    solutions = parquet.read_table(path)["answer"].to_pylist()
    parse = functools.partial(answers.parse, "number")
    assert [parse(one) for one in solutions] == [gsm8k.parse_answer(one) for one in solutions]
    number_first = [f" {one.rpartition('####')[2].strip()}\n{one.rpartition('####')[0]}" for one in solutions]
    assert [parse(one) for one in number_first] == [gsm8k.parse_answer(one) for one in solutions]


def test_real_choices_in_form_are_read_back(real_data):
    path = real_data / "mmlu" / "all" / "validation.parquet"
    if not path.exists():
        pytest.skip(f"MMLU not found at {path}")
    parquet = pytest.importorskip("pyarrow.parquet")
    for choices in parquet.read_table(path)["choices"].to_pylist()[:300]:
        for index, (letter, text) in enumerate(zip("ABCD", choices, strict=True)):
            for written in (
                f" {letter}. {text}",
                f" {letter}\nAs {text}",
                f"The answer is ({letter}) {text}.",
            ):
                assert answers.parse_in_full("choice", written, choices=choices)[::2] == (index, False)


@pytest.mark.parametrize("answer", [None, 0, 2, fractions.Fraction(18), fractions.Fraction(-5, 3)])
def test_answers_as_text_and_back(answer):
    assert answers.from_text(answers.to_text(answer)) == answer


def test_what_answers_are_as_text():
    assert [answers.to_text(one) for one in (None, 2, fractions.Fraction(36, 2), fractions.Fraction(10, 6))] == [
        "", "2", "18", "5/3",
    ]  # fmt: skip
    for text in ("1.5", "5/0", "B", " 2", "1e3"):
        with pytest.raises(ValueError, match="no answer as text"):
            answers.from_text(text)


# What comes first alone, as the authors' code reads answers.

FIRST = functools.partial(answers.parse_in_full, reading="first")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" B. iron", 1),
        ("\n", None),
        ("bird", 1),
        ("A bird", 0),
        ("(B)", None),
        ("D", None),
        ("É", None),
        ("", None),
    ],
)
def test_the_first_character_is_a_letter(text, answer):
    assert FIRST("choice", text, choices=["moon", "iron", "bird"]).answer == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Wrong, as", 1),
        ("(right)\nwrong", 0),
        ("not right", None),
        ("wrong\n", 1),
        ("right-hand", None),
        ("", None),
    ],
)
def test_the_first_word_is_one_of_two(text, answer):
    assert FIRST("words", text, words=("right", "wrong")).answer == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 18 \nAs 9 + 9", 18),
        ("-3", -3),
        ("18.0", None),
        ("$18", None),
        ("18 apples", None),
        ("#### 18", None),
        ("", None),
    ],
)
def test_the_first_line_is_a_whole_number(text, answer):
    found = FIRST("number", text)
    assert found == answers.Parsed(answer, None if answer is None else "first")
    assert answer is None or type(found.answer) is fractions.Fraction
