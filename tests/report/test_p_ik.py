"""P(IK) in reports: curves by definition, Table 6 over the runs of a sweep, pictures, and what may be missing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import report_runs

from selw2s_jax.analysis import metrics, result_figures
from selw2s_jax.analysis import p_ik as p_ik_lib
from selw2s_jax.errors import UserError
from selw2s_jax.report import (
    document,
    p_ik_figures,
    p_ik_numbers,
    p_ik_sections,
    p_ik_tables,
    stored,
    warnings,
)
from selw2s_jax.run import manifests

# Few distinct scores, so that many are tied.
QUESTIONS = st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=23).map(
    lambda rows: (np.array([score / 7 for score, _ in rows]), np.array([known for _, known in rows]))
)


@settings(deadline=None)
@given(QUESTIONS)
def test_risk_at_each_coverage_is_the_expected_one_over_orders_of_ties(questions):
    p_ik, known = questions
    coverage, risk = p_ik_lib.risk_coverage(p_ik, known)
    np.testing.assert_allclose(coverage, np.arange(1, len(p_ik) + 1) / len(p_ik))
    assert risk[-1] == pytest.approx(1 - known.mean())
    assert (risk >= p_ik_lib.ideal_risk(coverage, known.mean()) - 1e-12).all()
    for answered in range(1, len(p_ik) + 1):
        cut = np.sort(p_ik)[::-1][answered - 1]
        above, level = p_ik > cut, p_ik == cut
        wrong = (~known)[above].sum() + (answered - above.sum()) * (~known)[level].mean()
        assert risk[answered - 1] == pytest.approx(wrong / answered)


@settings(deadline=None)
@given(QUESTIONS, st.integers(1, 20))
def test_bins_are_those_of_the_calibration_error(questions, num_bins):
    p_ik, known = questions
    bins = p_ik_lib.reliability_bins(p_ik, known, num_bins)
    assert sum(one.count for one in bins) == len(p_ik)
    gaps = [one.count / len(p_ik) * abs(one.score - one.share) for one in bins]
    assert sum(gaps) == pytest.approx(metrics.expected_calibration_error(p_ik, known, num_bins))
    assert all(one.low - 1e-12 <= one.score <= one.high + 1e-12 for one in bins)
    assert all(one.interval[0] - 1e-9 <= one.share <= one.interval[1] + 1e-9 for one in bins)


def test_a_score_without_skill_and_the_perfect_one():
    known = np.array([True] * 6 + [False] * 3)
    assert p_ik_lib.area_under_risk_coverage(np.full(9, 0.4), known) == pytest.approx(1 / 3)
    coverage, risk = p_ik_lib.risk_coverage(known.astype(float), known)
    np.testing.assert_allclose(risk, p_ik_lib.ideal_risk(coverage, 2 / 3), atol=1e-12)
    grid, mean = p_ik_lib.mean_risk_coverage([(coverage, risk), (coverage, np.full(9, 1 / 3))])
    np.testing.assert_allclose(mean, (risk + 1 / 3) / 2)
    np.testing.assert_allclose(grid, coverage)


def test_selection_is_strict_and_in_float32():
    p_ik = np.array([0.8, 0.9, 0.1], np.float32)
    rate, precision = p_ik_lib.selection_curve(p_ik, [True, False, True], [0.0, 0.8, 0.9])
    np.testing.assert_allclose(rate, [1, 1 / 3, 0])
    np.testing.assert_allclose(precision, [2 / 3, 0, np.nan])


def test_bands_are_quarters_of_the_questions_by_confidence():
    rng = np.random.default_rng(0)
    confidence, p_ik, known = rng.uniform(0.5, 1, 11), rng.uniform(size=11), rng.integers(0, 2, 11) > 0
    bands = p_ik_lib.difficulty_bands(confidence, p_ik, known)
    assert [band["n"] for band in bands] == [3, 3, 3, 2]
    assert sum(band["n"] * band["accuracy"] for band in bands) == pytest.approx(known.sum())
    rows = np.argsort(confidence)[3:6]
    assert (bands[1]["low"], bands[1]["high"]) == (confidence[rows[0]], confidence[rows[-1]])
    assert bands[1]["auroc"] == metrics.auroc(p_ik[rows], known[rows])
    assert bands[1]["ece"] == metrics.expected_calibration_error(p_ik[rows], known[rows])
    assert p_ik_lib.difficulty_bands(np.full(3, np.nan), p_ik[:3], known[:3]) == []
    assert len(p_ik_lib.difficulty_bands([0.5, 0.6], [0.1, 0.2], [True, False])) == 2


def cells(**changes) -> dict[str, dict]:
    """P(IK) trained on three tasks and tested on two; generated answers in one."""
    return {
        f"{train}-{test}": {
            "train_task": train, "test_task": test, "seeds": (0, 1, 2), "is_generated": test == "gsm8k",
            "skill": 1.0 if train == test else 0.5,
        } | changes
        for test in ("sciq", "gsm8k")
        for train in ("gsm8k", "sciq", "arc")
    }  # fmt: skip


def read_sweep(workdir, of_cells, **arguments) -> list[stored.Run]:
    return stored.read(report_runs.write_sweep(workdir, of_cells, **arguments)).runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[stored.Run]:
    return read_sweep(tmp_path_factory.mktemp("p_ik") / "run", cells(), is_papers_data=True)


@pytest.fixture(scope="module")
def files(runs) -> dict[str, bytes]:
    return document.files(runs)


def text_of(files) -> str:
    return " ".join(report_runs.Page(files["report.html"]).text)


@pytest.mark.slow
@pytest.mark.ci
def test_table_6_has_the_mean_over_seeds_in_distribution_and_from_every_task(runs, files):
    rows = {row["test_task"]: row for row in report_runs.read_csv(files["p_ik_auroc.csv"])}
    assert list(rows) == ["sciq", "gsm8k"]
    first = rows["sciq"]
    (run,) = (run for run in runs if run.title == "P(IK) of qwen-14b: trained on arc, tested on sciq")
    values = [entry["auroc"] for entry in run.p_ik]
    assert float(first["from arc"]) == pytest.approx(np.mean(values))
    bounds = [(entry["auroc_low"], entry["auroc_high"]) for entry in run.p_ik]
    expected = metrics.seeds_interval(values, bounds)
    assert (float(first["from arc_low"]), float(first["from arc_high"])) == pytest.approx(expected)
    assert first["from sciq"] == rows["gsm8k"]["from gsm8k"] == "" != first["in"]
    columns = list(first)
    assert columns.index("in") < columns.index("from arc") < columns.index("from gsm8k")


@pytest.mark.usefixtures("no_pictures")
def test_the_papers_numbers_stand_beside_ours_only_for_its_data_and_model(tmp_path, files):
    rows = {row["test_task"]: row for row in report_runs.read_csv(files["p_ik_auroc.csv"])}
    assert [float(rows["sciq"][name]) for name in ("in paper", "from arc paper")] == [0.9214, 0.8934]
    assert [float(rows["gsm8k"][name]) for name in ("in paper", "from arc paper")] == [0.6927, 0.4773]
    assert "paper's" in files["p_ik_auroc.md"].decode() and "from gsm8k paper" not in rows["sciq"]
    other = {"strong": "qwen-7b"}, {"is_papers_data": False}, {"settings": {"p_ik.temperature": 0.5}}
    for number, changes in enumerate(other):
        of_cell = cells()["arc-sciq"] | {"is_papers_data": True} | changes
        (group,) = p_ik_numbers.make_groups(read_sweep(tmp_path / str(number), {"a": of_cell}))
        assert not any("paper" in column.key for column in p_ik_tables.matrix_table(group).columns)


def test_second_table_has_calibration_and_what_gamma_selects(runs, files):
    rows = {
        (row["train_task"], row["test_task"]): row for row in report_runs.read_csv(files["p_ik_tests.csv"])
    }
    assert len(rows) == 6
    (run,) = (run for run in runs if (run.config["p_ik"]["task"], run.task) == ("arc", "sciq"))
    row = rows["arc", "sciq"]
    assert (row["n"], row["num_seeds"]) == ("90", "3") and float(row["accuracy"]) == pytest.approx(60 / 90)
    for name in ("brier", "ece", "ik_rate"):
        assert float(row[name]) == pytest.approx(np.mean([entry[name] for entry in run.p_ik]))
    questions = list(run.p_ik_items.values())
    selected = np.concatenate([one.known[one.p_ik > 0.8] for one in questions])
    assert float(row["ik_precision"]) == pytest.approx(selected.mean())
    risks = [p_ik_lib.area_under_risk_coverage(one.p_ik, one.known) for one in questions]
    assert float(row["risk"]) == pytest.approx(np.mean(risks))


def test_bands_are_means_over_seeds_and_generated_answers_have_none(files):
    rows = report_runs.read_csv(files["p_ik_bands.csv"])
    assert {row["test_task"] for row in rows} == {"sciq"} and len(rows) == 3 * 4
    assert [row["band"] for row in rows[:4]] == ["1", "2", "3", "4"]
    assert all(float(row["confidence_low"]) < float(row["confidence_high"]) for row in rows)
    assert "Generated answers have no such confidence: gsm8k." in files["p_ik_bands.md"].decode()


def test_questions_of_highest_and_lowest_p_ik_are_means_over_seeds(runs, files):
    rows = [row for row in report_runs.read_csv(files["p_ik_questions.csv"]) if row["test_task"] == "sciq"]
    assert [row["end"] for row in rows] == ["highest"] * 3 + ["lowest"] * 3
    (run,) = (run for run in runs if run.config["p_ik"]["task"] == run.task == "sciq")
    questions = list(run.p_ik_items.values())
    means = np.mean([one.p_ik for one in questions], axis=0)
    best, worst = int(means.argmax()), int(means.argmin())
    assert rows[0]["text"] == questions[0].texts[best] and rows[3]["text"] == questions[0].texts[worst]
    assert float(rows[0]["p_ik"]) == pytest.approx(means.max()) and rows[0]["train_task"] == "sciq"
    assert rows[0]["right"] == f"{sum(one.known[best] for one in questions)} of 3"


def test_long_questions_keep_both_ends():
    text = "a" * 290 + " " + "b" * 290
    short = p_ik_tables.shorten(text)
    assert len(short) <= 300 and " … " in short and short[0] == "a" and short[-1] == "b"
    assert p_ik_tables.shorten("c" * 300) == "c" * 300


def test_a_report_of_p_ik_alone_says_nothing_of_students(files):
    page = report_runs.Page(files["report.html"])
    text = " ".join(page.text)
    assert "PGR" not in text and "None teaches" not in text and "weak model" not in text
    assert "P(IK) of qwen-14b: trained on arc, tested on sciq" in text
    assert {name for name in files if name.endswith(".csv")} >= {"p_ik.csv", "few_shot.csv"}
    assert "main.csv" not in files and "results-1.svg" not in files
    pictures = ["p_ik_distributions", "few_shot", "p_ik_reliability", "p_ik_risk_coverage", "p_ik_selection"]
    assert all(f"{kind}-1.{form}" in files for kind in pictures for form in ("svg", "pdf"))
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= anchors


@pytest.mark.slow
@pytest.mark.ci
def test_the_report_is_a_function_of_its_runs(runs, files):
    assert document.files(runs) == files


def test_one_seed_of_one_run(tmp_path):
    workdir = report_runs.write_p_ik_run(tmp_path / "run", train_task="arc", test_task="sciq")
    (run,) = stored.read(workdir).runs
    assert run.title == "P(IK) of qwen-14b: trained on arc, tested on sciq" and run.weak is None
    made = document.files([run])
    (row,) = report_runs.read_csv(made["p_ik_auroc.csv"])
    (entry,) = run.p_ik
    assert float(row["from arc_low"]) == pytest.approx(entry["auroc_low"]) and "in" not in row
    text = text_of(made)
    assert "one seed only" in text and "Each run" not in text


@pytest.mark.usefixtures("no_pictures")
def test_runs_without_questions_have_tables_and_say_what_is_missing(tmp_path):
    of_cells = cells()
    of_cells["arc-sciq"]["with_questions"] = False
    runs = read_sweep(tmp_path / "run", of_cells)
    (run,) = (run for run in runs if run.missing)
    assert not run.p_ik_items and manifests.P_IK_ITEMS_FILE in run.missing[0]
    made = document.files(runs)
    assert f"{manifests.P_IK_ITEMS_FILE} is missing in runs on sciq (trained on arc)" in text_of(made)
    rows = {
        (row["train_task"], row["test_task"]): row for row in report_runs.read_csv(made["p_ik_tests.csv"])
    }
    assert rows["arc", "sciq"]["risk"] == "" != rows["arc", "sciq"]["auroc"]
    assert "p_ik_distributions-1.svg" in made
    alone = document.files([run])
    assert "p_ik_distributions-1.svg" not in alone and "p_ik_questions.csv" not in alone
    assert "few_shot-1.svg" in alone and "p_ik_auroc.csv" in alone


@pytest.mark.usefixtures("no_pictures")
def test_unfinished_runs_and_results_of_another_version_say_so(tmp_path):
    of_cells = cells()
    of_cells["arc-sciq"]["with_results"] = False
    workdir = report_runs.write_sweep(tmp_path / "run", of_cells)
    path = workdir / "runs" / "sciq-sciq" / "results.json"
    results = json.loads(path.read_text())
    results["p_ik"] = [{"task": entry.pop("test_task"), **entry} for entry in results["p_ik"]]
    path.write_text(json.dumps(results))
    runs = stored.read(workdir).runs
    missing = {run.config["p_ik"]["task"]: run.missing for run in runs if run.missing}
    assert missing["arc"] == ["tests of P(IK), which the run writes when it ends"]
    assert "another version" in missing["sciq"][0]
    (row,) = (
        row
        for row in report_runs.read_csv(document.files(runs)["p_ik_auroc.csv"])
        if row["test_task"] == "sciq"
    )
    assert row.get("in", "") == row["from arc"] == "" != row["from gsm8k"]


@pytest.mark.parametrize("damage", ["bytes", "fewer rows", "other answers", "no column"])
def test_damaged_questions_are_refused_in_one_line(tmp_path, damage):
    tests = [report_runs.p_ik_test("arc", "sciq")]
    workdir = report_runs.write_p_ik_run(tmp_path / "run", train_task="arc", test_task="sciq", tests=tests)
    entry, columns = tests[0]
    if damage == "bytes":
        (workdir / manifests.P_IK_ITEMS_FILE).write_bytes(b"PAR1")
    elif damage == "fewer rows":
        short = {name: values[:50] for name, values in columns.items()}
        report_runs.write_questions(workdir, [(entry | {"n": 50}, short)])
    elif damage == "other answers":
        report_runs.write_questions(workdir, [(entry, columns | {"known": ~columns["known"]})])
    else:
        report_runs.write_questions(workdir, [(entry, {"known": columns["known"]})])
    with pytest.raises(UserError, match=r"p_ik_items\.parquet cannot be read") as error:
        stored.read_run(workdir)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("known", "words"), [(90, "right"), (0, "wrong")])
def test_where_all_or_none_is_known_the_auroc_is_undefined(tmp_path, known, words):
    of_cells = {"a": cells()["arc-sciq"] | {"known": known}}
    runs = read_sweep(tmp_path / "run", of_cells)
    made = document.files(runs)
    text = text_of(made)
    expected = f"tested on sciq, trained on arc, seed 0, 1, 2: every few-shot answer is {words}"
    assert expected in text and f"{known} of 90" in text
    (row,) = report_runs.read_csv(made["p_ik_tests.csv"])
    assert row["auroc"] == "" and float(row["accuracy"]) == known / 90
    assert not any("AUROC" in one.observation for one in warnings.find(runs[0]))


@pytest.mark.usefixtures("no_pictures")
def test_each_strong_model_has_a_section(tmp_path):
    of_cells = {
        f"{strong}-{name}": cell | {"strong": strong}
        for strong in ("qwen-7b", "qwen-14b")
        for name, cell in cells(seeds=(0,)).items()
    }
    sections = p_ik_sections.sections(read_sweep(tmp_path / "run", of_cells))
    assert [section.labels["strong"] for section in sections] == ["qwen-7b", "qwen-14b"]
    assert [section.title for section in sections] == [
        "Does the model know? P(IK) of qwen-7b",
        "Does the model know? P(IK) of qwen-14b",
    ]
    names = [name for section in sections for name in section.pictures]
    assert len(set(names)) == len(names) == 10


@pytest.mark.usefixtures("no_pictures")
def test_runs_that_cannot_be_told_apart_have_a_section_each(tmp_path):
    folders = [
        report_runs.write_p_ik_run(tmp_path / name, train_task="arc", test_task="sciq") for name in ("a", "b")
    ]
    runs = [stored.read_run(folder) for folder in folders]
    sections = p_ik_sections.sections(runs)
    assert [section.labels["workdir"] for section in sections] == [folder.name for folder in folders]
    assert all(f"({folder.name})" in section.title for folder, section in zip(folders, sections, strict=True))


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.usefixtures("no_pictures")
def test_students_of_several_tasks_are_told_apart(tmp_path):
    """Each student has P(IK) of its own, though all are trained on ARC's questions."""
    entries = {
        task: [
            report_runs.P_IK | {"method": method, "test_task": test, "distribution": distribution}
            for method in ("mtl", "selective")
            for test, distribution in (("arc", "in"), (task, "out"))
        ]
        for task in ("sciq", "boolq")
    }
    of_cells = {task: {"task": task, "p_ik": p_ik} for task, p_ik in entries.items()}
    runs = read_sweep(tmp_path / "run", of_cells)
    (group,) = p_ik_numbers.make_groups(runs)
    assert (
        group.methods == ["selective", "mtl"] and group.title == "P(IK) of qwen-14b beside what gpt2 teaches"
    )
    rows = p_ik_numbers.matrix_rows(group)
    assert [(row["method"], row["test_task"]) for row in rows] == [
        (method, test)
        for method in ("selective", "mtl")
        for test in ("arc (student of sciq)", "sciq", "arc (student of boolq)", "boolq")
    ]
    # The few-shot answers are the same whatever the student learns.
    few_shot = p_ik_numbers.few_shot_rows(group)
    assert [row["test_task"] for row in few_shot] == ["arc", "sciq", "boolq"]
    made = document.files(runs)
    assert "PGR" in text_of(made) and "of selective" in text_of(made)
    assert {row["method"] for row in report_runs.read_csv(made["p_ik_tests.csv"])} == {"selective", "mtl"}


