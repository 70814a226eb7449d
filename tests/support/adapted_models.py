"""Models with low-rank adapters, and what they give."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from fixtures import make_parity
from support import training_parts

from selw2s_jax.data import batches
from selw2s_jax.models import heads, lora

BOTH = ("attention", "mlp")
SETTINGS = lora.Settings(rank=3, alpha=5.0, dropout=0.0, targets=BOTH)
# Of one target, as the random numbers of each adapter take long to compile.
DROPPING = dataclasses.replace(SETTINGS, dropout=0.4, targets=("mlp",))


def make_classifier(fixtures, family: str, settings: lora.Settings | None = SETTINGS, *, fresh=False, seed=7):
    """A parity checkpoint under heads, and adapters unless fresh, that are not zero."""
    plain = training_parts.make_classifier(fixtures, family, p_ik_head=True)
    model = heads.Classifier(plain.backbone, p_ik_head=True, adapters=settings, seed=seed)
    model.class_head, model.p_ik_head = plain.class_head, plain.p_ik_head
    rng = np.random.default_rng(11)
    for name in () if fresh or settings is None else model.adapters.names:
        b = model.adapters[name].b
        b[...] = jnp.asarray(0.3 * rng.standard_normal(b.shape), jnp.float32)
    return model


def make_batch(family: str, **options) -> batches.Batch:
    return training_parts.make_data(make_parity.CONFIGS[family], "selective", **options).batch_at(2)


def outputs(model, batch: batches.Batch, dropout=None) -> heads.Outputs:
    return model(
        batch.tokens[0],
        batch.segment_ids[0],
        batch.positions[0],
        batch.row[0],
        batch.last[0],
        dropout=dropout,
    )


def assert_equal_trees(actual, expected) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
