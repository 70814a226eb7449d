"""Texts from a file that a weak model reads behind its questions, as transcripts of debates made elsewhere.

"Debate helps weak-to-strong generalization" (arXiv 2501.13124) trains weak models on questions with such transcripts,
an ensemble of several with one transcript each. Only the weak models read them: no student does.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.data import lengths, rows
from selw2s_jax.errors import UserError

SEPARATOR = "\n\n"  # between a question and the text behind it
_FORM = '{"example_id": text, "text": text}, and "member": number where weak models read different ones'


@dataclasses.dataclass(frozen=True)
class Contexts:
    """The texts of a file.

    Attributes:
        path: of the file, for messages.
        by_member: by number of the weak model, and None for all of them, the text of each example_id.
    """

    path: str
    by_member: Mapping[int | None, Mapping[str, str]]

    def of(self, member: int, example_ids: Sequence[str]) -> dict[str, str]:
        """What a weak model reads behind each of these examples; a text of its own before that of all.

        Raises:
            UserError: an example has none.
        """
        common, own = self.by_member.get(None, {}), self.by_member.get(member, {})
        found = {name: own.get(name, common.get(name)) for name in example_ids}
        if missing := [name for name, text in found.items() if text is None]:
            raise UserError(
                f"{self.path} lacks {len(missing)} of {len(found)} example_ids for weak model {member} (first: "
                f"{missing[0]}); add them, with an empty text where there is nothing to read"
            )
        return found


def read(path: str | os.PathLike, num_members: int) -> Contexts:
    """The texts of JSON lines of `{"example_id": ..., "text": ..., "member": ...}`; CSV and parquet are read too.

    Args:
        num_members: how many weak models there are; "member" is the number of one, from 0. Without it a text is of all.

    Raises:
        UserError: no such file; or lines that are wrong, as `rows.describe` names them.
    """
    file = rows.find_file(path, f"give JSON lines of {_FORM}")
    by_member: dict[int | None, dict[str, str]] = {}
    faults = []
    found = rows.read(file, ("example_id", "member", "text"))
    for line, values in found:
        try:
            name, member, text = _parse(values, num_members)
            of_member = by_member.setdefault(member, {})
            if name in of_member:
                raise ValueError(f"{rows.show(name)} has a text above; remove one of the two")
            of_member[name] = text
        except ValueError as error:
            faults.append((line, str(error)))
    if faults:
        raise UserError(f"{path}, {rows.describe(faults, len(found))}")
    return Contexts(str(path), by_member)


def _parse(values: dict[str, Any] | ValueError, num_members: int) -> tuple[str, int | None, str]:
    if isinstance(values, ValueError):
        raise ValueError(f"{values}; expected {_FORM}")
    name, text = rows.text(values, "example_id"), values.get("text")
    text = rows.text(values, "text") if text != "" else ""
    given = values.get("member")
    if given is None or given == "":
        return name, None, text
    member = rows.whole_number(given)
    if member is None or not 0 <= member < num_members:
        raise ValueError(
            f"member must be the number of a weak model, 0 to {num_members - 1}, found {rows.show(given)}"
        )
    return name, member, text


def behind(text: str, context: str) -> str:
    """What a model reads: the text, and the context behind it."""
    return f"{text}{SEPARATOR}{context}" if context else text


def cut(
    texts: Sequence[str], contexts: Mapping[str, str], example_ids: Sequence[str], reader: lengths.Reader
) -> tuple[dict[str, str], int]:
    """The contexts as far as they fit behind their texts, whole words from the beginning.

    A text would lose its own beginning, the question, if what is behind it were too long.

    Args:
        texts, example_ids: `[N]` what the model reads of each example without them.
        contexts: by example_id.
        reader: the model.

    Returns:
        The contexts, and how many of them were cut.
    """
    whole = [behind(text, contexts[name]) for text, name in zip(texts, example_ids, strict=True)]
    too_long = lengths.is_overlong(whole, reader)
    fitted = {name: contexts[name] for name in example_ids}
    for text, name, is_long in zip(texts, example_ids, too_long, strict=True):
        if is_long:
            fitted[name] = _longest(text, contexts[name], reader)
    return fitted, sum(fitted[name] != contexts[name] for name in example_ids)


def _longest(text: str, context: str, reader: lengths.Reader) -> str:
    """The most words of a context that fit; none where the text alone is too long."""
    # Lines and spaces stay as they are: a part ends before a space.
    ends = [place for place, letter in enumerate(context) if letter.isspace() and place]
    low, high = 0, len(ends)  # the number of words that fit is in [low, high]
    while low < high:
        middle = (low + high + 1) // 2
        if lengths.is_overlong([behind(text, context[: ends[middle - 1]])], reader)[0]:
            high = middle - 1
        else:
            low = middle
    return context[: ends[low - 1]].rstrip() if low else ""
