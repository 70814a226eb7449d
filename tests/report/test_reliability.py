"""Reports of written answers: texts in the place of probabilities, weak labels that agree, methods and controls."""

import json

import numpy as np
import pytest
from support import report_runs, written_runs

from selw2s_jax.analysis import comparisons
from selw2s_jax.errors import UserError
from selw2s_jax.method import completion_methods
from selw2s_jax.report import document, numbers, reliability_numbers, reliability_sections, stored, warnings
from selw2s_jax.run import manifests

SMALL = {name: written_runs.METHODS[name] for name in ("weak", "ceiling", "finetune", "entropy_filter")}
SMALL |= {"random_filter": written_runs.METHODS["random_filter"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    workdir = tmp_path_factory.mktemp("written") / "run"
    return stored.read_run(written_runs.write_run(workdir, methods=SMALL, is_papers_data=True))


def test_what_was_written_is_right_where_it_is_the_truth(run):
    assert not run.has_probabilities and run.missing == []
    predictions = run.predictions["finetune"][1]
    expected = [one == right for one, right in zip(predictions, run.truth, strict=True)]
    assert run.correct("finetune", [1]).tolist() == [expected]
    assert run.correct("finetune", [1]).dtype == bool and 0 < np.mean(expected) < 1
    assert "" in predictions and "9" not in predictions  # unparsed ones, and none of a variation
    assert run.probabilities("finetune", 1) is None
    _, counts = np.unique(run.truth.astype(str), return_counts=True)
    assert numbers.majority_class_accuracy(run) == max(counts) / 60


@pytest.mark.usefixtures("no_pictures")
def test_the_page_has_what_texts_allow_and_no_probabilities(run):
    made = document.files([run])
    seeds = report_runs.read_csv(made["seeds.csv"])
    assert "brier" not in seeds[0] and float(seeds[0]["accuracy"]) == run.correct("weak", [0]).mean()
    rows = {row["method"]: row for row in report_runs.read_csv(made["main.csv"])}
    assert float(rows["entropy_filter"]["paper_accuracy"]) == 0.5
    assert float(rows["entropy_filter"]["printed_pgr"]) == 0.913
    assert rows["random_filter"]["paper_accuracy"] == rows["weak"]["printed_pgr"] == ""
    errors = {row["method"]: row for row in report_runs.read_csv(made["errors.csv"])}
    weak, student = (run.correct(name, [0, 1]) for name in ("weak", "finetune"))
    inherited = [np.mean(~own[~of_weak]) for own, of_weak in zip(student, weak, strict=True)]
    assert float(errors["finetune"]["inherited"]) == pytest.approx(np.mean(inherited))
    text = " ".join(report_runs.Page(made["report.html"]).text)
    assert "arXiv 2406.19032" in text and "2511.14166" not in text and "P(IK)" not in text.split("Methods")[0]
    for name in ("comparisons", "steps", "labels", "filter", "entropies", "scores", "auroc", "letters"):
        assert f"reliability_{name}.csv" in made, name


def test_entropies_stand_beside_the_paper_s_only_for_its_data_and_weak_model(run, tmp_path):
    rows = reliability_numbers.entropy_rows(run)
    of_seeds = [{bar["entropy"]: bar for bar in entry["entropies"]} for entry in run.reliability]
    for row in rows:
        bars = [of_seed[row["entropy"]] for of_seed in of_seeds if row["entropy"] in of_seed]
        assert row["share"] == pytest.approx(sum(bar["share"] for bar in bars) / 2)
        assert row["varied"] == pytest.approx(np.mean([bar["varied"]["share"] for bar in bars]))
        assert row["questions"] == sum(bar["questions"] for bar in bars) and row["num_seeds"] == len(bars)
    assert [row["paper_right"] for row in rows if row["paper_right"]] == [0.82, 0.48, 0.33, 0.32, 0.27, 0.27]
    kept = {row["labels"]: row for row in reliability_numbers.label_rows(run)}
    assert kept["answers to the variations"]["paper_after"] == 0.48
    assert kept["commonest answers"]["paper_after"] is None
    workdir = written_runs.write_run(tmp_path / "run", methods=SMALL, seeds=(0,))
    other = stored.read_run(workdir)
    assert all(row["paper_right"] is None for row in reliability_numbers.entropy_rows(other))
    assert numbers.paper_accuracy(other, "finetune") is None


def test_comparisons_are_the_stated_ones_with_holm_s_correction(run):
    rows = reliability_numbers.comparison_rows(run)
    assert [(row["first"], row["second"]) for row in rows] == [
        ("entropy_filter", "random_filter"), ("entropy_filter", "finetune"),
    ]  # fmt: skip
    changes = [numbers.difference(run, row["first"], row["second"]) for row in rows]
    assert [row["difference"] for row in rows] == [change.mean for change in changes]
    assert [row["p_holm"] for row in rows] == comparisons.holm([change.p_value for change in changes])
    names = {name for pair in reliability_numbers.PAIRS for name in pair[:2]}
    known = completion_methods.METHODS.items()
    of_strong = {name for name, one in known if one.uses_self_labels or one.uses_p_ik}
    assert names - written_runs.METHODS.keys() == {"question_weights", "answer_weights"} | of_strong


def test_steps_are_told_as_multiples_of_the_baseline_s(run):
    rows = {row["method"]: row for row in reliability_numbers.step_rows(run)}
    assert (rows["entropy_filter"]["steps"], rows["entropy_filter"]["ratio"]) == (
        170,
        pytest.approx(170 / 60),
    )
    assert rows["weak"]["ratio"] is None and rows["finetune"]["num_seeds"] == 2


def test_a_run_that_is_not_finished_says_what_is_missing(tmp_path):
    methods = {name: SMALL[name] for name in ("weak", "ceiling", "finetune")}
    workdir = written_runs.write_run(
        tmp_path / "run", methods=methods, seeds=(0,), unfinished=("ceiling",), with_results=False
    )
    run = stored.read_run(workdir)
    assert run.missing[-1] == "the reliability of the weak labels, which the run writes when it ends"
    assert set(run.steps) == {"weak", "finetune"} and set(run.predictions) == {"weak", "finetune"}
    (found,) = reliability_sections.sections([run])
    assert [table.name for table in found.tables] == ["reliability_steps"] and not found.pictures


def test_runs_of_single_seeds_are_joined(run, tmp_path):
    parts = []
    for seed in (0, 1):
        workdir = written_runs.write_run(tmp_path / str(seed), methods=SMALL, seeds=(seed,))
        parts.append(stored.read_run(workdir))
    joined = stored._join(parts)
    assert joined.steps == run.steps and [entry["seed"] for entry in joined.reliability] == [0, 1]
    assert not joined.has_probabilities and joined.correct("weak", [0, 1]).shape == (2, 60)


def _found(tmp_path, **changes):
    entry = written_runs.reliability_entry(**changes)
    methods = {name: SMALL[name] for name in ("weak", "entropy_filter")}
    workdir = written_runs.write_run(tmp_path / "run", methods=methods, seeds=(0,), of_seeds=[entry])
    return [one for one in warnings.find(stored.read_run(workdir)) if one.method in methods]


@pytest.mark.parametrize(
    ("changes", "method", "words"),
    [
        ({"skill": 1e9, "unparsed": 0.0}, "entropy_filter", "it does nothing"),
        ({"skill": 0.0, "num_questions": 40}, "entropy_filter", "no better than chance"),
        ({"unparsed": 0.3}, "weak", "no answer was found in"),
        ({"bias": 0.6}, "weak", "prefers some letters"),
    ],
)
def test_ways_to_fail_are_warned_of(tmp_path, changes, method, words):
    assert any(one.method == method and words in one.observation for one in _found(tmp_path, **changes))


def test_reliable_labels_are_not_warned_of(tmp_path):
    words = ("does nothing", "chance", "no answer", "letters")
    assert not [one for one in _found(tmp_path) if any(word in one.observation for word in words)]


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.pop("entropies"),
        lambda entry: entry["entropies"][0]["varied"].update(share=1.5),
        lambda entry: entry["filter"].update(kept=10**6),
        lambda entry: entry["filter"]["after"].pop("majority"),
        lambda entry: entry["scores"]["mean"].pop(),
        lambda entry: entry["scores"]["n"][0].__setitem__(0, 0),
        lambda entry: entry["letters"]["varied"].update(chosen=[1]),
        lambda entry: entry["auroc"][0].update(wrong=-1),
        lambda entry: entry.update(kind="text"),
        lambda entry: entry["conflicts"].update(n=float("nan")),
    ],
)
def test_reliability_that_no_run_wrote_is_refused(tmp_path, change):
    change(entry := written_runs.reliability_entry())
    workdir = written_runs.write_run(
        tmp_path / "run", methods={"weak": (0.5, 4)}, seeds=(0,), of_seeds=[entry]
    )
    with pytest.raises(UserError, match=r"results.json cannot be read") as raised:
        stored.read_run(workdir)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth.update(label=truth.pop("answer")), "cannot be read"),
        (lambda truth: truth["answer"].__setitem__(0, ""), "cannot be read"),
        (lambda truth: truth["answer"].__setitem__(0, 3), "cannot be read"),
        (lambda truth: truth["answer"].__setitem__(0, "33"), "is not the file that was written"),
        (lambda truth: truth["answer"].pop(), "is not the file that was written"),
    ],
)
def test_a_truth_of_another_form_is_refused(tmp_path, change, message):
    workdir = written_runs.write_run(tmp_path / "run", methods={"weak": (0.5, 4)}, seeds=(0,))
    path = workdir / manifests.TRUTH_FILE
    change(truth := json.loads(path.read_text()))
    path.write_text(json.dumps(truth))
    with pytest.raises(UserError, match=message):
        stored.read_run(workdir)


@pytest.mark.parametrize("stage", ["predictions", "complete", 3])
def test_an_evaluation_by_another_stage_is_refused(tmp_path, stage):
    workdir = written_runs.write_run(tmp_path / "run", methods={"weak": (0.5, 4)}, seeds=(0, 1))
    manifest = json.loads((workdir / "manifest.json").read_text())
    manifest["test"]["evaluations"][0]["stage"] = stage
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest.json cannot be read"):
        stored.read_run(workdir)


def test_pictures_are_drawn_of_any_number_of_bars_and_letters(tmp_path):
    """Without labels, without letters, and of more variations than bars have texts for."""
    entries = [written_runs.reliability_entry(num_questions=60, count=9) | {"letters": None}]
    methods = {"weak": (0.5, 4)}
    workdir = written_runs.write_run(tmp_path / "run", methods=methods, seeds=(0,), of_seeds=entries)
    (found,) = reliability_sections.sections([stored.read_run(workdir)])
    assert list(found.pictures) == ["reliability_entropies-1", "reliability_scores-1"]
    assert all(picture.svg.startswith(b"<?xml") for picture, _ in found.pictures.values())
