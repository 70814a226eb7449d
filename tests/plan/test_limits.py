"""What a program does, read kernel by kernel from its text, and what it needs at least, by formula."""

import dataclasses
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import lookup_worker, paths

from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.models import decoder, embedding, registry
from selw2s_jax.plan import chips, compiled, estimate, hlo, kept_programs, kernels, limits, search, targets
from selw2s_jax.training import layouts

# Two turns of a loop with a product of a slice of a stack, whose result is added to another stack in place; a product
# as a TPU spells it, from its vector memory; a gather of weights beside them.
MODULE = """
HloModule test, is_scheduled=true

%sliced (stack: f32[2,8,4], i: s32[]) -> f32[8,4] {
  %stack = f32[2,8,4]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %slice = f32[1,8,4]{2,1,0} dynamic-slice(%stack, %i, %zero, %zero), dynamic_slice_sizes={1,8,4}
  ROOT %bitcast = f32[8,4]{1,0} bitcast(%slice)
}

%nested (stack.2: f32[2,8,4], i.2: s32[]) -> f32[8,4] {
  %stack.2 = f32[2,8,4]{2,1,0} parameter(0)
  %i.2 = s32[] parameter(1)
  ROOT %inner = f32[8,4]{1,0} fusion(%stack.2, %i.2), kind=kLoop, calls=%sliced
}

%updated (stack.1: f32[2,8,4], row: f32[8,4], i.1: s32[]) -> f32[2,8,4] {
  %stack.1 = f32[2,8,4]{2,1,0} parameter(0)
  %row = f32[8,4]{1,0} parameter(1)
  %i.1 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  %update = f32[1,8,4]{2,1,0} bitcast(%row)
  ROOT %dus = f32[2,8,4]{2,1,0} dynamic-update-slice(%stack.1, %update, %i.1, %zero.1, %zero.1)
}

%body (carry: (s32[], f32[2,8,4], f32[8,8])) -> (s32[], f32[2,8,4], f32[8,8]) {
  %carry = (s32[], f32[2,8,4]{2,1,0}, f32[8,8]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%carry), index=0
  %all = f32[2,8,4]{2,1,0} get-tuple-element(%carry), index=1
  %x = f32[8,8]{1,0} get-tuple-element(%carry), index=2
  %one = f32[8,4]{1,0} fusion(%all, %n), kind=kOutput, calls=%nested
  %gather = (f32[4,8]{1,0}, f32[8,8]{1,0}) all-gather-start(%x), channel_id=1, GROUPS, dimensions={0}
  %product = f32[8,4]{1,0} dot(%x, %one), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %gathered = f32[8,8]{1,0} all-gather-done(%gather)
  %again = f32[2,8,4]{2,1,0} fusion(%all, %product, %n), kind=kLoop, calls=%updated
  ROOT %next = (s32[], f32[2,8,4]{2,1,0}, f32[8,8]{1,0}) tuple(%n, %again, %gathered)
}

%condition (carry.1: (s32[], f32[2,8,4], f32[8,8])) -> pred[] {
  %carry.1 = (s32[], f32[2,8,4]{2,1,0}, f32[8,8]{1,0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%carry.1), index=0
  %limit = s32[] constant(2)
  ROOT %less = pred[] compare(%n.1, %limit), direction=LT
}

ENTRY %main (p: f32[2,8,4], q: f32[8,8], r: bf16[3,5,7], s: bf16[3,7,6]) -> bf16[3,5,6] {
  %p = f32[2,8,4]{2,1,0} parameter(0)
  %q = f32[8,8]{1,0} parameter(1)
  %r = bf16[3,5,7]{2,1,0} parameter(2)
  %s = bf16[3,7,6]{2,1,0:T(8,128)S(1)} parameter(3)
  %start = s32[] constant(0)
  %first = (s32[], f32[2,8,4]{2,1,0}, f32[8,8]{1,0}) tuple(%start, %p, %q)
  %loop = (s32[], f32[2,8,4]{2,1,0}, f32[8,8]{1,0}) while(%first), condition=%condition, body=%body
  ROOT %batched = bf16[3,5,6]{2,1,0} convolution(%r, %s), window={size=3 stride=2 lhs_dilate=3}, dim_labels=0bf_0io->0bf
}
"""
# Devices listed out of their order, as where a mesh has several axes.
GROUPS = "replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}"


