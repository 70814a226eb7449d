"""A question in other words by safe edits, which leave its meaning and every number in it as they are.

They stand in for the rewording by GPT-4o of Reliability-Aware Alignment (arXiv 2406.19032, Section 4.1), and vary less
than it: numbers as words or digits, signs of money and per cent as words, contractions, and the wording and the
place of the instruction. An edit passes over what it is not sure of.
"""

import collections
import fractions
import re
from collections.abc import Callable

from selw2s_jax.data import by_id, gsm8k, variations

Edit = Callable[[str], str]

_TO_19 = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: i for i, word in enumerate(_TO_19, 1)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_EDITED = _TO_19[1:12]  # "one" may be no number
_SCALES = "hundred|thousand|million|billion|dozen|score|half"
_FRACTIONS = "halves|thirds?|quarters?|(?:four|fif|six|seven|eigh|nin|ten)ths?"
_GOES_ON = "|".join([*_VALUES, _SCALES, _FRACTIONS, "point", "and", "out"])  # behind a part of a number
# A whole number that stands by itself before a word: no measure, part of a sum, fraction, date or name.
_DIGITS = re.compile(
    r"(?<![^\s(])(?<![\d=+*/\u00d7\u00f7-]\s)(?P<number>[2-9]|1[0-2])(?=\s(?:[a-z]{3}|of\b))"
)
_WORD = re.compile(
    rf"(?<![\w-])(?P<word>{'|'.join(_EDITED)})(?=\s(?!(?:{_GOES_ON})\b)(?:[a-z]{{3}}|of\b))", re.IGNORECASE
)
_NUMBER_BEFORE = re.compile(rf"\b(?:{'|'.join(_VALUES)}|{_SCALES}|point)\s+(?:and\s+)?\Z", re.IGNORECASE)
_LONGEST_BEFORE = 20  # characters
# An amount of money that no noun and no scale follows: not $5 bills, $5 million, $5-$10, $5k.
_DOLLARS = re.compile(
    r"(?<!\w)\$(?P<amount>\d+(?:,\d{3})*(?:\.\d+)?)(?=[.,;:?!)]*(?:\s*\Z|[.?!]\s|\s+(?:for|each|per|an?|and|or|to|on|in"
    r"|from|at|of|every|if|but|than|after|when|by|he|she|they|it|so|while|with|more|less|left)\b))"
)
_PERCENT = re.compile(r"(?<=\d)\s?%(?![\w%/-])")

_EXPANDED = {
    "don't": "do not", "doesn't": "does not", "didn't": "did not", "can't": "cannot", "couldn't": "could not",
    "won't": "will not", "wouldn't": "would not", "shouldn't": "should not", "isn't": "is not", "aren't": "are not",
    "wasn't": "was not", "weren't": "were not", "haven't": "have not", "hasn't": "has not", "hadn't": "had not",
    "i'm": "I am", "i've": "I have", "i'll": "I will", "we're": "we are", "we've": "we have", "we'll": "we will",
    "you're": "you are", "you've": "you have", "you'll": "you will", "they're": "they are", "they've": "they have",
    "they'll": "they will", "he'll": "he will", "she'll": "she will", "it'll": "it will",
}  # fmt: skip
_CONTRACTED = {long: short for short, long in _EXPANDED.items() if short.endswith("n't")}
_PRONOUN_BEHIND = (
    r"(?!\s+(?:i|you|he|she|it|we|they|the|there|this|that)\b)"  # "don't you", "is not it": another order
)


def _of_phrases(phrases: dict[str, str]) -> re.Pattern:
    alternatives = "|".join(re.escape(one).replace("'", "['\u2019]") for one in phrases)
    return re.compile(rf"(?<![\w'\u2019-])(?:{alternatives})(?![\w'\u2019-]){_PRONOUN_BEHIND}", re.IGNORECASE)


_SHORT, _LONG = _of_phrases(_EXPANDED), _of_phrases(_CONTRACTED)


def numbers_survive(before: str, after: str) -> bool:
    """Whether a rewording holds all numbers of a text, and no others: each written in digits, or as a word up to 99.

    Numbers that the text has as words need not stay, as "one" may be no number.
    """
    return _in_digits(before) <= _of_all(after) and _in_digits(after) <= _of_all(before)


