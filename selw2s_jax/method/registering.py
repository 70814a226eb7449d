"""Whose a registered name is: a part may be registered again where it was, as by a cell that is run again."""

import inspect

_PACKAGE = __name__.split(".")[0]
_ORIGINS: dict[tuple[str, str], str] = {}  # by kind and name, who registered it last


def claim(kind: str, name: str, *, is_taken: bool) -> None:
    """Notes who registers a part, and says so where it takes the place of an earlier one.

    Args:
        kind: of the part, for messages.
        name: that it is registered by.
        is_taken: whether there is one of that name.

    Raises:
        ValueError: the name is taken, by something else than the file, or the notebook, that registers the part now.
    """
    origin = _origin()
    if is_taken:
        before = _ORIGINS.get((kind, name))
        if before != origin:
            by = f", by {before}" if before else ""
            raise ValueError(f"a {kind} named {name!r} is registered already{by}: choose another name")
        print(
            f"note: the {kind} {name!r} is registered again, and takes the place of the one before",
            flush=True,
        )
    _ORIGINS[kind, name] = origin


def _origin() -> str:
    """The file whose code registers a part; of a notebook and the like, which has none, its module's name.

    That is the nearest one outside of this package, whose functions may register parts for others, or the package's own
    module that is being imported.
    """
    frame = inspect.currentframe()
    while frame is not None:
        known = frame.f_globals
        module = known.get("__name__", "")
        is_own = module.split(".")[0] == _PACKAGE
        if not is_own or frame.f_code.co_name == "<module>":
            return module if is_own else known.get("__file__") or module
        frame = frame.f_back
    return ""
