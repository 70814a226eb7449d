"""How long a model takes to write answers, by formula: prompts are read, then each row gets a token at a time.

Nothing is compiled. Of a step that gives each row a token, products are few: it takes as long as the device reads its
weights and the cache, or as they are sent. As `inference.generate` does it, but that what prompts begin with in common,
which that reads once, is read with each of them; and no row waits for another.
"""

from typing import NamedTuple

from selw2s_jax import sharding
from selw2s_jax.data import packing
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import packed_prompts, prefix, writing
from selw2s_jax.models import decoder, registry
from selw2s_jax.plan import estimate, programs, targets


class Cache(NamedTuple):
    """Keys and values of the rows under way, so many slots of tokens in each; `num_bytes` are those of a device."""

    num_rows: int
    num_slots: int
    num_bytes: int


def cache(made: programs.Programs, model: pretrained.Model, prompt: int, max_new_tokens: int) -> Cache:
    """That of prompts with so many tokens, and room for as many new ones."""
    config, mesh = model.config, made.mesh(model)
    num_slots = min(prefix.cache_slots(prompt + max_new_tokens - 1), config.max_seq_len)
    num_rows = min(max(made.settings.execution.score_tokens // num_slots, 1), writing.BLOCK)
    num_rows = packing.round_up(num_rows, sharding.num_row_groups(mesh))
    of_token = 2 * config.num_layers * config.kv_heads * config.head_dim * made.compute_bytes
    return Cache(num_rows, num_slots, num_rows * num_slots * of_token // mesh.size)


def block_seconds(
    made: programs.Programs,
    model: pretrained.Model,
    prompt: int,
    num_answer: int,
    max_new_tokens: int,
    target: targets.Target,
) -> float | None:
    """Seconds of `inference.writing.BLOCK` answers; None for a target without published peaks.

    Args:
        prompt, num_answer: tokens of each, and of what is written behind it.
        max_new_tokens: that the cache has room for behind a prompt.
    """
    num_rows, num_slots, num_cached = cache(made, model, prompt, max_new_tokens)
    reading = _seconds_of_pass(
        made,
        model,
        target,
        num_tokens=writing.BLOCK * prompt,
        num_predicted=writing.BLOCK,
        attended=prompt,
        num_turns=-(-writing.BLOCK * prompt // packed_prompts.MOST_TOKENS),
    )
    step = _seconds_of_pass(
        made,
        model,
        target,
        num_tokens=num_rows,
        num_predicted=num_rows,
        attended=num_slots,
        num_cached=num_cached,
    )
    # The first token comes with the prompt.
    return None if step is None else reading + step * writing.BLOCK * (num_answer - 1) / num_rows


def _seconds_of_pass(
    made: programs.Programs,
    model: pretrained.Model,
    target: targets.Target,
    *,
    num_tokens: int,
    num_predicted: int,
    attended: int,
    num_turns: int = 1,
    num_cached: int = 0,
) -> float | None:
    """Seconds of a forward pass.

    Args:
        attended: tokens that each token is compared with.
        num_turns: in which weights are read again, of one device alone; those with rows of their own share them.
        num_cached: bytes of keys and values that a device reads.
    """
    config, size = model.config, made.compute_bytes
    data, fsdp, tensor = made.mesh(model).shape.values()
    flops = estimate.step_flops(
        config,
        num_tokens=num_tokens,
        num_examples=0,
        mean_length=attended,
        num_predicted=num_predicted,
        backward=False,
    )
    num_turns = -(-num_turns // (data * fsdp))
    weights = _product_params(config) * size / tensor
    stream = num_tokens / (data * fsdp) * config.embed_dim * size
    sent = num_turns * estimate.wire_bytes("all-gather", weights, fsdp)
    sent += 2 * config.num_layers * estimate.wire_bytes("all-reduce", stream, tensor)
    time = estimate.roofline(
        target.chip,
        flops=flops.total / (data * fsdp * tensor),
        memory_bytes=num_turns * weights + num_cached,
        collective_bytes=sent,
        interconnect_bytes_per_s=target.interconnect_bytes_per_s,
    )
    return None if time is None else time.total_s


def _product_params(config: registry.ModelConfig) -> int:
    """Parameters of all layers' products and of the vocabulary's."""
    of_layer = sum(number for *_, number in decoder.layer_weights(config).values())
    return config.num_layers * of_layer + config.vocab_size * config.embed_dim
