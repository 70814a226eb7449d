"""Graph smoothing, selection and label rules against float64 loops written apart from the code."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_arrays

from selw2s_jax.method import graph_smoothing, label_rules, losses, registry, selection

PROPERTY = hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)


def smooth64(
    embeddings, prior, *, alpha, tau, normalize=True, include_self=True, center=False, mask=None
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 1 and 2 in float64, by loops over the unmasked rows."""
    num_rows = len(embeddings)
    rows = [i for i in range(num_rows) if mask is None or mask[i]]
    z = {i: np.asarray(embeddings[i], np.float64) for i in rows}
    if center:
        mean = sum(z.values()) / len(rows)
        z = {i: vector - mean for i, vector in z.items()}
    if normalize:
        z = {i: vector / np.sqrt((vector**2).sum()) for i, vector in z.items()}
    smoothed, weights = np.array(prior, np.float64), np.zeros((num_rows, num_rows))
    for i in rows:
        neighbours = [j for j in rows if include_self or j != i]
        if not neighbours:
            continue
        scores = np.array([z[i] @ z[j] / tau for j in neighbours])
        scores = np.exp(scores - scores.max())
        smoothed[i] = alpha * prior[i]
        for j, weight in zip(neighbours, scores / scores.sum(), strict=True):
            weights[i, j] = weight
            smoothed[i] += (1 - alpha) * weight * prior[j]
    return smoothed, weights


def random_graph(seed: int, num_rows: int, dim: int = 5, scale: float = 1.0):
    """Embeddings with a common direction `[B, D]`, priors `[B, 2]` and a mask `[B]`."""
    rng = np.random.default_rng(seed)
    embeddings = scale * (rng.standard_normal((num_rows, dim)) + rng.standard_normal(dim)).astype(np.float32)
    return (
        embeddings,
        random_arrays.random_batch(seed, num_rows)[1],
        random_arrays.random_mask(seed, num_rows),
    )


@PROPERTY
@hypothesis.given(
    seed=SEEDS,
    num_rows=st.sampled_from([1, 11]),
    alpha=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    tau=st.sampled_from([0.1, 0.7]),
    normalize=st.booleans(),
    include_self=st.booleans(),
    center=st.booleans(),
    use_mask=st.booleans(),
)
def test_smoothing_against_loops(seed, num_rows, alpha, tau, normalize, include_self, center, use_mask):
    embeddings, prior, mask = random_graph(seed, num_rows, scale=1.0 if normalize else 0.3)
    hypothesis.assume(not (center and normalize and (mask.sum() if use_mask else num_rows) < 3))
    options = {
        "alpha": alpha,
        "tau": tau,
        "normalize": normalize,
        "include_self": include_self,
        "center": center,
    }
    mask = mask if use_mask else None
    expected, expected_weights = smooth64(embeddings, prior, mask=mask, **options)
    smoothed, weights = graph_smoothing.smooth_labels(embeddings, prior, example_mask=mask, **options)
    assert smoothed.dtype == weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, expected_weights, rtol=3e-5, atol=3e-6)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6, atol=5e-6)
    row_sums = np.asarray(weights).sum(axis=-1)
    np.testing.assert_allclose(row_sums, expected_weights.any(axis=-1).astype(float), rtol=1e-6)


@PROPERTY
@hypothesis.given(seed=SEEDS, alpha=st.floats(0, 1), include_self=st.booleans())
def test_smoothed_labels_minimise_equation_1_and_are_convex(seed, alpha, include_self):
    embeddings, prior, mask = random_graph(seed, 11)
    smoothed, weights = (
        np.asarray(x, np.float64)
        for x in graph_smoothing.smooth_labels(
            embeddings, prior, alpha=alpha, tau=0.1, include_self=include_self, example_mask=mask
        )
    )
    np.testing.assert_allclose(smoothed.sum(-1), 1.0, atol=1e-6)
    assert (smoothed[mask] >= prior[mask].min(axis=0) - 1e-6).all()
    assert (smoothed[mask] <= prior[mask].max(axis=0) + 1e-6).all()
    for i in np.flatnonzero(weights.any(axis=-1)):
        # The derivative in l_g of alpha |l_g - l_p(i)|^2 + (1 - alpha) sum_j a_ij |l_g - l_p(j)|^2.
        pull = alpha * (smoothed[i] - prior[i]) + (1 - alpha) * (
            weights[i][:, None] * (smoothed[i] - prior)
        ).sum(0)
        np.testing.assert_allclose(pull, 0.0, atol=1e-6)


