"""Whole runs that train a part of the model: what is kept, stopped runs, exports, damage."""

import dataclasses
import json
import pathlib
import shutil
import types

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.export import exports
from selw2s_jax.hf import peft
from selw2s_jax.inference import classify
from selw2s_jax.run import pipeline, student_models, students
from selw2s_jax.runtime import artifacts, preemption
from selw2s_jax.training import loop

pytestmark = pytest.mark.slow


def make_config(trained: str, **overrides):
    return tiny_config.make_config(
        weak__model="random-tiny-gpt2",
        strong__model="random-tiny-qwen",
        methods=("selective",),
        training__trained=trained,
        lora__rank=3,
        lora__dropout=0.25,
        lora__targets=("attention",),
        training__learning_rate=1e-2,
        **overrides,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """A run that trains adapters: GPT-2 teaches Qwen, whose P(IK) was trained first."""
    workdir = tmp_path_factory.mktemp("lora_run")
    pipeline.run(make_config("lora", p_ik__stage="pretrain_then_joint"), workdir)
    return workdir


def find(workdir, method: str) -> students.Student:
    return students.find(workdir, task="sciq", method=method, seed=0)


def kept_predictions(workdir, method: str) -> dict[str, np.ndarray]:
    listed = json.loads((workdir / "results.json").read_text())["manifest"]["stages"]
    (key,) = (stage["key"] for stage in listed if stage["label"] == f"evaluation of {method}, seed 0")
    folder = workdir / "artifacts" / "predictions" / key
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return artifacts.Artifact("predictions", key, folder, files).read_table("predictions.parquet")


def predict(classifier, student: students.Student, workdir) -> tuple[np.ndarray, np.ndarray | None]:
    test = inputs.prepare(config_lib.normalize(make_config("lora")), workdir).by_seed[0].test
    tokens = [
        np.array(ids, np.int32) for ids in student_models.load_tokenizer(student).encode_batch(test.texts)
    ]
    return classify.predict(
        classifier,
        tokens,
        mesh=classifier.backbone.mesh,
        batch_tokens=make_config("lora").execution.score_tokens,
        label="test",
    )


@pytest.mark.parametrize("method", ["weak", "selective"])  # GPT-2 and Qwen
def test_a_student_and_its_exports_predict_as_the_run(finished, tmp_path, method):
    student = find(finished, method)
    assert student.facts.trained == "lora" and student.facts.lora.rank == 3
    kept = kept_predictions(finished, method)["prob_1"]
    assert np.std(kept) > 1e-3
    probs, _ = predict(student_models.load(student), student, finished)
    np.testing.assert_allclose(probs[:, 1], kept, rtol=0, atol=1e-6)
    exports.save(student, tmp_path / "merged")
    merged = exports.load(tmp_path / "merged")
    assert merged.adapters is None
    probs, _ = predict(merged, student, finished)
    np.testing.assert_allclose(probs[:, 1], kept, rtol=0, atol=1e-5)
    exports.save(student, tmp_path / "apart", adapters="apart")
    apart = exports.load(tmp_path / "apart", base=student.base_folder)
    assert apart.adapters is not None
    probs, _ = predict(apart, student, finished)
    np.testing.assert_allclose(probs[:, 1], kept, rtol=0, atol=1e-6)
    assert exports.read_facts(tmp_path / "apart") == exports.read_facts(tmp_path / "merged") == student.facts
    card = (tmp_path / "apart" / "README.md").read_text()
    assert "rank 3, alpha 16, dropout 0.25" in card and ("import peft" in card) == (method == "weak")


def test_only_what_was_trained_is_kept(finished):
    student = find(finished, "selective")
    names = {path.name for path in pathlib.Path(student.artifact.path / "params").rglob("*")}
    stored = (pathlib.Path(student.artifact.path) / "params" / "_METADATA").read_text()
    assert "adapters" in stored and "backbone" not in stored and "backbone" not in " ".join(names)


def test_a_run_that_ended_is_not_run_again_and_other_settings_retrain(finished, capsys):
    capsys.readouterr()
    pipeline.run(make_config("lora", p_ik__stage="pretrain_then_joint"), finished)
    assert ", 0 to run" in capsys.readouterr().out


def forget(workdir: pathlib.Path, method: str) -> None:
    """Removes a trained model of a run and its evaluation."""
    listed = json.loads((workdir / "results.json").read_text())["manifest"]["stages"]
    for stage in listed:
        if stage["label"] in (f"{method}, seed 0", f"evaluation of {method}, seed 0"):
            shutil.rmtree(workdir / "artifacts" / stage["name"] / stage["key"])


def test_a_run_told_to_stop_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished, tmp_path / "run")
    config = make_config("lora", p_ik__stage="pretrain_then_joint")
    expected = kept_predictions(run, "selective")
    forget(run, "selective")
    polls = iter(range(100))
    told = types.SimpleNamespace(reached=lambda: next(polls) >= 1, Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted, match="stopped at step 2 of 4"):
        patch.setattr(loop, "preemption", told)
        pipeline.run(config, run)
    pipeline.run(config, run)
    found = kept_predictions(run, "selective")
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)


