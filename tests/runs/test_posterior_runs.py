"""Whole runs of the posterior label and its controls: what they train on, what is reported, and what they never see."""

import json
import pathlib

import numpy as np
import pytest
from scipy import special
from support import tiny_config

from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.run import embeddings, forms, pipeline
from selw2s_jax.runtime import artifacts

METHODS = (
    "posterior",
    "posterior_online",
    "posterior_online_shuffled",
    "posterior_shuffled",
    "posterior_constant",
    "selective_by_confidence",
    "random_selection_by_confidence",
    "selective_frozen",
    "random_selection_frozen",
)


def make_config(**overrides):
    """Probes, as they are quick; odd sizes."""
    defaults = {
        "strong__model": "random-tiny-gpt2",
        "methods": METHODS,
        "strong__trained": "heads",
        "weak__trained": "heads",
        "training__learning_rate": 3e-2,
        "training__epochs": 2.0,
        "data__num_train": 66,
        "p_ik__num_test": 41,
        "p_ik__epochs": 8.0,
        "p_ik__gamma": 0.4,
        "calibration__folds": 2,
        "precision__compute_dtype": "float32",
    }
    return tiny_config.make_config(**defaults | overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("posterior") / "run"
    pipeline.run(make_config(), workdir)
    return workdir


def read(workdir, label: str, file: str):
    """A table, or the JSON value, of a finished stage."""
    listed = json.loads((workdir / "results.json").read_text())["manifest"]["stages"]
    (stage,) = [one for one in listed if one["label"] == f"{label}, seed 0"]
    artifact = artifacts.Store(workdir).find_by_key(stage["name"], stage["key"])
    return artifact.read_json(file) if file.endswith(".json") else artifact.read_table(file)


def by_id(table, column: str) -> dict[str, float]:
    return dict(zip(table["example_id"], table[column].astype(np.float64), strict=True))


@pytest.mark.slow
@pytest.mark.ci
def test_students_are_trained_on_the_definition(finished):
    """Of the numbers that other stages wrote, in float64."""
    fitted = read(finished, "calibration", "calibration.json")
    weak = read(finished, "weak labels", "predictions.parquet")
    log_odds = dict(
        zip(
            weak["example_id"],
            np.log(weak["prob_1"].astype(np.float64)) - np.log(weak["prob_0"].astype(np.float64)),
            strict=True,
        )
    )
    own = by_id(read(finished, "few-shot answers on sciq (student's half)", "answers.parquet"), "prob_1")
    scores = by_id(read(finished, "P(IK) scores", "predictions.parquet"), "p_ik")
    trace = read(finished, "posterior", "trace.parquet")
    assert len(trace["target"]) == 64
    for name, target in zip(trace["example_id"], trace["target"], strict=True):
        p = special.expit(fitted["p_ik_intercept"] + fitted["p_ik_slope"] * special.logit(scores[name]))
        evidence = special.logit(np.clip(p, 0.02, 0.98)) * (1 if own[name] > 0.5 else -1)
        expected = special.expit(fitted["weak_slope"] * log_odds[name] + evidence)
        assert target == pytest.approx(expected, abs=1e-5)
    frozen = read(finished, "selective_frozen", "trace.parquet")
    np.testing.assert_array_equal(frozen["p_ik"], np.float32([scores[name] for name in frozen["example_id"]]))
    summary = read(finished, "posterior", "summary.json")
    assert not summary["p_ik_head"] and read(finished, "posterior_online", "summary.json")["p_ik_head"]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("name", ["frozen", "by_confidence"])
def test_controls_select_as_many_other_rows(finished, name):
    chosen, random = (
        by_id(read(finished, f"{which}_{name}", "trace.parquet"), "ik_mask")
        for which in ("selective", "random_selection")
    )
    # Every row is in an epoch but for those that fill no batch.
    assert abs(sum(chosen.values()) - sum(random.values())) <= 2 and chosen != random


@pytest.mark.slow
@pytest.mark.ci
def test_results_hold_the_calibration(finished):
    report = json.loads((finished / "results.json").read_text())
    (entry,) = report["calibration"]
    assert entry == {"seed": 0} | read(finished, "calibration", "calibration.json")
    assert (entry["weak"]["n"], entry["p_ik"]["n"]) == (33, 41)
    assert {record["method"] for record in report["records"]} == {"weak", "ceiling", *METHODS}
    assert {entry["method"] for entry in report["diagnostics"]} == set(METHODS)
    tests = [(entry["method"], entry["distribution"]) for entry in report["p_ik"]]
    online = ("posterior_online", "posterior_online_shuffled")
    assert tests == [*((name, where) for name in online for where in ("in", "out")), ("p_ik_only", "in")]
    # Controls are shown by the P(IK) of what they control for.
    whose = {entry["method"]: entry["p_ik_of"] for entry in report["disagreement"]}
    assert whose == {name: "posterior_online" if name in online else "p_ik_only" for name in METHODS}
    assert report["p_ik"][-1]["n"] == 41


@pytest.mark.slow
@pytest.mark.ci
def test_ground_truth_of_the_students_half_reaches_no_student(finished, tmp_path, monkeypatch):
    """Flipping the labels (not the texts) of the student's half changes no student's weights."""
    real_prepare = inputs.prepare

    def flipped_prepare(*arguments, **options):
        found = real_prepare(*arguments, **options)
        for data in found.by_seed.values():
            data.student_half.labels[:] = 1 - data.student_half.labels
        return found

    flipped = forms.FORMS["class_head"]._replace(prepare=flipped_prepare)
    monkeypatch.setitem(forms.FORMS, "class_head", flipped)
    pipeline.run(make_config(), tmp_path / "run")
    keys = [
        {
            stage["label"]: stage["key"]
            for stage in json.loads((run / "results.json").read_text())["manifest"]["stages"]
        }
        for run in (finished, tmp_path / "run")
    ]
    assert {label for label in keys[0] if keys[0][label] != keys[1][label]} == {
        "ceiling, seed 0",
        "evaluation of ceiling, seed 0",
    }
    for label in ("calibration", *METHODS):
        file = "calibration.json" if label == "calibration" else "trace.parquet"
        first, second = (read(run, label, file) for run in (finished, tmp_path / "run"))
        for name, values in first.items():
            np.testing.assert_array_equal(second[name], values, err_msg=f"{label} {name}")


@pytest.mark.slow
def test_labels_are_smoothed_over_the_whole_half(tmp_path):
    """By embeddings of the untouched model, whatever is trained of it; what the rule's labels were is in the trace."""
    names = ("selective", "selective_without_ik", "selective_frozen", "posterior")
    config = make_config(
        methods=names,
        graph__over="set",
        graph__alpha=0.5,
        strong__trained="all",
        calibration__weak="none",
        data__num_train=64,  # so that all rows are in a batch
    )
    pipeline.run(config, tmp_path / "run")
    found = embeddings.read(tmp_path / "run", model="strong", split="student_half", seed=0)
    z = found.values.astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    weights = special.softmax(z @ z.T / 0.1, axis=1)
    weak = by_id(read(tmp_path / "run", "weak labels", "predictions.parquet"), "prob_1")
    for name in names:
        trace = read(tmp_path / "run", name, "trace.parquet")
        prior, target, known = (by_id(trace, column) for column in ("prior", "target", "ik_mask"))
        smoothed = prior if name in ("selective_frozen", "posterior") else weak
        means = weights @ np.array([smoothed[example] for example in found.example_id])
        for example, mean in zip(found.example_id, means, strict=True):
            is_own = known[example] and name != "posterior"
            expected = prior[example] if is_own else 0.5 * prior[example] + 0.5 * mean
            assert target[example] == pytest.approx(expected, abs=1e-5), name


def plan(capsys, tmp_path, **overrides) -> list[str]:
    pipeline.show(make_config(**overrides), tmp_path)
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("  to run")]