@PROPERTY
@hypothesis.given(seed=SEEDS, center=st.booleans(), normalize=st.booleans(), include_self=st.booleans())
def test_masked_rows_are_outside_the_graph(seed, center, normalize, include_self):
    embeddings, prior, _ = random_graph(seed, 11, scale=1.0 if normalize else 0.3)
    mask = random_arrays.random_mask(seed, 11, count=7)
    options = {
        "alpha": 0.4,
        "tau": 0.5,
        "center": center,
        "normalize": normalize,
        "include_self": include_self,
    }
    clean, weights = graph_smoothing.smooth_labels(embeddings, prior, example_mask=mask, **options)
    dirty, dirty_weights = graph_smoothing.smooth_labels(
        random_arrays.with_garbage(embeddings, mask),
        random_arrays.with_garbage(prior, mask),
        example_mask=mask,
        **options,
    )
    alone, alone_weights = graph_smoothing.smooth_labels(embeddings[mask], prior[mask], **options)
    np.testing.assert_array_equal(dirty_weights, weights)
    np.testing.assert_array_equal(np.asarray(dirty)[mask], np.asarray(clean)[mask])
    np.testing.assert_allclose(np.asarray(clean)[mask], alone, atol=2e-6)
    np.testing.assert_allclose(np.asarray(weights)[np.ix_(mask, mask)], alone_weights, atol=2e-6)
    assert not np.asarray(weights)[~mask].any() and not np.asarray(weights)[:, ~mask].any()
    np.testing.assert_array_equal(np.asarray(clean)[~mask], prior[~mask])


@PROPERTY
@hypothesis.given(seed=SEEDS)
def test_smoothing_is_permutation_equivariant(seed):
    embeddings, prior, mask = random_graph(seed, 11)
    order = np.random.default_rng([seed, 3]).permutation(11)
    options = {"alpha": 0.5, "tau": 0.1}
    smoothed, weights = graph_smoothing.smooth_labels(embeddings, prior, example_mask=mask, **options)
    permuted, permuted_weights = graph_smoothing.smooth_labels(
        embeddings[order], prior[order], example_mask=mask[order], **options
    )
    np.testing.assert_allclose(permuted, np.asarray(smoothed)[order], atol=2e-6)
    np.testing.assert_allclose(permuted_weights, np.asarray(weights)[order][:, order], atol=2e-6)


@pytest.mark.parametrize("include_self", [True, False])
def test_a_single_unmasked_row_keeps_its_label(include_self):
    embeddings, prior, _ = random_graph(8, 11)
    mask = np.arange(11) == 2
    smoothed, weights = graph_smoothing.smooth_labels(
        embeddings, prior, alpha=0.25, tau=0.1, include_self=include_self, example_mask=mask
    )
    np.testing.assert_allclose(smoothed, prior, atol=1e-7)
    assert float(weights[2, 2]) == include_self and float(weights.sum()) == include_self


def test_alpha_1_leaves_labels_and_alpha_0_takes_the_neighbours():
    embeddings, prior, _ = random_graph(9, 11)
    same, weights = graph_smoothing.smooth_labels(embeddings, prior, alpha=1.0, tau=0.1)
    np.testing.assert_array_equal(same, prior)
    mean, _ = graph_smoothing.smooth_labels(embeddings, prior, alpha=0.0, tau=0.1)
    np.testing.assert_allclose(mean, np.asarray(weights) @ prior, atol=1e-6)


@pytest.mark.parametrize("embeddings", [np.zeros((11, 5)), np.full((11, 5), 7.0)], ids=["zero", "equal"])
@pytest.mark.parametrize("center", [True, False])
def test_embeddings_without_direction_are_neighbours_alike(embeddings, center):
    weights = graph_smoothing.neighbour_weights(jnp.asarray(embeddings, jnp.float32), tau=0.1, center=center)
    np.testing.assert_allclose(weights, 1 / 11, rtol=1e-6)


def test_bfloat16_embeddings_make_a_float32_graph():
    embeddings, prior, _ = random_graph(10, 11)
    rounded = jnp.asarray(embeddings, jnp.bfloat16)
    found = graph_smoothing.smooth_labels(rounded, prior, alpha=0.5, tau=0.1)
    same = graph_smoothing.smooth_labels(rounded.astype(jnp.float32), prior, alpha=0.5, tau=0.1)
    for a, b in zip(found, same, strict=True):
        np.testing.assert_array_equal(a, b)


