"""Chips, slices and estimates of the planner: formulas against XLA's own count, tables against their sources."""

import dataclasses
import math
import re
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import strategies
from support import marks, paths

from selw2s_jax.models import decoder, heads, lora, registry
from selw2s_jax.plan import chips, estimate
from selw2s_jax.training import state as state_lib
from selw2s_jax.training import step as step_lib

NUM_ROWS, ROW_LENGTH, NUM_EXAMPLES = 3, 48, 5


def model_config(family: str, num_layers: int) -> registry.ModelConfig:
    """Wide for its length, so that products outweigh what the formula leaves out."""
    return registry.ModelConfig(
        family=family,
        num_layers=num_layers,
        embed_dim=192,
        num_heads=3,
        head_dim=64,
        mlp_dim=560,
        vocab_size=97,
        max_seq_len=64,
        norm_eps=1e-5,
        rope_base=None if family == "gpt2" else 1e4,
        tie_embeddings=family == "gpt2",
        num_kv_heads=1 if family == "llama" else None,
        parallel_residual=family == "gpt_neox",
        activation="gelu_new"
        if family == "gpt_neox"
        else None,  # XLA counts much elementwise work for the exact one
    )


class Batch(NamedTuple):
    tokens: Any
    segment_ids: Any
    positions: Any
    row: Any
    last: Any
    reads: Any


def forward(model, micro, step):
    return model(*micro[:-1], reads=micro.reads)


def loss(outputs, batch, step_fraction, rule_state):
    return jnp.sum(outputs.class_logits**2) + jnp.sum(outputs.p_ik_logits**2), (None, None, rule_state)


def compiled_flops(config, *, trained="all", remat="full", backward=True, num_micro=1, num_reads=None):
    """FLOPs that XLA counts in the train step's gradients, and the parameters of its adapters.

    Args:
        num_reads: tokens of a row that are read.
    """
    adapters = (
        lora.Settings(rank=4, alpha=16.0, dropout=0.0, targets=("attention",)) if trained == "lora" else None
    )

    def make():
        backbone = decoder.Decoder(
            config, param_dtype="float32", compute_dtype="float32", remat=remat, rngs=nnx.Rngs(0)
        )
        return heads.Classifier(backbone, p_ik_head=True, adapters=adapters)

    model = nnx.eval_shape(make)
    graphdef, params, frozen = state_lib.split(model, trained)
    tokens = jax.ShapeDtypeStruct((num_micro, NUM_ROWS, ROW_LENGTH), jnp.int32)
    examples = jax.ShapeDtypeStruct((num_micro, NUM_EXAMPLES), jnp.int32)
    reads = num_reads and jax.ShapeDtypeStruct((num_micro, NUM_ROWS, num_reads), jnp.int32)
    batch = Batch(tokens, tokens, tokens, examples, examples, reads)
    state = state_lib.TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, frozen, None)

    def run(state, batch):
        if backward:
            computation = step_lib.Computation(forward, loss)
            return step_lib.loss_and_grads(graphdef, state, batch, 0.0, computation)
        flat = jax.tree.map(lambda x: x[0], batch)
        return forward(nnx.merge(graphdef, state.params, state.frozen), flat, state.step)

    flops = jax.jit(run).lower(state, batch).compile().cost_analysis()["flops"]
    num_adapter_params = 0 if adapters is None else lora.num_params(model.backbone.config, adapters)
    return flops, num_adapter_params


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gpt2", {"backward": False}),
        marks.in_ci("gpt2", {"remat": "full"}),
        marks.in_ci("gpt2", {"remat": "none"}),
        marks.in_ci("gpt2", {"trained": "lora", "remat": "full"}),
        marks.in_ci("gpt2", {"remat": "full", "num_micro": 2}),
        marks.in_ci("qwen", {"remat": "full"}),
        ("qwen", {"remat": "dots"}),
        ("qwen", {"trained": "heads"}),
        marks.in_ci("qwen", {"trained": "lora", "remat": "none"}),
        marks.in_ci("llama", {"remat": "full"}),
        # Other products of a layer are not made again.
        marks.in_ci("gpt_neox", {"remat": "full"}),
        marks.in_ci("olmo2", {"remat": "full"}),
    ],
    ids=str,
)
def test_flops_are_those_that_xla_counts(family, options):
    # XLA counts the body of a scan once: three layers as one, and two micro-batches as one. It counts elementwise work
    # too, hence the margin to one side.
    num_layers = 3
    counted, num_adapter_params = compiled_flops(model_config(family, num_layers), **options)
    estimated = estimate.step_flops(
        model_config(family, 1),
        num_tokens=NUM_ROWS * ROW_LENGTH,
        num_examples=NUM_EXAMPLES,
        mean_length=ROW_LENGTH,
        adapter_params=num_adapter_params // num_layers,
        **options,
    )
    assert 1.0 <= counted / estimated.total < 1.05


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"remat": "full"}),
        marks.thorough("gpt2", {"remat": "dots"}),
        marks.thorough("gpt_neox", {"trained": "lora", "remat": "full"}),
        marks.thorough("qwen", {"backward": False}),
        marks.thorough("olmo2", {"remat": "none"}),
        marks.thorough("llama", {"remat": "full", "num_micro": 2}),
    ],
    ids=str,
)
def test_flops_of_a_last_layer_that_is_read(family, options, monkeypatch):
    """Keys and values of all tokens and the rest of a few, made once; beside one turn of the loop before it."""
    monkeypatch.setattr(decoder, "_WORTH_A_LAYER", 0)
    counted, num_adapter_params = compiled_flops(model_config(family, 3), num_reads=2, **options)
    estimated = estimate.step_flops(
        model_config(family, 2),
        num_tokens=NUM_ROWS * ROW_LENGTH,
        num_examples=NUM_EXAMPLES,
        mean_length=ROW_LENGTH,
        adapter_params=num_adapter_params * 2 // 3,
        num_read=NUM_ROWS * 2,
        **options,
    )
    assert 1.0 <= counted / estimated.total < 1.05


