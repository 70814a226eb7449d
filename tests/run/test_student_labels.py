"""Labels of the student's half of real runs, against the files of their stages."""

import json

import numpy as np
import pytest
from support import small_run, tiny_config

from selw2s_jax.analysis import metrics
from selw2s_jax.run import pipeline
from selw2s_jax.runtime import artifacts


def tables(workdir, stage: str, label: str, file: str) -> dict[str, np.ndarray]:
    """The file of the one stage of a run whose label begins so."""
    stages = json.loads((workdir / "manifest.json").read_text())["stages"]
    (key,) = (one["key"] for one in stages if one["name"] == stage and one["label"].startswith(label))
    return artifacts.Store(workdir).find_by_key(stage, key).read_table(file)


def by_id(table, column) -> dict[str, float]:
    return dict(zip(table["example_id"], table[column], strict=True))


def check(workdir, entry, scores) -> None:
    """Compares an entry with the labels and the P(IK) by example_id that the stages have."""
    weak = by_id(tables(workdir, "predictions", "weak labels", "predictions.parquet"), "prob_1")
    own = by_id(tables(workdir, "answers", "few-shot answers on sciq (student", "answers.parquet"), "prob_1")
    assert entry["all"]["n"] == len(weak) == 32
    differ = [name for name in weak if (weak[name] > 0.5) != (own[name] > 0.5)]
    assert entry["disagreeing"]["n"] == len(differ)
    assert sum(one["all"]["n"] for one in entry["bins"]) == len(scores)
    places = metrics.probability_bins([scores[name] for name in weak if name in scores], 10)
    assert [one["low"] for one in entry["bins"]] == [place / 10 for place in np.unique(places)]


def test_p_ik_of_joint_training_is_that_of_its_last_step(tmp_path_factory):
    workdir = small_run.workdir(tmp_path_factory.getbasetemp())
    (entry,) = json.loads((workdir / "results.json").read_text())["disagreement"]
    assert (entry["method"], entry["seed"], entry["p_ik_of"]) == ("selective", 0, "selective")
    trace = tables(workdir, "train", "selective", "trace.parquet")
    order = np.argsort(trace["step"], kind="stable")
    check(workdir, entry, by_id({name: values[order] for name, values in trace.items()}, "p_ik"))


def test_rows_are_counted_as_often_as_the_trace_has_them_chosen(tmp_path_factory):
    workdir = small_run.workdir(tmp_path_factory.getbasetemp())
    (entry,) = json.loads((workdir / "results.json").read_text())["selection_frequency"]
    trace = tables(workdir, "train", "selective", "trace.parquet")
    weak = by_id(tables(workdir, "predictions", "weak labels", "predictions.parquet"), "prob_1")
    assert (entry["method"], entry["seed"]) == ("selective", 0)
    chosen = {name: trace["ik_mask"][trace["example_id"] == name] for name in set(trace["example_id"])}
    assert entry["unseen"] == len(weak) - len(chosen)
    groups, total = entry["groups"], len(chosen)
    assert sum(one["n"] for one in groups) == total
    assert sum(one["n"] * one["mean"] for one in groups) == pytest.approx(sum(map(np.mean, chosen.values())))
    assert sum(one["n"] * one["always"] for one in groups) == pytest.approx(sum(map(np.all, chosen.values())))
    sure = sum(max(weak[name], 1 - weak[name]) >= 0.6 for name in chosen)
    assert sum(one["n"] for one in groups if one["low"] >= 0.6) == sure


@pytest.mark.slow
def test_frozen_scores_are_those_of_p_ik_alone_and_controls_have_them_too(tmp_path):
    config = tiny_config.make_config(
        strong__model="random-tiny-gpt2",
        methods=("p_ik_only", "selective", "random_selection", "self_training", "mtl"),
        p_ik__stage="frozen",
        p_ik__mask="frozen_scores",
        training__epochs=0.75,  # not every row is trained on
    )
    entries = {entry["method"]: entry for entry in pipeline.run(config, tmp_path)["disagreement"]}
    whose = {method: entry["p_ik_of"] for method, entry in entries.items()}
    assert whose == {"selective": "p_ik_only", "random_selection": "p_ik_only", "self_training": None}
    scores = by_id(tables(tmp_path, "predictions", "P(IK) scores", "predictions.parquet"), "p_ik")
    check(tmp_path, entries["selective"], scores)
    assert entries["random_selection"]["auroc_all"] == entries["selective"]["auroc_all"]
    assert entries["self_training"]["bins"] == [] and entries["self_training"]["auroc"] is None
    assert entries["self_training"]["error_correlation"] == entries["selective"]["error_correlation"]
