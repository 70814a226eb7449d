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
    """The number that a solution ends in: the first behind its last `####`, else the last of all.

    Thousands separators and currency signs are no part of a number, nor are units, so 50% is 50. A minus belongs to
    the number that follows at once, unless another number stands right before it. 3/4 and 1 3/4 are fractions.

    Returns:
        The exact number, None where there is none.
    """
    before, mark, behind = text.rpartition(ANSWER_MARK)
    if mark and (found := _NUMBER.search(behind)):
        return _value(found)
    found = None
    for found in _NUMBER.finditer(before if mark else text):  # noqa: B007
        pass
    return None if found is None else _value(found)


def is_correct(text: str, answer: str) -> bool:
    """Whether a solution ends in the same number as the one of the data set; one without a number does not."""
    found = parse_answer(text)
    return found is not None and found == parse_answer(answer)


def _value(found: re.Match) -> fractions.Fraction | None:
    if len(found.group()) > _MOST_DIGITS:
        return None
    whole, over, under, decimal = (
        re.sub("[,\u00a0\u202f]", "", found[name] or "0") for name in ("whole", "over", "under", "decimal")
    )
    value = fractions.Fraction(decimal)
    if found["under"]:
        value = int(whole) + fractions.Fraction(int(over), int(under))
    return -value if found["sign"] or found["inner_sign"] else value