@pytest.mark.parametrize("groups", [GROUPS, "replica_groups=[4,2]<=[2,4]T(1,0)"])
def test_kernels_of_a_program(groups):
    text = MODULE.replace("GROUPS", groups)
    product, batched = 2 * 8 * 8 * 4, 2 * 3 * 5 * 7 * 6
    row, square = 4 * 8 * 4, 4 * 8 * 8
    # Of each turn: the slice read and written, the product, the update read and written; scalars of four bytes.
    turn = (2 * row + 4) + (square + 2 * row) + (2 * row + 4)
    condition = 4 + 4 + 1
    memory = 2 * (turn + condition) + 2 * (3 * 5 * 7 + 3 * 5 * 6)
    found = kernels.executed(text, 8)
    assert found == (2 * product + batched, memory, None)
    # Products that take no time, then links that take all of it: a gather of two devices sends half of the whole.
    rates = kernels.Rates(1e30, 1.0, 1e30)
    assert kernels.executed(text, 8, rates).seconds == pytest.approx(memory)
    (gather,) = hlo.collectives(text, 8)
    assert gather == ("all-gather", 2, 2 * 2 * square, 2 * square)
    assert kernels.executed(text, 8, kernels.Rates(1e30, 1e30, 1.0)).seconds == pytest.approx(2 * square)
    # The gather runs beside the product alone, unless the compiler says that it does not.
    rates = kernels.Rates(1.0, 1e30, 1.0)
    assert kernels.executed(text, 8, rates).seconds == pytest.approx(2 * max(product, square) + batched)
    waits = text.replace("dimensions={0}", 'dimensions={0}, backend_config={"is_sync":true}')
    assert kernels.executed(waits, 8, rates).seconds == pytest.approx(2 * (product + square) + batched)


def test_products_of_a_compiled_loop_are_those_of_all_its_turns():
    """Which XLA's own count takes for one."""

    def run(x, stack):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0]

    shapes = (jax.ShapeDtypeStruct((16, 32), jnp.float32), jax.ShapeDtypeStruct((5, 32, 32), jnp.float32))
    executable = (
        jax.jit(jax.grad(lambda *given: jnp.sum(run(*given)), argnums=(0, 1))).lower(*shapes).compile()
    )
    found = kernels.executed(executable.as_text(), 1)
    assert found.flops == 3 * 5 * 2 * 16 * 32 * 32
    assert found.flops > executable.cost_analysis()["flops"]


def step(family="llama", **changes) -> limits.Step:
    config = registry.ModelConfig(
        family=family,
        num_layers=3,
        embed_dim=32,
        num_heads=4,
        head_dim=8,
        mlp_dim=48,
        vocab_size=96,
        max_seq_len=64,
        norm_eps=1e-5,
        rope_base=1e4,
        tie_embeddings=False,
        num_kv_heads=2 if family == "llama" else None,
    )
    given = limits.Step(
        config, 128, 120, 10, 12, 16, "all", "full", 1, True, 0, (1, 1, 1), 1000, 1000, 4, 2, 4
    )
    return given._replace(**changes)


@pytest.mark.parametrize(("family", "for_all"), [("llama", 2 * 32 * 16), ("qwen", 2 * 32 * 32)])
def test_products_are_useful_made_again_or_unread(family, for_all):
    given = step(family)
    layer = given.layer_params
    formula = estimate.step_flops(
        given.config, num_tokens=128, num_examples=10, mean_length=12, row_length=16, remat="full"
    ).total
    found = limits.products(given, formula)
    # All layers of all tokens that are no padding; of the last one, for tokens that nobody reads, keys and values.
    matmul = 6 * (120 * 3 * layer - 110 * (layer - for_all)) + 10 * 2 * 2 * 2 * 32 * 3
    attention = 3 * 4 * 12 * 32 * (120 * 3 - 110)
    assert found.useful == matmul + attention
    none = limits.products(given._replace(remat="none"), 10 * formula)
    assert none.recomputed == 0 and (none.useful, none.unread) == (found.useful, found.unread)
    assert found.recomputed == 2 * 128 * 3 * (layer - 32 * 48) + 3 * 4 * 128 * 16 * 32
    assert found.unread > 0 and found.others == 0 and found.total == formula
    # A program that makes less has left out what nobody reads.
    fewer = limits.products(given, formula - found.unread - 8)
    assert (fewer.unread, fewer.others) == (0, -8) and fewer.useful == found.useful
    # One whose last layer computes 16 tokens whole: what is unread is padding, of 128 and of these 16.
    read = given._replace(num_read=16)
    made = limits.formula_flops(read)
    found_read = limits.products(read, made)
    assert found_read.useful == found.useful and found_read.total == made and found_read.others == 0
    matmul = 6 * (8 * (2 * layer + for_all) + 6 * (layer - for_all))
    assert found_read.unread == matmul + 3 * 4 * 32 * ((128 * 2 + 16) * 16 - (120 * 2 + 10) * 12)
    assert found_read.recomputed == found.recomputed * 2 // 3
    # Without padding and with every token read, all of it is useful.
    full = given._replace(num_used=128, num_examples=128, length=1, row_length=1, remat="none")
    assert limits.products(full, 10 * formula).unread == 0


