"""Python's garbage collector, kept from going over all modules and examples again and again.

Half a million objects that stay, of modules and of what a run has read, take a collection a tenth of a second and more;
by default there is one every few hundred thousand objects, and stages ask for one wherever they let go of a model.
"""

import contextlib
import gc
from collections.abc import Iterator

# Of which the youngest are looked through; Python's own 700 suit programs without such a start.
_NEW_OBJECTS = 20_000


def collect_seldom() -> None:
    """For a process of its own: importing a run's modules takes a fifth less."""
    gc.set_threshold(_NEW_OBJECTS)


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Leaves what there is now out of all collections within: they then take milliseconds.

    What of it is no longer used within is freed after, if it is in reference cycles, else at once as ever.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