def test_known_numbers_of_a_batch_of_32():
    """Cosine 0.9 and tau 0.1 give a self-weight of 1 / (1 + 31 / e), about 0.08."""
    cosines = 0.1 * np.eye(32) + 0.9
    embeddings = 40.0 * np.linalg.cholesky(cosines).astype(np.float32)
    found = graph_smoothing.graph_diagnostics(graph_smoothing.neighbour_weights(embeddings, tau=0.1))
    share = 1 / (1 + 31 / np.e)
    assert abs(share - 0.08) < 0.001
    np.testing.assert_allclose(found["self_weight"], share, rtol=1e-4)
    entropy = -share * np.log(share) - (1 - share) * np.log((1 - share) / 31)
    np.testing.assert_allclose(found["effective_neighbours"], np.exp(entropy), rtol=1e-4)
    raw = graph_smoothing.neighbour_weights(embeddings, tau=0.1, normalize=False)
    np.testing.assert_allclose(graph_smoothing.graph_diagnostics(raw)["self_weight"], 1.0, atol=1e-6)


def test_a_label_moves_by_at_most_1_minus_alpha():
    embeddings, _, _ = random_graph(11, 11)
    prior = np.eye(2, dtype=np.float32)[np.arange(11) % 2]
    smoothed, _ = graph_smoothing.smooth_labels(embeddings, prior, alpha=0.9, tau=0.1)
    assert np.abs(np.asarray(smoothed) - prior).max() <= 0.1 + 1e-6


def test_graph_diagnostics_of_worked_weights():
    weights = jnp.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = graph_smoothing.graph_diagnostics(weights, jnp.array([True, True, False]))
    assert {name: round(float(value), 6) for name, value in found.items()} == {
        "self_weight": 0.75,
        "effective_neighbours": 1.5,
    }


def random_selection(seed: int, num_rows: int):
    embeddings, weak_probs, mask = random_graph(seed, num_rows)
    rng = np.random.default_rng([seed, 4])
    p_ik = rng.random(num_rows).astype(np.float32)
    self_labels = rng.integers(2, size=num_rows).astype(np.float32)
    return p_ik, weak_probs, self_labels, embeddings, mask


PAPER = {"gamma": 0.8, "alpha": 0.9, "tau": 0.1}


@PROPERTY
@hypothesis.given(
    seed=SEEDS,
    gamma=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    smooth=st.booleans(),
    include_self=st.booleans(),
    center=st.booleans(),
    use_mask=st.booleans(),
)
def test_targets_against_loops(seed, gamma, smooth, include_self, center, use_mask):
    """Eq. 3: IK rows keep the self label, the others get their weak label smoothed over the whole batch."""
    p_ik, weak_probs, self_labels, embeddings, mask = random_selection(seed, 11)
    hypothesis.assume(not use_mask or mask.sum() > 2)
    mask = mask if use_mask else None
    options = {"alpha": 0.6, "tau": 0.1, "include_self": include_self, "center": center}
    ik = [bool(p > gamma) and (mask is None or bool(mask[i])) for i, p in enumerate(p_ik)]
    prior = np.array(
        [[1 - s, s] if known else w for known, s, w in zip(ik, self_labels, weak_probs, strict=True)]
    )
    expected = prior.copy()
    if smooth:
        smoothed, _ = smooth64(embeddings, prior, mask=mask, **options)
        for i, known in enumerate(ik):
            expected[i] = prior[i] if known else smoothed[i]
    targets, ik_mask = selection.make_targets(
        p_ik, weak_probs, self_labels, embeddings, gamma=gamma, smooth=smooth, example_mask=mask, **options
    )
    assert targets.dtype == jnp.float32 and ik_mask.dtype == bool
    assert np.asarray(ik_mask).tolist() == ik
    np.testing.assert_allclose(targets, expected, rtol=1e-6, atol=5e-6)
    np.testing.assert_array_equal(np.asarray(targets)[np.array(ik)], prior.astype(np.float32)[np.array(ik)])
    np.testing.assert_allclose(np.asarray(targets).sum(-1), 1.0, atol=1e-6)


