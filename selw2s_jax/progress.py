"""Progress of long work: a bar with an ETA on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator

import tqdm


def track(
    items: Iterable, *, total: int, label: str, unit: str = "it", seconds_per_line: float = 15.0
) -> Iterator:
    """Yields the items and shows how far they are, on standard error.

    Args:
        total: number of items.
        label: what is being done.
        seconds_per_line: least time between two plain lines, where standard error is no terminal.
    """
    if sys.stderr.isatty():
        yield from tqdm.tqdm(items, total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= seconds_per_line and done < total:
            left = (now - start) / done * (total - done)
            print(f"{label}: {done}/{total} {unit}, about {left:.0f} s left", file=sys.stderr, flush=True)
            last = now
