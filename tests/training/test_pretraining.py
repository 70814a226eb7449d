"""Pretraining: rows of whole documents, the next-token loss, and models that a run makes for itself."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from support import commands, paths, training_parts

import selw2s_jax
from configs import quickstart
from selw2s_jax import sharding
from selw2s_jax.data import batches, text_rows
from selw2s_jax.hf import tokenizers
from selw2s_jax.models import decoder, registry
from selw2s_jax.run import pipeline
from selw2s_jax.stages import examples
from selw2s_jax.training import pretraining, state, step


@given(st.lists(st.integers(1, 11), min_size=60, max_size=120), st.integers(0, 3))
def test_packed_rows_hold_each_document_once_whole_and_in_segments(lengths, seed):
    rng = np.random.default_rng(seed)
    documents = [rng.integers(1, 90, length).tolist() for length in lengths]
    num_rows = max(sum(lengths) // 11 - text_rows._OPEN_ROWS - 8, 1)
    try:
        rows = text_rows.pack_documents(iter(documents), num_rows=num_rows, row_length=11)
    except ValueError as error:
        assert "fill" in str(error)
        return
    found = []
    for tokens, segments in zip(rows.tokens, rows.segment_ids, strict=True):
        used = segments[segments > 0]
        assert np.all(np.diff(used) >= 0) and np.all(segments[len(used) :] == 0)
        found += [tokens[segments == s].tolist() for s in range(1, used.max(initial=0) + 1)]
    remaining = sorted(documents)
    for document in found:
        remaining.remove(document)


def test_a_document_too_long_for_a_row_is_named():
    with pytest.raises(ValueError, match="12 tokens does not fit a row of 11"):
        text_rows.pack_documents([[1] * 12], num_rows=1, row_length=11)


CONFIG = registry.ModelConfig(
    family="qwen",
    num_layers=2,
    embed_dim=12,
    num_heads=2,
    head_dim=6,
    mlp_dim=10,
    vocab_size=38,
    max_seq_len=64,
    norm_eps=1e-6,
    rope_base=10_000.0,
    tie_embeddings=True,
)
OPTIONS = dict(param_dtype="float32", compute_dtype="float32")


@pytest.mark.slow
@pytest.mark.ci
def test_loss_is_the_weighted_mean_over_the_documents_taken_one_by_one():
    rows = training_parts.make_rows(6, 19, CONFIG.vocab_size)
    model = pretraining.initialize(CONFIG, 0, **OPTIONS)
    heavy = 5
    data = text_rows.TextBatches(rows, rows_per_step=6, num_steps=1, weighted={heavy: 3.0})
    graphdef, params, frozen = state.split(model, "all")
    start = state.TrainState(jnp.int32(0), params, frozen, ())
    _, metrics, *_ = step.loss_and_grads(
        graphdef, start, data.batch_at(0), jnp.float32(0), pretraining.next_token()
    )
    documents = [
        tokens[segments == segment]
        for tokens, segments in zip(rows.tokens, rows.segment_ids, strict=True)
        for segment in range(1, segments.max() + 1)
    ]
    alone = np.zeros((len(documents), max(map(len, documents))), np.int32)
    for row, ids in enumerate(documents):
        alone[row, : len(ids)] = ids
    log_probs = np.asarray(jax.nn.log_softmax(model.lm_logits(model.hidden_states(jnp.asarray(alone)))))
    total = weight_sum = 0.0
    for row, ids in enumerate(documents):
        weights = np.where(ids[1:] == heavy, 3.0, 1.0)
        total -= np.sum(weights * log_probs[row, np.arange(len(ids) - 1), ids[1:]])
        weight_sum += weights.sum()
    np.testing.assert_allclose(metrics["loss"], total / weight_sum, rtol=1e-5)


def train(mesh_shape, num_micro: int):
    mesh = sharding.make_mesh(mesh_shape)
    rows = training_parts.make_rows(24, 19, CONFIG.vocab_size)
    data = text_rows.TextBatches(
        rows, rows_per_step=6, num_steps=3, num_micro=num_micro, row_multiple=sharding.num_row_groups(mesh)
    )
    settings = state.OptimizerSettings(1e-3, 3, warmup_steps=1, final_fraction=0.1, clip_norm=1.0)
    model = pretraining.initialize(CONFIG, 0, mesh=mesh, **OPTIONS)
    graphdef, train_state, shardings = state.start(model, settings, mesh)
    train_step = step.make_train_step(
        graphdef, pretraining.next_token(), settings, mesh=mesh, state_shardings=shardings
    )
    losses = []
    for number in range(3):
        train_state, metrics, _ = train_step(train_state, batches.device_batch(data.batch_at(number), mesh))
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(train_state.params)


@pytest.mark.slow
def test_micro_batches_equal_the_whole_batch():
    losses, params = train((1, 1, 1), 1)
    other_losses, other_params = train((1, 1, 1), 3)
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, other_params)


@pytest.mark.slow
def test_eight_devices_equal_one():
    losses, params = train((1, 1, 1), 1)
    environment = dict(
        os.environ, XLA_FLAGS=commands.xla_flags(8), JAX_PLATFORMS="cpu", PYTHONPATH=paths.PYTHONPATH
    )
    output = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=True
    ).stdout
    for other_losses, norm in json.loads(output.splitlines()[-1]):
        np.testing.assert_allclose(other_losses, losses, rtol=2e-5)
        np.testing.assert_allclose(norm, float(optax.tree.norm(params)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_losses_of_a_few_columns_at_a_time_equal_those_of_all(monkeypatch, columns):
    """Of 12 columns, and of 13, which only parts of one column each divide."""
    num_rows = 3
    model = pretraining.initialize(CONFIG, 0, param_dtype="float32", compute_dtype="float32")
    graphdef, params = nnx.split(model)
    rng = np.random.default_rng(columns)

    def value_and_grads(num_tokens: int):
        shape = (num_rows, num_tokens)
        tokens, targets = (jnp.asarray(rng.integers(CONFIG.vocab_size, size=shape)) for _ in range(2))

        def value(params, at_once: int):
            monkeypatch.setattr(decoder, "LOGITS_AT_ONCE", at_once)
            model = nnx.merge(graphdef, params)
            losses = model.next_token_losses(model.hidden_states(tokens), targets)
            assert losses.shape == shape and losses.dtype == jnp.float32
            return jnp.sum(losses * jnp.arange(1.0, 1 + num_tokens)), losses

        return [
            jax.value_and_grad(value, has_aux=True)(params, at_once)
            for at_once in (2**27, columns * num_rows * CONFIG.vocab_size)
        ]

    for num_tokens in (12, 13):
        whole, parts = value_and_grads(num_tokens)
        for one, other in zip(*map(jax.tree.leaves, (whole, parts)), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


def test_warm_up_floor_and_clipping_are_optax_s():
    settings = state.OptimizerSettings(0.5, 40, warmup_steps=10, final_fraction=0.2)
    schedule = state.learning_rate_schedule(settings)
    assert float(schedule(0)) == 0.0
    np.testing.assert_allclose([schedule(5), schedule(10), schedule(40)], [0.25, 0.5, 0.1], rtol=1e-6)
    params = {"w": jnp.ones(3)}
    clipped, plain = (
        state.make_optimizer(state.OptimizerSettings(0.1, 4, clip_norm=clip)) for clip in (1.0, None)
    )
    grads = {"w": jnp.array([3.0, 0.0, 4.0])}
    moments = [optimizer.update(grads, optimizer.init(params), params)[1] for optimizer in (clipped, plain)]
    first, second = (optax.tree.get(moment, "mu")["w"] for moment in moments)
    np.testing.assert_allclose(np.asarray(second) / 5, first, rtol=1e-6)


def test_a_word_level_tokenizer_reads_its_words(tmp_path):
    tokenizers.write_word_level(["Bomaki", "R:", "is", "0", "1"], tmp_path)
    tokenizer = tokenizers.load_tokenizer(tmp_path)
    assert tokenizer.encode("Bomaki is\n\nR: 1") == [2, 4, 3, 6]
    assert tokenizer.encode("Bomaki was R: 0") == [2, 1, 3, 5]
    assert tokenizer.vocab_size == 7


def tiny_config():
    config = quickstart.get_config()
    config.world.num_entities = 301
    config.pretraining.weak.num_steps = 3
    config.pretraining.strong.num_steps = 5
    config.pretraining.strong.embed_dim = 24
    config.pretraining.strong.mlp_dim = 24
    config.methods = ("p_ik_only", "selective", "random_selection")
    config.data.num_train = 140
    config.data.num_test = 61
    config.p_ik.num_train = 70
    config.p_ik.num_test = 41
    config.p_ik.gamma = 0.5  # so that a model that has learned nothing selects some rows
    config.training.epochs = 1.5
    config.seeds = (0,)
    return config


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("world")
    return workdir, pipeline.run(tiny_config(), workdir)


@pytest.mark.slow
def test_a_run_makes_its_models_and_finds_them_again(tiny_run, capsys):
    workdir, report = tiny_run
    again = pipeline.run(tiny_config(), workdir)
    assert "0 to run" in capsys.readouterr().out
    assert again == report
    assert {entry["distribution"] for entry in report["p_ik"]} == {"in", "out"}
    assert {entry["method"] for entry in report["p_ik"]} == {"p_ik_only", "selective"}
    assert "p_ik_only" not in {record["method"] for record in report["records"]}
    assert report["by_frequency"]["n"] == [12, 12, 12, 12, 12]
    assert (workdir / "results.png").read_bytes()[:4] == b"\x89PNG"
    (folder,) = [
        path.parent
        for path in workdir.glob("artifacts/pretrain/*/summary.json")
        if json.loads(path.read_text())["last_step"]["learning_rate"] > 0
        and json.loads((path.parent / "config.json").read_text())["hidden_size"] == 24
    ]
    model = selw2s_jax.load_model(str(folder), param_dtype="float32", compute_dtype="float32")
    tokenizer = selw2s_jax.load_tokenizer(str(folder))
    tokens = jnp.array([tokenizer.encode("who is wise ?")], jnp.int32)
    assert model.lm_logits(model.hidden_states(tokens)).shape == (1, 4, tokenizer.vocab_size)


def read_trace(workdir, name: str) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    for manifest in workdir.glob("artifacts/train/*/summary.json"):
        if json.loads(manifest.read_text())["label"].startswith(name + ","):
            table = pq.read_table(manifest.parent / "trace.parquet")
            return {column: table[column].to_numpy() for column in table.column_names}
    raise AssertionError(f"no trace of {name}")


@pytest.mark.slow
def test_random_selection_has_the_rate_of_selective_in_every_batch(tiny_run):
    workdir, _ = tiny_run
    selective, control = read_trace(workdir, "selective"), read_trace(workdir, "random_selection")
    for number in np.unique(selective["step"]):
        mine, other = (trace["step"] == number for trace in (selective, control))
        np.testing.assert_array_equal(selective["example_id"][mine], control["example_id"][other])
        assert selective["ik_mask"][mine].sum() == control["ik_mask"][other].sum()


def test_shuffled_masks_keep_the_count_of_each_batch_and_not_its_rows():
    rng = np.random.default_rng(0)
    ids = np.array([f"task/{i}" for i in range(41)])
    batches_ = [rng.permutation(41)[:13] for _ in range(7)]
    trace = {
        "step": np.repeat(np.arange(7), 13),
        "example_id": ids[np.concatenate(batches_)],
        "ik_mask": rng.random(7 * 13) < 0.4,
    }
    masks = examples.shuffled_masks(trace, ids, seed=3)
    assert masks.shape == (7, 41)
    chosen = trace["ik_mask"].reshape(7, 13)
    for number, members in enumerate(batches_):
        assert masks[number].sum() == masks[number, members].sum() == chosen[number].sum()
    assert any(np.any(masks[n, m] != chosen[n]) for n, m in enumerate(batches_))
    np.testing.assert_array_equal(examples.shuffled_masks(trace, ids, seed=3), masks)
    assert np.any(examples.shuffled_masks(trace, ids, seed=4) != masks)


if __name__ == "__main__":
    runs = [train(shape, num_micro) for shape, num_micro in (((2, 4, 1), 1), ((2, 2, 2), 2))]
    print(json.dumps([(losses, float(optax.tree.norm(params))) for losses, params in runs]))
