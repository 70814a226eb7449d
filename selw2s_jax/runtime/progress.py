"""Progress of long work: a bar with an ETA on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator

import tqdm

from selw2s_jax.runtime import distributed


def track(
    items: Iterable,
    *,
    total: int,
    label: str,
    done: int = 0,
    unit: str = "it",
    status: Callable[[], str] = lambda: "",
    seconds_per_line: float = 15.0,
) -> Iterator:
    """Yields the items and shows how far they are, on standard error of process 0.

    Args:
        total: number of items, with those done before.
        label: what is being done.
        done: number of items done before.
        status: what else to show, such as the last loss.
        seconds_per_line: least time between two plain lines, where standard error is no terminal.
    """
    if not distributed.is_main():
        yield from items
        return
    if sys.stderr.isatty():
        with tqdm.tqdm(
            items, total=total, initial=done, desc=label, unit=unit, leave=False, dynamic_ncols=True
        ) as bar:
            for item in bar:
                yield item
                bar.set_postfix_str(status(), refresh=False)
        return
    start = last = time.monotonic()
    for here, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if here == 1:
            start = now  # the first item compiles, and says nothing about the others
        elif now - last >= seconds_per_line and done + here < total:
            more = f", {status()}" if status() else ""
            # Items that came together, as answers of one batch do, say nothing either.
            if now - start >= 1:
                more += f", about {(now - start) / (here - 1) * (total - done - here):.0f} s left"
            print(f"{label}: {done + here}/{total} {unit}{more}", file=sys.stderr, flush=True)
            last = now