def same_numbers(one: str, other: str) -> bool:
    """Whether two texts have the same numbers, each in digits or as a word up to 99, but for the word "one".

    Stricter than `numbers_survive`, for texts of which more was changed than by an edit. Half, twice, dozen and the
    like are not looked at.
    """
    own, others = _of_all(one), _of_all(other)
    own.pop(1, None)  # that of digits is counted by `numbers_survive`
    others.pop(1, None)
    return numbers_survive(one, other) and own == others


def _in_digits(text: str) -> collections.Counter[fractions.Fraction]:
    return collections.Counter(gsm8k.numbers(text))


def _of_all(text: str) -> collections.Counter[fractions.Fraction]:
    words = re.findall(rf"\b(?:(?:{'|'.join(_TENS)})[- ])?(?:{'|'.join(_VALUES)})\b", text, re.IGNORECASE)
    values = (sum(_VALUES[part] for part in re.split("[- ]", word.lower())) for word in words)
    return _in_digits(text) + collections.Counter(map(fractions.Fraction, values))


def _digits_to_words(text: str) -> str:
    def word(found: re.Match) -> str:
        return _like(_begins_sentence(text, found.start()), _TO_19[int(found["number"]) - 1])

    return _DIGITS.sub(word, text)


def _words_to_digits(text: str) -> str:
    def digits(found: re.Match) -> str:
        before = text[max(0, found.start() - _LONGEST_BEFORE) : found.start()]
        return found[0] if _NUMBER_BEFORE.search(before) else str(_VALUES[found["word"].lower()])

    return _WORD.sub(digits, text)


def _dollars_to_words(text: str) -> str:
    def words(found: re.Match) -> str:
        return f"{found['amount']} dollar{'' if found['amount'] == '1' else 's'}"

    return _DOLLARS.sub(words, text)


def _percent_to_word(text: str) -> str:
    return _PERCENT.sub(" percent", text)


def _expand(text: str) -> str:
    def long(found: re.Match) -> str:
        return _like(found[0][0].isupper(), _EXPANDED[found[0].lower().replace("\u2019", "'")])

    return _SHORT.sub(long, text)


def _contract(text: str) -> str:
    return _LONG.sub(lambda found: _like(found[0][0].isupper(), _CONTRACTED[found[0].lower()]), text)


def _like(is_upper: bool, phrase: str) -> str:
    return phrase[0].upper() + phrase[1:] if is_upper else phrase


def _begins_sentence(text: str, place: int) -> bool:
    return not text[:place].strip() or text[:place].rstrip()[-1] in ".?!"


# Of each group one or none, so that no edit undoes another.
_GROUPS: tuple[tuple[Edit, ...], ...] = (
    (_digits_to_words, _words_to_digits),
    (_dollars_to_words,),
    (_percent_to_word,),
    (_expand, _contract),
)


def reword(
    example_id: str, text: str, *, count: int, seed: int, num_wordings: int = 1
) -> list[variations.Variation]:
    """Different variations of a question, the original one among them or not, as the draws have it.

    Args:
        example_id: of the question.
        text: of it.
        count: how many, or as many as there are: at least two for each wording, more where edits apply.
        seed: decides which, each set of them as likely as any other.
        num_wordings: how many wordings of the instruction there are.

    Returns:
        Variations with a text, a wording, and a place of the instruction.

    Raises:
        UserError: `count` is no number of variations.
    """
    variations.check_count(count)
    texts = {text: None}
    for group in _GROUPS:
        texts |= {_edit(one, edit): None for one in texts for edit in group}
    found = [
        variations.Variation(text=edited, wording=wording, is_instruction_behind=is_behind)
        for edited in texts
        for wording in range(num_wordings)
        for is_behind in (False, True)
    ]
    draws = [by_id.keyed_uniform(seed, f"rewording/{i}", example_id) for i in range(len(found))]
    return [found[i] for i in sorted(range(len(found)), key=draws.__getitem__)[:count]]


def _edit(text: str, edit: Edit) -> str:
    """The text after an edit, or as it was where a number would be lost."""
    edited = edit(text)
    return edited if edited == text or numbers_survive(text, edited) else text
