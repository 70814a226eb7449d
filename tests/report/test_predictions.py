"""Misfit, errors on what the ceiling knows, AUROC and selection frequency in reports, and runs without them."""

import dataclasses

import numpy as np
import pytest
from support import report_runs

from selw2s_jax.analysis import blind_spots, metrics, misfit, selection_frequency
from selw2s_jax.report import (
    auroc_numbers,
    blind_spots_numbers,
    blind_spots_sections,
    document,
    label_forms,
    misfit_numbers,
    misfit_sections,
    prediction_warnings,
    selection_numbers,
    selection_sections,
    stored,
)

NUM_ITEMS = 40
SEEDS = (0, 1)


def predictions(truth, skill, seed):
    """Probabilities that depend on the truth."""
    logits = np.random.default_rng([seed, round(100 * skill)]).normal(size=len(truth)) * 1.5
    return 1 / (1 + np.exp(-logits - skill * (2 * truth - 1)))


def frequency_entry(method="selective", seed=0, **changes):
    """An entry of `selection_frequency` of results.json."""
    columns = report_runs.labels_of(seed, **changes)
    frequency = np.random.default_rng(seed).integers(0, 3, len(columns["truth"])) / 2
    found = selection_frequency.describe(frequency, columns["truth"], columns["weak"])
    return {"method": method, "seed": seed, **found}


def with_predictions(run, **skills):
    """A run whose methods have made-up predictions, in both seeds."""
    found = {
        method: {seed: predictions(run.truth, skill, seed) for seed in SEEDS}
        for method, skill in skills.items()
    }
    return dataclasses.replace(run, predictions=found)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    of_labels = {"selection_frequency": [frequency_entry(seed=seed, num_rows=80) for seed in SEEDS]}
    written = report_runs.write_run(
        tmp_path_factory.mktemp("predictions") / "run", num_items=NUM_ITEMS, of_labels=of_labels
    )
    return with_predictions(stored.read_run(written), weak=0.5, ceiling=2.5, finetune=1.0, selective=1.5)


def test_misfit_is_the_mean_over_seeds_against_both_targets(run):
    rows = {(row["target"], row["error"], row["method"]): row for row in misfit_numbers.rows(run)}
    assert len(rows) == 8 and ("ground truth", "KL", "ceiling") not in rows
    weak, student, ceiling = (run.predictions[name] for name in ("weak", "finetune", "ceiling"))
    for (target, error), targets in {
        ("ground truth", "squared"): dict.fromkeys(SEEDS, run.truth),
        ("ceiling", "KL"): ceiling,
    }.items():
        row = rows[target, error, "finetune"]
        kind = {"KL": "kl"}.get(error, error)
        of_seeds = [misfit.misfit_gain(weak[s], student[s], targets[s], kind=kind) for s in SEEDS]
        for name, value in of_seeds[0].items():
            assert row[name] == pytest.approx(np.mean([value, of_seeds[1][name]]))
        for name in ("gain", "misfit", "slack"):
            low, high = row[f"{name}_interval"]
            assert low < row[name] < high
    assert len(misfit_numbers.seed_rows(run)) == 16


def test_seeds_that_lack_a_model_or_a_probability_count_nowhere(run):
    broken = run.predictions | {
        "selective": {0: run.predictions["selective"][0], 1: np.full(NUM_ITEMS, np.nan)}
    }
    broken["finetune"] = {1: run.predictions["finetune"][1]}
    run = dataclasses.replace(run, predictions=broken)
    seeds = {row["method"]: row["num_seeds"] for row in misfit_numbers.rows(run)}
    assert seeds == {"finetune": 1, "selective": 1}
    known = {row["method"]: row for row in blind_spots_numbers.rows(run)}
    assert {row["num_seeds"] for row in known.values()} == {1} and len(known) == 3
    without = dataclasses.replace(run, predictions={"weak": run.predictions["weak"]})
    assert misfit_numbers.rows(without) == blind_spots_numbers.rows(without) == []
    assert misfit_sections.sections([without]) == blind_spots_sections.sections([without]) == []
    assert prediction_warnings.find(without) == []


