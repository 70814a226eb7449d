"""In which order prompts are read, so that those that begin alike, as permutations of a question, are neighbours."""

import itertools
from collections.abc import Sequence

import numpy as np

_MOST_ALIKE = 64  # prompts that have a stem in common


def find(prompts: Sequence[np.ndarray]) -> tuple[list[int], list[int]]:
    """An order of prompts, and how many tokens each begins with in common with its neighbours of the same group.

    Groups are such that most tokens need not be read again. Those with the longest prompts are first.

    Args:
        prompts: token ids of each, one or more.

    Returns:
        Indices of prompts, and the stem of each in this order: fewer tokens than any of its group has, 0 for none.
    """
    # Big-endian bytes are in the order of the numbers, and take a tenth of the memory of lists.
    keys = [np.asarray(ids, ">u4").tobytes() for ids in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (keys[i], i))
    ordered = [prompts[i] for i in order]
    common = [0, *(_common(a, b) for a, b in itertools.pairwise(ordered))]
    groups = [
        (order[first:stop], min(common[first + 1 : stop], default=0)) for first, stop in _divide(common)
    ]
    groups.sort(key=lambda group: -max(len(prompts[i]) for i in group[0]))
    return [i for members, _ in groups for i in members], [stem for members, stem in groups for _ in members]


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens both begin with, and each has more of."""
    length = min(len(a), len(b)) - 1
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


def _divide(common: Sequence[int]) -> list[tuple[int, int]]:
    """Divides sorted prompts into groups (first, stop), so that the sum of what is not read again is largest.

    Args:
        common: tokens that each prompt has in common with the one before it.
    """
    best, begin = [0], [0]  # of the first n prompts: what is saved, and where the last group begins
    for stop in range(1, len(common) + 1):
        saved, first, least = best[stop - 1], stop - 1, None
        for start in range(stop - 2, max(stop - _MOST_ALIKE, 0) - 1, -1):
            least = common[start + 1] if least is None else min(least, common[start + 1])
            if best[start] + (stop - start - 1) * least > saved:
                saved, first = best[start] + (stop - start - 1) * least, start
        best.append(saved)
        begin.append(first)
    groups, stop = [], len(common)
    while stop:
        groups.append((begin[stop], stop))
        stop = begin[stop]
    return groups[::-1]
