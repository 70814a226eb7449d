"""The whole run on real data sets with the real tokenizers, and random checkpoints of their vocabularies."""

import dataclasses
import json
import shutil

import pytest
from support import plans, tiny_config

from selw2s_jax.hf import random_checkpoint
from selw2s_jax.models import registry
from selw2s_jax.run import pipeline


@pytest.fixture(scope="module")
def models(real_data, tmp_path_factory) -> dict[str, str]:
    """Folders of a GPT-2-shaped and a Qwen-shaped checkpoint with the tokenizers' own files."""
    folder = tmp_path_factory.mktemp("models")
    for name, tokenizer in (("gpt2", "gpt2"), ("qwen-1.8b", "qwen1")):
        sizes = {"num_layers": 2, "embed_dim": 24, "num_heads": 2, "head_dim": 12, "mlp_dim": 50}
        config = dataclasses.replace(registry.MODELS[name].config, **sizes)
        random_checkpoint.write_random_checkpoint(folder / name, config)
        for path in (real_data / "tokenizers" / tokenizer).iterdir():
            shutil.copy(path, folder / name / path.name)
    return {"weak__model": str(folder / "gpt2"), "strong__model": str(folder / "qwen-1.8b")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "p_ik_task", "num_test", "majority"),
    [
        pytest.param("sciq", "arc", 150, None, marks=pytest.mark.ci),
        ("sciq", "arc", None, None),
        ("boolq", "arc", None, 2033 / 3270),
        ("cosmos_qa", "winogrande", None, None),
    ],
)
def test_a_run_on_real_questions(real_data, models, tmp_path, task, p_ik_task, num_test, majority):
    config = tiny_config.make_config(
        task=task,
        p_ik__task=p_ik_task,
        data__source=str(real_data),
        data__num_train=50,
        data__num_test=num_test,
        **models,
    )
    report = pipeline.run(config, tmp_path)
    plans.assert_counted(config, tmp_path)
    counts = {"sciq": 1000, "boolq": 3270, "cosmos_qa": 906}
    assert {record["n"] for record in report["records"]} == {num_test or counts[task]}
    if majority is not None:
        assert report["majority_class_accuracy"] == pytest.approx(majority)
    notes = " ".join(json.loads((tmp_path / "results.json").read_text())["notes"])
    assert ("divided by context" in notes) == (task == "cosmos_qa")
