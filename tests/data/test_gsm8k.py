"""Numbers that solutions end in: of the data set itself, and of texts that a model may write."""

import fractions

import hypothesis
import hypothesis.strategies as st
import pytest

from selw2s_jax.data import gsm8k

F = fractions.Fraction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### 72", 72),
        ("It is 5.\n#### 72\n", 72),
        ("#### 1\nQ: another\n#### 2", 1),
        ("6 * 12 = 72\n#### 72\nProblem: five and five?\n5 + 5 = 10\n#### 10\n", 72),
        ("#### 72 #### 10", 72),
        ("#### **72**\n#### 10", 72),
        ("It is 7.\n#### unknown\nProblem: five and five?\n#### 10", 7),
        ("#### none\n#### 10", None),
        ("It is 7.\n####\n\nProblem: 5 and 5?\n#### 10", 7),
        ("####\n72\nProblem: 5 and 5?", 72),
        ("72 is it.\n####\n", 72),
        ("#### 18 dollars for 3 eggs", 18),
        ("####72", 72),
        ("#### $1,234.50", F("1234.5")),
        ("#### -3", -3),
        ("The answer is 7.\n####", 7),
        ("The answer is 7.\n#### unknown", 7),
        ("The answer is 1,000,000.", 1000000),
        ("The answer is 12,345.678 kg.", F("12345.678")),
        ("1\u00a0234 apples", 1234),
        ("She has 3, 4, and 5", 5),
        ("so $5", 5),
        ("so -$5", -5),
        ("so $-5", -5),
        ("so \u22125 degrees", -5),
        ("x=-5", -5),
        ("(-5)", -5),
        ("10 - 3", 3),
        ("10-3", 3),
        ("pages 5\u20137", 7),
        ("10 - 3 = 7", 7),
        ("it costs .75", F(3, 4)),
        ("it costs 0.75.", F(3, 4)),
        ("3/4 of it", F(3, 4)),
        ("-3/4 of it", F(-3, 4)),
        ("1 1/2 cups", F(3, 2)),
        ("on 3/4/2020", 2020),
        ("1/0", 0),
        ("48/2 = <<48/2=24>>24 clips", 24),
        ("50%", 50),
        ("**42**", 42),
        ("\\boxed{42}", 42),
        ("4.0", 4),
        ("007", 7),
        ("1e3", 1000),
        ("5km", 5),
        ("7 g of CO2", 7),
        ("", None),
        ("none", None),
        ("####", None),
        ("#### ", None),
        ("CO", None),
        ("$ - , . / %", None),
        ("1" * 5000, None),
    ],
)
def test_the_number_of_a_solution(text, expected):
    found = gsm8k.parse_answer(text)
    assert found == expected and (found is None) == (expected is None)


def test_right_answers_are_equal_numbers():
    assert gsm8k.is_correct("So $1,200.00 in all.", "...\n#### 1200")
    assert not gsm8k.is_correct("So 1,200.01 in all.", "...\n#### 1200")
    assert not gsm8k.is_correct("I do not know.", "...\n#### 1200")
    assert not gsm8k.is_correct("nothing", "nothing")


@hypothesis.given(st.text(alphabet="0123456789-$#.,/ eE%x\n", max_size=60))
def test_any_text_has_a_number_or_none(text):
    found = gsm8k.parse_answer(text)
    assert found is None or isinstance(found, fractions.Fraction)
    assert found is None or any(c.isdigit() for c in text)


@hypothesis.given(st.integers(-(10**12), 10**12), st.booleans(), st.integers(0, 3))
def test_numbers_are_read_as_they_are_written(value, has_separators, places):
    amount = F(value, 10**places)
    sign = "-" if value < 0 else ""
    digits = f"{abs(value) // 10**places:{',' if has_separators else ''}}"
    decimals = f".{abs(value) % 10**places:0{places}}" if places else ""
    for text in (f"that is {sign}${digits}{decimals}.", f"1\n#### {sign}{digits}{decimals} 9"):
        assert gsm8k.parse_answer(text) == amount


@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_the_data_sets_own_answers_parse(real_data, split, count):
    path = real_data / "gsm8k" / "main" / f"{split}.parquet"
    if not path.exists():
        pytest.skip(f"GSM8K not found at {path}")
    parquet = pytest.importorskip("pyarrow.parquet")
    answers = parquet.read_table(path)["answer"].to_pylist()
    marked = [answer.rpartition("####")[2].strip().replace(",", "") for answer in answers]
    found = [gsm8k.parse_answer(answer) for answer in answers]
    assert len(found) == count
    assert sum(number == F(text) for number, text in zip(found, marked, strict=True)) == count
