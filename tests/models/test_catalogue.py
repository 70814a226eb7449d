"""The models with a name: their sizes are those of the published checkpoints."""

import re

import pytest

from selw2s_jax.hf import pretrained
from selw2s_jax.models import decoder, registry

# As the hub counts them; of a checkpoint in bfloat16 its index has twice as many bytes (Qwen-7B: 15,442,649,088).
NUM_PARAMS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "qwen-1.8b": 1_836_828_672,
    "qwen-7b": 7_721_324_544,
    "qwen-14b": 14_167_290_880,
    "qwen-72b": 72_287_920_128,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b-base": 596_049_920,
    "qwen3-1.7b-base": 1_720_574_976,
    "qwen3-4b-base": 4_022_468_096,
    "qwen3-8b-base": 8_190_735_360,
    "qwen3-14b-base": 14_768_307_200,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
    "olmo-2-1b": 1_484_916_736,
    "olmo-2-7b": 7_298_617_344,
}


@pytest.mark.slow
@pytest.mark.ci
def test_every_model_has_its_published_number_of_parameters():
    found = {name: decoder.num_params(entry.config, lm_head=True) for name, entry in registry.MODELS.items()}
    assert found == NUM_PARAMS


def test_sizes_survive_config_json():
    for name, entry in registry.MODELS.items():
        family = registry.get_family(entry.config.family)
        assert family.parse_config(family.format_config(entry.config)) == entry.config, name


def test_names_and_commits_of_the_hub():
    for name, entry in registry.MODELS.items():
        assert registry.find_model(name) is registry.find_model(entry.hub_name) is entry
        assert entry.revision is None or re.fullmatch("[0-9a-f]{40}", entry.revision)
    assert registry.find_model("someone/else") is None


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *(
            ("gpt2", 5e-5),
            ("gpt2-medium", 5e-5),
            ("gpt2-large", 1e-5),
            ("gpt2-xl", 1e-5),
            ("qwen-1.8b", 1e-5),
        ),
        *(("qwen-14b", 1e-5), ("smollm2-135m", 5e-5), ("qwen2.5-0.5b", 5e-5), ("qwen3-0.6b-base", 5e-5)),
        *(("qwen2.5-1.5b", 1e-5), ("llama-3-8b", 1e-5), ("pythia-410m", 5e-5), ("pythia-1b", 1e-5)),
    ],
)
def test_default_learning_rates(name, rate):
    assert pretrained.default_learning_rate(registry.MODELS[name].config) == rate