def flops(config, **options):
    defaults = {"num_tokens": 960, "num_examples": 7, "mean_length": 33.5, "row_length": 96}
    return estimate.step_flops(config, **(defaults | options))


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_flops_of_what_is_trained(family):
    config = model_config(family, 5)
    whole, dots, none = (flops(config, remat=remat) for remat in ("full", "dots", "none"))
    assert whole.total > dots.total > none.total
    assert whole.model == dots.model == none.model < none.total  # rows are longer than examples
    assert none.total == flops(config, remat="none", row_length=None, mean_length=96).model
    assert flops(config, trained="heads").model < flops(config, trained="lora").model < whole.model
    forward_only = flops(config, backward=False)
    assert forward_only == flops(config, backward=False, remat="none")
    assert none.total == 3 * forward_only.total
    again = flops(config, remat="none", num_micro=4)
    assert again.total == none.total + forward_only.total and again.model == none.model
    for result in (whole, dots, none, forward_only):
        assert result.total == result.matmul + result.attention


def test_lm_head_is_a_product_with_the_vocabulary():
    config = model_config("gpt2", 2)
    with_head = flops(config, num_predicted=960, num_examples=0, backward=False)
    without = flops(config, num_examples=0, backward=False)
    assert with_head.total - without.total == 2 * 960 * config.vocab_size * config.embed_dim


@pytest.mark.parametrize(("name", "billions"), [("qwen-14b", 14.2), ("qwen-72b", 72.3), ("gpt2-xl", 1.56)])
def test_six_per_parameter_and_token(name, billions):
    """6 N per token of the literature (Kaplan et al. 2020), N without embeddings."""
    config = registry.MODELS[name].config
    result = flops(config, remat="none", num_examples=0)
    num_embeddings = config.vocab_size * config.embed_dim * (1 if config.tie_embeddings else 2)
    params = decoder.num_params(config, lm_head=True) - num_embeddings
    assert params / 1e9 + num_embeddings / 1e9 == pytest.approx(billions, rel=0.01)
    assert result.matmul == pytest.approx(6 * params * 960, rel=0.005)


