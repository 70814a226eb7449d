"""Labels replayed from a trace, against the rules on what they really saw in every batch."""

import types

import jax
import numpy as np
import pytest
from support import marks, random_arrays, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches
from selw2s_jax.method import label_rules, objectives, posterior, registry
from selw2s_jax.replay import finished, labels, settings

NUM_ROWS, BATCH, NUM_EPOCHS = 21, 6, 2  # batches across the end of the epoch


def make_config(**changes):
    config = tiny_config.make_config(p_ik__gamma=0.6)
    for key, value in changes.items():
        config_lib.put(config, key.replace("__", "."), value)
    return config


def objective_of(method, config):
    return objectives.make_objective(config, registry.METHODS[method])


class World:
    """What the examples carry, P(IK) of the head and embeddings at every step, and the batches."""

    def __init__(self):
        inputs = random_arrays.rule_inputs(3, NUM_ROWS)
        rng = np.random.default_rng(5)
        self.columns = {name: np.asarray(values) for name, values in inputs.columns.items()}
        places = np.concatenate([rng.permutation(NUM_ROWS) for _ in range(NUM_EPOCHS)])
        self.place = places
        self.step = np.repeat(np.arange(-(-NUM_ROWS * NUM_EPOCHS // BATCH)), BATCH)[: len(places)]
        self.p_ik = rng.random(len(places)).astype(np.float32)
        self.embeddings = rng.normal(size=(len(places), 5)).astype(np.float32)  # anew at each step

    def applied(self, objective) -> dict[str, np.ndarray]:
        """The trace of a training."""
        rule = label_rules.get(objective.label_rule, **dict(objective.rule_options))
        parts = []
        for step in np.unique(self.step):
            rows = self.step == step
            made = rule(
                label_rules.RuleInputs(
                    class_logits=np.zeros((rows.sum(), 2), np.float32),
                    p_ik=jax.numpy.asarray(self.p_ik[rows]),
                    embeddings=jax.numpy.asarray(self.embeddings[rows]),
                    columns={
                        name: jax.numpy.asarray(column[self.place[rows]])
                        for name, column in self.columns.items()
                    },
                    example_mask=jax.numpy.ones(rows.sum(), bool),
                    step_fraction=0.0,
                )
            )
            parts.append([made.p_ik, made.ik_mask, made.prior[:, 1], made.targets[:, 1]])
        values = [np.concatenate(column) for column in zip(*parts, strict=True)]
        named = dict(zip(("p_ik", "ik_mask", "prior", "target"), values, strict=True))
        return {"step": self.step, "example_id": np.array([str(row) for row in self.place])} | named

    def student(self, objective) -> labels.Student:
        stage = types.SimpleNamespace(objective=objective, num_steps=int(self.step.max()) + 1)
        half = types.SimpleNamespace(ids=[str(row) for row in range(NUM_ROWS)])
        # The order of a trace is that of packing.
        shuffled = np.random.default_rng(1).permutation(len(self.step))
        trace = {name: values[shuffled] for name, values in self.applied(objective).items()}
        return labels.Student("method", 0, stage, half, trace)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def expected(world, student, objective) -> dict[str, np.ndarray]:
    """What the rule gives with all that it sees, in the order of the student's trace."""
    found = world.applied(objective)
    places = {key: row for row, key in enumerate(zip(found["step"], found["example_id"], strict=True))}
    order = [places[key] for key in zip(student.trace["step"], student.trace["example_id"], strict=True)]
    return {name: values[order] for name, values in found.items()}


METHODS = (
    "selective", "selective_without_ik", "selective_without_gs", "selective_frozen", "selective_by_confidence",
    "posterior", "posterior_shuffled",
)  # fmt: skip


QUICK = ("selective", "posterior")


@pytest.mark.parametrize("method", [name if name in QUICK else marks.in_ci(name) for name in METHODS])
def test_at_the_runs_own_setting_labels_are_those_of_the_trace(world, method):
    objective = objective_of(method, make_config())
    student = world.student(objective)
    found = labels.replay(student, objective, world.columns, p_ik=student.trace["p_ik"])
    np.testing.assert_array_equal(found.ik_mask, student.trace["ik_mask"])
    np.testing.assert_array_equal(found.lowest, found.highest)
    # Without smoothing bit for bit, as nothing is divided and multiplied again.
    tolerance = 3e-7 if "alpha" in dict(objective.rule_options) else 0
    np.testing.assert_allclose(found.prior, student.trace["prior"], rtol=0, atol=0)
    np.testing.assert_allclose(found.target, student.trace["target"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["posterior_online", "posterior_online_shuffled"])
def test_p_ik_of_the_head_is_found_again_from_its_reliability(world, method):
    objective = objective_of(method, make_config())
    student = world.student(objective)
    p_ik = posterior.online_p_ik(student.trace["p_ik"], world.columns["p_ik_calibration"][student.place])
    if method == "posterior_online":
        order = np.lexsort((world.place, world.step))
        again = np.lexsort((student.place, student.trace["step"]))
        np.testing.assert_allclose(p_ik[again], world.p_ik[order], atol=1e-6)
    found = labels.replay(student, objective, world.columns, p_ik=p_ik)
    np.testing.assert_array_equal(found.ik_mask, student.trace["ik_mask"])
    np.testing.assert_allclose(found.target, student.trace["target"], atol=2e-6)


def test_a_slope_of_zero_says_nothing_of_p_ik():
    np.testing.assert_array_equal(posterior.online_p_ik([0.3, 1.0], [[0.2, 0.0], [0.2, 1.0]]), [0.5, 1.0])


@pytest.mark.parametrize("alpha", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("method", ["selective", "selective_without_ik"])
def test_another_alpha_is_exact_without_embeddings(world, method, alpha):
    student = world.student(objective_of(method, make_config()))
    objective = objective_of(method, make_config(graph__alpha=alpha))
    found = labels.replay(student, objective, world.columns, p_ik=student.trace["p_ik"])
    np.testing.assert_array_equal(found.lowest, found.highest)
    # The mean is known to 6e-8 / (1 - 0.9).
    np.testing.assert_allclose(found.target, expected(world, student, objective)["target"], rtol=0, atol=3e-6)


@pytest.mark.parametrize("gamma", [0.1, 0.9])
def test_another_gamma_is_within_its_bounds_without_embeddings(world, gamma):
    student = world.student(objective_of("selective", make_config()))
    objective = objective_of("selective", make_config(p_ik__gamma=gamma, graph__alpha=0.7))
    found = labels.replay(student, objective, world.columns, p_ik=student.trace["p_ik"])
    truth = expected(world, student, objective)
    np.testing.assert_array_equal(found.ik_mask, truth["ik_mask"])
    np.testing.assert_array_equal(found.prior, truth["prior"])
    exact = found.lowest == found.highest
    assert exact[truth["ik_mask"]].all() and not exact.all()
    np.testing.assert_allclose(found.target[exact], truth["target"][exact], rtol=0, atol=3e-6)
    assert (found.lowest <= truth["target"] + 3e-6).all() and (truth["target"] <= found.highest + 3e-6).all()


def test_with_embeddings_every_setting_is_exact(world):
    of_rows = np.random.default_rng(8).normal(size=(NUM_ROWS, 5)).astype(np.float32)
    fixed = World()
    fixed.embeddings = of_rows[fixed.place]
    student = fixed.student(objective_of("selective", make_config()))
    objective = objective_of("selective", make_config(p_ik__gamma=0.3, graph__alpha=0.2, graph__tau=0.7))
    columns = fixed.columns | {batches.EMBEDDINGS: of_rows}
    found = labels.replay(student, objective, columns, p_ik=student.trace["p_ik"])
    np.testing.assert_array_equal(found.lowest, found.highest)
    np.testing.assert_allclose(found.target, expected(fixed, student, objective)["target"], rtol=0, atol=1e-6)


def test_masks_by_step_are_those_of_the_step(world):
    objective = objective_of("random_selection", make_config())
    masks = np.random.default_rng(2).integers(2, size=(world.step.max() + 1, NUM_ROWS)).astype(np.float32)
    student = world.student(objective)
    columns = {name: column for name, column in world.columns.items() if name != "given_p_ik"}
    found = labels.replay(
        student, objective, columns, p_ik=student.trace["p_ik"], columns_by_step={"given_p_ik": masks}
    )
    np.testing.assert_array_equal(found.ik_mask, masks[student.trace["step"], student.place] > 0)


def test_shorter_batches_are_filled():
    step = np.array([2, 0, 2, 0, 2, 1])
    entries, is_there = labels._batches(step)
    assert [rows[there].tolist() for rows, there in zip(entries, is_there, strict=True)] == [
        [1, 3],
        [5],
        [0, 2, 4],
    ]
    assert (step[entries] == [[0], [1], [2]]).all()


def test_means_are_not_known_of_rows_that_were_not_smoothed():
    trace = {
        "ik_mask": np.array([True, False]),
        "prior": np.array([1.0, 0.5]),
        "target": np.array([1.0, 0.475]),
    }
    means, known = labels.implied_means(trace, 0.9)
    np.testing.assert_allclose(means, [0.5, 0.25])
    assert known.tolist() == [False, True]
    assert not labels.implied_means(trace, 1.0)[1].any()


def test_a_rule_that_keeps_a_state_is_not_replayed():
    config = make_config()
    stage = types.SimpleNamespace(objective=objective_of("raven", config))
    run = types.SimpleNamespace(student=lambda name, seed: types.SimpleNamespace(stage=stage))
    reason = finished.Run.unknown(run, "raven", 0, settings.Setting.of_run(config))
    assert "from step to step" in reason