def test_a_linear_probe_whose_backbone_is_held_in_bfloat16(tmp_path):
    """Its predictions are those of the run from what was kept, and from an exported folder nearly so."""
    run = tmp_path / "run"
    pipeline.run(make_config("heads", precision__compute_dtype="bfloat16", training__epochs=2.0), run)
    student = find(run, "selective")
    kept = kept_predictions(run, "selective")["prob_1"]
    classifier = student_models.load(student)
    assert (classifier.backbone.wte.dtype, classifier.class_head.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(predict(classifier, student, run)[0][:, 1], kept, rtol=0, atol=1e-6)
    exports.save(student, tmp_path / "out")
    whole = exports.load(tmp_path / "out")
    assert whole.backbone.wte.dtype == jnp.float32
    np.testing.assert_allclose(predict(whole, student, run)[0][:, 1], kept, rtol=0, atol=0.02)


def test_a_pretrained_model_that_is_gone_or_another(finished, tmp_path):
    student = find(finished, "selective")
    gone = dataclasses.replace(student, base_folder=tmp_path / "gone")
    with pytest.raises(
        UserError, match=r"the folder \S+gone of random-tiny-qwen, .* is gone; .* with --base"
    ):
        student_models.load(gone)
    student_models.load(gone, base=student.base_folder)
    weak = find(finished, "weak")
    with pytest.raises(
        UserError, match=r"is not the one that the student was made from; give .* with --base"
    ):
        student_models.load(gone, base=weak.base_folder)
    exports.save(gone, tmp_path / "apart", adapters="apart")  # needs no other weight
    with pytest.raises(UserError, match="is not the one that the student was made from"):
        exports.load(tmp_path / "apart", base=weak.base_folder)


def test_adapters_that_are_none_or_damaged(finished, tmp_path):
    student = find(finished, "weak")
    with pytest.raises(UserError, match="--lora=appart is not one of: merged, apart"):
        exports.save(student, tmp_path / "out", adapters="appart")
    probe = dataclasses.replace(student, facts=dataclasses.replace(student.facts, trained="heads", lora=None))
    with pytest.raises(
        UserError, match=r"--lora=apart: weak has no adapters, .* training\.trained=heads; leave"
    ):
        exports.save(probe, tmp_path / "out", adapters="apart")
    exports.save(student, tmp_path / "out", adapters="apart")
    arrays = load_file(tmp_path / "out" / peft.WEIGHTS_NAME)
    del arrays["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]
    save_file(arrays, tmp_path / "out" / peft.WEIGHTS_NAME)
    with pytest.raises(UserError, match=r"adapter_model.safetensors lacks base_model\.model\..*; export"):
        exports.load(tmp_path / "out", base=student.base_folder)
