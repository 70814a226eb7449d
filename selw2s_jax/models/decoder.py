"""The decoder: token (and position) embedding, a stack of layers under scan, final norm, optional LM head."""

import contextlib
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from selw2s_jax import errors, sharding
from selw2s_jax.models import (
    blockwise_attention,
    cpu_products,
    embedding,
    family,
    kv_cache,
    layer_stack,
    layers,
    registry,
    shapes,
    token_log_probs,
)

REMAT_POLICIES = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(blockwise_attention.OUTPUT, cpu_products.OUTPUT),
    ),
    "none": jax.checkpoint_policies.everything_saveable,
}
ATTENTION_IMPLEMENTATIONS = ("xla", "cudnn")
DTYPES = ("float32", "bfloat16", "float16")
# The last layer computes all tokens, like any other, where more than this share of them is read, or where the others
# are not worth one more layer to compile: so many FLOPs of a forward pass.
_MOST_READ, _WORTH_A_LAYER = 0.5, 2**26
LOGITS_AT_ONCE = 2**27  # of all devices together: half a GiB in float32


class Decoder(nnx.Module):
    """A causal language model of any registered family.

    Args:
        config: sizes.
        param_dtype: dtype of the parameters held in memory.
        compute_dtype: dtype of the residual stream and of the matrix products; norm statistics, softmax,
            rotary angles and logits are float32 whatever it is.
        lm_head: whether `lm_logits` and `answer_logits` can be used.
        remat: what the backward pass keeps, "full" (nothing), "dots" or "none".
        attention: "xla" or "cudnn" (GPU with bfloat16 or float16 only).
        mesh: the device mesh that activations are laid out on; default the first local device.
        rngs: random streams; `params` initialises.
    """

    def __init__(
        self,
        config: family.ModelConfig,
        *,
        param_dtype,
        compute_dtype,
        lm_head: bool = False,
        remat: str = "full",
        attention: str = "xla",
        mesh: jax.sharding.Mesh | None = None,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.settings = _make_settings(param_dtype, compute_dtype, remat, attention, mesh)
        self.has_lm_head = lm_head
        dtype, embed_dim = self.settings.param_dtype, config.embed_dim
        entry = registry.get_family(config.family)
        shape, axes = (config.vocab_size, embed_dim), ("vocab", "embed")
        self.wte = layers.param(rngs, layers.embedding_init, shape, axes, dtype)
        if config.rope_base is None:
            shape = (config.max_seq_len, embed_dim)
            self.wpe = layers.param(rngs, layers.embedding_init, shape, ("position", "embed"), dtype)
        self.layers = entry.block(config, self.settings, rngs)
        self.final_norm = entry.norm(config, self.settings, rngs)
        if lm_head and not config.tie_embeddings:
            shape = (config.vocab_size, embed_dim)
            self.lm_head = layers.param(rngs, layers.weight_init, shape, ("vocab", "embed"), dtype)

    @property
    def mesh(self) -> jax.sharding.Mesh:
        return self.settings.mesh

    def hidden_states(
        self, tokens, segment_ids=None, positions=None, *, reads=None, adapters=None, dropout=None, cache=None
    ):
        """Final hidden states, after the final norm.

        Args:
            tokens: [R, T] int32.
            segment_ids: [R, T] int32, one number per example packed in a row, 0 for padding; default one
                example per row. Examples of a row never see each other.
            positions: [R, T] int32, counted from the end of the cache; default restarting with each segment.
            reads: [R, A] int32, columns of the tokens whose states are wanted, default all: of other tokens the last
                layer then computes keys and values alone.
            adapters: `lora.Adapters` of its weights.
            dropout: `lora.Dropout` of the adapters, None without.
            cache: `kv_cache.KVCache` of what comes before every segment of a row; its number of rows divides R.

        Returns:
            [R, T, D], or [R, A, D], in the compute dtype; positions of padding are finite and mean nothing.

        Raises:
            UserError: rows longer than `max_seq_len` without segment ids to cut them.
        """
        limit = self.config.max_seq_len
        if segment_ids is None and tokens.shape[1] > limit:
            raise errors.UserError(
                f"rows of {tokens.shape[1]} tokens exceed the model's context of {limit}: shorten them"
            )
        return self._run(tokens, segment_ids, positions, reads, adapters, dropout, cache, False)[0]

    def extend(
        self,
        tokens,
        segment_ids=None,
        positions=None,
        *,
        reads=None,
        adapters=None,
        cache=None,
        layer_states=None,
        parents=None,
    ):
        """`hidden_states`, and the keys and values of these tokens, [L, R, T, K, H] each in the compute dtype.

        Those of padding are finite and mean nothing. No row is too long here: the caller sees to it that
        positions stay within `max_seq_len`.

        Args:
            layer_states: those of `unstack`, in place of the decoder's own. The keys and values that are returned are
                then a tuple of [R, T, K, H] of each layer, and so are those of the cache (`kv_cache.unstack`).
            parents: [R, T] int32, a segment further in front in the row that a token's segment goes on from, or its own
                where there is none: what several examples begin with stands in a row once. Positions are then needed.
        """
        return self._run(
            tokens, segment_ids, positions, reads, adapters, None, cache, True, layer_states, parents
        )

    def unstack(self):
        """The state of each layer by itself, weights of products in the compute dtype.

        A scan over layers copies the weights of each before it multiplies by them, and XLA's CPU copies stacks in
        bfloat16 by way of float32. Of a few rows that is most of the time.
        """
        return _unstack(nnx.split(self.layers)[1], self.settings.compute_dtype)

    def _run(
        self,
        tokens,
        segment_ids,
        positions,
        reads,
        adapters,
        dropout,
        cache,
        returns_keys_values,
        layer_states=None,
        parents=None,
    ):
        adapters = (None, None) if adapters is None else nnx.split(adapters)
        grids = (tokens, segment_ids, positions, reads)
        with self._precision():
            return _forward(
                *nnx.split(self),
                *adapters,
                *grids,
                dropout,
                cache,
                returns_keys_values,
                layer_states,
                parents,
            )

    def lm_logits(self, hidden):
        """Next-token logits [..., V] float32 of hidden states [..., D]."""
        self._require_lm_head()
        with self._precision():
            return _lm_logits(*nnx.split(self), hidden)

    def next_token_losses(self, hidden, targets):
        """Cross-entropy [R, T] float32 of vocabulary entries targets [R, T] for hidden states [R, T, D].

        Equal to that of `lm_logits`, without holding those of all tokens: they are made, and made again for the
        gradient, for a few columns at a time.
        """
        self._require_lm_head()
        num_rows, num_tokens = targets.shape
        num_chunks = max(-(-num_rows * num_tokens * self.config.vocab_size // LOGITS_AT_ONCE), 1)
        num_chunks = next(
            n for n in range(min(num_chunks, num_tokens), num_tokens + 1) if num_tokens % n == 0
        )

        def losses(hidden, targets):
            return optax.softmax_cross_entropy_with_integer_labels(self.lm_logits(hidden), targets)

        if num_chunks == 1:
            return losses(hidden, targets)

        def to_chunks(x):  # of columns, so that rows stay where they are
            return x.reshape(num_rows, num_chunks, -1, *x.shape[2:]).swapaxes(0, 1)

        chunked = jax.lax.map(
            lambda chunk: jax.checkpoint(losses)(*chunk), (to_chunks(hidden), to_chunks(targets))
        )
        return chunked.swapaxes(0, 1).reshape(num_rows, num_tokens)

    def token_log_probs(self, hidden, targets):
        """Log-probabilities [...] float32 of vocabulary entries targets [...] after hidden states [..., D].

        Equal to those entries of the log-softmax of `lm_logits`, which are never whole where they are many: see
        `models.token_log_probs`.
        """
        self._require_lm_head()
        weight, num_parts = self._head_weight(), num_parts_of_logits(self.config, self.mesh, targets.size)
        hidden = hidden.astype(self.settings.compute_dtype)
        return token_log_probs.log_probs(hidden, weight, targets, num_parts=num_parts)

    def answer_logits(self, hidden, token_ids):
        """Logits [E, A] float32 of vocabulary entries token_ids [E, A] for hidden states [E, D].

        Equal to taking those columns of `lm_logits`, without the product over the whole vocabulary.
        """
        self._require_lm_head()
        with self._precision():
            return _answer_logits(*nnx.split(self), hidden, token_ids)

    def _precision(self):
        """float32 means float32, also where products default to less (TF32 on GPUs, bfloat16 on TPUs)."""
        if self.settings.compute_dtype == jnp.float32:
            return jax.default_matmul_precision("highest")
        return contextlib.nullcontext()

    def _require_lm_head(self):
        if not self.has_lm_head:
            raise ValueError("this decoder was built with lm_head=False")

    def _head_weight(self):
        head = self.wte if self.config.tie_embeddings else self.lm_head
        return head[...]


# Compiled here, so that an eager call compiles once per structure and shape; inside a caller's jit they
# are inlined.
@functools.partial(jax.jit, static_argnums=(0, 2, 10))
def _forward(
    graphdef,
    state,
    adapters_graphdef,
    adapters_state,
    tokens,
    segment_ids,
    positions,
    reads,
    dropout,
    cache,
    returns_keys_values,
    layer_states,
    parents,
):
    model = nnx.merge(graphdef, state)
    config, settings = model.config, model.settings
    axes = ("rows", "time", "features")
    if reads is not None:
        reads = sharding.constrain(reads, axes[:2], settings.mesh)
    if segment_ids is None:
        segment_ids = jnp.ones_like(tokens)
    if positions is None:
        positions = layers.segment_positions(segment_ids)
    mask, past = _own_mask(segment_ids, parents, positions, config.sliding_window), None
    if cache is not None:
        positions, past_mask = _behind(cache, positions, config.sliding_window)
        mask, past = jnp.concatenate([past_mask, mask], axis=-1), (cache.keys, cache.values)
    x = embedding.look_up(model.wte[...], tokens, settings.compute_dtype, settings.mesh)
    if config.rope_base is None:
        x += embedding.look_up(model.wpe[...], positions, settings.compute_dtype, settings.mesh)
        rotary = None
    else:
        rotary = layers.rotary_tables(positions, config.rotary_dim, config.rope_base, config.rope_scaling)
    context = layers.Context(mask, rotary, {})

    layers_graphdef, layers_state = nnx.split(model.layers)
    if not layers.uses_cpu_products(settings):  # which round weights layer by layer
        layers_state = layers.cast_products(layers_state, settings.compute_dtype)

    def branches(adapters_state, dropout):
        if adapters_graphdef is None:
            return {}
        return nnx.merge(adapters_graphdef, adapters_state).branches(dropout)

    def run_layer(x, states, columns=None):
        layer_state, adapters_state, past = states
        layer_context = context._replace(branches=branches(adapters_state, dropout), past=past)
        if columns is not None:
            own = branches(adapters_state, None if dropout is None else dropout.at(columns))
            layer_context = layer_context._replace(reads=layers.make_reads(layer_context, columns, own))
        x, keys_values = nnx.merge(layers_graphdef, layer_state)(x, layer_context)
        return sharding.constrain(x, axes, settings.mesh), keys_values if returns_keys_values else None

    if layer_states is not None:
        x, keys_values = _run_unrolled(run_layer, x, layer_states, adapters_state, past)
        return model.final_norm(x if reads is None else layers.take_columns(x, reads)), keys_values
    x = sharding.constrain(x, axes, settings.mesh)
    stacks, policy = (layers_state, adapters_state, past), REMAT_POLICIES[settings.remat]
    if reads is not None and is_worth_a_layer(layers_state, tokens, reads):
        x, keys_values = layer_stack.run_and_read(run_layer, x, stacks, policy, reads)
    else:
        x, keys_values = layer_stack.run(run_layer, x, stacks, policy)
        x = x if reads is None else sharding.constrain(layers.take_columns(x, reads), axes, settings.mesh)
    return model.final_norm(x), keys_values


def is_worth_a_layer(layers_state, tokens, reads) -> bool:
    """Whether the last layer is compiled by itself, for the tokens that are read."""
    leaves = jax.tree.leaves(layers_state)
    num_params = sum(leaf.size for leaf in leaves) // leaves[0].shape[0]
    num_unread = tokens.size - reads.size
    return reads.shape[1] <= _MOST_READ * tokens.shape[1] and 2 * num_unread * num_params >= _WORTH_A_LAYER


@functools.partial(jax.jit, static_argnums=1)
def _unstack(state, dtype):
    num_layers = len(jax.tree.leaves(state)[0])
    state = layers.cast_products(state, dtype)
    return [jax.tree.map(lambda stack, i=layer: stack[i], state) for layer in range(num_layers)]


def _run_unrolled(run_layer, x, layer_states, adapters_state, past):
    """What a scan of `run_layer` over layers gives, the keys and values of each by themselves."""
    found = []
    for i, layer_state in enumerate(layer_states):
        own_adapters = jax.tree.map(lambda stack, i=i: stack[i], adapters_state)
        x, keys_values = run_layer(x, (layer_state, own_adapters, tuple(of_layers[i] for of_layers in past)))
        found.append(keys_values)
    return x, tuple(zip(*found, strict=True))


def _own_mask(segment_ids, parents, positions, window):
    """Mask [R, 1, T, T] of the tokens of rows, at positions [R, T], over each other."""
    mask = layers.attention_mask(segment_ids, parents)
    return mask if window is None else mask & layers.window_mask(positions, positions, window)


def _behind(cache, positions, window):
    """Positions [R, T] counted from the end of a cache, and the mask [R, 1, T, S] of these tokens over its slots."""
    length = kv_cache.for_rows(cache.length, positions.shape[0], axis=0)
    positions = positions + length[:, None]
    slots = kv_cache.slot_positions(length, cache.end, cache.num_slots)
    mask = layers.past_mask(slots, positions.shape[1])
    return positions, mask if window is None else mask & layers.window_mask(positions, slots, window)


@functools.partial(jax.jit, static_argnums=0)
def _lm_logits(graphdef, state, hidden):
    model = nnx.merge(graphdef, state)
    dtype = model.settings.compute_dtype
    weight, hidden = model._head_weight().astype(dtype), hidden.astype(dtype)
    if layers.uses_cpu_products(model.settings) and model.mesh.size == 1:
        logits = cpu_products.einsum("td,vd->tv", hidden.reshape(-1, hidden.shape[-1]), weight, jnp.float32)
        return logits.reshape(*hidden.shape[:-1], -1)
    return jnp.einsum("...d,vd->...v", hidden, weight, preferred_element_type=jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _answer_logits(graphdef, state, hidden, token_ids):
    model = nnx.merge(graphdef, state)
    dtype = model.settings.compute_dtype
    weight = jnp.take(model._head_weight(), token_ids, axis=0, mode="clip").astype(dtype)
    return jnp.einsum("ed,ead->ea", hidden.astype(dtype), weight, preferred_element_type=jnp.float32)


def _make_settings(param_dtype, compute_dtype, remat, attention, mesh) -> family.Settings:
    for value, name, choices in (
        (jnp.dtype(param_dtype).name, "param_dtype", DTYPES),
        (jnp.dtype(compute_dtype).name, "compute_dtype", DTYPES),
        (remat, "remat", tuple(REMAT_POLICIES)),
        (attention, "attention", ATTENTION_IMPLEMENTATIONS),
    ):
        if value not in choices:
            raise errors.UserError(f"{name} {value!r} is not supported: choose {', '.join(choices)}")
    mesh = sharding.single_device_mesh() if mesh is None else mesh
    return family.Settings(jnp.dtype(param_dtype), jnp.dtype(compute_dtype), remat, attention, mesh)


def abstract_decoder(config: family.ModelConfig, **options) -> Decoder:
    """A `Decoder` of shapes only: no weight is made."""
    options = {"param_dtype": "float32", "compute_dtype": "float32"} | options
    return shapes.of(_build, config, tuple(options.items()))


def _build(config: family.ModelConfig, options: tuple[tuple[str, Any], ...]) -> Decoder:
    return Decoder(config, rngs=nnx.Rngs(0), **dict(options))


def flatten_params(state: nnx.State) -> dict[str, nnx.Variable]:
    """Parameters by dotted path, such as "layers.attn.qkv"."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def abstract_params(config: family.ModelConfig, *, lm_head: bool) -> dict[str, nnx.Variable]:
    """Shapes and logical axes of every parameter by dotted path."""
    return flatten_params(nnx.state(abstract_decoder(config, lm_head=lm_head), nnx.Param))


@functools.cache  # every stage of a plan asks for it
def num_params(config: family.ModelConfig, *, lm_head: bool) -> int:
    """The number of parameters of a decoder, with or without a language-model head of its own."""
    return sum(math.prod(variable.shape) for variable in abstract_params(config, lm_head=lm_head).values())


def num_parts_of_logits(config: family.ModelConfig, mesh: jax.sharding.Mesh, num_tokens: int) -> int:
    """In how many parts of the vocabulary `Decoder.token_log_probs` makes the logits of so many tokens."""
    (shard_size,) = sharding.logical_sharding(mesh, ("vocab",)).shard_shape((config.vocab_size,))
    return token_log_probs.choose_num_parts(num_tokens, config.vocab_size, shard_size, LOGITS_AT_ONCE)


@functools.cache
def layer_weights(config: family.ModelConfig) -> dict[str, tuple[int, int, int]]:
    """Of every product with a weight in one layer, by name: its (inputs, outputs, parameters)."""
    found = {}
    for name, variable in abstract_params(config, lm_head=False).items():
        metadata = variable.get_metadata()
        if metadata.get("inputs") is not None:
            sizes = dict(zip(metadata["axes"][1:], variable.shape[1:], strict=True))
            size = math.prod(sizes.values())
            num_inputs = math.prod(sizes[axis] for axis in metadata["inputs"])
            found[name] = (num_inputs, size // num_inputs, size)
    return found
