"""Warnings of a report: each known way to fail is named with method, seed, numbers and remedy."""

import dataclasses
import json
import re

import numpy as np
import pytest
from support import report_runs

from selw2s_jax.analysis import methods
from selw2s_jax.method import registry
from selw2s_jax.report import document, glossary, numbers, provenance, stored
from selw2s_jax.report import warnings as warnings_lib


def found(tmp_path, **changes) -> list[warnings_lib.Finding]:
    return warnings_lib.find(stored.read_run(report_runs.write_run(tmp_path / "run", **changes)))


EVEN = {
    "weak": (2, 2, 2), "ceiling": (10, 10, 10), "finetune": (4, 4, 5), "selective": (9, 9, 9),
    "random_selection": (5, 5, 4),
}  # fmt: skip


@pytest.mark.usefixtures("no_pictures")
def test_a_run_without_failures_has_no_warning(tmp_path):
    right = {"weak": (7, 7), "ceiling": (10, 10), "finetune": (8, 8), "selective": (9, 9)}
    run = stored.read_run(report_runs.write_run(tmp_path / "run", right=right | {"random_selection": (7, 7)}))
    predictions = {
        method: {seed: np.tile(prob_1, 5) for seed, prob_1 in of_seed.items()}
        for method, of_seed in run.predictions.items()
    }
    run = dataclasses.replace(run, truth=np.tile(run.truth, 5), predictions=predictions)
    assert warnings_lib.find(run) == []
    assert "None of the known ways" in " ".join(report_runs.Page(document.files([run])["report.html"]).text)


@pytest.mark.parametrize(
    ("changes", "method", "seeds", "words"),
    [
        ({"diagnostics": [report_runs.diagnosis(ik_rate=0.004, seed=1)]}, "selective", "1", "IK rate 0.4 %"),
        ({"diagnostics": [report_runs.diagnosis(ik_rate=1.0)]}, "selective", "0", "IK rate 100.0 %"),
        (
            {"diagnostics": [report_runs.diagnosis(self_accuracy_on_ik=0.5), report_runs.diagnosis(seed=1)]},
            "selective",
            "0",
            "50.0 % against 80.0 %",
        ),
        (
            {"diagnostics": [report_runs.diagnosis(self_weight=0.99)]},
            "selective",
            "0",
            "mean self-weight 0.99",
        ),
        (
            {"diagnostics": [report_runs.diagnosis(effective_neighbours=31.0)]},
            "selective",
            "0",
            "31 effective neighbours",
        ),
        (
            {"p_ik": [report_runs.P_IK | {"auroc_low": 0.45, "test_task": "sciq", "distribution": "out"}]},
            "selective",
            "0",
            "sciq (out of distribution) does not tell known from unknown questions: AUROC 0.8",
        ),
        (
            {"p_ik": [report_runs.P_IK | {"auroc": 0.5, "auroc_low": None, "auroc_high": None}]},
            "selective",
            "0",
            "no better than chance",
        ),
        (
            {"p_ik": [report_runs.P_IK | {"ik_precision": 0.75}, report_runs.P_IK | {"seed": 1}]},
            "selective",
            "0",
            "above gamma = 0.8 are right no more often than all are: 75.0 % against 75.0 %",
        ),
        (
            {
                "p_ik": [
                    report_runs.P_IK | {"known": 20, "auroc": None, "auroc_low": None, "auroc_high": None}
                ]
            },
            "selective",
            "0",
            "20 of 20 few-shot answers are right",
        ),
        ({"right": {m: (n[0],) for m, n in EVEN.items()}}, "all", "0", "one seed only"),
        ({"right": EVEN | {"ceiling": (2, 2, 1)}}, "ceiling", "0, 1, 2", "PGR is undefined"),
        ({"right": EVEN | {"ceiling": (2, 5, 4)}}, "ceiling", "0", "in 1 of 3 seeds"),
        ({"right": EVEN | {"ceiling": (2, 3, 2)}}, "ceiling", "0, 1, 2", "denominator touches zero"),
        ({"right": EVEN}, "weak", "0, 1, 2", "commonest answer (60.0 %)"),
        (
            {"right": EVEN | {"finetune": (1, 2, 0)}},
            "finetune",
            "0, 1, 2",
            "below its weak teacher: -10.0 points",
        ),
        (
            {"right": EVEN | {"random_selection": (9, 9, 9)}},
            "selective",
            "0, 1, 2",
            "control random_selection",
        ),
    ],
)
def test_warnings_name_method_seed_numbers_and_remedy(tmp_path, changes, method, seeds, words):
    warnings = [one for one in found(tmp_path, **changes) if words in one.observation]
    assert [(one.method, one.seeds) for one in warnings] == [(method, seeds)]
    assert warnings[0].remedy


