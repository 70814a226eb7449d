"""Label rules with a state in the one train step: `raven` of one member is `finetune`, and the weights of several are
kept, saved and resumed with the rest of the training."""

import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from etils import epath
from fixtures import make_parity
from flax import nnx
from support import adapted_models, random_arrays, training_parts

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.method import label_rules, objectives, raven
from selw2s_jax.models import heads
from selw2s_jax.training import checkpointing, fit, loop, state, step

NUM, DIM, STEPS, BATCH = 40, 5, 10, 8


def computation_of(label_rule: str, forward=step.classify_embeddings, *, num_members: int = 3, **options):
    objective = objectives.Objective(label_rule, tuple(options.items()), "finetune", (), 1.0, 0.0)
    return step.classification(objective, forward, {"weak_probs": (2,), "weak_each": (num_members, 2)})


def embedded(num_members: int = 3, num_micro: int = 1) -> batches.EmbeddedBatches:
    weak = random_arrays.weak_each(3, NUM, num_members)
    embeddings = np.random.default_rng(1).standard_normal((NUM, DIM)).astype(np.float32)
    columns = {"weak_each": weak, "weak_probs": weak.mean(1), batches.EMBEDDINGS: embeddings}
    sets = {batches.TASK: batches.ExampleSet([f"t/{i}" for i in range(NUM)], None, columns)}
    return batches.EmbeddedBatches(sets, {batches.TASK: BATCH}, num_steps=STEPS, num_micro=num_micro, seed=2)


def make_probe() -> heads.Probe:
    probe = heads.Probe(DIM, p_ik_head=False, param_dtype="float32")
    probe.class_head[...] = jnp.asarray(np.random.default_rng(5).standard_normal((2, DIM)), jnp.float32)
    return probe


def fit_probe(folder, computation: step.Computation, data, *, every_steps: int = 0) -> fit.Fitted:
    """All steps from what is saved in the folder, as a stage trains."""
    files = fit.Files(
        epath.Path(folder),
        "student",
        "key",
        ml_collections.ConfigDict({"every_steps": every_steps, "keep": 9}),
        ml_collections.ConfigDict({"tensorboard": False, "every_steps": 1}),
    )
    return fit.fit(
        data,
        nnx.eval_shape(make_probe),
        make_probe,
        objective=("of this test",),
        computation=computation,
        optimizer=state.OptimizerSettings(0.1, STEPS, trained="heads"),
        mesh=sharding.single_device_mesh(),
        files=files,
        train_steps={},
        keep_trace=True,
    )


def logged(folder, name: str) -> list[float]:
    (path,) = (folder / "logs").iterdir()
    return [json.loads(line)[f"train/{name}"] for line in path.read_text().splitlines()]


def test_one_member_is_finetune_bit_for_bit(tmp_path):
    data = embedded(1)
    plain = fit_probe(tmp_path / "plain", computation_of("given"), data)
    other = fit_probe(tmp_path / "raven", computation_of("raven", num_members=1, learning_rate=0.5), data)
    adapted_models.assert_equal_trees(jax.device_get(other.state.params), jax.device_get(plain.state.params))
    adapted_models.assert_equal_trees(
        jax.device_get(other.state.opt_state), jax.device_get(plain.state.opt_state)
    )
    assert logged(tmp_path / "raven", "loss") == logged(tmp_path / "plain", "loss")
    assert plain.state.rule_state == () and other.state.rule_state.tolist() == [1.0]
    np.testing.assert_array_equal(other.history.trace["target"], plain.history.trace["target"])


@pytest.mark.slow
def test_one_member_is_finetune_bit_for_bit_in_a_whole_model(fixtures):
    task = training_parts.make_sets(make_parity.CONFIGS["gpt2"])[batches.TASK]
    task.columns["weak_each"] = task.columns["weak_probs"][:, None]
    data = batches.TrainBatches({batches.TASK: task}, {batches.TASK: 12}, num_steps=3, num_micro=2, seed=1)
    found = []
    for computation in (
        computation_of("given", step.classify, num_members=1),
        computation_of("raven", step.classify, num_members=1, frozen_fraction=0.4),
    ):
        model = training_parts.make_classifier(fixtures, "gpt2", p_ik_head=False)
        mesh, settings = sharding.single_device_mesh(), state.OptimizerSettings(1e-2, 3)
        graphdef, held, shardings = state.start(model, settings, mesh, computation.rule_state)
        train_step = step.make_train_step(
            graphdef, computation, settings, mesh=mesh, state_shardings=shardings
        )
        for number in range(3):
            held, *_ = train_step(held, batches.device_batch(data.batch_at(number), mesh))
        found.append(jax.device_get((held.params, held.opt_state)))
    adapted_models.assert_equal_trees(*found)


