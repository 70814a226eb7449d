"""Answers that a model wrote, as what they say: a choice, one of two words, or a number.

The rules are ours: Reliability-Aware Alignment (arXiv 2406.19032) does not say how it reads answers. Where a text says
no one thing it has no answer, None; `docs/reliability.md` has the rules in short.
"""

import fractions
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from selw2s_jax.data import gsm8k

Answer = int | fractions.Fraction


READINGS = RULES, FIRST = ("rules", "first")


class Parsed(NamedTuple):
    """What a text says.

    Attributes:
        answer: as of `parse`.
        rule: by which it was found. Of choices "letter" (it begins with one), "named" (one behind "answer is" and the
            like) or "text"; of words "first" or "line"; of numbers "mark" or "line"; None where there is no answer. Of
            the reading "first" that, for all kinds.
        conflicts: whether the letter of one choice stands before the text of another. The letter counts.
    """

    answer: Answer | None
    rule: str | None = None
    conflicts: bool = False


_NONE = Parsed(None)
_AS_TEXT = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?", re.ASCII)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_QUOTES = "\"'`\u00b4\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_FRONT = rf"[\s{_QUOTES}()\[\]{{}}<>*_]*"  # what may stand before an answer
_CLOSING = rf"[.):,;\]}}>*_{_QUOTES}]*"  # what may stand behind a letter, right after it

_NEXT_PROMPT = re.compile(r"(?<!#)###(?!#)")
_SKIPPED = re.compile(_FRONT)
# No B12, B_cells, B&B, A's, A-level or A.M.
_LONE = re.compile(r"(?!_*[^\W_]|&|['\u2019-]\w|\.[A-Za-z]\.)")
# What ends a letter that a text begins with.
_LETTER_ENDS = re.compile(rf"[^\S\n]*(?:\Z|\n)|[.):,;\]*}}>{_QUOTES}]|_")
_BEHIND_LETTER = re.compile(rf"{_CLOSING}\s*(?P<dash>[-\u2013\u2014]+\s*)?")
_SMALL_LETTER_ENDS = re.compile(r"[.):]")
_JOINED = re.compile(
    rf"{_CLOSING}\s*(?:,\s*(?:and|or)\b|,|/|&|(?:and|or)\b(?:/or\b)?)\s*(?:(?:option|choice)\s+)?{_FRONT}"
    r"(?P<letter>[A-Za-z])",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"\b(?:answer\s+is\b\s*:?|answer\s*:|(?:option|choice)\b\s*:?){_FRONT}(?P<letter>[A-Za-z])",
    re.IGNORECASE,
)
_BEHIND_NOT = re.compile(r"(?:\bnot|n['\u2019]t)\s+(?:(?:an?|the|right|correct|best)\s+)*\Z", re.IGNORECASE)
_LONGEST_NOT = 40  # characters before a word in which its "not" is looked for


def to_text(answer: Answer | None) -> str:
    """An answer for a table: "" for None, else exactly, as "2", "18" or "5/3"."""
    return "" if answer is None else str(answer)


def from_text(text: str) -> Answer | None:
    """The answer that `to_text` wrote.

    Raises:
        ValueError: it wrote no such text.
    """
    if not text:
        return None
    if not _AS_TEXT.fullmatch(text):
        raise ValueError(f"{text!r:.40} is no answer as text, such as 2, 18 or 5/3")
    return fractions.Fraction(text) if "/" in text else int(text)


def parse(
    kind: str, text: str, *, choices: Sequence[str] | None = None, words: Sequence[str] | None = None
) -> Answer | None:
    """What a written answer says, None where it says nothing or several things.

    Args:
        kind: "choice", "words" or "number".
        text: that the model wrote. All behind the next `###` (none of `####`) is a prompt of its own invention.
        choices: of kind "choice": the texts in the order that was shown, of which the first is A.
        words: of kind "words": the two words.

    Returns:
        The index of a choice in the order that was shown; 0 or 1, the index of a word; or an exact number.

    Raises:
        ValueError: the kind is unknown, or its choices or words are missing or cannot be told apart.
    """
    return parse_in_full(kind, text, choices=choices, words=words).answer


def parse_in_full(
    kind: str,
    text: str,
    *,
    choices: Sequence[str] | None = None,
    words: Sequence[str] | None = None,
    reading: str = RULES,
) -> Parsed:
    """The same with how it was found, and whether a letter and the text behind it disagree.

    Args:
        reading: of `READINGS`: our rules, or what comes first alone, as the paper's authors' code reads answers.
    """
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of answers {kind!r}; choose one of {', '.join(_KINDS)}")
    text = re.sub(r"\r\n?", "\n", text)
    if end := _NEXT_PROMPT.search(text):
        text = text[: end.start()]
    if reading == FIRST:
        return _FIRST[kind](text.strip(), choices, words)
    return _KINDS[kind](text[_SKIPPED.match(text).end() :], choices, words)