def test_known_errors_are_those_of_all_seeds_together(run):
    rows = {row["method"]: row for row in blind_spots_numbers.rows(run)}
    assert list(rows) == ["weak", "finetune", "selective"] and rows["weak"]["excess"] is None
    arrays = [
        np.concatenate([run.predictions[name][seed] for seed in SEEDS])
        for name in ("weak", "ceiling", "selective")
    ]
    found = blind_spots.known_errors(*arrays, np.tile(run.truth, 2))
    row = rows["selective"]
    assert {name: row[name] for name in ("score", "lift", "errors", "n")} == {
        name: found[name] for name in ("score", "lift", "errors", "n")
    }
    assert row["excess"] == pytest.approx(row["lift"] - rows["weak"]["lift"])
    for name in ("lift", "excess"):
        assert row[f"{name}_interval"][0] < row[name] < row[f"{name}_interval"][1]
    curves = blind_spots_numbers.curves(run)
    place = blind_spots_numbers.THRESHOLDS.index(blind_spots.THRESHOLD)
    assert list(curves) == list(rows) and curves["selective"][place] == found
    against = {row["method"]: row for row in blind_spots_numbers.rows(run, "finetune")}
    assert "finetune" not in against and against["selective"]["errors"] < row["errors"]


def test_auroc_and_pgr_on_it(run):
    run = with_predictions(run, weak=0.2, ceiling=3.0, finetune=1.0, selective=1.5)
    rows = {row["method"]: row for row in auroc_numbers.rows(run)}
    areas = {
        name: np.mean([metrics.auroc(run.predictions[name][seed], run.truth) for seed in SEEDS])
        for name in rows
    }
    assert list(rows) == ["weak", "ceiling", "finetune", "selective"]
    assert {name: row["auroc"] for name, row in rows.items()} == pytest.approx(areas)
    expected = (areas["selective"] - areas["weak"]) / (areas["ceiling"] - areas["weak"])
    row = rows["selective"]
    assert row["auroc_pgr"] == pytest.approx(expected) and rows["ceiling"]["auroc_pgr"] is None
    low, high = row["auroc_pgr_interval"]
    assert low < expected < high
    one_class = dataclasses.replace(run, truth=np.ones(NUM_ITEMS, bool))
    assert auroc_numbers.rows(one_class) == []
    # Of several weak models the mean of their own AUROCs is 0 in the place of the weak model's.
    several = dataclasses.replace(run, members={name: run.predictions[name] for name in ("weak", "ceiling")})
    among = {row["method"]: row for row in auroc_numbers.rows(several)}[row["method"]]
    assert among["auroc_pgr"] == pytest.approx(2 * expected - 1)


def test_the_choice_of_a_pair_by_predicted_error(run):
    def pair(teacher, student, **skills):
        models = {"weak": {"name": teacher}, "strong": {"name": student}}
        return with_predictions(
            dataclasses.replace(run, manifest=run.manifest | {"models": models}), ceiling=2.5, **skills
        )

    runs = [
        pair("a", "x", weak=0.1, finetune=0.4),
        pair("b", "x", weak=1.9, finetune=2.0),
        pair("c", "x", weak=0.6, finetune=0.5),
        pair("c", "y", weak=0.6, finetune=3.0),
    ]
    (of_set,) = misfit_numbers.choice_sets(runs).values()
    rows = {(row["choice"], row["error"]): row for row in misfit_numbers.choice_rows(of_set)}
    assert list(rows) == [
        ("weak model for x", "squared"), ("weak model for x", "KL"), ("any pair", "squared"), ("any pair", "KL"),
    ]  # fmt: skip
    row = rows["any pair", "squared"]
    rows_of = [next(row for row in misfit_numbers.rows(one) if row["method"] == "finetune") for one in runs]
    predicted, real = ([one[name] for one in rows_of] for name in ("predicted_error", "error_student"))
    assert (row["num_pairs"], row["best"]) == (4, "c teaches y")
    assert row["predicted_error"] == min(predicted) and row["best_error"] == min(real)
    assert row["regret"] == pytest.approx(real[int(np.argmin(predicted))] - min(real))
    assert rows["weak model for x", "KL"]["best"] == "b teaches x"
    assert misfit_numbers.choice_sets(runs[:1]) == {}


def test_sizes_are_those_of_the_manifest_and_else_unknown(run):
    assert blind_spots_numbers.size_ratio(run) is None
    sizes = {"weak": {"num_layers": 2, "embed_dim": 8}, "strong": {"num_layers": 4, "embed_dim": 16}}
    for ratio, changed in ((8.0, {}), (None, {"embed_dim": "16"}), (None, {"num_layers": 0})):
        models = {
            role: run.manifest["models"][role] | {"sizes": of_role | (changed if role == "strong" else {})}
            for role, of_role in sizes.items()
        }
        other = dataclasses.replace(run, manifest=run.manifest | {"models": models})
        assert blind_spots_numbers.size_ratio(other) == ratio


