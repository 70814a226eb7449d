"""Parts that the decoder families share. Statistics of norms, softmax and rotary angles are float32."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.models import blockwise_attention, cpu_products

embedding_init = jax.nn.initializers.normal(0.02)
weight_init = jax.nn.initializers.normal(0.02)
zeros_init = jax.nn.initializers.zeros
ones_init = jax.nn.initializers.ones
_BLOCKWISE_TOKENS = 320  # of rows whose attention is in blocks on a CPU; shorter ones are faster whole


class Context(NamedTuple):
    """What a layer is called with besides its input.

    Attributes:
        mask: attention mask [R, 1, T, S].
        rotary: cosines and sines, None for learned positions.
        branches: what `project` adds, by name of the weight in the layer, as "attn.qkv".
        past: keys and values [C, K, S, H] of this layer in a `kv_cache.KVCache`, in front of the input's own.
        reads: the tokens that the layer is asked for, None for all. Keys and values are of all in any case.
    """

    mask: jax.Array
    rotary: tuple[jax.Array, jax.Array] | None
    branches: Mapping[str, Callable[[str, jax.Array], jax.Array]]
    past: tuple[jax.Array, jax.Array] | None = None
    reads: "Reads | None" = None


class Reads(NamedTuple):
    """The tokens that a layer is asked for."""

    columns: jax.Array  # [R, A] int32, of each in its row
    context: Context  # of these tokens: mask [R, 1, A, S], rotary and branches of theirs


def make_reads(context, columns, branches) -> Reads:
    """The tokens at columns [R, A] of a layer's rows, whose context is `context` but for their `branches`."""
    rotary = context.rotary and tuple(take_columns(table, columns) for table in context.rotary)
    mask = jnp.take_along_axis(context.mask, columns[:, None, :, None], axis=2, mode="clip")
    return Reads(columns, context._replace(mask=mask, rotary=rotary, branches=branches))


def read(x, context):
    """x and its context at the tokens that are read, [R, A, ...]; both as they are where all of them are."""
    if context.reads is None:
        return x, context
    return take_columns(x, context.reads.columns), context.reads.context


def take_columns(x, columns):
    """x [R, T, ...] at columns [R, A] of each row, [R, A, ...]: from within rows, so that they stay on their device."""
    return jnp.take_along_axis(x, columns.reshape(*columns.shape, *(1,) * (x.ndim - 2)), axis=1, mode="clip")


def place_read(reads, row, column):
    """Where [E] among the columns `reads` [R, A] of row[e] column[e] is: the first place that has it."""
    return jnp.argmax(reads[row] == column[:, None], axis=1)


def param(rngs, init, shape, axes, dtype, num_layers=None, inputs=None) -> nnx.Param:
    """A parameter: shape, logical axes and initialiser, with a leading [L] axis if `num_layers` is given.

    Args:
        inputs: of a weight of a product, the axes that this sums over.
    """
    if num_layers is not None:
        shape, axes = (num_layers, *shape), ("layers", *axes)
    metadata = {} if inputs is None else {"inputs": inputs}
    return nnx.Param(init(rngs.params(), shape, dtype), axes=axes, **metadata)