def test_what_is_weighed_is_not_selected_and_has_controls_of_its_own(tmp_path):
    """Every row of `posterior` counts both labels: neither its IK rate nor gamma says anything against it."""
    names = ("posterior", "selective_by_confidence", "posterior_shuffled", "random_selection_by_confidence")
    warnings = found(
        tmp_path,
        right=EVEN | dict.fromkeys(names, (9, 9, 9)),
        diagnostics=[report_runs.diagnosis(name, ik_rate=0.0) for name in names],
        p_ik=[report_runs.P_IK | {"method": "posterior_online", "ik_precision": 0.75}],
    )
    (rate,) = [one for one in warnings if "IK rate" in one.observation]
    assert rate.method == "selective_by_confidence" and "training on weak labels" in rate.observation
    assert "gamma" not in rate.remedy
    assert not [one for one in warnings if "above gamma" in one.observation]
    compared = [
        (one.method, one.observation) for one in warnings if "not shown to be above" in one.observation
    ]
    assert [(method, words.split(":")[0].split()[-1]) for method, words in compared] == [
        ("posterior", "posterior_shuffled"),
        ("selective_by_confidence", "random_selection_by_confidence"),
    ]
    assert "evidence for weighing labels by P(IK)" in compared[0][1]


@pytest.mark.parametrize(
    ("method", "mask", "words"),
    [
        ("selective", "online", "train P(IK) first: p_ik.stage=pretrain_then_joint"),
        ("selective", "frozen_scores", "look at its calibration (p_ik.num_test) and lower p_ik.gamma"),
        ("selective", "file", "the scores of p_ik.scores_file are too low"),
        ("selective_frozen", "online", "train it longer (p_ik.epochs), or take selective_by_confidence"),
        ("selective_by_confidence", "online", "look at the calibration of weak labels and of P(IK)"),
        ("selective_by_disagreement", "online", "selects by no P(IK): look at what it goes by"),
    ],
)
def test_what_makes_a_method_select_more_depends_on_where_its_p_ik_is_from(tmp_path, method, mask, words):
    entry = report_runs.diagnosis(method, ik_rate=0.0)
    run = stored.read_run(report_runs.write_run(tmp_path / "run", diagnostics=[entry]))
    run.manifest["config"]["p_ik"]["mask"] = mask
    (found,) = [one for one in warnings_lib.find(run) if "next to nothing is selected" in one.observation]
    assert found.method == method and words in found.remedy


@pytest.mark.parametrize(
    ("names", "counts"), [(("selective_frozen",), True), (("posterior", "finetune"), False)]
)
def test_gamma_counts_for_p_ik_that_was_trained_first_where_a_method_has_it(tmp_path, names, counts):
    """P(IK) alone, which no one listed, is tested because others take its scores; the page says what it is."""
    run = stored.read_run(
        report_runs.write_run(
            tmp_path / "run",
            right={"weak": (5,), "ceiling": (9,)} | dict.fromkeys(names, (7,)),
            diagnostics=[],
            p_ik=[report_runs.P_IK | {"method": "p_ik_only", "ik_precision": 0.75}],
        )
    )
    assert any("above gamma" in one.observation for one in warnings_lib.find(run)) == counts
    assert registry.METHODS["p_ik_only"].description in "".join(provenance.terms([run], glossary.Glossary()))