def memory(config, **options):
    defaults = {"num_tokens": 960, "row_length": 96, "num_params": 10**6, "num_trained": 10**6}
    return estimate.memory_bytes(config, **(defaults | options))


def test_memory_traffic_of_the_optimizer():
    config = model_config("qwen", 3)
    # Float32 weights and two moments, bfloat16 gradients, each read and written: 28 bytes.
    assert memory(config).optimizer == 28 * 10**6
    assert memory(config, param_bytes=2, moment_bytes=2).optimizer == 16 * 10**6
    assert memory(config, param_bytes=2, moment_bytes=2, num_micro=2).optimizer == 20 * 10**6
    assert memory(config, mesh_shape=(2, 5, 4)).optimizer == 28 * 10**6 // 20
    assert memory(config, num_trained=10**3).optimizer == 28 * 10**3
    assert memory(config, backward=False).optimizer == 0


def test_memory_traffic_of_weights_and_activations():
    config = model_config("gpt2", 3)
    one = memory(config)
    assert one.total == one.optimizer + one.weights + one.activations
    # 4 bytes read and 2 written by the cast; forward, recomputed and gradients of inputs read 2 each.
    assert one.weights == (6 + 3 * 2) * 10**6
    # A quarter of that on four devices, which gather, write and read the whole in every pass.
    assert memory(config, mesh_shape=(1, 4, 1)).weights == (6 + 3 * 2) * 10**6 // 4 + 3 * 4 * 10**6
    assert memory(config, remat="none").weights == memory(config, remat="dots").weights == 10 * 10**6
    assert memory(config, num_micro=3).weights == 3 * (2 * 6 + 4 * 2) * 10**6
    assert memory(config, trained="heads").weights == (6 + 2) * 10**6
    assert memory(config, param_bytes=2).weights == 3 * 2 * 10**6
    assert memory(config, mesh_shape=(2, 3, 1)).activations == one.activations // 6
    assert memory(config, num_tokens=1920).activations == 2 * one.activations
    assert memory(config, row_length=192).activations > one.activations
    assert memory(config, remat="none").activations < one.activations


@hypothesis.given(num_bytes=strategies.integers(0, 2**45), group_size=strategies.integers(1, 6144))
def test_wire_bytes(num_bytes, group_size):
    gather, scatter, reduce, exchange = (
        estimate.wire_bytes(kind, num_bytes, group_size)
        for kind in ("all-gather", "reduce-scatter", "all-reduce", "all-to-all")
    )
    assert gather == scatter == exchange
    assert math.isclose(reduce, gather + scatter)  # what a ring all-reduce is
    assert 0 <= gather <= num_bytes and (gather > 0) == (num_bytes > 0 and group_size > 1)
    assert math.isclose(gather * group_size, (group_size - 1) * num_bytes)
    assert estimate.wire_bytes("collective-permute", num_bytes, group_size) == num_bytes


def test_roofline_is_the_longest_term():
    chip = chips.CHIPS["a100-80gb"]
    work = {"flops": 312e12, "memory_bytes": 0.5 * 2039e9, "collective_bytes": 0.25 * 300e9}
    time = estimate.roofline(chip, **work)
    assert time == estimate.Time(1.0, 0.5, 0.25, 1.0, "matmul")
    assert estimate.roofline(chip, **work, efficiency=0.5).total_s == 2.0
    slow_links = estimate.roofline(chip, **work, interconnect_bytes_per_s=30e9)
    assert (slow_links.total_s, slow_links.bound) == (2.5, "interconnect")
    assert estimate.roofline(chip, flops=0, memory_bytes=1, collective_bytes=0).bound == "memory"
    assert estimate.roofline(chips.CHIPS["cpu"], **work) is None


