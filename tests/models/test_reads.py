"""Hidden states of the tokens that are read: those of all tokens there, without the rest of the last layer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import families, marks, mesh_models, tiny_decoders

from selw2s_jax.models import decoder, kv_cache, layers, lora

CONFIGS = families.CONFIGS | {name: mesh_models.CONFIGS[name] for name in ("gpt2", "qwen")}
READS = np.array([[0, 3, 16], [5, 5, 9]], np.int32)  # one twice, as padding is


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    """The last layer by itself however small the model is; what others compiled of the same shapes is not used."""
    monkeypatch.setattr(decoder, "_WORTH_A_LAYER", 0)
    decoder._forward.clear_cache()
    yield
    decoder._forward.clear_cache()


def build(config, **options):
    options = {"param_dtype": "float32", "compute_dtype": "float32"} | options
    return decoder.Decoder(config, rngs=nnx.Rngs(2), **options)


def make_grids(config, num_tokens=17):
    """Rows of several examples, with padding at their end."""
    examples = [tiny_decoders.random_tokens(config, length, seed=length) for length in (7, 1, 5)]
    rows = [tiny_decoders.pack(own, num_tokens)[:2] for own in (examples, examples[:2])]
    return tuple(np.concatenate(grids) for grids in zip(*rows, strict=True))


def take(x):
    return jnp.take_along_axis(x, READS[:, :, None], axis=1)


def test_of_packed_rows_with_the_keys_and_values_of_all_tokens():
    model = build(CONFIGS["gpt2"])
    tokens, segment_ids = make_grids(model.config)
    hidden, keys_values = model.extend(tokens, segment_ids)
    read, read_keys_values = model.extend(tokens, segment_ids, reads=READS)
    np.testing.assert_allclose(read, take(hidden), atol=2e-6)
    for found, expected in zip(read_keys_values, keys_values, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_few_queries_are_not_for_cudnn(monkeypatch):
    """Which takes an odd number of them in no gradient."""
    asked = []

    def attend(q, k, v, *, mask, implementation):
        asked.append((q.shape[1], implementation))
        return q

    monkeypatch.setattr(layers, "_on_cpu", lambda settings: False)
    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    model = build(CONFIGS["gpt2"], attention="cudnn")
    tokens, segment_ids = make_grids(model.config)
    model.hidden_states(tokens, segment_ids, reads=READS)
    assert asked == [(17, "cudnn"), (3, "xla")]


@pytest.mark.parametrize("name", [marks.in_ci("mistral"), marks.thorough("gpt2")])
def test_behind_a_cache(name):
    model = build(CONFIGS[name])
    tokens, segment_ids = make_grids(model.config)
    _, (keys, values) = model.extend(tiny_decoders.random_tokens(model.config, (1, 6)))
    cache = kv_cache.empty(model.config, model.settings, 1, 7)
    cache = kv_cache.append(cache, keys, values, np.full(1, 6, np.int32))
    hidden = model.hidden_states(tokens, segment_ids, cache=cache)
    read = model.hidden_states(tokens, segment_ids, reads=READS, cache=cache)
    np.testing.assert_allclose(read, take(hidden), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "remat", "num_layers", "adapted"),
    [
        marks.in_ci("gpt_neox", "full", 2, False),
        marks.in_ci("mistral", "full", 2, False),
        marks.in_ci("gpt2", "none", 3, False),
        marks.in_ci("gpt2", "full", 1, False),
        marks.in_ci("gpt2", "full", 3, True),
        marks.thorough("llama", "dots", 2, True),
        *(marks.thorough(name, "full", 3, False) for name in CONFIGS if name not in ("gpt_neox", "mistral")),
    ],
)
def test_with_their_gradients(name, remat, num_layers, adapted):
    model = build(dataclasses.replace(CONFIGS[name], num_layers=num_layers), remat=remat)
    tokens, segment_ids = make_grids(model.config)
    adapters = dropout = None
    if adapted:
        settings = lora.Settings(rank=3, alpha=5.0, dropout=0.4, targets=("attention", "mlp"))
        adapters = lora.adapt(model, settings, seed=1)
        for number, own in enumerate(adapters.names):
            adapters[own].b[...] = 0.3 * jax.random.normal(jax.random.key(number), adapters[own].b.shape)
        dropout = lora.Dropout(jnp.int32(3), jnp.asarray(segment_ids), jnp.arange(17)[None].repeat(2, axis=0))
    weight = np.random.default_rng(0).standard_normal((*READS.shape, model.config.embed_dim))
    graphdef, params, others = nnx.split((model, adapters), nnx.Param, ...)

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params, is_split):
        model, adapters = nnx.merge(graphdef, params, others)
        options = {"adapters": adapters, "dropout": dropout}
        if is_split:
            hidden = model.hidden_states(tokens, segment_ids, reads=READS, **options)
        else:
            hidden = take(model.hidden_states(tokens, segment_ids, **options))
        return jnp.sum(hidden * weight), hidden

    (_, expected), expected_gradients = run(params, False)
    (_, found), gradients = run(params, True)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected_gradients))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 * scale), gradients, expected_gradients
    )


@pytest.mark.parametrize("remat", [None, *map(marks.in_ci, ("full", "none"))])
def test_no_weights_are_copied(remat):
    """Beside its arguments a program holds less than a second stack of weights, beside gradients less than that."""
    sizes = {"num_layers": 9, "embed_dim": 48, "mlp_dim": 300}
    config = dataclasses.replace(CONFIGS["gpt2"], **sizes, num_heads=4, head_dim=12)
    model = nnx.eval_shape(lambda: build(config, remat=remat or "full"))
    graphdef, params = nnx.split(model)
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)

    def total(params, tokens):
        return jnp.sum(nnx.merge(graphdef, params).hidden_states(tokens, reads=jnp.full((1, 1), 3)))

    program = total if remat is None else jax.grad(total)
    compiled = jax.jit(program).lower(params, tokens).compile()
    stack_bytes = 4 * config.num_layers * config.embed_dim * config.mlp_dim  # one of two in an MLP
    assert compiled.memory_analysis().temp_size_in_bytes < (0.9 if remat is None else 2.5) * stack_bytes


def test_few_unread_tokens_are_not_worth_a_layer(monkeypatch):
    monkeypatch.undo()
    state = nnx.state(decoder.abstract_decoder(CONFIGS["gpt2"]).layers)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state)) // CONFIGS["gpt2"].num_layers
    tokens_worth = decoder._WORTH_A_LAYER // (2 * num_params)

    def is_worth(num_rows, num_tokens, num_read):
        grids = np.zeros((num_rows, num_tokens)), np.zeros((num_rows, num_read))
        return decoder.is_worth_a_layer(state, *grids)

    assert is_worth(tokens_worth, 5, 2) and not is_worth(tokens_worth, 5, 3)
    assert not is_worth(3, tokens_worth // 4, 1)
