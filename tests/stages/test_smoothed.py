"""Smoothing over a whole set is the paper's over one batch of all its rows, of labels that are fixed beforehand."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from support import random_arrays

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches, splits, tasks
from selw2s_jax.experiments import columns
from selw2s_jax.method import graph_smoothing, label_rules, objectives, registry
from selw2s_jax.stages import examples, smoothed

N = 37
OPTIONS = [
    dict(tau=0.3, normalize=True, include_self=True, center=False),
    dict(tau=0.5, normalize=True, include_self=False, center=True),
    dict(tau=3.0, normalize=False, include_self=False, center=False),
]


@pytest.mark.parametrize("rows", [1024, 5])
@pytest.mark.parametrize("options", OPTIONS)
def test_means_are_those_of_one_batch_of_all_rows(options, rows, monkeypatch):
    monkeypatch.setattr(smoothed, "_ROWS", rows)
    embeddings, prior, _ = random_arrays.random_graph(3, N)
    found = smoothed.mean_of_neighbours(embeddings, prior, **options)
    expected, _ = graph_smoothing.smooth_labels(embeddings, prior, alpha=0.0, **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_row_without_neighbours_keeps_its_label():
    found = smoothed.mean_of_neighbours(np.ones((1, 3)), np.array([[0.2, 0.8]]), **OPTIONS[1])
    np.testing.assert_allclose(found, [[0.2, 0.8]], rtol=1e-6)


@dataclasses.dataclass(frozen=True, eq=False)
class Given(examples.Column):
    values: np.ndarray

    def read(self, split, store):
        return self.values


def test_the_stage_keeps_means_by_example(tmp_path, monkeypatch):
    embeddings, prior, _ = random_arrays.random_graph(8, N)
    monkeypatch.setattr(smoothed.embed, "read", lambda store, stages, split: embeddings)
    rows = [tasks.Example(str(i), str(i), "text", 0) for i in range(N)]
    split = splits.Split(rows, tasks.TASKS["sciq"], "bare", ())
    means = smoothed.Means("means", split, Given(prior), None, OPTIONS[1])
    means.write(tmp_path, types.SimpleNamespace(store=None))
    found = pq.read_table(tmp_path / smoothed.FILE).to_pydict()
    assert found["example_id"] == split.ids
    expected = smoothed.mean_of_neighbours(embeddings, prior, **OPTIONS[1])
    np.testing.assert_array_equal(np.float32([found["prob_0"], found["prob_1"]]).T, expected)


def set_config():
    config = config_lib.default_config()
    config.graph.over, config.p_ik.gamma = "set", 0.5
    return config


def objective_of(name: str, **keys) -> objectives.Objective:
    config = set_config()
    for key, value in keys.items():
        config_lib.put(config, key.replace("__", "."), value)
    return objectives.make_objective(config, registry.METHODS[name])


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        *((name, {}) for name in ("selective_frozen", "random_selection_frozen")),
        *((name, {}) for name in ("posterior", "posterior_shuffled", "posterior_constant")),
        ("selective", {"selection__selector": "by_disagreement"}),  # which looks at no head in training
    ],
)
def test_a_student_is_trained_on_its_own_labels_smoothed_over_the_set(name, keys):
    """alpha l + (1 - alpha) mean(l), with l the labels that the method has without smoothing; own labels are kept."""
    objective, inputs = objective_of(name, **keys), random_arrays.rule_inputs(4, N)
    inputs = inputs._replace(example_mask=jnp.ones(N, bool))
    bare = objectives.without_smoothing(objective)
    rows = [tasks.Example(str(i), str(i), "text", 0) for i in range(N)]
    split = splits.Split(rows, tasks.TASKS["sciq"], "bare", ())
    carried = {column: Given(np.asarray(values)) for column, values in inputs.columns.items()}
    prior = smoothed.Chosen(bare, carried).read(split, None)
    expected_prior = label_rules.get(bare.label_rule, **dict(bare.rule_options))(inputs)
    np.testing.assert_array_equal(prior, expected_prior.targets)
    mean = smoothed.mean_of_neighbours(np.asarray(inputs.embeddings), prior, **OPTIONS[0])
    labels = label_rules.get(objective.label_rule, **dict(objective.rule_options))(
        inputs.with_columns(neighbours=mean)
    )
    known = np.asarray(labels.ik_mask) & (objective.label_rule == "selective")
    expected = np.where(known[:, None], prior, 0.9 * prior + 0.1 * mean)
    np.testing.assert_allclose(labels.targets, expected, rtol=1e-6, atol=1e-7)
    assert np.abs(np.asarray(labels.targets) - prior).max() > 0.01


@pytest.mark.parametrize(
    "name", ["selective", "selective_without_ik", "posterior_online", "random_selection"]
)
def test_what_changes_in_training_has_no_labels_beforehand(name):
    """The shuffled masks of `random_selection` change by step, which its column says."""
    found = objectives.without_smoothing(objective_of(name))
    assert (found is None) == (name != "random_selection")
    assert (
        objectives.without_smoothing(objective_of("selective_frozen", self_label__source="class_head"))
        is None
    )
    assert examples.ShuffledMasks.by_step
    own_selector = registry.Method(
        "selective", rule_options={"selector": "of_a_user", "mask": "frozen_p_ik", "refiner": "graph"}
    )
    assert objectives.without_smoothing(objectives.make_objective(set_config(), own_selector)) is None


def test_over_the_set_alone_is_a_key_and_a_column():
    plain, config = config_lib.default_config(), config_lib.default_config()
    config.graph.over = "set"
    for name in ("selective", "selective_without_ik", "posterior", "finetune", "selective_without_gs"):
        method = registry.METHODS[name]
        first, second = (objectives.make_objective(one, method) for one in (plain, config))
        assert not any("over" in option for option, _ in first.rule_options)
        reads = columns.NEIGHBOURS in columns.carried(config, method)[batches.TASK]
        assert reads == (name not in ("finetune", "selective_without_gs")) == (first != second) or not reads
        assert columns.NEIGHBOURS not in columns.carried(plain, method)[batches.TASK]
    config.selection.refiner = "none"
    for name in ("selective", "posterior"):
        assert columns.NEIGHBOURS not in columns.carried(config, registry.METHODS[name])[batches.TASK]
