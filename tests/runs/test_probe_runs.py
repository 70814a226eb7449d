"""Whole runs of probes on embeddings: the students of runs without them, stopped runs, other models beside them."""

import dataclasses
import json
import pathlib
import shutil
import types

import numpy as np
import pytest
from support import commands, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import kernels
from selw2s_jax.data import by_id
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.inference import classify
from selw2s_jax.report import stored
from selw2s_jax.run import embeddings, pipeline, student_models, students
from selw2s_jax.runtime import artifacts, preemption
from selw2s_jax.training import loop
from selw2s_jax.worlds import smoke

pytestmark = pytest.mark.slow


ROLES = ("weak", "strong")


def make_config(**overrides):
    """Odd sizes; labels by selection, the graph and P(IK), and masks of another student, step by step."""
    defaults = {
        "strong__model": "random-tiny-gpt2",
        "methods": ("selective", "random_selection"),
        "training__trained": "heads",
        "training__learning_rate": 1e-2,
        "training__epochs": 2.0,
        "data__num_train": 66,
        "p_ik__num_test": 13,
        "precision__compute_dtype": "float32",
        "analysis__kernels": True,
        "analysis__num_rows": 21,
    }
    return tiny_config.make_config(**defaults | overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("probes")
    pipeline.run(make_config(), workdir / "run")
    return workdir / "run"


def read_stages(workdir, kind: str) -> dict[str, artifacts.Artifact]:
    """The finished stages of a kind by label."""
    listed = json.loads((workdir / "results.json").read_text())["manifest"]["stages"]
    store = artifacts.Store(workdir)
    return {s["label"]: store.find_by_key(kind, s["key"]) for s in listed if s["name"] == kind}


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float, name: str):
    assert found.keys() == expected.keys()
    for column, values in expected.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(
                found[column], values, rtol=0, atol=tolerance, err_msg=f"{name} {column}"
            )
        else:
            np.testing.assert_array_equal(found[column], values, err_msg=f"{name} {column}")


@pytest.mark.ci
def test_students_are_those_of_a_run_that_reads_every_text_at_every_step(finished, tmp_path):
    off = {"training__embed_once": False, "analysis__kernels": False, "analysis__num_rows": 2000}
    pipeline.run(make_config(**off), tmp_path / "run")
    assert not (tmp_path / "run" / "artifacts" / "embeddings").exists()
    for label, artifact in read_stages(tmp_path / "run", "predictions").items():
        found = read_stages(finished, "predictions")[label].read_table("predictions.parquet")
        assert_close(found, artifact.read_table("predictions.parquet"), 1e-5, label)
    trained = read_stages(finished, "train")
    for label, artifact in read_stages(tmp_path / "run", "train").items():
        if "trace.parquet" in artifact.files:
            tables = [sort(one.read_table("trace.parquet")) for one in (trained[label], artifact)]
            assert_close(*tables, 1e-5, label)
    for method in ("weak", "ceiling", "selective", "random_selection"):
        student = students.find(tmp_path / "run", task="sciq", method=method, seed=0)
        expected = student_models.load(student)
        probe = student_models.load(students.find(finished, task="sciq", method=method, seed=0))
        scale = np.abs(expected.class_head[...]).max()
        assert scale > 1e-2
        np.testing.assert_allclose(probe.class_head[...], expected.class_head[...], rtol=0, atol=1e-5 * scale)


