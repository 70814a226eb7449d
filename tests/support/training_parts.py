"""Models, batches and computations of the train step, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from support import random_arrays

from selw2s_jax.data import batches, text_rows
from selw2s_jax.hf import loader
from selw2s_jax.method import objectives, registry
from selw2s_jax.models import heads
from selw2s_jax.training import state, step

GRAPH = dict(alpha=0.7, tau=0.1, normalize=True, center=False, include_self=True)


RULE_OPTIONS = {
    "given": {},
    "self_labels": {},
    "smoothed": GRAPH,
    "selective": GRAPH | {"gamma": 0.5},
    "posterior": {},
    "posterior_online": {},
    "raven": {"learning_rate": 0.3},
}
COLUMN_SHAPES = {"weak_each": (3, 2)}


def make_computation(name: str) -> step.Computation:
    method = registry.METHODS[name]
    return step.classification(
        objectives.Objective(
            label_rule=method.label_rule,
            rule_options=tuple((RULE_OPTIONS[method.label_rule] | dict(method.rule_options)).items()),
            loss=method.loss,
            loss_options=(),
            task_weight=method.task_weight,
            p_ik_weight=0.7 if method.uses_p_ik else 0.0,
        ),
        column_shapes=COLUMN_SHAPES,
    )


def make_classifier(fixtures, family: str, *, p_ik_head: bool, **options) -> heads.Classifier:
    """A parity checkpoint under heads that are not zero, so that selection and every gradient have work."""
    settings = {"param_dtype": "float32", "compute_dtype": "float32"} | options
    backbone = loader.load_decoder(fixtures / f"parity_{family}", lm_head=False, **settings)
    model = heads.Classifier(backbone, p_ik_head=p_ik_head)
    rng = np.random.default_rng(3)
    for head in filter(None, (model.class_head, model.p_ik_head)):
        head[...] = jnp.asarray(rng.standard_normal(head.shape), jnp.float32)
    return model


def make_sets(config, num_task: int = 37, num_p_ik: int = 29) -> dict[int, batches.ExampleSet]:
    rng = np.random.default_rng(17)

    def draw(count, prefix, **columns):
        lengths = rng.integers(1, config.max_seq_len + 1, count)
        tokens = [rng.integers(0, config.vocab_size, length, dtype=np.int32) for length in lengths]
        return batches.ExampleSet([f"{prefix}/{i}" for i in range(count)], tokens, columns)

    prob_1 = rng.random(num_task, dtype=np.float32)
    task = draw(
        num_task,
        "task",
        weak_probs=np.stack([1 - prob_1, prob_1], -1),
        self_labels=rng.integers(0, 2, num_task).astype(np.float32),
    )
    task.columns["given_p_ik"] = (np.arange(num_task) % 3 == 0).astype(np.float32)
    task.columns.update(random_arrays.calibrated_columns(17, num_task))
    task.columns["weak_each"] = random_arrays.weak_each(17, num_task)
    p_ik = draw(num_p_ik, "p_ik", ik_target=rng.integers(0, 2, num_p_ik).astype(np.float32))
    return {batches.TASK: task, batches.P_IK: p_ik}


def make_data(config, name: str, **options) -> batches.TrainBatches:
    method = registry.METHODS[name]
    sets = make_sets(config)
    if not method.uses_p_ik:
        del sets[batches.P_IK]
    if method.task_weight == 0:
        del sets[batches.TASK]
    settings = {"num_steps": 3, "seed": 1} | options
    return batches.TrainBatches(sets, {batches.TASK: 12, batches.P_IK: 12}, **settings)


def gradients(model, batch, computation, fraction=0.25, trained="all"):
    graphdef, params, frozen = state.split(model, trained)
    start = state.TrainState(jnp.int32(5), params, frozen, (), computation.rule_state)
    run = jax.jit(
        lambda start, batch: step.loss_and_grads(graphdef, start, batch, jnp.float32(fraction), computation)
    )
    grads, metrics, trace, _ = run(start, batch)
    return jax.tree.map(np.asarray, nnx.to_pure_dict(grads)), jax.tree.map(float, metrics), trace


def assert_trees_close(actual, expected, tolerance):
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * scale),
        actual,
        expected,
    )


def make_rows(num_rows: int, row_length: int, vocab_size: int) -> text_rows.TextRows:
    rng = np.random.default_rng(0)
    documents = (rng.integers(2, vocab_size, rng.integers(2, 9)).tolist() for _ in range(10_000))
    return text_rows.pack_documents(documents, num_rows=num_rows, row_length=row_length)