def test_the_least_bytes_between_devices():
    """By hand: W of three layers in bfloat16, 128 tokens of width 32."""
    weights, stream = 3 * step().layer_params * 2, 128 * 32 * 2
    assert sum(limits.network(step()).values()) == 0
    fsdp = limits.network(step(mesh_shape=(1, 4, 1)))
    assert fsdp["gathers"] == pytest.approx(2 * 3 / 4 * weights) and fsdp["gradients"] == 3 / 4 * weights
    assert fsdp["activations"] == 0 and fsdp["embedding"] == 2 * 3 / 4 * stream / 4
    tensor = limits.network(step(mesh_shape=(1, 1, 4)))
    assert tensor["gathers"] == tensor["gradients"] == 0
    # Two sums in the forward pass, one made again, two in the backward pass.
    assert tensor["activations"] == 3 * 5 * 2 * 3 / 4 * stream
    assert tensor["embedding"] == 2 * 3 / 4 * 2 * stream  # of rows in float32
    assert (
        limits.network(step(mesh_shape=(1, 1, 4), remat="dots"))["activations"] == 3 * 4 * 2 * 3 / 4 * stream
    )
    read = limits.network(
        step(mesh_shape=(1, 1, 4), num_read=32)
    )  # the gradients of all tokens, and a quarter
    assert read["activations"] == (2 * 5 + 4 / 4 + 3 / 4) * 2 * 3 / 4 * stream
    gathered = limits.network(step(mesh_shape=(1, 4, 1), num_read=32))["gathers"]
    assert gathered == pytest.approx(5 / 3 * 3 / 4 * weights)
    data = limits.network(step(mesh_shape=(2, 1, 1)))
    assert data["gradients"] == 2 / 2 * weights and data["gathers"] == 0
    assert data["embedding"] == 1 / 2 * stream  # gradients of the others' rows
    mixed = limits.network(step(mesh_shape=(2, 2, 2)))
    assert mixed["gradients"] == weights / 2 * 1 / 2 + 2 / 2 * weights / 2 / 2
    micro = limits.network(step(mesh_shape=(1, 4, 1), num_micro=2))
    assert micro["gathers"] == 2 * 3 * 3 / 4 * weights and micro["gradients"] == 2 * 3 / 4 * weights
    lora = limits.network(step(mesh_shape=(1, 4, 1), trained="lora"))
    assert lora["gathers"] == fsdp["gathers"] and lora["gradients"] == 0
    probe = limits.network(step(mesh_shape=(1, 4, 1), trained="heads"))
    assert probe["gathers"] == 3 / 4 * weights


def test_the_least_bytes_of_memory():
    weights = 3 * step().layer_params * 2
    found = limits.memory(step())
    assert found == {"weights": 2 * weights + 4000, "optimizer": 28_000, "activations": 2 * 128 * 3 * 32 * 2}
    outputs = 32 + 16 + 16 + 32 + 48 + 48 + 32
    dots = limits.memory(step(remat="dots", mesh_shape=(2, 1, 1)))
    assert dots["activations"] == 2 * 64 * 3 * (32 + outputs) * 2
    assert limits.memory(step(backward=False))["activations"] == 0
    read = limits.memory(
        step(num_read=10)
    )  # of the last layer: inputs, keys and values; results of ten tokens
    assert read["activations"] == 2 * (128 * 3 * 32 + 128 * 32 + 10 * (outputs - 32)) * 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_look_up_is_a_take_bit_for_bit(dtype):
    table = jax.random.normal(jax.random.key(0), (11, 6))
    indices = jnp.array([[0, 3, 3, 12], [10, 3, 0, 1]])
    mesh = sharding.single_device_mesh()

    def take(table):
        return jnp.take(table, indices, axis=0, mode="clip").astype(dtype)

    found, pull = jax.vjp(lambda table: embedding.look_up(table, indices, dtype, mesh), table)
    wanted, pull_wanted = jax.vjp(take, table)
    cotangent = jax.random.normal(jax.random.key(1), found.shape).astype(dtype)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(pull(cotangent)[0], pull_wanted(cotangent)[0])


