"""Modules of shapes alone are traced once, and are those of tracing anew."""

import jax
from flax import nnx
from support import families

from selw2s_jax.models import decoder, shapes

OPTIONS = {"param_dtype": "float32", "compute_dtype": "bfloat16", "lm_head": True}


def test_a_module_of_shapes_is_that_of_tracing_anew():
    config = families.CONFIGS["mistral"]
    for _ in range(2):
        kept = nnx.split(decoder.abstract_decoder(config, **OPTIONS))
        anew = nnx.split(nnx.eval_shape(lambda: decoder.Decoder(config, rngs=nnx.Rngs(0), **OPTIONS)))
        assert kept[0] == anew[0] and hash(kept[0]) == hash(anew[0])
        assert jax.tree.structure(kept[1]) == jax.tree.structure(anew[1])
        assert jax.tree.leaves(kept[1]) == jax.tree.leaves(anew[1])


def test_each_caller_has_a_module_of_its_own():
    made = []

    def make(size: int) -> nnx.Module:
        made.append(size)
        return nnx.Linear(size, 3, rngs=nnx.Rngs(0))

    first, second, other = (shapes.of(make, size) for size in (5, 5, 7))
    assert made == [5, 7]
    first.kernel = nnx.Param(jax.ShapeDtypeStruct((1, 1), "int8"))
    second.bias.set_metadata(touched=True)
    assert (second.kernel.shape, other.kernel.shape) == ((5, 3), (7, 3))
    assert shapes.of(make, 5).kernel.shape == (5, 3)
    assert not hasattr(shapes.of(make, 5).bias, "touched")