def sort(trace: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By step and example: the order in a step is that of packing."""
    order = np.lexsort((trace["example_id"], trace["step"]))
    return {name: column[order] for name, column in trace.items()}


@pytest.mark.ci
def test_a_probe_that_was_kept_is_a_whole_classifier(finished):
    student = students.find(finished, task="sciq", method="selective", seed=0)
    test = inputs.prepare(config_lib.normalize(make_config()), finished).by_seed[0].test
    tokenizer = student_models.load_tokenizer(student)
    tokens = [np.array(ids, np.int32) for ids in tokenizer.encode_batch(test.texts)]
    classifier = student_models.load(student)
    probs, p_ik = classify.predict(
        classifier, tokens, mesh=classifier.backbone.mesh, batch_tokens=512, label="test"
    )
    kept = read_stages(finished, "predictions")["evaluation of selective, seed 0"].read_table(
        "predictions.parquet"
    )
    np.testing.assert_allclose(probs[:, 1], kept["prob_1"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(p_ik, kept["p_ik"], rtol=0, atol=1e-5)


@pytest.mark.ci
def test_kernels_are_of_the_embeddings_that_probes_have(finished):
    """Nothing is read for them; rows by the draw of their example_id, truth and weak labels joined to them."""
    results = json.loads((finished / "results.json").read_text())
    found = {role: embeddings.read(finished, model=role, split="student_half", seed=0) for role in ROLES}
    rows = {role: dict(zip(one.example_id, one.values, strict=True)) for role, one in found.items()}
    labels = read_stages(finished, "predictions")["weak labels, seed 0"].read_table("predictions.parquet")
    weak = dict(zip(labels["example_id"], labels["prob_1"], strict=True))
    half = inputs.prepare(config_lib.normalize(make_config()), finished).by_seed[0].student_half
    truth = dict(zip(half.ids, half.labels, strict=True))
    assert weak.keys() == truth.keys() == rows["weak"].keys() and len(truth) == 33
    ids = sorted(sorted(truth, key=lambda name: by_id.keyed_uniform(0, "kernels", name))[:21])
    sides = [np.stack([rows[role][name] for name in ids]) for role in ROLES]
    expected = kernels.predicted_gap(*sides, [truth[name] for name in ids])
    of_weak = kernels.predicted_gap(*sides, [weak[name] for name in ids])
    (entry,) = results["kernels"]
    assert stored.read(finished).runs[0].kernels == [entry]
    assert entry["weak_label_gap"] == pytest.approx(of_weak["gap"])
    same = ("gap", "operator_norm", "effective_dimension_weak", "effective_dimension_strong")
    assert {name: entry[name] for name in same} == pytest.approx({name: expected[name] for name in same})
    assert (entry["seed"], entry["n"]) == (0, 21) and entry["gap"] > 0
    stages = [stage["label"] for stage in results["manifest"]["stages"] if stage["name"] == "embeddings"]
    # Both models are one here: of weak half, student's half, test, and two of P(IK), as without kernels.
    assert len(stages) == 5


@pytest.mark.ci
def test_embeddings_are_found_by_name(finished):
    found = embeddings.read(finished, model="strong", split="test", seed=0)
    assert found.values.shape == (33, 32) and found.values.dtype == np.float32
    assert len(set(found.example_id)) == 33
    with pytest.raises(
        UserError, match=r"no embeddings of model=strong, split=weak_half, seed=0, but: model=weak"
    ):
        embeddings.read(finished, model="strong", split="weak_half", seed=0)
    with pytest.raises(UserError, match="run='other' is not there"):
        embeddings.read(finished, model="strong", split="test", seed=0, run="other")


@pytest.mark.ci
def test_a_probe_told_to_stop_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, capsys):
    """From heads that were trained before, P(IK) first; and what is finished is not made again."""
    config = make_config(methods=("selective",), p_ik__stage="pretrain_then_joint")
    run = shutil.copytree(finished, tmp_path / "run")
    pipeline.run(config, run)
    capsys.readouterr()
    expected = kept_of(run)
    for kind, label in (("train", "selective, seed 0"), ("predictions", "evaluation of selective, seed 0")):
        shutil.rmtree(read_stages(run, kind)[label].path)
    polls = iter(range(100))
    told = types.SimpleNamespace(reached=lambda: next(polls) >= 1, Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted, match="stopped at step 2 of 8"):
        patch.setattr(loop, "preemption", told)
        pipeline.run(config, run)
    pipeline.run(config, run)
    assert "embeddings" not in "".join(line for line in capsys.readouterr().out.splitlines() if "[" in line)
    assert kept_of(run) == expected


def kept_of(workdir) -> list[list[float]]:
    """The heads of `selective` as they were kept, its trace, and what it says of the test."""
    student = students.find(workdir, task="sciq", method="selective", seed=0)
    model = student_models.load(student)
    trace = student.artifact.read_table("trace.parquet")
    tested = read_stages(workdir, "predictions")["evaluation of selective, seed 0"].read_table(
        "predictions.parquet"
    )
    arrays = [model.class_head[...], model.p_ik_head[...], *trace.values(), *tested.values()]
    return [np.asarray(array).tolist() for array in arrays]


def test_an_adapted_model_teaches_a_probe(tmp_path):
    """Each is what its own key says; the ceiling's halves come from two stages."""
    config = make_config(
        methods=("finetune",),
        training__trained="all",
        weak__trained="lora",
        strong__trained="heads",
        ceiling__split="both",
        p_ik__num_test=0,
        mesh__shape=(1, 1, 1),
        analysis__kernels=False,
        analysis__num_rows=2000,
    )
    pipeline.run(config, tmp_path / "run")
    facts = {
        method: students.find(tmp_path / "run", task="sciq", method=method, seed=0).facts
        for method in ("weak", "ceiling", "finetune")
    }
    assert [facts[method].trained for method in facts] == ["lora", "heads", "heads"]
    assert facts["weak"].lora is not None and facts["finetune"].lora is None
    labels = list(read_stages(tmp_path / "run", "embeddings"))
    assert len(labels) == 3 and all("strong" in label for label in labels)


def test_probes_of_two_models_on_two_meshes(tmp_path):
    """Three devices divide the width of one model: what is compiled for its heads is not that for the other's."""
    folder = tmp_path / "wide"
    shutil.copytree(smoke.model_folder("random-tiny-gpt2", tmp_path / "made"), folder)
    sizes = loader.read_model_config(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    sizes = dataclasses.replace(sizes, embed_dim=48, head_dim=48 // sizes.num_heads)
    random_checkpoint.write_random_checkpoint(folder, sizes)
    flags = ("--config.training.trained=heads", "--config.methods=finetune", f"--config.weak.model={folder}")
    ((status, out, last),) = commands.endings([commands.start(tmp_path / "run", *flags, devices=3)])
    assert status == 0, last
    assert out.count("compiling the train step") == 3  # of weak model, ceiling and student
