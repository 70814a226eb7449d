"""The one exception for mistakes that a user can make and mend, and how the errors of others are told in it."""

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