def test_methods_whose_mask_is_given_are_not_blamed_for_it(tmp_path):
    names = ("self_training", "random_selection", "selective_without_ik")
    fixed = [report_runs.diagnosis(name, ik_rate=1.0, self_accuracy_on_ik=0.1) for name in names]
    fixed.append(report_runs.diagnosis("selective_without_gs", self_weight=1.0))
    assert not [one for one in found(tmp_path, diagnostics=fixed) if "IK" in one.observation]


@pytest.mark.usefixtures("no_pictures")
def test_a_method_that_only_the_run_knows_is_compared_and_warned_of_by_its_role(tmp_path):
    described = {
        "mine": {
            "description": "control: of a plug-in",
            "role": "control",
            "selects": False,
            "smooths": False,
        }
    }
    run = stored.read_run(
        report_runs.write_run(
            tmp_path / "run",
            right=EVEN | {"mine": (9, 9, 9)},
            described=described,
            diagnostics=[
                report_runs.diagnosis("selective"),
                report_runs.diagnosis("mine", ik_rate=1.0, self_weight=1.0),
            ],
        )
    )
    assert run.facts("mine").description == "control: of a plug-in"
    assert run.facts("selective").role == "subject"  # which the manifest does not describe
    assert ("selective", "mine") in numbers.compared_pairs(run)
    assert ("mine", "random_selection") not in numbers.compared_pairs(run)
    words = [one.observation for one in warnings_lib.find(run) if one.method == "mine"]
    assert words == []
    assert any("the control mine" in one.observation for one in warnings_lib.find(run))
    assert "control: of a plug-in" in " ".join(report_runs.Page(document.files([run])["report.html"]).text)


def test_a_control_of_one_method_is_held_against_that_one_alone(tmp_path):
    """And a method that weighs labels has no threshold to move."""
    names = ("selective", "posterior")
    right = EVEN | {"posterior": (9, 9, 9), "posterior_shuffled": (9, 9, 9), "self_training": (9, 9, 9)}
    warnings = found(
        tmp_path, right=right, diagnostics=[report_runs.diagnosis(name, ik_rate=0.0) for name in names]
    )
    missed = {
        (one.method, control)
        for one in warnings
        for control in re.findall(r"the control (\w+):", one.observation)
    }
    pairs = [
        ("selective", "self_training"),
        ("posterior", "self_training"),
        ("posterior", "posterior_shuffled"),
    ]
    assert missed == set(pairs)
    assert [one.method for one in warnings if "next to nothing" in one.observation] == ["selective"]


def test_what_a_manifest_says_of_a_method_is_what_the_registry_has(monkeypatch):
    own = registry.Method(
        uses_p_ik=True, rule_options={"refiner": "none"}, description="mine", role="ablation"
    )
    monkeypatch.setitem(registry.METHODS, "mine", own)
    recorded = json.loads(json.dumps(methods.to_json(["weak", "mine", "random_selection"])))
    monkeypatch.delitem(registry.METHODS, "mine")
    facts = methods.from_json(["weak", "mine", "random_selection", "unknown"], recorded)
    assert facts["mine"] == methods.Facts("mine", "ablation", selects=True, smooths=False)
    assert facts["weak"].role == "reference" and not facts["random_selection"].selects
    assert facts["unknown"] == methods.Facts()


def test_what_the_data_gave_to_doubt_is_a_warning(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run")
    path = workdir / "results.json"
    results = json.loads(path.read_text())
    warning = {
        "observation": "7 of 10 test questions are in the training halves too",
        "remedy": "set data.overlap",
    }
    path.write_text(json.dumps(results | {"warnings": [warning]}))
    first = warnings_lib.find(stored.read_run(workdir))[0]
    assert (first.method, first.observation, first.remedy) == ("all", *warning.values())


def test_a_method_that_chooses_rows_is_held_against_random_rows(tmp_path):
    """It has no diagnosis of labels; other controls say nothing of it."""
    names = ("two_stage", "two_stage_random", "self_training")
    warnings = found(tmp_path, right=EVEN | dict.fromkeys(names, (9, 9, 9)), diagnostics=[])
    (observation,) = [one.observation for one in warnings if one.method == "two_stage"]
    assert observation.startswith("not shown to be above the control two_stage_random: ")
    assert observation.endswith("is no evidence for the choice of rows")
