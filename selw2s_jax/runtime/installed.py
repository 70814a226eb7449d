"""Methods, tasks and model families of installed packages, which name the modules that register them as entry points.

They are imported where a name is asked for that nothing else has, and not before: what no run names costs nothing.
"""

import functools
import importlib.metadata

from selw2s_jax import errors
from selw2s_jax.runtime import distributed

GROUP = "selw2s_jax.plugins"  # of entry points; the name of each is free, its value a module


@functools.cache
def load() -> dict[str, str]:
    """Imports the modules of all such packages, in the order of their names; once in a process.

    One that fails is noted and left out: it need not be the one that the name is of.

    Returns:
        Their packages and versions, by module; of those that could be imported.
    """
    loaded = {}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda one: (one.value, one.name)):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
        try:
            point.load()
        except (Exception, SystemExit) as error:
            reason = errors.one_line(error, with_type=True)
            _say(f"note: the plug-in {point.value} of {package} fails when it is imported: {reason}")
        else:
            loaded[point.value] = package
            _say(f"note: {point.value} of {package} is imported, for a name that this package does not have")
    return loaded


def loaded() -> dict[str, str]:
    """What `load` gave, {} where nothing has asked for it."""
    return load() if load.cache_info().currsize else {}


def _say(text: str) -> None:
    if distributed.is_main():
        print(text, flush=True)
