"""The one exception for mistakes that a user can make and mend, and how the errors of others are told in it."""

import json
from typing import Any

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


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none; also where it is nested deeper than Python follows, as no text is that was written here.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