@pytest.mark.usefixtures("no_pictures")
def test_a_student_whose_task_is_that_of_p_ik_is_tested_on_held_out_questions_first(tmp_path):
    entries = [
        report_runs.P_IK | {"train_task": "sciq", "test_task": "sciq"},
        report_runs.P_IK | {"train_task": "sciq", "test_task": "sciq", "distribution": "out", "auroc": 0.6},
    ]
    run = stored.read_run(report_runs.write_run(tmp_path / "run", p_ik=entries))
    (group,) = p_ik_numbers.make_groups([run])
    (pair,) = group.pairs
    assert pair.tests[0]["auroc"] == 0.8
    assert len(report_runs.read_csv(document.files([run])["p_ik.csv"])) == 2


@pytest.mark.usefixtures("no_pictures")
def test_examples_are_shown_once_folded(tmp_path):
    name = report_runs.NASTY
    shown = [{"task": "sciq", "reader": "P(IK) head", "text": f"Q: {name}"}]
    of_cells = {key: cell | {"examples": shown} for key, cell in cells(seeds=(0,)).items()}
    made = document.files(read_sweep(tmp_path / "run", of_cells))
    page = report_runs.Page(made["report.html"])
    assert "b" not in {tag for tag, _ in page.tags}
    assert len([text for text in page.text if text == f"Q: {name}"]) == 1
    assert page.text.count("sciq: P(IK) head") == 1