@pytest.mark.parametrize("name", chips.CHIPS)
def test_chips_are_consistent(name):
    chip = chips.CHIPS[name]
    assert chip.name == name and chip.kind in ("gpu", "tpu", "cpu") and chip.source
    assert 0 < chip.usable_bytes <= chip.hbm_bytes
    assert dataclasses.is_dataclass(chip) and hash(chip)
    rates = (chip.bf16_flops, chip.hbm_bytes_per_s, chip.interconnect_bytes_per_s)
    if name == "cpu":
        assert rates == (None, None, None)
        return
    # Units: FLOPs to bytes of memory of each of them are between 110 and 600; cards without NVLink have slow links.
    assert 110 < chip.bf16_flops / chip.hbm_bytes_per_s < 600
    most = 36 if name in ("a10g", "l40s", "rtx-4090", "rtx-5090") else 14
    assert 2 < chip.hbm_bytes_per_s / chip.interconnect_bytes_per_s < most


def test_the_share_of_gpu_memory_is_that_of_the_launch_scripts():
    flags = paths.REPO / "launch" / "xla_flags.sh"
    [fraction] = re.findall(
        r"MEM_FRACTION=\"\$\{XLA_PYTHON_CLIENT_MEM_FRACTION:-([\d.]+)\}", flags.read_text("utf-8")
    )
    assert float(fraction) == chips.GPU_MEMORY_FRACTION


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("tpu-v4", (2, 2, 4)),
        ("tpu-v4", (12, 12, 24)),
        ("tpu-v5p", (2, 2, 1)),
        ("tpu-v5p", (4, 4, 4)),
        ("tpu-v5p", (16, 16, 24)),
        ("tpu-v7x", (2, 2, 1)),
        ("tpu-v7x", (16, 24, 24)),
        ("tpu-v5e", (1, 1)),
        ("tpu-v5e", (4, 4)),
        ("tpu-v6e", (8, 16)),
        ("tpu-v6e", (16, 16)),
    ],
)
def test_slices_that_exist(kind, shape):
    assert chips.topology_problem(kind, shape) is None


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("tpu-v5e", (4, 4, 4), "have 2 dimensions"),
        ("tpu-v4", (4, 4), "have 3 dimensions"),
        ("tpu-v5e", (3, 3), "no tpu-v5e slice has the shape 3x3"),
        ("tpu-v6e", (32, 32), "16x16"),
        ("tpu-v6e", (4, 2), "2x4, not 4x2"),
        ("tpu-v6e", (0, 4), "no tpu-v6e slice"),
        ("tpu-v5p", (1, 2, 2), "spelled 2x2x1"),
        ("tpu-v5p", (4, 4, 2), "spelled 2x4x4"),
        ("tpu-v5p", (2, 4, 8), "multiples of 4"),
        ("tpu-v4", (4, 4, 6), "multiples of 4"),
        ("tpu-v4", (8, 4, 4), "4x4x8, not 8x4x4"),
        ("tpu-v4", (16, 16, 20), "the largest tpu-v4 slice has 4096"),
        ("tpu-v5p", (-4, 4, 4), "no tpu-v5p slice"),
    ],
)
def test_slices_that_do_not_exist(kind, shape, said):
    problem = chips.topology_problem(kind, shape)
    assert said in problem and "\n" not in problem


def test_links_that_a_slice_uses():
    one_link = {"tpu-v5p": 100e9, "tpu-v4": 50e9, "tpu-v5e": 50e9, "tpu-v6e": 100e9}
    for kind, shape, links in (
        ("tpu-v5p", (2, 2, 1), 2),
        ("tpu-v4", (2, 2, 4), 3),
        ("tpu-v5p", (4, 4, 4), 6),
        ("tpu-v5e", (1, 1), 0),
        ("tpu-v5e", (4, 4), 2),
        ("tpu-v6e", (8, 16), 3),
        ("tpu-v6e", (16, 16), 4),
    ):
        assert chips.slice_bytes_per_s(kind, shape) == pytest.approx(links * one_link[kind])
