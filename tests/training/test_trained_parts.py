"""What a step trains and what stays, of linear probes and adapters; and states of such runs under way."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from support import adapted_models, marks, training_parts

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.models import decoder, heads
from selw2s_jax.training import checkpointing, loop, metrics_log, state, step

STEPS = 5


def run_steps(model, trained: str, *, stop: int = STEPS):
    """The state before the first step and after some, and the graphdef."""
    mesh = sharding.single_device_mesh()
    settings = state.OptimizerSettings(1e-2, STEPS, trained=trained)
    graphdef, train_state, shardings = state.start(model, settings, mesh)
    before = jax.device_get(train_state)
    train_step = step.make_train_step(
        graphdef, training_parts.make_computation("selective"), settings, mesh=mesh, state_shardings=shardings
    )
    data = training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS)
    for number in range(stop):
        train_state, *_ = train_step(train_state, batches.device_batch(data.batch_at(number), mesh))
    return before, train_state, graphdef


@pytest.mark.parametrize("trained", ["heads", marks.in_ci("lora")])
def test_only_what_is_trained_moves_and_has_moments(fixtures, trained):
    settings = adapted_models.DROPPING if trained == "lora" else None
    before, after, _ = run_steps(adapted_models.make_classifier(fixtures, "gpt2", settings), trained)
    adapted_models.assert_equal_trees(jax.device_get(after.frozen), before.frozen)
    paths = {path[0] for path, _ in nnx.to_flat_state(after.params)}
    assert paths == {"class_head", "p_ik_head"} | ({"adapters"} if trained == "lora" else set())
    for old, new in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        assert not np.array_equal(old, new)
    shapes = [leaf.shape for leaf in jax.tree.leaves(after.params)]
    moments = [leaf.shape for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim]
    assert sorted(moments) == sorted(shapes * 2)


def test_all_has_nothing_frozen(fixtures):
    before, after, _ = run_steps(adapted_models.make_classifier(fixtures, "gpt2", None), "all", stop=1)
    assert not jax.tree.leaves(before.frozen) and not jax.tree.leaves(after.frozen)


@pytest.mark.slow
def test_a_linear_probe_is_what_jax_grad_makes_of_fixed_embeddings(fixtures):
    model = adapted_models.make_classifier(fixtures, "gpt2", None)
    embed = [
        adapted_models.outputs(model, batch).embeddings
        for batch in map(
            training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS).batch_at,
            range(STEPS),
        )
    ]
    computation = training_parts.make_computation("selective")
    weights = {name: getattr(model, name)[...] for name in ("class_head", "p_ik_head")}
    settings = state.OptimizerSettings(1e-2, STEPS)
    optimizer = state.make_optimizer(settings)
    opt_state = optimizer.init(weights)
    data = training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS)
    for number in range(STEPS):
        flat = jax.tree.map(lambda x: x[0], data.batch_at(number))

        def loss(weights, embeddings=embed[number], flat=flat, number=number):
            logits = {
                k: jnp.einsum("ed,cd->ec", embeddings, w, precision="highest") for k, w in weights.items()
            }
            out = heads.Outputs(logits["class_head"], logits["p_ik_head"], embeddings)
            return computation.loss(out, flat, jnp.float32(number / STEPS))[0]

        updates, opt_state = optimizer.update(jax.grad(loss)(weights), opt_state, weights)
        weights = jax.tree.map(jnp.add, weights, updates)
    _, after, _ = run_steps(model, "heads")
    for name, expected in weights.items():
        np.testing.assert_allclose(after.params[name][...], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("trained", [marks.in_ci("heads"), "lora"])
def test_frozen_weights_may_be_narrower(fixtures, trained):
    """Backbone in bfloat16, heads and adapters in float32: so they stay, and so are the moments."""
    backbone = adapted_models.make_classifier(fixtures, "gpt2", None).backbone
    wide = nnx.state(backbone)
    graphdef = nnx.split(
        decoder.abstract_decoder(backbone.config, param_dtype="bfloat16", compute_dtype="bfloat16")
    )[0]
    backbone = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide))
    model = heads.Classifier(
        backbone,
        p_ik_head=True,
        adapters=adapted_models.SETTINGS if trained == "lora" else None,
        param_dtype="float32",
    )
    _, after, _ = run_steps(model, trained, stop=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    dtypes = {v.dtype for _, v in nnx.to_flat_state(after.frozen) if isinstance(v, nnx.Param)}
    assert dtypes == {jnp.dtype("bfloat16")}


# States of a run under way.


@pytest.mark.slow
@pytest.mark.ci
def test_a_saved_state_is_without_what_is_frozen_and_goes_on_bit_for_bit(fixtures, tmp_path):
    mesh = sharding.single_device_mesh()
    settings = state.OptimizerSettings(1e-2, STEPS, trained="lora")
    data = training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS, num_micro=2)

    def go(folder: pathlib.Path):
        model = adapted_models.make_classifier(fixtures, "gpt2", adapted_models.DROPPING)
        with checkpointing.Checkpoints(folder, every_steps=2, keep=9) as checkpoints:
            _, abstract, _ = state.abstract(model, settings, mesh)
            saved = checkpoints.latest(abstract._replace(frozen=()))
            if saved is None:
                graphdef, train_state, shardings = state.start(model, settings, mesh)
            else:
                assert saved.state.frozen == ()
                graphdef, _, shardings = state.abstract(model, settings, mesh)
                train_state = state.resume(saved.state, model, settings, mesh)
            final, metrics = loop.train(
                step.make_train_step(
                    graphdef,
                    training_parts.make_computation("selective"),
                    settings,
                    mesh=mesh,
                    state_shardings=shardings,
                ),
                train_state,
                data,
                mesh=mesh,
                log=metrics_log.MetricsLog(folder.with_suffix(".jsonl")),
                label="test",
                history=loop.History(keep_trace=True, saved=saved),
                checkpoints=checkpoints,
            )
        return jax.device_get(final), metrics, saved

    whole, metrics, saved = go(tmp_path / "whole")
    assert saved is None
    resumed, resumed_metrics, saved = go(tmp_path / "whole")  # from step 4 on
    assert saved.step == 4
    adapted_models.assert_equal_trees(resumed, whole)
    assert resumed_metrics == metrics
    stored = (tmp_path / "whole" / "4" / "state" / "_METADATA").read_text()
    assert "adapters" in stored and "backbone" not in stored