def test_names_and_questions_of_anyone_are_text(tmp_path):
    name = report_runs.NASTY
    of_cell = {
        "train_task": name, "test_task": name + "2", "strong": name, "texts": lambda row: f"{row} {name}" * 99,
    }  # fmt: skip
    made = document.files(read_sweep(tmp_path / "run", {"a": of_cell}))
    page = report_runs.Page(made["report.html"])
    assert "b" not in {tag for tag, _ in page.tags} and b"<b>" not in made["report.html"]
    for kind in ("p_ik_auroc", "p_ik_tests", "p_ik_questions"):
        assert "<b>" not in made[f"{kind}.md"].decode() and r"\%" in made[f"{kind}.tex"].decode()
    assert any(name in row["text"] for row in report_runs.read_csv(made["p_ik_questions.csv"]))


@pytest.mark.usefixtures("no_pictures")
def test_many_trainings_leave_some_out_of_the_pictures(tmp_path):
    of_cells = {
        train: {"train_task": train, "test_task": "sciq"}
        for train in ("winogrande", "boolq", "cosmos_qa", "arc", "sciq")
    }
    (section,) = p_ik_sections.sections(read_sweep(tmp_path / "run", of_cells))
    assert section.notes == ["The pictures have no room for P(IK) trained on cosmos_qa; the tables have it."]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("num_tests", [1, 4])
def test_pictures_of_any_number_of_tests(num_tests):
    rng = np.random.default_rng(0)
    seeds = [(rng.uniform(size=n).astype(np.float32), rng.uniform(size=n) < 0.6) for n in (7, 31)]
    tests = {f"task {number}" * 9: {"in distribution": seeds} for number in range(num_tests)}
    tests["task 0" * 9]["trained on arc"] = [(np.zeros(3, np.float32), np.ones(3, bool))]
    shared = {"title": "$x" * 30, "trainings": ["trained on arc", "in distribution"]}
    made = [
        result_figures.draw_p_ik(
            {name: seeds for of_test in tests.values() for name, seeds in of_test.items()},
            title="$x",
            gamma=0.8,
        ),
        p_ik_figures.draw_reliability(tests, **shared),
        p_ik_figures.draw_risk_coverage(tests, **shared),
        p_ik_figures.draw_selection(tests, gamma=0.8, **shared),
    ]
    assert all(picture.svg.startswith(b"<?xml") for picture in made)