def test_kernels_ask_for_embeddings_of_both_models(capsys, tmp_path):
    """Whatever is trained of them."""
    trained = {"methods": ("finetune",), "weak__trained": "all", "strong__trained": "all"}
    lines = plan(capsys, tmp_path, **trained, strong__model="random-tiny-qwen", analysis__kernels=True)
    asked = [line.split("embeddings by the ")[1].split("  ")[0] for line in lines if "embeddings" in line]
    assert asked == [f"{role} model of sciq (student's half), seed 0" for role in ("weak", "strong")]


def test_what_is_asked_and_trained_for_a_calibration(capsys, tmp_path):
    """Answers to held-out questions of P(IK), none on the test; with no folds, no further weak models."""
    lines = plan(capsys, tmp_path, methods=("posterior",), calibration__weak="none")
    asked = [line.partition(", seed")[0].split(" on ")[1] for line in lines if "few-shot answers" in line]
    assert asked == ["sciq (student's half)", "arc (P(IK))", "arc (P(IK) test)"]
    assert not any("weak fold" in line for line in lines)
    lines = plan(capsys, tmp_path, methods=("posterior",))
    assert (
        sum("  weak fold" in line for line in lines)
        == sum("labels of weak fold" in line for line in lines)
        == 2
    )
    lines = plan(capsys, tmp_path, methods=("selective_frozen", "random_selection_frozen"), p_ik__num_test=0)
    assert not any("calibration" in line or "P(IK) test" in line for line in lines)


def test_means_of_weak_labels_over_the_set_are_one_stage_for_every_method_and_weight(capsys, tmp_path):
    names, found = ("selective_without_ik", "random_selection", "posterior"), []
    for alpha in (0.0, 0.9):
        lines = plan(capsys, tmp_path, methods=names, graph__over="set", graph__alpha=alpha, p_ik__num_test=7)
        means = [line.partition("means of neighbours' ")[2] for line in lines if "means of" in line]
        assert [one.partition(",")[0] for one in means] == ["weak labels", "labels of posterior"]
        found.append(means[0])
    assert found[0] == found[1]


@pytest.mark.parametrize("is_listed", [False, True])
def test_p_ik_that_others_have_their_scores_from_is_tested(capsys, tmp_path, is_listed):
    """In distribution; where it is not listed, no answers to the test are asked for it."""
    lines = plan(capsys, tmp_path, methods=("selective_frozen",) + ("p_ik_only",) * is_listed)
    assert sum("  P(IK) test of p_ik_only, seed 0" in line for line in lines) == 1
    asked = [line.partition(", seed")[0].split(" on ")[1] for line in lines if "few-shot answers" in line]
    held_out = ["arc (P(IK) test)"]
    assert asked == ["sciq (student's half)", "arc (P(IK))", *(["sciq (test)"] * is_listed), *held_out]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"p_ik__num_test": 0}, r"method 'posterior' .* config\.p_ik\.num_test is 0: set --config\.p_ik\.num_test=500"),
        ({"p_ik__num_test": 0, "p_ik__file": "mine.jsonl"}, r"p_ik\.file=mine\.jsonl has none: name a task"),
        ({"calibration__folds": 1}, r"config\.calibration\.folds=1 must be 2 or more"),
        ({"calibration__folds": 67}, r"config\.calibration\.folds=67 is more than the 33 questions of the weak half"),
        ({"calibration__weak": "crosfit"}, "did you mean 'crossfit'"),
    ],
)  # fmt: skip
def test_what_cannot_be_calibrated_is_refused(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as raised:
        pipeline.show(make_config(**overrides), tmp_path)
    assert "\n" not in str(raised.value)