@PROPERTY
@hypothesis.given(seed=SEEDS)
def test_masked_rows_change_no_target(seed):
    p_ik, weak_probs, self_labels, embeddings, mask = random_selection(seed, 11)
    clean, ik = selection.make_targets(p_ik, weak_probs, self_labels, embeddings, example_mask=mask, **PAPER)
    dirty, dirty_ik = selection.make_targets(
        *(random_arrays.with_garbage(x, mask) for x in (p_ik, weak_probs, self_labels, embeddings)),
        example_mask=mask,
        **PAPER,
    )
    np.testing.assert_array_equal(dirty_ik, ik)
    np.testing.assert_array_equal(np.asarray(dirty)[mask], np.asarray(clean)[mask])
    assert not np.asarray(ik)[~mask].any()


def test_gamma_is_strict_and_float32():
    _, weak_probs, self_labels, embeddings, _ = random_selection(1, 11)
    limit = np.float32(0.8)
    assert float(limit) > 0.8  # a comparison in float64 would call the limit itself IK
    above, below = np.nextafter(limit, np.float32(1)), np.nextafter(limit, np.float32(0))
    p_ik = np.array([limit] * 3 + [above] * 3 + [below] * 4 + [1], np.float32)
    _, ik = selection.make_targets(p_ik, weak_probs, self_labels, embeddings, **PAPER)
    assert np.asarray(ik).tolist() == [False] * 3 + [True] * 3 + [False] * 4 + [True]
    for gamma in (0.0, 1.0):
        _, ik = selection.make_targets(
            np.full(11, gamma), weak_probs, self_labels, embeddings, gamma=gamma, alpha=0.9, tau=0.1
        )
        assert not ik.any()


def test_all_rows_ik_and_no_row_ik():
    _, weak_probs, self_labels, embeddings, _ = random_selection(2, 11)
    targets, ik = selection.make_targets(np.ones(11), weak_probs, self_labels, embeddings, **PAPER)
    assert ik.all()
    np.testing.assert_array_equal(targets, np.eye(2)[self_labels.astype(int)])
    targets, ik = selection.make_targets(np.zeros(11), weak_probs, self_labels, embeddings, **PAPER)
    assert not ik.any()
    smoothed, _ = graph_smoothing.smooth_labels(embeddings, weak_probs, alpha=0.9, tau=0.1)
    np.testing.assert_array_equal(targets, smoothed)


def test_without_smoothing_idk_rows_keep_their_weak_label():
    p_ik, weak_probs, self_labels, embeddings, _ = random_selection(3, 11)
    targets, ik = selection.make_targets(p_ik, weak_probs, self_labels, embeddings, smooth=False, **PAPER)
    np.testing.assert_array_equal(np.asarray(targets)[~np.asarray(ik)], weak_probs[~np.asarray(ik)])


def test_self_labels_hard_soft_and_as_pairs_agree():
    p_ik, weak_probs, _, embeddings, _ = random_selection(4, 11)
    soft = np.linspace(0, 1, 11, dtype=np.float32)
    forms = [soft, np.stack([1 - soft, soft], axis=-1)]
    first, second = (selection.make_targets(p_ik, weak_probs, form, embeddings, **PAPER)[0] for form in forms)
    np.testing.assert_array_equal(first, second)
    hard = np.arange(11) % 2
    integers, floats = (
        selection.make_targets(p_ik, weak_probs, form, embeddings, **PAPER)[0]
        for form in (hard, hard.astype(float))
    )
    np.testing.assert_array_equal(integers, floats)


def test_targets_carry_no_gradient():
    p_ik, weak_probs, self_labels, embeddings, mask = random_selection(5, 11)
    embeddings[0] = 0.0  # the derivative of a norm at 0 must not leak NaN

    def total(p_ik, weak_probs, self_labels, embeddings):
        targets, _ = selection.make_targets(
            p_ik, weak_probs, self_labels, embeddings, example_mask=mask, **PAPER
        )
        smoothed, weights = graph_smoothing.smooth_labels(embeddings, weak_probs, alpha=0.5, tau=0.1)
        return jnp.sum(targets[:, 1]) + jnp.sum(smoothed[:, 1]) + jnp.sum(weights**2)

    arrays = [jnp.asarray(x) for x in (p_ik, weak_probs, self_labels, embeddings)]
    for grads in jax.grad(total, argnums=(0, 1, 2, 3))(*arrays):
        np.testing.assert_array_equal(grads, 0.0)