@pytest.mark.slow
def test_the_partitioner_knows_a_way_on_mixed_meshes():
    """It says in its log where it copies everything to all devices instead."""
    ended = subprocess.run(
        [sys.executable, lookup_worker.__file__],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "TF_CPP_MIN_LOG_LEVEL": "0",
            "PYTHONPATH": paths.PYTHONPATH,
        },
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "CpuDevice" in ended.stderr  # the log is there
    assert "rematerialization" not in ended.stderr


def _trial(seconds: float, peak: int) -> search.Trial:
    spent = estimate.Time(seconds, 0, 0, seconds, "matmul")
    empty = dict.fromkeys(field.name for field in dataclasses.fields(compiled.Compiled))
    return search.Trial({}, compiled.Compiled(**(empty | {"time": spent, "peak_bytes": peak})))


def test_the_frontier_is_what_nothing_else_beats():
    trials = [_trial(3, 10), _trial(1, 40), _trial(2, 20), _trial(2, 30), _trial(4, 10)]
    assert search.frontier(trials) == [trials[1], trials[2], trials[0]]


@pytest.mark.parametrize("needed", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("usable_gib", [3, 24, 80])
def test_layouts_that_are_tried(usable_gib, needed):
    """Until some fit, whatever the compiler says of the rough count; then leaner ones, and the leanest."""
    config, usable = registry.MODELS["qwen-14b"].config, usable_gib * chips.GIB
    num_params = decoder.num_params(config, lm_head=False)
    dtypes = ("float32", "bfloat16", "float32")
    work = layouts.Work(config, "lora", num_params, 10**7, *dtypes, 8192, 128, (32, 32))
    options = layouts.candidates(work, 8)
    rough = {layout: layouts.rough_bytes(work, layout) for layout in options}
    tried = []

    def try_out(layout):
        tried.append(layout)
        verdict = "fits" if needed * rough[layout] <= usable else "does not fit"
        outcome = types.SimpleNamespace(fits=verdict == "fits", peak_bytes=needed * rough[layout])
        return search.Trial({}, outcome)

    found = search._try_some(rough, usable, try_out)
    assert len(found) == len(set(tried)) == len(tried) <= search._MOST_TRIALS
    assert min(rough.values()) in map(rough.get, tried)
    fitting = [layout for layout in options if needed * rough[layout] <= usable]
    if fitting:
        assert fitting[0] in tried
    assert search._try_some(rough, usable, lambda layout: None) == []


def test_what_a_config_says_of_its_layout():
    config = config_lib.default_config()
    assert search.given(config) == (None, None, None)
    layout = layouts.Layout((1, 4, 2), "dots", 4)
    changed = search.with_overrides(config, search.overrides_of(config, layout))
    assert search.given(changed).layout == layout
    assert search.choose(changed, None, 8, 2**30, None) == {}


def test_a_compiled_program_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path))
    chip = dataclasses.replace(chips.CHIPS["h100"])
    target = targets.Target("h100:1", chip, (1,))

    class Program:
        def __init__(self, size):
            self.size = size

        def lower(self):
            return jax.jit(jnp.sin).lower(jax.ShapeDtypeStruct((self.size,), jnp.float32))

    first = kept_programs.get_or_compile(Program(3), target, {})
    assert first[0] > 0 and "sine" in first[1]
    with monkeypatch.context() as patched:
        patched.setattr(kept_programs, "_compile", lambda *given: (0, None))
        assert kept_programs.get_or_compile(Program(3), target, {}) == first
        assert kept_programs.get_or_compile(Program(4), target, {}) == (0, None)
        other = dataclasses.replace(target, name="h100:1,memory=90")
        assert kept_programs.get_or_compile(Program(3), other, {}) == (0, None)
    (kept,) = [path for path in (tmp_path / "plans").iterdir() if path.stat().st_size > 200][:1]
    for path in (tmp_path / "plans").iterdir():
        path.write_bytes(kept.read_bytes()[:20])
    assert kept_programs.get_or_compile(Program(3), target, {}) == first
