"""Numeric answers of GSM8K (Cobbe et al. 2021, arXiv 2110.14168): what a solution ends in, as an exact number."""

import fractions
import re

# The data set's own solutions end in a line of this mark and the answer.
ANSWER_MARK = "####"

_DIGITS = r"(?:[0-9]{1,3}(?:[,\u00a0\u202f][0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_])"  # not the 2 of CO2
    r"(?P<sign>(?<![0-9)\]%.])[-\u2212\u2013])?"  # 5-3 is no -3
    r"(?:[$\u20ac\u00a3]\s?(?P<inner_sign>[-\u2212\u2013])?)?"
    rf"(?:(?:(?P<whole>{_DIGITS})\s)?(?<!/)(?P<over>{_DIGITS})/(?P<under>0*[1-9][0-9]*)(?![0-9]*[./][0-9])"
    rf"|(?P<decimal>(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,3}}(?![0-9A-Za-z]))?))"
)
_MOST_DIGITS = 300


def parse_answer(text: str) -> fractions.Fraction | None:
    """The number that a solution ends in: the one behind its first `####`, else the last before that.

    A model that does not stop in time goes on with problems of its own, which have answers of their own: what follows
    the line of the first `####` is no part of the solution.

    Thousands separators and currency signs are no part of a number, nor are units, so 50% is 50. A minus belongs to
    the number that follows at once, unless another number stands right before it. 3/4 and 1 3/4 are fractions.

    Returns:
        The exact number, None where there is none.
    """
    before, mark, behind = text.partition(ANSWER_MARK)
    if mark and (found := _behind_mark(behind)):
        return _value(found)
    return last_number(before)


def leading_number(text: str) -> fractions.Fraction | None:
    """The number that a text begins with, None where it begins otherwise."""
    return _value(_NUMBER.match(text))


def first_number(text: str) -> fractions.Fraction | None:
    """The first number in a text, None where there is none."""
    return _value(_NUMBER.search(text))


def last_number(text: str) -> fractions.Fraction | None:
    """The last number in a text, None where there is none."""
    found = None
    for found in _NUMBER.finditer(text):  # noqa: B007
        pass
    return _value(found)


def number_behind_mark(text: str) -> fractions.Fraction | None:
    """The number that a mark gives, from the text behind it; None where it gives none."""
    return _value(_behind_mark(text))


def numbers(text: str) -> list[fractions.Fraction]:
    """All numbers in a text in their order, those that are too long to be read apart."""
    found = [_value(one) for one in _NUMBER.finditer(text)]
    return [number for number in found if number is not None]


def _behind_mark(text: str) -> re.Match | None:
    """The number in the line of the mark; where that is blank, the one that the next line begins with."""
    line, _, following = text.partition("\n")
    if line.strip():
        return _NUMBER.search(line)
    return _NUMBER.match(following.lstrip())


def has_marked_answer(text: str) -> bool:
    """Whether a number stands behind the mark, as in the data set's own solutions."""
    _, mark, behind = text.partition(ANSWER_MARK)
    return bool(mark) and _behind_mark(behind) is not None


def is_correct(text: str, answer: str) -> bool:
    """Whether a solution ends in the same number as the one of the data set; one without a number does not."""
    found = parse_answer(text)
    return found is not None and found == parse_answer(answer)


def _value(found: re.Match | None) -> fractions.Fraction | None:
    if found is None or len(found.group()) > _MOST_DIGITS:
        return None
    whole, over, under, decimal = (
        re.sub("[,\u00a0\u202f]", "", found[name] or "0") for name in ("whole", "over", "under", "decimal")
    )
    value = fractions.Fraction(decimal)
    if found["under"]:
        value = int(whole) + fractions.Fraction(int(over), int(under))
    return -value if found["sign"] or found["inner_sign"] else value