def _parse_choice(text: str, choices: Sequence[str] | None, words: Sequence[str] | None) -> Parsed:
    del words
    if not choices or isinstance(choices, str) or len(choices) > len(_LETTERS):
        raise ValueError(f"choices must be a list of 1 to {len(_LETTERS)} texts, found {choices!r:.40}")
    first = _letter_at(text, 0, len(choices))
    if first is not None:
        if _is_joined(text, first, choices):
            return _NONE
        if _ends_letter(text, first, choices):
            return Parsed(first, "letter", _conflicts(text, 1, first, choices))
    named = _named_letters(text, choices)
    if len({letter for letter, _ in named}) == 1 and named[0][0] is not None:
        conflicts = any(_conflicts(text, end, letter, choices) for letter, end in named)
        return Parsed(named[0][0], "named", conflicts)
    begun = _begun_choice(text, choices)
    return _NONE if begun is None else Parsed(begun, "text")


def _letter_at(text: str, place: int, num_choices: int, *, is_named: bool = False) -> int | None:
    """The choice whose letter stands alone at a place; a small letter only where it can be no word.

    Args:
        is_named: whether a letter is what the words before it announce: all but "a" and "i" can be no word then.
    """
    letter, known = text[place : place + 1], _LETTERS[:num_choices]
    if not letter or not _LONE.match(text, place + 1):
        return None
    if letter in known:
        return known.index(letter)
    if letter not in known.lower():
        return None
    is_no_word = _SMALL_LETTER_ENDS.match(text, place + 1)
    if is_named:
        is_no_word = letter not in "ai" or _LETTER_ENDS.match(text, place + 1)
    return known.lower().index(letter) if is_no_word else None


def _is_joined(text: str, letter: int, choices: Sequence[str], end: int = 1) -> bool:
    """Whether the letter that ends at a place is joined to another, as in "A or B"."""
    joined = _JOINED.match(text, end)
    if joined is None or _letter_at(text, joined.start("letter"), len(choices)) in (None, letter):
        return False
    # Not "B, A dog" where B is a dog, nor "D. and C" where D is that.
    return all(_length_begun(behind, choices[letter]) <= 1 for behind in _behind(text, end))


def _ends_letter(text: str, letter: int, choices: Sequence[str]) -> bool:
    """Whether what follows the first letter of a text makes it an answer, and not a word such as the article."""
    if _LETTER_ENDS.match(text, 1):
        return True
    return text[1:2].isspace() and any(_length_begun(behind, choices[letter]) for behind in _behind(text, 1))


def _named_letters(text: str, choices: Sequence[str]) -> list[tuple[int | None, int]]:
    """The letters behind "answer is" and the like, and where they end; None for one that is joined to another."""
    found: list[tuple[int | None, int]] = []
    for match in _NAMED.finditer(text):
        place = match.start("letter")
        letter = _letter_at(text, place, len(choices), is_named=True)
        is_article = any(_length_begun(text[place:], choice) > 1 for choice in choices)
        is_denied = _BEHIND_NOT.search(text[max(0, match.start() - _LONGEST_NOT) : match.start()])
        if letter is not None and not is_article and not is_denied:
            found.append((None if _is_joined(text, letter, choices, place + 1) else letter, place + 1))
    return found


def _behind(text: str, end: int) -> list[str]:
    """What follows a letter, behind punctuation and white space, and behind a dash too where there is one."""
    found = _BEHIND_LETTER.match(text, end)
    behind = text[found.end() :]
    return [found["dash"] + behind, behind] if found["dash"] else [behind]


def _conflicts(text: str, end: int, letter: int, choices: Sequence[str]) -> bool:
    """Whether more of another choice's text than of its own follows a letter."""
    lengths = [max(_length_begun(behind, choice) for behind in _behind(text, end)) for choice in choices]
    return max(lengths) > lengths[letter]


def _begun_choice(text: str, choices: Sequence[str]) -> int | None:
    """The choice whose text a text begins with: the longest; of those that differ in case only, the one as written."""
    lengths = [_length_begun(text, choice) for choice in choices]
    longest = [i for i, length in enumerate(lengths) if length == max(lengths) > 0]
    if len(longest) > 1:
        longest = [i for i in longest if _plain(text, fold=False).startswith(_plain(choices[i], fold=False))]
    return longest[0] if len(longest) == 1 else None


def _length_begun(text: str, choice: str) -> int:
    """The length of a choice's text where a text begins with it, case and spacing ignored; else 0."""
    text, choice = _plain(text), _plain(choice)
    if not choice or not text.startswith(choice):
        return 0
    rest = text[len(choice) :]
    is_within_word = re.match(r"\w", choice[-1]) and re.match(r"\w", rest)
    is_within_number = choice[-1].isdigit() and re.match(r"[-.,/:^]\d", rest)
    return 0 if is_within_word or is_within_number else len(choice)