def test_weights_follow_their_definition_step_by_step(tmp_path):
    """Beside a student whose steps are taken by hand; the first two are frozen, and count rows that agree alone."""
    data, rate = embedded(), 0.5
    fitted = fit_probe(
        tmp_path, computation_of("raven", learning_rate=rate, frozen_fraction=0.2, easy_only=True), data
    )
    head, weights = make_probe().class_head[...], np.full(3, 1 / 3, np.float32)
    optimizer = state.make_optimizer(state.OptimizerSettings(0.1, STEPS))
    opt_state, seen = optimizer.init(head), []

    @functools.partial(jax.jit, static_argnums=4)
    def by_hand(head, opt_state, weights, columns, is_frozen):
        weak, embeddings = columns["weak_each"], columns[batches.EMBEDDINGS]
        labels, _, moved = raven.update(weights, weak, embeddings @ head.T, learning_rate=rate)
        counts = raven.agree(weak) if is_frozen else jnp.ones(BATCH, bool)

        def loss(head):
            each = -jnp.sum(labels * jax.nn.log_softmax(embeddings @ head.T), axis=-1)
            return jnp.sum(each * counts) / jnp.sum(counts)

        updates, opt_state = optimizer.update(jax.grad(loss)(head), opt_state, head)
        return head + updates, opt_state, weights if is_frozen else moved

    for number in range(STEPS):
        seen.append(weights)
        columns = jax.tree.map(lambda x: x[0], data.batch_at(number).columns)
        head, opt_state, weights = by_hand(head, opt_state, weights, columns, number < 2)
    np.testing.assert_allclose(fitted.state.params.class_head[...], head, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.state.rule_state, weights, rtol=1e-5)
    np.testing.assert_allclose(
        [logged(tmp_path, f"weight_{k}") for k in range(3)], np.transpose(seen), rtol=1e-5
    )
    assert np.abs(weights - 1 / 3).max() > 0.05
    means = fitted.metrics["mean_over_steps"]
    assert means["weight_0"] == pytest.approx(np.mean(seen, axis=0)[0], rel=1e-5)


def test_micro_batches_leave_weights_as_they_are(tmp_path):
    whole, parts = (
        fit_probe(tmp_path / str(n), computation_of("raven", learning_rate=0.5), embedded(num_micro=n))
        for n in (1, 4)
    )
    np.testing.assert_allclose(parts.state.rule_state, whole.state.rule_state, rtol=1e-5)
    np.testing.assert_allclose(
        parts.state.params.class_head[...], whole.state.params.class_head[...], rtol=1e-4, atol=1e-6
    )


def test_a_run_goes_on_with_its_weights_bit_for_bit(tmp_path, capsys):
    computation = computation_of("raven", learning_rate=0.5)
    first = fit_probe(tmp_path, computation, embedded(), every_steps=3)
    np.testing.assert_array_equal(computation.rule_state, np.full(3, 1 / 3, np.float32))
    log = (tmp_path / "logs").iterdir().__next__().read_text()
    second = fit_probe(tmp_path, computation, embedded(), every_steps=3)
    assert "going on from step 9 of 10" in capsys.readouterr().out
    adapted_models.assert_equal_trees(jax.device_get(second.state), jax.device_get(first.state))
    assert second.metrics == first.metrics and (tmp_path / "logs").iterdir().__next__().read_text() == log
    for name, column in first.history.trace.items():
        np.testing.assert_array_equal(second.history.trace[name], column)
    assert np.ptp(first.state.rule_state) > 0.05


class Older(NamedTuple):
    """The training state before label rules had one."""

    step: Any
    params: Any
    frozen: Any
    opt_state: Any


def test_a_state_that_was_saved_without_that_of_a_rule_is_loaded(tmp_path):
    mesh, settings = sharding.single_device_mesh(), state.OptimizerSettings(0.1, STEPS, trained="heads")
    held = state.start(make_probe(), settings, mesh)[1]
    with checkpointing.Checkpoints(tmp_path, every_steps=1, keep=1) as checkpoints:
        record = loop.History(keep_trace=False).record
        checkpoints.save(checkpointing.Saved(4, Older(*held[:4])._replace(frozen=()), {}, record), wait=True)
        abstract = state.abstract(nnx.eval_shape(make_probe), settings, mesh)[1]
        found = checkpoints.latest(abstract._replace(frozen=()))
    assert found.step == 4 and found.state.rule_state == ()
    adapted_models.assert_equal_trees(jax.device_get(found.state), jax.device_get(held._replace(frozen=())))


# The loss of rows that count.


def loss_of(in_loss):
    rng = np.random.default_rng(0)
    logits, weak = (
        rng.standard_normal((11, 2)).astype(np.float32),
        rng.dirichlet([1, 1], 11).astype(np.float32),
    )

    @label_rules.with_state
    def rule(inputs):
        labels = label_rules.get("given")(inputs)
        return labels._replace(in_loss=None if in_loss is None else jnp.asarray(in_loss))

    computation = computation_of("given")
    computation = computation._replace(loss=functools.partial(computation.loss, rule=rule))
    batch = batches.Batch(
        *[None] * 6, np.zeros(11, np.int32), np.arange(11) < 9, {"weak_probs": jnp.asarray(weak)}
    )
    outputs = heads.Outputs(jnp.asarray(logits), None, jnp.zeros((11, 3)))
    value, slopes = jax.value_and_grad(
        lambda logits: computation.loss(outputs._replace(class_logits=logits), batch, jnp.float32(0))[0]
    )(outputs.class_logits)
    each = -(weak * np.asarray(jax.nn.log_softmax(logits))).sum(-1)
    return float(value), np.asarray(slopes), each


@pytest.mark.parametrize("rows", [[0, 3, 4], [8, 9, 10], [10], []])
def test_the_loss_is_a_mean_over_the_rows_that_a_rule_names(rows):
    in_loss = np.isin(np.arange(11), rows)
    counts = in_loss & (np.arange(11) < 9)
    value, slopes, each = loss_of(in_loss)
    assert value == pytest.approx(each[counts].mean() if counts.any() else 0.0, rel=1e-6)
    np.testing.assert_array_equal(np.abs(slopes).sum(-1) > 0, counts)


def test_all_rows_named_are_all_rows():
    named, plain = loss_of(np.ones(11, bool)), loss_of(None)
    assert named[0] == plain[0]
    np.testing.assert_array_equal(named[1], plain[1])
