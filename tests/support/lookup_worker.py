"""Compiles the gradients of a small decoder on mixed meshes of 8 devices, for what the compiler logs of it."""

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.models import decoder, registry

SHAPES = ((2, 2, 2), (2, 4, 1), (2, 1, 4))


def make_config(family: str) -> registry.ModelConfig:
    return registry.ModelConfig(
        family=family,
        num_layers=1,
        embed_dim=16,
        num_heads=4,
        head_dim=4,
        mlp_dim=32,
        vocab_size=32,
        max_seq_len=32,
        norm_eps=1e-5,
        rope_base=None if family == "gpt2" else 1e4,
        tie_embeddings=family == "gpt2",
    )


def compile_gradients(family: str, shape: tuple[int, int, int]) -> None:
    mesh = sharding.make_mesh(shape)
    options = {"param_dtype": "float32", "compute_dtype": "bfloat16", "mesh": mesh}
    graphdef, params = nnx.split(decoder.abstract_decoder(make_config(family), **options))
    params = jax.tree.map(
        lambda x, placed: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
        params,
        sharding.param_shardings(mesh, params),
    )
    placed = sharding.logical_sharding(mesh, ("rows", "time"))
    tokens = jax.ShapeDtypeStruct((8, 16), jnp.int32, sharding=placed)

    def loss(params, tokens):
        return jnp.sum(nnx.merge(graphdef, params).hidden_states(tokens).astype(jnp.float32) ** 2)

    jax.jit(jax.grad(loss)).lower(params, tokens).compile()


if __name__ == "__main__":
    for shape in SHAPES:
        compile_gradients("qwen", shape)
    compile_gradients("gpt2", SHAPES[0])
