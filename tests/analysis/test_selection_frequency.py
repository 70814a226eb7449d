"""How often rows were chosen: counted by hand from a trace, in any order of its entries."""

import numpy as np
import pytest

from selw2s_jax.analysis import selection_frequency


def test_frequencies_and_groups_worked_out_by_hand():
    trace = {
        "example_id": np.array(["a", "b", "c", "a", "b", "c", "e"], object),
        "ik_mask": np.array([1, 0, 1, 1, 0, 0, 1], bool),
    }
    frequency = selection_frequency.frequencies(trace, ["a", "b", "c", "d", "e"])
    assert frequency == pytest.approx([1, 0, 0.5, np.nan, 1], nan_ok=True)
    order = np.random.default_rng(0).permutation(7)
    shuffled = {name: values[order] for name, values in trace.items()}
    again = selection_frequency.frequencies(shuffled, ["a", "b", "c", "d", "e"])
    assert np.array_equal(again, frequency, equal_nan=True)

    # Weak labels: a is wrong with confidence 0.9, b, c and e right with 0.65, 0.6 and 1.
    weak, truth = np.array([0.1, 0.65, 0.4, 0.5, 1.0], np.float32), np.array([1, 1, 0, 0, 1])
    found = selection_frequency.describe(frequency, truth, weak)
    assert found["unseen"] == 1
    shown = ("low", "high", "weak_right", "n", "mean", "never", "always")
    assert [tuple(group[name] for name in shown) for group in found["groups"]] == [
        (0.6, 0.7, True, 2, 0.25, 0.5, 0.0),
        (0.9, 1.0, True, 1, 1.0, 0.0, 1.0),
        (0.9, 1.0, False, 1, 1.0, 0.0, 1.0),
    ]  # fmt: skip


def test_rows_that_no_step_had_are_in_no_group():
    found = selection_frequency.describe([np.nan, np.nan], [0, 1], [0.2, 0.3])
    assert found == {"unseen": 2, "groups": []}
    with pytest.raises(ValueError, match="one length"):
        selection_frequency.describe([0.5], [0, 1], [0.2])
