"""What a run could have seen: per pair of methods its standard error, and the items and seeds that gains need."""

from typing import Any

import numpy as np

from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.analysis import power
from selw2s_jax.report import numbers, registration_sections, stored

GAINS = (0.01, 0.02, 0.05)
_SEEDS = (3, 5, 10, 20)

Pairs = dict[tuple[str, str], power.Components]


def test_of(run: stored.Run) -> power.Test:
    """The test that the power is of: the registered one where there is one, else of a single comparison."""
    if run.registration is None or not run.registration.holds:
        return power.DEFAULT
    test = run.registration.found.content["test"]
    return power.Test(level=test["level"], num_tests=max(test["num_tests"], 1))


def components(run: stored.Run) -> Pairs:
    """By pair, over the seeds that both are finished for.

    Of the pairs that a reader asks for, and the registered ones; of methods with their controls where none is.
    """
    pairs = registration_sections.pairs(run)
    if not pairs:
        pairs = methods_lib.default_pairs({name: run.facts(name) for name in run.predictions})
    found = {}
    for first, second in dict.fromkeys([*run.asked, *pairs]):
        seeds = run.common_seeds(first, second)
        if seeds and len(run.truth) > 1:
            found[first, second] = power.components(run.correct(first, seeds), run.correct(second, seeds))
    return found


def seed_counts(found: power.Components) -> list[int]:
    """Numbers of seeds that are planned with; one seed says nothing of several."""
    return [1] if found.seeds is None else sorted({found.num_seeds, *_SEEDS})


def seen_rows(run: stored.Run, pairs: Pairs) -> list[dict[str, Any]]:
    """Per pair what the run as it is could have seen, and where the variance of its mean comes from."""
    test, gap = test_of(run), numbers.gap_recovered(run, "ceiling") if "ceiling" in run.predictions else None
    rows = []
    for (first, second), found in pairs.items():
        error, gain = power.standard_error(found), power.detectable_gain(found, test=test)
        differ = found.total > 0
        seeds = found.num_seeds
        shares = {
            "seeds": None if found.seeds is None else found.seeds / seeds,
            "items": found.items / found.num_items,
            "residual": None if found.seeds is None else found.residual / (seeds * found.num_items),
        }
        both = run.common_seeds(first, second)
        rows.append(
            {
                "first": first,
                "second": second,
                "num_seeds": seeds,
                "n": found.num_items,
                "differ": float(np.mean(run.correct(first, both) != run.correct(second, both))),
                "error": error if differ else None,
                "error_interval": power.error_interval(found) if differ else None,
                "gain": gain,
                "pgr": None if gain is None or gap is None or gap.gap <= 0 else gain / gap.gap,
                **{
                    f"from_{name}": None if value is None or not error else value / error**2
                    for name, value in shares.items()
                },
            }
        )
    return rows


def plan_rows(run: stored.Run, pairs: Pairs) -> list[dict[str, Any]]:
    """Per pair and number of seeds, the test items that each of `GAINS` needs, as `items GAIN`; None for no number."""
    test = test_of(run)
    return [
        {
            "first": first,
            "second": second,
            "num_seeds": seeds,
            "is_own": "yes" if seeds == found.num_seeds else None,
            "gain": power.detectable_gain(found, seeds=seeds, test=test),
            **{f"items {gain}": power.smallest_items(found, gain, seeds=seeds, test=test) for gain in GAINS},
        }
        for (first, second), found in pairs.items()
        if found.total > 0
        for seeds in seed_counts(found)
    ]
