"""Random logits, labels and masks for the tests of the method."""

import jax.numpy as jnp
import numpy as np

from selw2s_jax.method import label_rules

GARBAGE = (np.nan, np.inf, -np.inf, 1e30)


def random_batch(seed: int, num_rows: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[B, 2]` and weak probabilities `[B, 2]`, float32."""
    rng = np.random.default_rng(seed)
    prob_1 = rng.random(num_rows).astype(np.float32)
    logits = scale * rng.standard_normal((num_rows, 2)).astype(np.float32)
    return logits, np.stack([np.float32(1) - prob_1, prob_1], axis=-1)


def random_mask(seed: int, num_rows: int, count: int | None = None) -> np.ndarray:
    """A mask `[B]` with `count` rows True, by default a random number of at least one."""
    rng = np.random.default_rng([seed, 1])
    return rng.permutation(num_rows) < (count or rng.integers(1, num_rows + 1))


def with_garbage(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy whose masked rows hold NaN, infinities and huge values."""
    array = array.copy()
    for i, row in enumerate(np.flatnonzero(~mask)):
        array[row] = GARBAGE[i % len(GARBAGE)]
    return array


def random_graph(seed: int, num_rows: int, dim: int = 5, scale: float = 1.0):
    """Embeddings with a common direction `[B, D]`, priors `[B, 2]` and a mask `[B]`."""
    rng = np.random.default_rng(seed)
    embeddings = scale * (rng.standard_normal((num_rows, dim)) + rng.standard_normal(dim)).astype(np.float32)
    return (
        embeddings,
        random_batch(seed, num_rows)[1],
        random_mask(seed, num_rows),
    )


def random_selection(seed: int, num_rows: int):
    embeddings, weak_probs, mask = random_graph(seed, num_rows)
    rng = np.random.default_rng([seed, 4])
    p_ik = rng.random(num_rows).astype(np.float32)
    self_labels = rng.integers(2, size=num_rows).astype(np.float32)
    return p_ik, weak_probs, self_labels, embeddings, mask


def calibrated_columns(seed: int, num_rows: int) -> dict[str, np.ndarray]:
    """The columns that a calibration and a frozen P(IK) make, of values that leave both labels a say."""
    rng = np.random.default_rng([seed, 5])
    made = {"weak_log_odds": rng.standard_normal(num_rows)}
    for name in ("reliability", "shuffled_reliability"):
        made[name] = 0.3 + 0.7 * rng.random(num_rows)
    for name in ("frozen_p_ik", "shuffled_p_ik"):
        made[name] = rng.random(num_rows)
    made["constant_reliability"] = np.full(num_rows, 0.8)
    made["shuffled_choice_by_confidence"] = rng.integers(2, size=num_rows)
    made["shuffled_order"] = rng.random(num_rows)
    made["p_ik_calibration"] = np.tile([0.4, 1.7], (num_rows, 1))
    return {name: values.astype(np.float32) for name, values in made.items()}


def weak_each(seed: int, num_rows: int, num_members: int = 3) -> np.ndarray:
    """The column of several weak models `[N, K, 2]`, which agree in their class on some rows and not on others."""
    prob_1 = np.random.default_rng([seed, 6]).random((num_rows, num_members)).astype(np.float32)
    return np.stack([np.float32(1) - prob_1, prob_1], axis=-1)


def rule_inputs(seed: int, num_rows: int) -> label_rules.RuleInputs:
    p_ik, weak_probs, self_labels, embeddings, mask = random_selection(seed, num_rows)
    return label_rules.RuleInputs(
        class_logits=jnp.asarray(random_batch(seed + 1, num_rows)[0]),
        p_ik=jnp.asarray(p_ik),
        embeddings=jnp.asarray(embeddings),
        columns={
            "weak_probs": jnp.asarray(weak_probs),
            "self_labels": jnp.asarray(self_labels),
            "given_p_ik": 1.0 - jnp.asarray(p_ik),
            "weak_each": jnp.asarray(weak_each(seed, num_rows)),
            **{name: jnp.asarray(values) for name, values in calibrated_columns(seed, num_rows).items()},
        },
        example_mask=jnp.asarray(mask),
        step_fraction=jnp.float32(0.5),
    )