@functools.lru_cache(maxsize=1024)
def _plain(text: str, *, fold: bool = True) -> str:
    text = " ".join(text[_SKIPPED.match(text).end() :].split())
    return text.casefold() if fold else text


def _parse_words(text: str, choices: Sequence[str] | None, words: Sequence[str] | None) -> Parsed:
    del choices
    if words is None or isinstance(words, str) or len(words) != 2 or len({*map(_plain, words)} - {""}) != 2:
        raise ValueError(f"words must be two that differ, found {words!r:.40}")
    patterns = _word_patterns(tuple(words))
    if first := patterns.word.match(text):
        return _NONE if patterns.joined.match(text, first.end()) else Parsed(_meant(first), "first")
    line = text.partition("\n")[0]
    found = list(patterns.word.finditer(line))
    # One word, and that always or never denied.
    is_one = len({(match["w1"] is None, match["no"] is None) for match in found}) == 1
    if not is_one or any(patterns.joined.match(line, match.end()) for match in found):
        return _NONE
    return Parsed(_meant(found[0]), "line")


class _WordPatterns(NamedTuple):
    word: (
        re.Pattern
    )  # one of the two words, in a group named w0 or w1, with the "not" before it if there is one
    joined: re.Pattern  # behind a word: "or", and the other


@functools.lru_cache(maxsize=16)
def _word_patterns(words: tuple[str, str]) -> _WordPatterns:
    first, second = (r"\s+".join(map(re.escape, word.split())) for word in words)
    # "not right", and "cannot be considered right" or "isn't the right ..." too.
    denied = r"(?P<no>(?:(?<!\w)(?:can)?not|(?<=\w)n['\u2019]t)\s+(?:(?:be|an?|the|considered)\s+)*)?"
    either = rf"(?<!\w)(?<!\w-)(?:(?P<w0>{first})|(?P<w1>{second}))(?!\w|-\w)"
    joined = rf"[\s{_QUOTES}()*_]*(?:,\s*)?(?:or\b|/){_FRONT}(?:{first}|{second}|not)(?!\w|-\w)"
    return _WordPatterns(re.compile(denied + either, re.IGNORECASE), re.compile(joined, re.IGNORECASE))


def _meant(found: re.Match) -> int:
    return int(found["w1"] is not None) ^ int(found["no"] is not None)


def _parse_number(text: str, choices: Sequence[str] | None, words: Sequence[str] | None) -> Parsed:
    del choices, words
    _, mark, behind = text.rpartition(gsm8k.ANSWER_MARK)
    if mark and (marked := gsm8k.number_behind_mark(behind)) is not None:
        return Parsed(marked, "mark")
    line = next((line for line in text.split("\n") if line.strip()), "")
    for found in _numbers_of(line):
        if found is not None:
            return Parsed(found, "line")
    return _NONE


def _numbers_of(line: str) -> Iterator[fractions.Fraction | None]:
    """What the number of a line may be; the first that is one is."""
    if "=" not in line:
        yield gsm8k.leading_number(line)
    else:
        yield gsm8k.first_number(line.rpartition("=")[2])
    if named := list(re.finditer(r"\banswer(?:\s+is\b|\s*:)", line, re.IGNORECASE)):
        yield gsm8k.first_number(line[named[-1].end() :])
    yield gsm8k.last_number(line)


_KINDS: dict[str, Callable[..., Parsed]] = {
    "choice": _parse_choice,
    "words": _parse_words,
    "number": _parse_number,
}


# What comes first alone, as github Irenehere/ReliableAlignment 22bfb55 reads it.


def _first_character(text: str, choices: Sequence[str] | None, words: Sequence[str] | None) -> Parsed:
    del words
    place = _LETTERS.find(text[:1].upper()) if text else -1
    return Parsed(place, FIRST) if 0 <= place < len(choices) else _NONE


def _first_word(text: str, choices: Sequence[str] | None, words: Sequence[str] | None) -> Parsed:
    del choices
    first = text.partition("\n")[0].partition(" ")[0].lower().strip(_STRIPPED)
    places = [place for place, word in enumerate(words) if word.lower() == first]
    return Parsed(places[0], FIRST) if places else _NONE


def _first_line(text: str, choices: Sequence[str] | None, words: Sequence[str] | None) -> Parsed:
    del choices, words
    try:
        return Parsed(fractions.Fraction(int(text.partition("\n")[0])), FIRST)
    except ValueError:
        return _NONE


_STRIPPED = ".,?!'\\-_()[]{};:#"
_FIRST: dict[str, Callable[..., Parsed]] = {
    "choice": _first_character,
    "words": _first_word,
    "number": _first_line,
}
