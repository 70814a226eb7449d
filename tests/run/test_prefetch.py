"""What a run reads of the hub, as the hub's cache has it."""

import pathlib
import types

import huggingface_hub
import pytest
from support import tiny_config

from selw2s_jax.run import prefetch


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with SciQ and another data set."""
    repos = [
        types.SimpleNamespace(
            repo_id=name, repo_type=kind, size_on_disk=size, repo_path=pathlib.Path("/cache") / name
        )
        for name, kind, size in (
            ("allenai/sciq", "dataset", 3_000_000),
            ("google/boolq", "dataset", 1),
            ("allenai/ai2_arc", "dataset", 1_000_000),
            ("allenai/ai2_arc", "model", 1),
        )
    ]
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: types.SimpleNamespace(repos=repos))
    folder = tmp_path / "models--Qwen--Qwen-14B" / "snapshots" / "8be28542"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    (folder / "deep" / "other").write_bytes(bytes(500_000))
    return folder


def test_models_and_data_of_a_run_each_once_with_their_sizes(cache, tmp_path):
    config = tiny_config.make_config(data__source="hub", task="sciq", p_ik__task="arc", methods=("finetune",))
    models = [types.SimpleNamespace(folder=folder) for folder in (cache, tmp_path / "mine", cache)]
    items = prefetch.find([config, config], models)
    assert [item[:3] for item in items] == [
        ("model", "Qwen/Qwen-14B", 2_500_000),
        ("model", "mine", None),
        ("data", "allenai/sciq", 3_000_000),
    ]
    lines = prefetch.describe(items)
    assert "0.01 GB from the hub" in lines[-1] and len(lines) == 4
    config.methods = ("selective",)  # which has P(IK)
    assert [item.name for item in prefetch.find([config], [])] == ["allenai/sciq", "allenai/ai2_arc"]
    config.data.source = "/folder"
    assert len(prefetch.find([config], models)) == 2


def test_a_run_without_the_hub():
    assert prefetch.describe([]) == ["nothing of this run is on the Hugging Face hub"]