def test_warnings_name_students_that_gain_less_than_their_misfit(run):
    astray = {seed: 1 - run.predictions["weak"][seed] for seed in SEEDS}
    run = dataclasses.replace(run, predictions=run.predictions | {"finetune": astray})
    found = {one.observation.partition(" ")[0]: one for one in prediction_warnings.find(run)}
    one = found["students"]
    assert one.method == "finetune" and one.seeds == "0, 1"
    assert "squared error: finetune -" in one.observation and "KL error: finetune -" in one.observation
    # The weak model is wrong everywhere, the student where the ceiling knows.
    known = np.arange(NUM_ITEMS) < NUM_ITEMS // 2
    rights = {
        "weak": np.full(NUM_ITEMS, 0.4),
        "ceiling": np.where(known, 0.9, 0.6),
        "selective": 0.1 + 0.8 * ~known,
    }
    of_truth = {name: {0: np.where(run.truth, one, 1 - one)} for name, one in rights.items()}
    found = prediction_warnings.find(dataclasses.replace(run, predictions=of_truth))
    assert any(one.observation.startswith("errors gather") for one in found)


def test_selection_frequency_is_the_mean_over_seeds(run):
    (row,) = selection_numbers.overview_rows(run)
    entries = run.selection_frequency
    of_seeds = [
        np.average([one["mean"] for one in entry["groups"]], weights=[one["n"] for one in entry["groups"]])
        for entry in entries
    ]
    assert row["mean"] == pytest.approx(np.mean(of_seeds)) and row["num_seeds"] == 2
    low, high = row["difference_interval"]
    assert low < row["difference"] < high and row["difference"] == pytest.approx(row["wrong"] - row["right"])
    groups = selection_numbers.group_rows(run)
    assert {(one["confidence"], one["label"]) for one in groups} == {
        ((0.9, 1.0), "right"),
        ((0.9, 1.0), "wrong"),
    }
    (section,) = selection_sections.sections([run])
    assert [len(table.rows) for table in section.tables] == [1, 2]
    old = dataclasses.replace(run, selection_frequency=[])
    assert selection_sections.sections([old]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.pop("groups"),
        lambda entry: entry.update(unseen=-1),
        lambda entry: entry["groups"][0].update(n=0),
        lambda entry: entry["groups"][0].update(weak_right=1),
        lambda entry: entry["groups"][0].update(mean=1.5),
        lambda entry: entry["groups"][0].update(high=0.2),
    ],
)
def test_frequencies_that_are_none_are_refused(change):
    entry = frequency_entry()
    label_forms.checked("selection_frequency", entry)
    change(entry)
    with pytest.raises((ValueError, KeyError, TypeError)):
        label_forms.checked("selection_frequency", entry)


@pytest.mark.usefixtures("no_pictures")
def test_the_page_has_all_of_it_once_and_folds_the_details(run):
    made = document.files([run])
    text = " ".join(report_runs.Page(made["report.html"]).text)
    assert {"misfit-1.svg", "known_errors-1.pdf"} <= set(made)
    for name in ("auroc", "misfit", "misfit_seeds", "known_errors", "blind_spots", "selection_frequency"):
        assert report_runs.read_csv(made[f"{name}.csv"])
    assert "errors where the ceiling knows and the weak model does not" in text.lower()
    assert "deception" not in text.lower() and "deceive" not in text.lower()
    folded = [
        one.is_folded for one in (*misfit_sections.sections([run]), *blind_spots_sections.sections([run]))
    ]
    assert folded == [False, True, False, True]


@pytest.mark.slow
def test_pairs_of_models_have_pictures_of_all(tmp_path):
    sizes = {"num_layers": 2, "embed_dim": 8}
    runs = []
    for number, strong in enumerate(("x", "$y$")):
        run = stored.read_run(
            report_runs.write_run(tmp_path / f"{number}", num_items=NUM_ITEMS, strong=strong, p_ik=())
        )
        models = {
            "weak": {"name": "w", "sizes": sizes},
            "strong": {"name": strong, "sizes": sizes | {"embed_dim": 16 * (1 + number)}},
        }
        run = dataclasses.replace(run, manifest=run.manifest | {"models": models})
        runs.append(with_predictions(run, weak=0.5, ceiling=2.5, finetune=1.0 + number))
    made = document.files(runs)
    report_runs.Page(made["report.html"])
    names = ("misfit-pairs-1", "blind_spots-pairs-1", "misfit-1", "misfit-2", "known_errors-2")
    assert all(made[f"{name}.pdf"].startswith(b"%PDF") for name in names)
    assert [row["size_ratio"] for row in report_runs.read_csv(made["blind_spots_by_pair.csv"])] == [
        "4.0",
        "16.0",
    ]
    assert len(report_runs.read_csv(made["misfit_choice.csv"])) == 2