class LayerNorm(nnx.Module):
    """Layer normalisation with scale and bias, of one norm or of a stack of them."""

    def __init__(self, config, settings, rngs, num_layers=None):
        self.eps = config.norm_eps
        shape, axes, dtype = (config.embed_dim,), ("features",), settings.param_dtype
        self.scale = param(rngs, ones_init, shape, axes, dtype, num_layers)
        self.bias = param(rngs, zeros_init, shape, axes, dtype, num_layers)

    def __call__(self, x):
        h = x.astype(jnp.float32)
        h = h - jnp.mean(h, axis=-1, keepdims=True)
        h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + self.eps)
        return (h * self.scale[...] + self.bias[...]).astype(x.dtype)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation with a scale, of one norm or of a stack of them.

    Args:
        sizes: of the last axes of its input, which are normed as one, by logical axis; default the width of the model.
    """

    def __init__(self, config, settings, rngs, num_layers=None, sizes=None):
        self.eps = config.norm_eps
        sizes = {"features": config.embed_dim} if sizes is None else sizes
        shape, axes = tuple(sizes.values()), tuple(sizes)
        self.axes = tuple(range(-len(sizes), 0))
        self.scale = param(rngs, ones_init, shape, axes, settings.param_dtype, num_layers)

    def __call__(self, x):
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=self.axes, keepdims=True) + self.eps)
        return (h * self.scale[...]).astype(x.dtype)


def cast_products(state, dtype):
    """The weights of products, those with `inputs`, as they are multiplied; the rest of a state as it is.

    Once for the forward and the backward pass: what a scan casts layer by layer, remat casts again, and gradients of
    the stack would be summed in the wider dtype.
    """
    is_variable = lambda leaf: isinstance(leaf, nnx.Variable)  # noqa: E731

    def cast(variable):
        is_weight = "inputs" in variable.get_metadata()
        return variable.replace(variable.get_value().astype(dtype)) if is_weight else variable

    return jax.tree.map(cast, state, is_leaf=is_variable)


def project(spec, x, weight, settings, branch=None, bias=None):
    """The einsum of x with a weight, both and the result in the compute dtype, plus `branch(spec, x)` and a bias.

    The axes that are summed over are the last of x, and the first or the last of the weight, in the same order; the
    result's are what is left of x and then of the weight: in another order XLA copies weights and results.
    """
    dtype = settings.compute_dtype
    # Across devices the axes stay apart: some of those that would be merged are sharded.
    is_merged = settings.mesh.size == 1
    if uses_cpu_products(settings):
        out = cpu_products.project(spec, x, weight[...], None if bias is None else bias[...], is_merged)
        return out if branch is None else out + branch(spec, x)
    weight = weight[...].astype(dtype)
    if is_merged:
        out = einsum(*cpu_products.as_matrices(spec, x, weight), dtype)
        out = out.reshape(cpu_products.shape_of(spec, x, weight))
    else:
        out = einsum(spec, x, weight, dtype)
    if branch is not None:
        out = out + branch(spec, x)
    return out if bias is None else out + bias[...].astype(dtype)


def activate(function, x, settings):
    """`function(x)` in the dtype of x: of bfloat16 on CPUs rounded once, where XLA would round each step of it."""
    if uses_cpu_products(settings):
        return function(x.astype(jnp.float32)).astype(x.dtype)
    return function(x)


def uses_cpu_products(settings) -> bool:
    """Whether products are those of `cpu_products`."""
    return _on_cpu(settings) and settings.compute_dtype == jnp.bfloat16


def einsum(spec, x, y, dtype):
    """`jnp.einsum(spec, x, y)`, summed in `dtype` or wider."""
    return jnp.einsum(spec, x, y, preferred_element_type=dtype)


def project_qkv(spec, x, weight, bias, context, settings):
    """q, k and v by one weight and bias that have an axis "c" of these three: q of the tokens that are read.

    One product where all are, else one of q and one of k and v.
    """
    _, weight_axes, out_axes = spec.replace("->", ",").split(",")

    def parts(x, context, part):
        own_weight, own_bias = weight[...], bias[...]
        branch = context.branches.get("attn.qkv")
        if part is not None:
            own_weight, own_bias = (
                slice_part(own_weight, weight_axes, part),
                slice_part(own_bias, out_axes[2:], part),
            )
            branch = branch and functools.partial(branch, part=part)
        out = project(spec, x, own_weight, settings, branch, own_bias)
        return jnp.moveaxis(out, out_axes.index("c"), 0)

    if context.reads is None:
        return parts(x, context, None)
    return *parts(*read(x, context), (0, 1)), *parts(x, context, (1, 3))


def slice_part(array, axes, part):
    """The part (start, stop) of the axis "c" of an array."""
    return jax.lax.slice_in_dim(array, *part, axis=axes.index("c"))


def _on_cpu(settings) -> bool:
    return settings.mesh.devices.flat[0].platform == "cpu"


def segment_positions(segment_ids):
    """Positions [R, T] int32 that restart wherever `segment_ids` [R, T] changes."""
    index = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None]
    is_start = jnp.concatenate(
        [jnp.ones_like(segment_ids[:, :1], bool), segment_ids[:, 1:] != segment_ids[:, :-1]], axis=1
    )
    return index - jax.lax.cummax(jnp.where(is_start, index, 0), axis=1)


def attention_mask(segment_ids, parents=None):
    """Mask [R, 1, T, S]: causal and within one segment, and the parent of it where `parents` [R, T] has one.

    Padding is a segment like any other, so every position sees at least itself and no softmax is empty.
    """
    num_tokens = segment_ids.shape[1]
    causal = jnp.tril(jnp.ones((num_tokens, num_tokens), bool))
    is_seen = segment_ids[:, :, None] == segment_ids[:, None, :]
    if parents is not None:
        is_seen |= parents[:, :, None] == segment_ids[:, None, :]
    return (causal & is_seen)[:, None]


def past_mask(slots, num_tokens):
    """Mask [R, 1, T, S]: every token sees the slots of its row's past that hold one: those at `slots` [R, S] >= 0."""
    return jnp.broadcast_to((slots >= 0)[:, None, None], (slots.shape[0], 1, num_tokens, slots.shape[1]))


