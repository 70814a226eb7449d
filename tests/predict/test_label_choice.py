"""The choice of labels for one's own questions, from arrays: against the rule that training uses."""

import numpy as np
import pytest
from support import marks, tiny_config

from selw2s_jax.method import selection
from selw2s_jax.predict import label_choice


def make_arrays(num: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weak = rng.uniform(size=num).astype(np.float32)
    return {
        "class_logits": rng.normal(size=(num, 2)).astype(np.float32),
        "p_ik": rng.uniform(size=num).astype(np.float32),
        "embeddings": rng.normal(size=(num, 5)).astype(np.float32),
        "weak_probs": np.stack([1 - weak, weak], axis=-1),
        "own": rng.integers(2, size=num).astype(np.float32),
    }


def make_config(batch_size: int, **overrides):
    return tiny_config.make_config(training__batch_size=batch_size, **overrides)


@pytest.mark.parametrize("num", [marks.in_ci(1), marks.in_ci(4), 11])
@pytest.mark.parametrize("gamma", [marks.in_ci(0.0), 0.45, marks.in_ci(1.0)])
@pytest.mark.parametrize("method", ["selective", "selective_without_gs"])
def test_targets_are_those_of_training(num, gamma, method):
    """Of every batch, the smaller last one too, what `selection.make_targets` gives."""
    arrays, batch_size = make_arrays(num, seed=num), 4
    config = make_config(batch_size, p_ik__gamma=gamma)
    choice = label_choice.choose(config, method, **arrays)
    graph = {key: value for key, value in config.graph.items() if key != "over"}
    graph |= {"gamma": gamma, "smooth": method == "selective"}
    for start in range(0, num, batch_size):
        names = ("p_ik", "weak_probs", "own", "embeddings")
        part = [arrays[name][start : start + batch_size] for name in names]
        targets, ik_mask = selection.make_targets(*part, **graph)
        span = slice(start, start + batch_size)
        np.testing.assert_allclose(choice.target[span], targets[:, 1], rtol=0, atol=1e-6)
        other = "smoothed" if method == "selective" else "weak"
        assert choice.used[span] == ["self" if known else other for known in ik_mask]
    for smoothed, target, used in zip(*choice[:1], choice.target, choice.used, strict=True):
        assert used != "smoothed" or smoothed == target


def test_of_p_ik_alone_and_no_weak_model_only_own_labels_are_used():
    arrays = make_arrays(11, 3) | {"weak_probs": None}
    choice = label_choice.choose(make_config(4, p_ik__gamma=0.5), "selective", **arrays)
    known = arrays["p_ik"] > 0.5
    assert 0 < known.sum() < 11
    assert choice.smoothed == [None] * 11
    assert choice.used == ["self" if k else None for k in known]
    assert choice.target == [own if k else None for own, k in zip(arrays["own"], known, strict=True)]


@pytest.mark.parametrize("method", ["finetune", "mtl", "self_training", "random_selection", "supervised"])
def test_methods_without_selection_use_none(method):
    arrays = make_arrays(9, 4)
    choice = label_choice.choose(make_config(4), method, **arrays)
    assert choice.used == choice.target == [None] * 9
    assert None not in choice.smoothed


def test_without_p_ik_of_its_own_nothing_is_selected():
    arrays = make_arrays(9, 4)
    choice = label_choice.choose(make_config(4), "selective", **arrays | {"p_ik": None})
    assert choice.used == [None] * 9
    assert choice == label_choice.choose(make_config(4), "finetune", **arrays)


def test_the_students_own_class_may_be_the_self_label():
    arrays = make_arrays(9, 5)
    config = make_config(4, self_label__source="class_head", p_ik__gamma=0.0)
    choice = label_choice.choose(config, "selective", **arrays | {"own": None})
    assert choice.used == ["self"] * 9
    assert choice.target == np.argmax(arrays["class_logits"], axis=-1).tolist()
