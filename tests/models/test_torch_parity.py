"""Live comparison with torch at other sizes and seeds than the committed fixtures. Needs torch."""

import dataclasses

import pytest
from fixtures import make_parity
from support import parity

from selw2s_jax.hf import random_checkpoint

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="torch is not installed; test_decoder.py compares with committed outputs")


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("seed", [11, 12])
def test_gpt2_is_gpt2lmheadmodel(tmp_path, seed, prefix):
    config = dataclasses.replace(
        make_parity.GPT2_CONFIG, num_layers=4, embed_dim=55, num_heads=5, head_dim=11, mlp_dim=4 * 55
    )
    _compare(tmp_path, config, seed, prefix=prefix)


@pytest.mark.parametrize("seed", [13, 14])
def test_qwen_is_qwen2_with_equal_kv_heads(tmp_path, seed):
    config = dataclasses.replace(
        make_parity.QWEN_CONFIG, num_layers=4, embed_dim=70, num_heads=5, head_dim=14, rope_base=1000.0
    )
    _compare(tmp_path, config, seed)


def test_committed_fixtures_are_what_torch_computes(fixtures):
    from safetensors.numpy import load_file

    for family, config in make_parity.CONFIGS.items():
        folder = fixtures / f"parity_{family}"
        stored = load_file(folder / "expected" / "expected.safetensors")
        inputs = {name.removeprefix("input/"): stored[name] for name in stored if name.startswith("input/")}
        parity.assert_close(stored, make_parity.run_torch(folder, config, inputs))


def _compare(folder, config, seed, **options):
    random_checkpoint.write_random_checkpoint(folder, config, seed=seed, **options)
    inputs = make_parity.make_inputs(config, seed)
    parity.assert_close(parity.run_jax(folder, inputs), make_parity.run_torch(folder, config, inputs))