def test_targets_are_the_same_under_jit():
    p_ik, weak_probs, self_labels, embeddings, mask = random_selection(6, 11)
    run = lambda *arrays: selection.make_targets(*arrays[:4], example_mask=arrays[4], **PAPER)  # noqa: E731
    arrays = (p_ik, weak_probs, self_labels, embeddings, mask)
    for jitted, eager in zip(jax.jit(run)(*arrays), run(*arrays), strict=True):
        np.testing.assert_allclose(jitted, eager, rtol=1e-6, atol=1e-6)


def rule_inputs(seed: int, num_rows: int) -> label_rules.RuleInputs:
    p_ik, weak_probs, self_labels, embeddings, mask = random_selection(seed, num_rows)
    return label_rules.RuleInputs(
        class_logits=jnp.asarray(random_arrays.random_batch(seed + 1, num_rows)[0]),
        p_ik=jnp.asarray(p_ik),
        embeddings=jnp.asarray(embeddings),
        columns={
            "weak_probs": jnp.asarray(weak_probs),
            "self_labels": jnp.asarray(self_labels),
            "given_p_ik": 1.0 - jnp.asarray(p_ik),
        },
        example_mask=jnp.asarray(mask),
        step_fraction=jnp.float32(0.5),
    )


def test_given_rule_returns_the_labels_of_the_batch():
    inputs = rule_inputs(7, 11)
    labels = label_rules.get("given")(inputs)
    np.testing.assert_array_equal(labels.targets, inputs.weak_probs)
    np.testing.assert_array_equal(labels.prior, inputs.weak_probs)
    assert labels.ik_mask.dtype == bool and not labels.ik_mask.any() and labels.metrics == {}


@pytest.mark.parametrize("mask", ["online", "given"])
@pytest.mark.parametrize("self_label", ["given", "class_head"])
def test_selective_rule_takes_its_scores_and_labels_from_where_it_is_told(mask, self_label):
    inputs = rule_inputs(13, 11)
    options = {
        "gamma": 0.5,
        "alpha": 0.9,
        "tau": 0.1,
        "normalize": True,
        "include_self": True,
        "center": False,
    }
    labels = label_rules.get("selective", mask=mask, self_label=self_label, **options)(inputs)
    own = np.asarray(inputs.class_logits[:, 1] > inputs.class_logits[:, 0], np.float32)
    targets, ik = selection.make_targets(
        inputs.p_ik if mask == "online" else inputs.given_p_ik,
        inputs.weak_probs,
        inputs.self_labels if self_label == "given" else own,
        inputs.embeddings,
        example_mask=inputs.example_mask,
        **options,
    )
    np.testing.assert_array_equal(labels.targets, targets)
    np.testing.assert_array_equal(labels.ik_mask, ik)
    counted = np.asarray(inputs.example_mask)
    assert 0 < np.asarray(ik).sum() < counted.sum()
    np.testing.assert_allclose(labels.metrics["ik_rate"], np.asarray(ik)[counted].mean(), rtol=1e-6)
    assert set(labels.metrics) == {"ik_rate", "self_weight", "effective_neighbours"}


def test_selective_rule_of_a_batch_without_task_examples_is_finite():
    inputs = rule_inputs(13, 11)._replace(example_mask=jnp.zeros(11, bool))
    options = {
        "gamma": 0.5,
        "alpha": 0.9,
        "tau": 0.1,
        "normalize": True,
        "include_self": True,
        "center": True,
    }
    labels = label_rules.get("selective", **options)(inputs)
    np.testing.assert_array_equal(labels.targets, inputs.weak_probs)
    assert all(np.isfinite(value) for value in labels.metrics.values())


@pytest.mark.parametrize(("module", "kind"), [(losses, "loss"), (label_rules, "label rule")])
def test_registries_name_what_they_hold_and_take_no_name_twice(module, kind):
    with pytest.raises(KeyError, match=f"unknown {kind} 'none'; registered: "):
        module.get("none")
    names = module.LOSSES if module is losses else module.LABEL_RULES
    with pytest.raises(ValueError, match="registered already"):
        module.register(next(iter(names)))(lambda: None)


def test_methods_name_registered_parts():
    for method in registry.METHODS.values():
        assert method.label_rule in label_rules.LABEL_RULES and method.loss in losses.LOSSES
    assert set(registry.students()) >= {
        *("finetune", "confidence", "product", "adaptive", "reverse_kl", "jensen_shannon", "forward_kl"),
        *("hellinger", "total_variation", "chi_squared", "selective", "self_training", "random_selection"),
    }
    assert not set(registry.students()) & {"supervised", "weak", "ceiling"}
