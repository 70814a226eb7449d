"""What Llama and the families after it share: layers, keys and config.json.

RMSNorm, rotary positions, grouped queries with q, k and v apart, gated MLP. Weights keep the checkpoint's Linear
layout, [out, in].
"""

import functools

from flax import nnx

from selw2s_jax.models import family, key_tables, layers, qwen, rope_config


class Attention(nnx.Module):
    """Causal attention of grouped queries with rotary positions.

    Args:
        has_bias: whether the products of q, k and v have one.
        norms: what of q and of k is normed before it is rotated: "heads" for each head, "tokens" for all heads of a
            token as one, None for nothing.
    """

    def __init__(self, config, settings, rngs, *, has_bias, norms):
        self.settings, self.has_bias, self.has_norms = settings, has_bias, norms is not None
        D, N, K, H = config.embed_dim, config.num_heads, config.kv_heads, config.head_dim
        stack = (settings.param_dtype, config.num_layers)
        for name, num_heads, heads in (("q", N, "heads"), ("k", K, "kv_heads"), ("v", K, "kv_heads")):
            shape, axes = (num_heads, H, D), (heads, "head_dim", "embed")
            setattr(self, name, layers.param(rngs, layers.weight_init, shape, axes, *stack, inputs=axes[2:]))
            if has_bias:
                bias = layers.param(rngs, layers.zeros_init, shape[:2], axes[:2], *stack)
                setattr(self, f"{name}_bias", bias)
        if self.has_norms:
            of_q, of_k = {"head_dim": H}, {"head_dim": H}
            if norms == "tokens":
                of_q, of_k = {"heads": N} | of_q, {"kv_heads": K} | of_k
            self.q_norm = layers.RMSNorm(config, settings, rngs, config.num_layers, of_q)
            self.k_norm = layers.RMSNorm(config, settings, rngs, config.num_layers, of_k)
        axes = ("embed", "heads", "head_dim")
        self.out = layers.param(rngs, layers.weight_init, (D, N, H), axes, *stack, inputs=axes[1:])

    def __call__(self, x, context):
        read, queries = layers.read(x, context)
        q = self._heads("q", read, queries)
        k, v = (self._heads(name, x, context) for name in "kv")
        if self.has_norms:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = layers.apply_rotary(q, queries.rotary), layers.apply_rotary(k, context.rotary)
        h = layers.attend(q, k, v, queries, self.settings)
        branch = queries.branches.get("attn.out")
        return layers.project("rtnh,dnh->rtd", h, self.out, self.settings, branch), (k, v)

    def _heads(self, name, x, context):
        branch = context.branches.get(f"attn.{name}")
        bias = getattr(self, f"{name}_bias") if self.has_bias else None
        return layers.project("rtd,nhd->rtnh", x, getattr(self, name), self.settings, branch, bias)


def make_family(
    name,
    parse_config,
    format_config,
    *,
    has_bias=False,
    norms=None,
    block=layers.Block,
    norm_keys=("input_layernorm", "post_attention_layernorm"),
) -> family.Family:
    """A family of these layers.

    Args:
        has_bias, norms: as for `Attention`.
        block: the `layers.Block`.
        norm_keys: what checkpoints call its norms of attention and of MLP.
    """
    attention = functools.partial(Attention, has_bias=has_bias, norms=norms)
    return family.Family(
        name=name,
        block=functools.partial(block, layers.RMSNorm, attention, qwen.MLP),
        norm=layers.RMSNorm,
        parse_config=parse_config,
        format_config=format_config,
        key_table=key_tables.KeyTable(rows=_rows(has_bias, norms, norm_keys), prefix="model."),
    )


