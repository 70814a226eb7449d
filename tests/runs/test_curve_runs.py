"""Whole runs whose models are asked during training: the same weights, and predictions that are those of the stages."""

import shutil
import types

import jax
import numpy as np
import pytest
from flax import nnx
from runs import test_probe_runs
from support import tiny_config

from selw2s_jax.report import stored
from selw2s_jax.run import pipeline, student_models, students
from selw2s_jax.runtime import artifacts, preemption
from selw2s_jax.stages import curve
from selw2s_jax.training import loop

pytestmark = pytest.mark.slow


def make_config(**overrides):
    """Odd sizes; the last step, the sixth or eighth, is no multiple of the steps between two evaluations."""
    defaults = {
        "weak__model": "random-tiny-gpt2",
        "strong__model": "random-tiny-gpt2",
        "methods": ("finetune",),
        "training__learning_rate": 1e-2,
        "training__epochs": 2.0,
        "data__num_train": 66,
        "precision__compute_dtype": "float32",
        "evaluation__every_steps": 5,
        "evaluation__num_trained": 7,
    }
    return tiny_config.make_config(**defaults | overrides)


def trained(workdir, method: str, seed: int = 0) -> students.Student:
    return students.find(workdir, task="sciq", method=method, seed=seed)


def weights(workdir, method: str) -> list[np.ndarray]:
    params = nnx.split(student_models.load(trained(workdir, method)))[1]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.to_pure_dict(params))]


def assert_curves_end_in_the_evaluations(workdir) -> None:
    """Bit for bit: the batches and the program are the same."""
    run = stored.read_run(workdir)
    assert run.curves.keys() == run.predictions.keys()
    for method, of_seed in run.predictions.items():
        for seed, values in of_seed.items():
            found = run.curves[method][seed]
            assert (found.test[0] == 0.5).all(), "heads start at 0"
            np.testing.assert_array_equal(found.test[-1], values, err_msg=f"{method} {seed}")
            assert len(np.unique(found.test, axis=0)) == len(found.steps)


@pytest.mark.parametrize("trained_parts", ["all", "lora"])
def test_weights_are_the_same_bits_without_an_evaluation(tmp_path, trained_parts):
    """In micro-batches; keys are others, as the artifact holds more."""
    settings = {"training__trained": trained_parts, "training__micro_batch_size": 4}
    pipeline.run(make_config(**settings), tmp_path / "asked")
    pipeline.run(
        make_config(**settings, evaluation__every_steps=0, evaluation__num_trained=0), tmp_path / "bare"
    )
    assert_curves_end_in_the_evaluations(tmp_path / "asked")
    for method in ("weak", "ceiling", "finetune"):
        pairs = zip(weights(tmp_path / "asked", method), weights(tmp_path / "bare", method), strict=True)
        for found, expected in pairs:
            np.testing.assert_array_equal(found, expected)
        asked, bare = (trained(tmp_path / name, method).artifact for name in ("asked", "bare"))
        assert asked.key != bare.key and set(asked.files) - set(bare.files) >= {"curve.parquet"}
    table = trained(tmp_path / "asked", "finetune").artifact.read_table(curve.FILES["trained"])
    assert np.unique(table["step"]).tolist() == [0, 5, 8] and len(table["step"]) == 3 * 7
    assert not stored.read_run(tmp_path / "bare").curves


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    """Probes, with rows held out of the student's half."""
    workdir = tmp_path_factory.mktemp("curves") / "run"
    pipeline.run(probe_config(), workdir)
    return workdir


def probe_config():
    return make_config(
        methods=("finetune", "selective"),
        training__trained="heads",
        weak__label_noise=0.3,
        evaluation__every_steps=2,
        evaluation__held_out=0.2,
    )


@pytest.mark.ci
def test_probes_are_asked_about_rows_held_out(probes):
    assert_curves_end_in_the_evaluations(probes)
    labels = test_probe_runs.read_stages(probes, "predictions")
    given = labels["weak labels of what is held out, seed 0"].read_table("predictions.parquet")
    weak = dict(zip(given["example_id"], given["prob_1"], strict=True))
    artifact = trained(probes, "selective").artifact
    held_out = artifact.read_table(curve.FILES["held_out"])
    assert set(held_out) == {"step", "example_id", "prob_1", "weak_1"}
    assert set(held_out["example_id"]) == weak.keys() and len(weak) == 7
    assert weak.keys().isdisjoint(artifact.read_table("trace.parquet")["example_id"])
    turned = [
        weak_1 != weak[name] for name, weak_1 in zip(held_out["example_id"], held_out["weak_1"], strict=True)
    ]
    assert 0 < np.mean(turned) < 1, "labels are as noisy as those that are trained on"
    asked_about = artifact.read_table(curve.FILES["trained"])["example_id"]
    assert set(asked_about) <= set(artifact.read_table("trace.parquet")["example_id"])
    assert set(artifact.read_table(curve.FILES["test"])) == {"step", "example_id", "prob_1"}


def test_a_training_told_to_stop_goes_on_to_the_same_curve(probes, tmp_path, monkeypatch):
    run = shutil.copytree(probes, tmp_path / "run")
    artifact = trained(run, "selective").artifact
    expected = {name: read(artifact, name) for name in (*curve.FILES.values(), "trace.parquet")}
    shutil.rmtree(artifact.path)
    polls = iter(range(100))
    told = types.SimpleNamespace(reached=lambda: next(polls) >= 2, Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted, match="stopped at step 3 of 6"):
        patch.setattr(loop, "preemption", told)
        pipeline.run(probe_config(), run)
    pipeline.run(probe_config(), run)
    again = trained(run, "selective").artifact
    assert {name: read(again, name) for name in expected} == expected


def read(artifact: artifacts.Artifact, name: str) -> dict[str, list]:
    return {column: values.tolist() for column, values in artifact.read_table(name).items()}