def window_mask(positions, slots, window):
    """Mask [R, 1, T, S]: tokens at positions [R, T] see those at `slots` [R, S] that are fewer than `window` behind."""
    return (positions[:, :, None] - slots[:, None] < window)[:, None]


def rotary_tables(positions, rotary_dim, base, scaling=None):
    """Cosines and sines [R, T, 1, rotary_dim] float32 of the half-split rotary embedding.

    Args:
        scaling: a `family.RopeScaling`, or None.
    """
    exponents = jnp.arange(0, rotary_dim, 2, dtype=jnp.float32) / rotary_dim
    periods = base**exponents  # over 2 pi, in tokens
    if scaling is not None:
        periods = _scale_periods(periods, scaling)
    angles = positions[:, :, None].astype(jnp.float32) / periods
    angles = jnp.concatenate([angles, angles], axis=-1)[:, :, None]
    return jnp.cos(angles), jnp.sin(angles)


def _scale_periods(periods, scaling):
    if scaling.kind == "linear":
        return periods * scaling.factor
    if scaling.kind != "llama3":
        raise ValueError(f"unknown kind of rope scaling {scaling.kind!r}")
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = scaling.original_max_seq_len / (2 * math.pi * periods)
    kept = jnp.clip((turns - low) / (high - low), 0.0, 1.0)  # share of the frequency that is not divided
    return periods / (kept + (1 - kept) / scaling.factor)


def apply_rotary(x, rotary):
    """Rotates x [R, T, N, H], pairing each entry of the first half of H with its fellow in the second.

    Of tables narrower than H, the first so many entries of each head; the others stay as they are.
    """
    cos, sin = rotary
    rotary_dim = cos.shape[-1]
    if rotary_dim < x.shape[-1]:
        rotated, kept = jnp.split(x, [rotary_dim], axis=-1)
        return jnp.concatenate([apply_rotary(rotated, rotary), kept], axis=-1)
    h = x.astype(jnp.float32)
    first, second = jnp.split(h, 2, axis=-1)
    return (h * cos + jnp.concatenate([-second, first], axis=-1) * sin).astype(x.dtype)


def attend(q, k, v, context, settings):
    """Scaled dot-product attention of q, k, v and of the past in `context` -> [R, T, N, H].

    Args:
        q: [R, T, N, H], of the tokens that `context` is of.
        k, v: [R, S, K, H], K a divisor of N: consecutive N / K heads of q share one of k and v.
    """
    axes, kv_axes = (("rows", "time", name, "head_dim") for name in ("heads", "kv_heads"))
    q = sharding.constrain(q, axes, settings.mesh)
    k, v = (sharding.constrain(x, kv_axes, settings.mesh) for x in (k, v))
    if context.past is not None:
        grouped = functools.partial(_attend_with_past, past_k=context.past[0], past_v=context.past[1])
        out = _attend_in_groups(grouped, q, k, v, context.mask)
    elif _on_cpu(settings):
        out = _attend_on_cpu(q, k, v, context.mask, settings)
    else:
        # Of the few queries of tokens that are read cuDNN refuses odd numbers, and has nothing to gain.
        implementation = settings.attention if q.shape[1] == k.shape[1] else "xla"
        out = jax.nn.dot_product_attention(q, k, v, mask=context.mask, implementation=implementation)
    return sharding.constrain(out, axes, settings.mesh)


def _attend_in_groups(attention, q, k, v, mask):
    """`attention(q, k, v, mask)` of as many heads of each: those of q that share one are taken for tokens of one.

    So neither keys nor values are copied. With G heads of q to one of k, [R, T, K * G, H] becomes [R, T * G, K, H].
    """
    num_rows, num_tokens, num_heads, head_dim = q.shape
    num_kv_heads = k.shape[2]
    if num_heads == num_kv_heads:
        return attention(q, k, v, mask=mask)
    size = num_heads // num_kv_heads
    folded = q.reshape(num_rows, num_tokens, num_kv_heads, size, head_dim).swapaxes(2, 3)
    folded = folded.reshape(num_rows, num_tokens * size, num_kv_heads, head_dim)
    out = attention(folded, k, v, mask=jnp.repeat(mask, size, axis=2))
    return out.reshape(num_rows, num_tokens, size, num_kv_heads, head_dim).swapaxes(2, 3).reshape(q.shape)