def _rows(has_bias, norms, norm_keys) -> tuple[key_tables.Row, ...]:
    layer, row = "{prefix}layers.{layer}.", key_tables.Row
    rows = [
        row("{prefix}embed_tokens.weight", "wte"),
        row(f"{layer}{norm_keys[0]}.weight", "layers.attn_norm.scale"),
    ]
    for name in "qkv":
        rows.append(row(f"{layer}self_attn.{name}_proj.weight", f"layers.attn.{name}", unfold=(2, 1)))
        if has_bias:
            rows.append(row(f"{layer}self_attn.{name}_proj.bias", f"layers.attn.{name}_bias", unfold=(2,)))
    for name in "qk" if norms else "":
        unfold = (2,) if norms == "tokens" else (1,)
        rows.append(row(f"{layer}self_attn.{name}_norm.weight", f"layers.attn.{name}_norm.scale", unfold))
    return (
        *rows,
        row(f"{layer}self_attn.o_proj.weight", "layers.attn.out", unfold=(1, 2)),
        row(f"{layer}{norm_keys[1]}.weight", "layers.mlp_norm.scale"),
        row(f"{layer}mlp.gate_proj.weight", "layers.mlp.gate"),
        row(f"{layer}mlp.up_proj.weight", "layers.mlp.up"),
        row(f"{layer}mlp.down_proj.weight", "layers.mlp.down"),
        row("{prefix}norm.weight", "final_norm.scale"),
        row("lm_head.weight", "lm_head"),
        row("score.weight", None),  # the head of a classifier in transformers
        row("{prefix}rotary_emb.inv_freq", None),  # recomputed from the config
        row(f"{layer}self_attn.rotary_emb.inv_freq", None),
    )


def parse_config(config: dict, name: str, *, supported: dict[str, tuple], **sizes) -> family.ModelConfig:
    """The sizes in a config.json as transformers 4 or 5 writes it.

    Args:
        name: of the family.
        supported: values of the family's own fields that we compute, besides those of all.
        sizes: of the `ModelConfig`, besides those of all.

    Raises:
        ValueError: a missing or unsupported field.
    """
    family.refuse_unsupported(
        config,
        {
            "hidden_act": ("silu",),
            "attention_bias": (False, None),
            "mlp_bias": (False, None),
            "quantization_config": (None,),
            **supported,
        },
    )
    _check_layer_types(config.get("layer_types"))
    embed_dim = family.require(config, "hidden_size")
    num_heads = family.require(config, "num_attention_heads")
    num_kv_heads = family.require(_given(config, num_key_value_heads=num_heads), "num_key_value_heads")
    if num_heads % num_kv_heads:
        raise ValueError(
            f"num_attention_heads {num_heads} is no multiple of num_key_value_heads {num_kv_heads}"
        )
    if config.get("head_dim") is None and embed_dim % num_heads:
        raise ValueError(f"hidden_size {embed_dim} is no multiple of num_attention_heads {num_heads}")
    head_dim = family.require(_given(config, head_dim=embed_dim // num_heads), "head_dim")
    if head_dim % 2:
        raise ValueError(f"head_dim {head_dim} must be even")
    rope = rope_config.parse(config)
    if rope.fraction != 1.0:
        raise ValueError(f"unsupported partial_rotary_factor {rope.fraction} (supported: 1.0)")
    return family.ModelConfig(
        family=name,
        num_layers=family.require(config, "num_hidden_layers"),
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=head_dim,
        mlp_dim=family.require(config, "intermediate_size"),
        vocab_size=family.require(config, "vocab_size"),
        max_seq_len=family.require(config, "max_position_embeddings"),
        norm_eps=family.require(config, "rms_norm_eps", float, most=1.0),
        rope_base=rope.base,
        tie_embeddings=family.flag(config, "tie_word_embeddings", False),
        num_kv_heads=None if num_kv_heads == num_heads else num_kv_heads,
        rope_scaling=rope.scaling,
        **sizes,
    )


def _check_layer_types(kinds) -> None:
    if not isinstance(kinds, list | None):
        raise ValueError(f"layer_types must be a list or null, not {family.shown(kinds)}")
    if others := {str(kind) for kind in kinds or ()} - {"full_attention"}:
        raise ValueError(f"unsupported layer_types {', '.join(sorted(others))} (supported: full_attention)")


def _given(config: dict, **defaults) -> dict:
    """The fields that are not null, with defaults of those that are or that are missing."""
    return defaults | {field: value for field, value in config.items() if value is not None}


def format_config(config: family.ModelConfig, architecture: str) -> dict:
    """config.json as transformers 4 writes it, which 5 reads too."""
    return {
        "architectures": [architecture],
        "attention_dropout": 0.0,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.embed_dim,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_dim,
        "max_position_embeddings": config.max_seq_len,
        "model_type": config.family,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_scaling": rope_config.format_scaling(config.rope_scaling),
        "rope_theta": config.rope_base,
        "tie_word_embeddings": config.tie_embeddings,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
