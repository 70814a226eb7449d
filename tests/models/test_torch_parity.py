"""Live comparison with torch at other sizes and seeds than the committed fixtures. Needs torch."""

import dataclasses

import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from support import families, parity, tiny_decoders

from selw2s_jax.hf import loader, peft, random_checkpoint, writer
from selw2s_jax.models import decoder, heads, lora

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="torch is not installed; test_decoder.py compares with committed outputs")


@pytest.mark.parametrize(("seed", "prefix"), [(11, True), (12, False)])
def test_gpt2_is_gpt2lmheadmodel(tmp_path, seed, prefix):
    config = dataclasses.replace(
        make_parity.GPT2_CONFIG, num_layers=4, embed_dim=55, num_heads=5, head_dim=11, mlp_dim=4 * 55
    )
    _compare(tmp_path, config, seed, prefix=prefix)


def test_qwen_is_qwen2_with_equal_kv_heads(tmp_path):
    config = dataclasses.replace(
        make_parity.QWEN_CONFIG, num_layers=4, embed_dim=70, num_heads=5, head_dim=14, rope_base=1000.0
    )
    _compare(tmp_path, config, seed=13)


@pytest.mark.parametrize("name", families.CONFIGS)
def test_families_are_those_of_transformers(tmp_path, name):
    _compare(tmp_path, families.CONFIGS[name], seed=15, tolerance=1e-5)


@pytest.mark.parametrize("name", families.CONFIGS)
def test_a_folder_that_transformers_wrote_is_read(tmp_path, name):
    import transformers

    config = families.CONFIGS[name]
    random_checkpoint.write_random_checkpoint(tmp_path / "ours", config, seed=16)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="float32")
    model.save_pretrained(tmp_path / "theirs")
    assert loader.read_model_config(tmp_path / "theirs") == config
    ours, theirs = (_params(tmp_path / name) for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    for path, value in ours.items():
        np.testing.assert_array_equal(theirs[path], value, err_msg=path)


@pytest.mark.parametrize("name", families.CONFIGS)
def test_an_exported_classifier_is_one_of_transformers(tmp_path, name):
    import torch
    import transformers

    config = families.CONFIGS[name]
    random_checkpoint.write_random_checkpoint(tmp_path / "base", config, seed=17)
    inputs = make_parity.make_inputs(config, seed=17)
    classifier = heads.Classifier(tiny_decoders.load(tmp_path / "base", lm_head=False), p_ik_head=False)
    classifier.class_head[...] = inputs["class_head"]
    writer.save_classifier(tmp_path / "out", classifier, pad_token_id=0)
    tokens = np.maximum(inputs["tokens"], 1)
    tokens[np.arange(tokens.shape[1]) > inputs["last"][:, None]] = 0
    ours = classifier(tokens, None, None, np.arange(len(tokens)), inputs["last"]).class_logits
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype="float32")
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens).long()).logits.numpy()
    parity.assert_close({"logits": np.asarray(ours)}, {"logits": theirs}, tolerance=1e-5)
    assert loader.check_checkpoint(tmp_path / "out", lm_head=False) == config


@pytest.mark.parametrize("name", ["qwen2", "gpt_neox"])
def test_peft_adapts_the_same_weights(tmp_path, name):
    torch, library = pytest.importorskip("torch"), pytest.importorskip("peft", reason="peft is not installed")
    import transformers

    config = families.CONFIGS[name]
    random_checkpoint.write_random_checkpoint(tmp_path / "base", config, seed=18)
    inputs = make_parity.make_inputs(config, seed=18)
    settings = lora.Settings(rank=3, alpha=6.0, dropout=0.0, targets=("attention", "mlp"))
    model = tiny_decoders.load(tmp_path / "base", lm_head=False)
    classifier = heads.Classifier(model, p_ik_head=False, adapters=settings, seed=1)
    classifier.class_head[...] = inputs["class_head"]
    rng = np.random.default_rng(18)
    for weight in classifier.adapters.names:
        b = classifier.adapters[weight].b
        b[...] = 0.1 * rng.standard_normal(b.shape, dtype=np.float32)
    peft.save(tmp_path / "out", classifier, base="base", main_head="class_head")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", dtype="float32")
    adapted = library.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    tokens, rows = inputs["tokens"], np.arange(len(inputs["tokens"]))
    adapted.config.pad_token_id = config.vocab_size  # of no token, so that the last is read
    ours = classifier(tokens, None, None, rows, np.full_like(rows, tokens.shape[1] - 1)).class_logits
    with torch.no_grad():
        theirs = adapted(torch.from_numpy(tokens).long()).logits.numpy()
    parity.assert_close({"logits": np.asarray(ours)}, {"logits": theirs}, tolerance=1e-5)


def test_committed_fixtures_are_what_torch_computes(fixtures):
    from safetensors.numpy import load_file

    for family, config in make_parity.CONFIGS.items():
        folder = fixtures / f"parity_{family}"
        stored = load_file(folder / "expected" / "expected.safetensors")
        inputs = {name.removeprefix("input/"): stored[name] for name in stored if name.startswith("input/")}
        parity.assert_close(stored, make_parity.run_torch(folder, config, inputs))


def _params(folder):
    params = decoder.flatten_params(nnx.state(tiny_decoders.load(folder), nnx.Param))
    return {path: variable.get_value() for path, variable in params.items()}


def _compare(folder, config, seed, tolerance=1e-4, **options):
    random_checkpoint.write_random_checkpoint(folder, config, seed=seed, **options)
    inputs = make_parity.make_inputs(config, seed)
    ours, theirs = parity.run_jax(folder, inputs), make_parity.run_torch(folder, config, inputs)
    parity.assert_close(ours, theirs, tolerance)