def _attend_on_cpu(q, k, v, mask, settings):
    """As `jax.nn.dot_product_attention` under a causal mask, laid out for XLA's CPU."""
    if settings.mesh.size == 1 and q.shape[1] == k.shape[1] >= _BLOCKWISE_TOKENS:
        return blockwise_attention.attend(q, k, v, mask)
    return _attend_in_groups(_attend_whole, q, k, v, mask)


def _attend_whole(q, k, v, mask):
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    product = cpu_products.einsum if q.dtype == jnp.bfloat16 else einsum
    logits = product("rnth,rnsh->rnts", q, k, jnp.float32)
    # A token sees at least itself, so no softmax is NaN.
    probs = jax.nn.softmax(jnp.where(mask, logits * q.shape[-1] ** -0.5, -jnp.inf), axis=-1)
    return product("rnts,rnsh->rnth", probs.astype(v.dtype), v, v.dtype).swapaxes(1, 2)


def _attend_with_past(q, k, v, past_k, past_v, mask):
    """Attention to a past [C, N, S, H] and to the rows' own tokens, with one softmax over both.

    A past that several rows have in common is read in place: copied for each it would be most of the memory.
    """
    num_rows, num_tokens, num_heads, head_dim = q.shape
    num_pasts, num_slots = past_k.shape[0], past_k.shape[2]

    def to_rows(x):  # [C, N, G * T, ...] -> [R, N, T, ...]
        x = x.reshape(num_pasts, num_heads, -1, num_tokens, *x.shape[3:])
        return x.swapaxes(1, 2).reshape(num_rows, num_heads, num_tokens, *x.shape[4:])

    def to_pasts(x):
        x = x.reshape(num_pasts, -1, num_heads, num_tokens, *x.shape[3:])
        return x.swapaxes(1, 2).reshape(num_pasts, num_heads, -1, *x.shape[4:])

    # Heads in front of the rows that share a past: the large arrays stay as the products make them.
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    past = jnp.einsum("cnqh,cnsh->cnqs", to_pasts(q), past_k, preferred_element_type=jnp.float32)
    own = jnp.einsum("rnth,rnsh->rnts", q, k, preferred_element_type=jnp.float32)
    past_mask, own_mask = jnp.split(mask, [num_slots], axis=-1)
    past_mask = past_mask.reshape(num_pasts, 1, -1, num_slots)
    past = jnp.where(past_mask, past * head_dim**-0.5, -jnp.inf)
    own = jnp.where(own_mask, own * head_dim**-0.5, -jnp.inf)
    # A token sees at least itself, so this is finite.
    largest = jnp.maximum(to_rows(jnp.max(past, axis=-1)), jnp.max(own, axis=-1))
    past = jnp.exp(past - to_pasts(largest)[..., None])
    own = jnp.exp(own - largest[..., None])
    total = to_rows(jnp.sum(past, axis=-1)) + jnp.sum(own, axis=-1)
    out = jnp.einsum("cnqs,cnsh->cnqh", past.astype(v.dtype), past_v, preferred_element_type=jnp.float32)
    out = to_rows(out) + jnp.einsum(
        "rnts,rnsh->rnth", own.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return (out / total[..., None]).astype(q.dtype).swapaxes(1, 2)


class Block(nnx.Module):
    """One pre-norm layer; its parameters are declared for all layers at once.

    Args:
        norm, mlp: classes of the family's parts.
        attention: likewise; it also returns the keys and values of its input.

    Attributes:
        last_products: the weights, by name in the layer, whose products are only added to the layer's output: the
            backward pass does not need them, so remat "full" does not make them again.
    """

    last_products = ("mlp.down",)

    def __init__(self, norm, attention, mlp, config, settings, rngs):
        self.attn_norm = norm(config, settings, rngs, config.num_layers)
        self.attn = attention(config, settings, rngs)
        self.mlp_norm = norm(config, settings, rngs, config.num_layers)
        self.mlp = mlp(config, settings, rngs)

    def __call__(self, x, context):
        h, keys_values = self.attn(self.attn_norm(x), context)
        x, context = read(x, context)
        x = x + h
        return x + self.mlp(self.mlp_norm(x), context), keys_values
