"""The one exception for mistakes that a user can make and mend, and how the errors of others are told in it."""

import re

# What a terminal acts on rather than shows: control characters but for tab and line feed, and marks of direction.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 200  # characters of another error's message


class UserError(Exception):
    """A mistake in a config, a data file, a checkpoint or the environment.

    The message is one line that names the thing at fault and the remedy. The commands print it to
    standard error and exit with status 2; it is raised before any training starts.
    """


def one_line(error: BaseException, *, with_type: bool = False) -> str:
    """An error's message in one line; of a long one the beginning, as libraries write pages.

    Args:
        with_type: whether the name of its type stands before it.
    """
    message = " ".join(str(error).split())[:_LONGEST]
    return f"{type(error).__name__}: {message or 'no message'}" if with_type else message


def printable(text: str) -> str:
    """A text for a terminal, whoever wrote it: what would steer the terminal is shown as its code, as `\\x1b`."""
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], text)
