"""`precision.compute_dtype=auto` by facts of the machine."""

import pytest

from selw2s_jax import config as config_lib
from selw2s_jax.experiments import precision
from selw2s_jax.runtime import native_dtypes


@pytest.mark.parametrize("platform", ["gpu", "cuda", "tpu"])
def test_accelerators_compute_in_bfloat16(platform):
    assert native_dtypes.compute_dtype(platform) == "bfloat16"


@pytest.mark.parametrize(
    ("info", "dtype"),
    [
        ("model name\t: fast\nflags\t\t: fpu avx512f avx512_bf16 fsrm\n", "bfloat16"),
        ("model name\t: avx512_bf16\nflags\t\t: fpu avx512f avx512_bf16x\n", "float32"),
        ("Features\t: fp asimd bf16\n", "float32"),
        (None, "float32"),
    ],
)
def test_cpus_compute_in_what_they_multiply_natively(info, dtype, tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    if info is not None:
        file.write_text(info)
    monkeypatch.setattr(native_dtypes, "_CPU_INFO", file)
    assert native_dtypes.compute_dtype("cpu") == dtype
    config = config_lib.default_config()
    assert precision.resolve(config, "cpu")
    assert config.precision.compute_dtype == dtype
    assert not precision.resolve(config, "tpu")  # what is said stays
    assert config.precision.compute_dtype == dtype
