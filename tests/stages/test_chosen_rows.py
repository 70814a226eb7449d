"""Rows that labels choose: which they are, how many, and what their examples carry."""

import dataclasses

import numpy as np
import pytest

from selw2s_jax.data import batches, splits, tasks
from selw2s_jax.stages import chosen_rows, examples

PROBS = {"e/0": 0.875, "e/1": 0.4, "e/2": 0.125, "e/3": 0.55, "e/4": 0.97, "e/5": 0.3, "e/6": 0.5}
SPLIT = splits.Split(
    [tasks.Example(name, name, f"text {name}", 0) for name in PROBS], tasks.TASKS["sciq"], "bare", ()
)
EVERY = chosen_rows.Rows(SPLIT)


@dataclasses.dataclass(frozen=True, eq=False)
class Known(examples.Column):
    """Labels by example_id."""

    probs: dict[str, float]

    @property
    def inputs(self):
        return sorted(self.probs.items())

    def read(self, split, store):
        ones = np.array([self.probs[name] for name in split.ids], np.float32)
        return np.stack([1 - ones, ones], axis=-1)


LABELS = Known(PROBS)
FIRST = chosen_rows.MostConfident(SPLIT, EVERY, 0.5, LABELS)  # floor(3.5)
OTHERS = chosen_rows.Others(SPLIT, FIRST)
TURNED = Known({name: 1 - number / 8 for number, name in enumerate(PROBS)})
SECOND = chosen_rows.MostConfident(SPLIT, OTHERS, 0.75, TURNED)
BOTH = chosen_rows.Union(SPLIT, FIRST, SECOND)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        (EVERY, list(PROBS)),
        (FIRST, ["e/4", "e/0", "e/2"]),  # 0.97; 0.875 and 0.125 are as sure as each other
        (OTHERS, ["e/1", "e/3", "e/5", "e/6"]),
        (SECOND, ["e/1", "e/6", "e/3"]),  # 0.875, 0.25, 0.625
        (BOTH, ["e/4", "e/0", "e/2", "e/1", "e/6", "e/3"]),
        (chosen_rows.Others(SPLIT, BOTH), ["e/5"]),
    ],
)
def test_how_many_rows_is_known_before_which(rows, ids):
    assert len(rows) == len(ids) and rows.ids(None) == ids
    assert rows.mask(None).tolist() == [name in ids for name in PROBS]


def test_random_rows_are_as_many_and_those_of_less_are_among_those_of_more():
    few, many, other = (
        chosen_rows.AtRandom(SPLIT, EVERY, share, seed) for share, seed in ((0.5, 1), (0.9, 1), (0.5, 2))
    )
    assert len(few) == len(FIRST) == len(few.ids(None)) and len(many) == 6
    assert set(few.ids(None)) < set(many.ids(None)) and few.ids(None) != other.ids(None)
    assert few.inputs != other.inputs


def test_the_key_names_the_labels_and_the_number_of_rows():
    assert FIRST.inputs == chosen_rows.MostConfident(SPLIT, EVERY, 0.49, LABELS).inputs  # 3 of 7 too
    others = (
        chosen_rows.MostConfident(SPLIT, EVERY, 0.6, LABELS),
        chosen_rows.MostConfident(SPLIT, EVERY, 0.5, TURNED),
        chosen_rows.MostConfident(SPLIT, OTHERS, 0.75, LABELS),
    )
    assert all(FIRST.inputs != other.inputs for other in others)


def test_labels_are_spliced_by_row_in_the_order_that_is_read():
    spliced = chosen_rows.Spliced(FIRST, LABELS, TURNED)
    backwards = dataclasses.replace(SPLIT, examples=SPLIT.examples[::-1])
    expected = [PROBS[name] if name in FIRST.ids(None) else TURNED.probs[name] for name in backwards.ids]
    np.testing.assert_array_equal(spliced.read(backwards, None)[:, 1], np.float32(expected))
    hard = examples.Hard(spliced).read(backwards, None)
    np.testing.assert_array_equal(hard[:, 1], np.float32(expected) > 0.5)
    assert hard.dtype == np.float32 and np.all(hard.sum(axis=1) == 1)


class ByStep(Known):
    by_step = True

    def read(self, split, store):
        return np.stack([super(ByStep, self).read(split, store)[:, 1] + step for step in range(3)])


def columns():
    embedded = Known(TURNED.probs)  # in the place of tokens
    return {"weak_probs": LABELS, batches.EMBEDDINGS: embedded, "given_p_ik": ByStep(PROBS)}


def test_columns_follow_the_rows_in_the_order_of_the_split():
    whole = examples.Examples(SPLIT, columns()).read(None, None)
    carried = chosen_rows.carrying(SPLIT, columns(), FIRST)
    part = carried.read(None, None)
    assert part.example_ids == ["e/0", "e/2", "e/4"] and len(carried) == 3 and part.tokens is None
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(part.columns[name], values[[0, 2, 4]])
    np.testing.assert_array_equal(
        part.columns_by_step["given_p_ik"], whole.columns_by_step["given_p_ik"][:, [0, 2, 4]]
    )


def test_all_rows_are_the_examples_themselves_bit_for_bit():
    """Also where they were chosen: the training, and its key, are then those of a method that chooses none."""
    everything = chosen_rows.MostConfident(SPLIT, EVERY, 1.0, LABELS)
    plain = examples.Examples(SPLIT, columns())
    for rows in (None, everything):
        assert chosen_rows.carrying(SPLIT, columns(), rows).inputs == plain.inputs
    chosen = chosen_rows.ChosenExamples(SPLIT, columns(), everything).read(None, None)
    expected = plain.read(None, None)
    assert chosen.example_ids == expected.example_ids
    for name, values in expected.columns.items():
        assert chosen.columns[name].tobytes() == values.tobytes()
