"""A decoder with a KV cache computes what it computes without, however tokens are cut, packed and padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity
from support import marks, tiny_decoders

from selw2s_jax.models import decoder, kv_cache, layers

FAMILIES = [marks.in_ci(name) if name == "gpt2" else name for name in make_parity.CONFIGS]


@pytest.fixture(params=FAMILIES)
def folder(request, fixtures):
    return fixtures / f"parity_{request.param}"


def cache_of(model, tokens, num_slots):
    """A cache with `tokens` [C, T]."""
    num_rows, num_tokens = tokens.shape
    padded = np.pad(tokens, ((0, 0), (0, num_slots - num_tokens)))
    _, (keys, values) = model.extend(padded)
    return kv_cache.of_tokens(keys, values, np.full(num_rows, num_tokens, np.int32))


@pytest.mark.parametrize("cut", [marks.in_ci(1), 12])
def test_tokens_behind_a_cache_are_as_in_one_pass(folder, cut):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (3, 13))
    whole = model.hidden_states(tokens)
    rest, _ = model.extend(tokens[:, cut:], cache=cache_of(model, tokens[:, :cut], num_slots=17))
    np.testing.assert_allclose(rest, whole[:, cut:], atol=1e-5)


@pytest.mark.slow
@pytest.mark.ci
def test_token_by_token_from_an_empty_cache(folder):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (3, 7))
    cache = kv_cache.empty(model.config, model.settings, 3, 7)
    found = []
    for column in range(7):
        hidden, (keys, values) = model.extend(tokens[:, column : column + 1], cache=cache)
        cache = kv_cache.append(cache, keys, values, np.ones(3, bool))
        found.append(hidden)
    np.testing.assert_allclose(np.concatenate(found, axis=1), model.hidden_states(tokens), atol=1e-5)
    assert cache.length.tolist() == [7, 7, 7]


def test_rows_of_different_lengths(folder):
    """Each row goes on where it ends; what lies behind its end is not seen."""
    model = tiny_decoders.load(folder)
    lengths = np.array([3, 6, 1], np.int32)
    tokens = tiny_decoders.random_tokens(model.config, (3, 9))
    _, (keys, values) = model.extend(tokens)
    cache = kv_cache.of_tokens(keys, values, lengths)
    assert cache.length.tolist() == lengths.tolist()
    new = tiny_decoders.random_tokens(model.config, (3, 2), seed=1)
    _, (keys, values) = model.extend(new[:, :1], cache=cache)
    cache = kv_cache.append(cache, keys, values, np.ones(3, bool))
    found, _ = model.extend(new[:, 1:], cache=cache)
    whole = [np.concatenate([tokens[row, :length], new[row]]) for row, length in enumerate(lengths)]
    for row, alone in enumerate(tiny_decoders.alone(model, whole)):
        np.testing.assert_allclose(found[row, 0], alone[-1], atol=1e-5)


def test_packed_rows_share_a_past(folder):
    """Two rows of a cache, each the past of all examples in two rows of tokens; padding has no effect."""
    model = tiny_decoders.load(folder)
    pasts = tiny_decoders.random_tokens(model.config, (2, 4))
    examples = [tiny_decoders.random_tokens(model.config, length, seed=length) for length in (7, 1, 5)]
    tokens, segment_ids, starts = tiny_decoders.pack(examples, num_tokens=17)
    tokens, segment_ids = tokens.repeat(4, axis=0), segment_ids.repeat(4, axis=0)
    cache = cache_of(model, pasts, num_slots=9)
    found = model.hidden_states(tokens, segment_ids, cache=cache)
    assert np.isfinite(found).all()
    whole = [np.concatenate([pasts[row // 2], example]) for row in range(4) for example in examples]
    for number, alone in enumerate(tiny_decoders.alone(model, whole)):
        row, start = number // 3, starts[number % 3]
        np.testing.assert_allclose(found[row, start : start + len(alone) - 4], alone[4:], atol=1e-5)


def test_positions_count_from_the_end_of_the_cache(folder):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (2, 8))
    cache = cache_of(model, tokens[:, :3], num_slots=3)
    positions = np.arange(5, dtype=np.int32)[None].repeat(2, axis=0)
    given = model.hidden_states(tokens[:, 3:], None, positions, cache=cache)
    np.testing.assert_array_equal(given, model.hidden_states(tokens[:, 3:], cache=cache))


@pytest.mark.parametrize("is_stacked", [True, False])
def test_a_ring_of_slots_goes_round(is_stacked):
    """A row that stops is empty from then on, and what it held is written over; the others hold their last tokens."""
    config = make_parity.GPT2_CONFIG
    settings = decoder.abstract_decoder(config).settings
    cache = kv_cache.empty(config, settings, 2, 3)
    cache = cache if is_stacked else kv_cache.unstack(cache)
    shape = (config.num_layers, 2, 2, config.num_heads, config.head_dim)
    for number in (1, 3):
        new = jnp.arange(number, number + 2.0)[:, None, None] * jnp.ones(shape)
        new = new if is_stacked else tuple(new)
        goes_on = np.array([number < 3, True])
        cache = cache._replace(length=jnp.minimum(cache.length, 1))  # only the last token matters
        cache = kv_cache.append(cache, new, jax.tree.map(jnp.negative, new), goes_on)
    cache = cache if is_stacked else kv_cache.stack(cache)
    assert cache.length.tolist() == [0, 3] and cache.end == 1
    slots = np.asarray(kv_cache.slot_positions(cache.length, cache.end, 3))
    assert (slots[0] < 0).all() and slots[1].tolist() == [2, 0, 1]
    assert cache.keys[0, 1, 0, :, 0].tolist() == [4, 2, 3]
    np.testing.assert_array_equal(cache.values, -cache.keys)


def test_the_past_is_whole_for_its_tokens():
    found = np.asarray(layers.past_mask(jnp.array([[-3, -2, -1], [-1, 0, 1]]), 2))
    assert found.shape == (2, 1, 2, 3)
    assert found[0].sum() == 0 and found[1, 0].tolist() == [[False, True, True]] * 2


@pytest.mark.slow
@pytest.mark.ci  # what is written goes through them
def test_layers_one_by_one_are_the_stack(folder):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (3, 6))
    cache = cache_of(model, tokens[:, :5], num_slots=7)
    expected, new = model.extend(tokens[:, 5:], cache=cache)
    found, own = model.extend(tokens[:, 5:], cache=kv_cache.unstack(cache), layer_states=model.unstack())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for stacked, by_layer in zip(new, own, strict=True):
        np.testing.assert_allclose(np.stack(by_layer), stacked, atol=1e-5)


def test_bfloat16_holds_the_cache_in_its_dtype(folder):
    exact, rounded = tiny_decoders.load(folder), tiny_decoders.load(folder, compute_dtype="bfloat16")
    tokens = tiny_decoders.random_tokens(exact.config, (3, 13))
    cache = cache_of(rounded, tokens[:, :6], num_slots=8)
    assert cache.keys.dtype == cache.values.dtype == jnp.bfloat16
    found = np.asarray(rounded.hidden_states(tokens[:, 6:], cache=cache), np.float32)
    expected = np.asarray(exact.hidden_states(tokens))[:, 6:]
    assert np.abs(found - expected).mean() < 0.03 * np.abs(expected).mean()
