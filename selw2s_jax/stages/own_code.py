"""The code of a user's own parts, as a stage's key holds it."""

import inspect
import pathlib
from collections.abc import Callable

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts


def hashes(**factories: Callable) -> dict[str, str]:
    """Hashes of the source of parts from outside this package, whose code can change, by "code of <role>"."""
    package = __name__.split(".")[0]
    return {
        f"code of {role}": artifacts.content_hash(_source(role, factory))
        for role, factory in factories.items()
        if factory.__module__.split(".")[0] != package
    }


def _source(role: str, factory: Callable) -> str:
    """The whole file that defines a factory, which may use what is beside it; else the factory's own lines."""
    factory = inspect.unwrap(factory)
    try:
        return pathlib.Path(inspect.getfile(factory)).read_text(encoding="utf-8")
    except (OSError, TypeError):
        pass  # a notebook's cell has no file
    try:
        return inspect.getsource(factory)
    except (OSError, TypeError) as error:
        raise UserError(
            f"the source of {role} {factory!r} cannot be read, and stages are kept by it: "
            "register a function that a file defines, and give its options in Method"
        ) from error
