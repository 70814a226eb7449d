"""Products of bfloat16 on CPUs, against the same products of the rounded operands in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import programs

from selw2s_jax.models import cpu_products, decoder

BF16 = jnp.bfloat16


def draw(shape, seed, dtype=BF16):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def exact(spec, *arrays):
    return np.einsum(spec, *(np.asarray(x.astype(jnp.float32), np.float64) for x in arrays))


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("spec", ["tk,kn->tn", "tk,nk->tn"])
def test_products_and_gradients_are_those_of_the_rounded_operands(spec, rows):
    x, w = draw((rows, 7), 0), draw((7, 11) if "kn" in spec else (11, 7), 1)
    d_out = draw((rows, 11), 2)
    out, (d_x, d_w) = programs.value_and_gradients(
        lambda x, w: cpu_products.einsum(spec, x, w, jnp.float32),
        x,
        w,
        d_out=lambda _: d_out.astype(jnp.float32),
    )
    np.testing.assert_allclose(out, exact(spec, x, w), rtol=1e-5, atol=1e-5)
    weight = spec.split(",")[1][:2]
    assert_rounded(d_x, exact(f"tn,{weight}->tk", d_out, w))
    assert_rounded(d_w, exact(f"tk,tn->{weight}", x, d_out))


def assert_rounded(found, expected):
    """Within the rounding to bfloat16 of the exact numbers."""
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("is_merged", [True, False])
@pytest.mark.parametrize(
    ("spec", "x_shape", "w_shape", "b_shape"),
    [
        ("rtd,dcnh->rtcnh", (2, 3, 5), (5, 3, 2, 7), (3, 2, 7)),
        ("rtnh,nhd->rtd", (2, 3, 2, 7), (2, 7, 5), (5,)),
        ("rtd,nhd->rtnh", (1, 1, 5), (2, 7, 5), (2, 7)),
    ],
)
def test_projections_keep_the_gradients_of_float32_weights(spec, x_shape, w_shape, b_shape, is_merged):
    x, weight, bias = draw(x_shape, 0), draw(w_shape, 1, jnp.float32), draw(b_shape, 2, jnp.float32)
    rounded = weight.astype(BF16)
    out, (d_x, d_weight, d_bias) = programs.value_and_gradients(
        lambda *of: cpu_products.project(spec, *of, is_merged),
        x,
        weight,
        bias,
        d_out=lambda out: draw(out.shape, 3),
    )
    expected = exact(spec, x, rounded) + np.asarray(bias)
    assert_rounded(out, expected)
    d_out = draw(out.shape, 3)
    x_axes, w_axes, out_axes = spec.replace("->", ",").split(",")
    assert_rounded(d_x, exact(f"{out_axes},{w_axes}->{x_axes}", d_out, rounded))
    assert d_weight.dtype == d_bias.dtype == jnp.float32
    np.testing.assert_allclose(
        d_weight, exact(f"{x_axes},{out_axes}->{w_axes}", x, d_out), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(d_bias, exact(f"{out_axes}->{out_axes[2:]}", d_out), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("remat", "saved"), [("full", []), ("dots", ["u16[1,3,7]"])])
def test_dots_saves_results_in_the_bytes_of_bfloat16(remat, saved, capsys):
    def loss(x, weight):
        return jnp.sum(jnp.sin(cpu_products.project("rtd,df->rtf", x, weight, None, True)))

    policy = decoder.REMAT_POLICIES[remat]
    args = draw((1, 3, 5), 0), draw((5, 7), 1, jnp.float32)
    jax.ad_checkpoint.print_saved_residuals(jax.checkpoint(loss, policy=policy), *args)
    made = [line for line in capsys.readouterr().out.splitlines() if "argument" not in line]
    assert [line.split()[0] for line in made] == saved
