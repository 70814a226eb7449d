"""Reports: numbers worked out by hand, text of anyone escaped, equal bytes, parts of runs, damaged ones refused."""

import base64
import csv
import dataclasses
import html.parser
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import small_run
from etils import epath

from selw2s_jax import artifacts, collect, run_report, run_results, run_statistics, run_tables, run_warnings
from selw2s_jax.analysis import report_figures, tables
from selw2s_jax.errors import UserError

NUM_ITEMS = 10
TRUTH = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1, 1])
# Right items of each method by seed, of ten.
RIGHT = {
    "weak": (5, 4),
    "ceiling": (9, 10),
    "finetune": (6, 6),
    "selective": (8, 7),
    "random_selection": (5, 7),
}
NASTY = r"<b>&a_b%\{c}|$d#`~^</b>" + "\n'\""
LATE = {
    "ik_rate": 0.4, "self_accuracy_on_ik": 0.9, "weak_accuracy_on_ik": 0.8, "weak_accuracy": 0.7,
    "prior_accuracy": 0.75, "target_accuracy": 0.76, "smoothing_move": 0.01, "smoothing_flips": 0.0,
    "p_ik_auroc": 0.8,
}  # fmt: skip
P_IK = {
    "method": "selective", "seed": 0, "task": "arc", "distribution": "in", "n": 20, "known": 15, "auroc": 0.8,
    "auroc_low": 0.7, "auroc_high": 0.9, "brier": 0.2, "calibration_error": 0.1, "ik_rate": 0.3,
    "ik_precision": 1.0,
}  # fmt: skip


def diagnosis(method="selective", seed=0, self_weight=0.5, effective_neighbours=4.0, **late):
    graph = {"self_weight": self_weight, "effective_neighbours": effective_neighbours}
    return {"method": method, "seed": seed, "second_half": LATE | late, **graph}


DIAGNOSES = (diagnosis(),)


def write_run(
    workdir,
    *,
    right=RIGHT,
    task="sciq",
    weak="gpt2",
    strong="qwen-14b",
    is_papers_data=False,
    unfinished=(),
    diagnostics=DIAGNOSES,
    p_ik=(P_IK,),
    notes=(),
    order=range(NUM_ITEMS),
    with_results=True,
) -> pathlib.Path:
    """A workdir as a run leaves it: method m of seed s gets the first right[m][s] items right.

    Args:
        unfinished: methods that have been planned and not evaluated.
        order: of the items in the files.
    """
    workdir.mkdir(parents=True)
    order = list(order)
    ids = [f"item-{index}" for index in order]
    store = artifacts.Store(workdir)
    evaluations, stages, trained = [], [], []
    for method, counts in right.items():
        for seed, count in enumerate(counts):
            correct = np.arange(NUM_ITEMS) < count
            prob_1 = np.where(correct == TRUTH, 0.8, 0.2)[order]
            key_of = {"method": method, "seed": seed}

            def write(folder, prob_1=prob_1):
                table = {"example_id": ids, "prob_0": 1 - prob_1, "prob_1": prob_1}
                artifacts.write_table(folder / "predictions.parquet", table)

            if method not in unfinished:
                store.make("predictions", key_of, write)
            key = artifacts.artifact_key("predictions", key_of)
            evaluations.append({**key_of, "key": key})
            stages.append(
                {"label": f"evaluation of {method}, seed {seed}", "name": "predictions", "key": key}
            )
            trained.append({**key_of, "key": f"{len(trained):016x}"})
    labels = TRUTH[order].tolist()
    manifest = {
        "version": "0.1.0",
        "config": {
            "task": task,
            "methods": [method for method in right if method not in ("weak", "ceiling")],
            "seeds": list(range(len(right["weak"]))),
            "training": {"batch_size": 32},
            "p_ik": {"gamma": 0.8},
        },
        "models": {"weak": {"name": weak}, "strong": {"name": strong}},
        "students": trained,
        "test": {
            "n": NUM_ITEMS,
            "labels_hash": artifacts.content_hash([ids, labels]),
            "is_papers_data": is_papers_data,
            "evaluations": evaluations,
        },
        "stages": stages,
    }
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    (workdir / collect.TRUTH_FILE).write_text(json.dumps({"example_id": ids, "label": labels}))
    (workdir / "logs").mkdir()
    for entry in trained:
        if entry["method"] not in unfinished:
            lines = [json.dumps({"step": step, "train/loss": 1 / (step + 1)}) for step in range(3)]
            log = workdir / "logs" / f"log-{entry['key']}.jsonl"
            log.write_text("\n".join([*lines, '{"step": 3, "tra']))
    if with_results:
        results = {"manifest": manifest, "diagnostics": list(diagnostics), "p_ik": list(p_ik)}
        (workdir / "results.json").write_text(json.dumps(results | {"notes": list(notes)}))
    return workdir


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> run_results.Run:
    return run_results.read(write_run(tmp_path_factory.mktemp("report") / "run"))


@pytest.fixture(scope="module")
def files(run) -> dict[str, bytes]:
    return run_report.files([run])


def test_what_is_read(run):
    assert run.title == "sciq: gpt2 teaches qwen-14b" and run.missing == []
    assert list(run.predictions) == list(RIGHT)
    for method, counts in RIGHT.items():
        assert run.correct(method, [0, 1]).sum(1).tolist() == list(counts)
    assert [step["train/loss"] for step in run.logs["weak"][1]] == [1, 1 / 2, 1 / 3]
    assert run.diagnostics[0]["ik_rate"] == 0.4


def test_main_results_are_those_worked_out_by_hand(run, files):
    rows = {row["method"]: row for row in read_csv(files["main.csv"])}
    assert list(rows) == list(RIGHT)
    row = rows["selective"]
    assert float(row["accuracy"]) == pytest.approx(0.75)
    assert float(row["pgr"]) == pytest.approx((0.75 - 0.45) / (0.95 - 0.45))
    assert float(row["difference"]) == pytest.approx(0.15)
    assert float(row["pgr_low"]) <= 0.6 <= float(row["pgr_high"])
    assert (row["n"], row["num_seeds"], row["task"]) == ("10", "2", "sciq")
    assert rows["weak"]["pgr"] == rows["finetune"]["difference"] == ""
    assert "60.00" not in files["errors.csv"].decode()
    assert run_statistics.majority_class_accuracy(run) == 0.6


def test_comparisons_have_mcnemars_test_of_each_seed(run):
    rows = {(row["first"], row["second"]): row for row in run_statistics.comparison_rows(run)}
    assert list(rows) == [
        ("selective", "finetune"), ("random_selection", "finetune"), ("selective", "random_selection"),
    ]  # fmt: skip
    # Of the first k items, more are right only for one of two: k1 - k2 items.
    assert rows["selective", "finetune"]["mcnemar"] == "seed 0: 2/0, p = 0.500; seed 1: 1/0, p = 1.000"
    assert rows["random_selection", "finetune"]["difference"] == pytest.approx(0)


def test_errors_inherited_and_probabilities(run):
    rows = {row["method"]: row for row in run_statistics.inheritance(run)}
    # Seed 0: weak wrong on 5, selective on 2 of them; seed 1: weak wrong on 6, selective on 3 of them.
    assert rows["selective"]["inherited"] == pytest.approx((2 / 5 + 3 / 6) / 2)
    assert rows["selective"]["spoiled"] == 0 and "weak" not in rows
    by_seed = run_statistics.by_seed(run)
    first = next(row for row in by_seed if (row["method"], row["seed"]) == ("selective", 0))
    assert first["brier"] == pytest.approx(0.8 * 0.04 + 0.2 * 0.64)
    assert first["pgr"] == pytest.approx(3 / 4) and first["accuracy"] == 0.8


def test_equal_runs_give_equal_files_whatever_the_order_of_their_items(tmp_path, run, files):
    other = run_results.read(write_run(tmp_path / "run", order=np.random.default_rng(0).permutation(10)))
    other = dataclasses.replace(other, workdir=run.workdir, manifest=run.manifest)
    assert run_report.files([other]) == files == run_report.files([run])


def test_label_quality_on_ik_rows_is_over_the_rows_of_all_seeds(tmp_path):
    several = [
        diagnosis(ik_rate=0.75, self_accuracy_on_ik=0.8),
        diagnosis(seed=1, ik_rate=0.25, self_accuracy_on_ik=0.4),
    ]
    several.append(diagnosis(seed=2, ik_rate=0.0, self_accuracy_on_ik=None, weak_accuracy_on_ik=None))
    (row,) = run_tables.label_table(run_results.read(write_run(tmp_path / "run", diagnostics=several))).rows
    assert row["self_accuracy_on_ik"] == pytest.approx(0.7) and row["ik_rate"] == pytest.approx(1 / 3)


class Page(html.parser.HTMLParser):
    """The tags of a page, with a check that they are closed in order."""

    def __init__(self, content: bytes):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(content.decode())
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def test_page_is_whole_and_needs_nothing_else(run, files):
    page = Page(files["report.html"])
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    inlined = [base64.b64decode(attrs["src"].removeprefix("data:image/png;base64,")) for attrs in pictures]
    assert inlined == [files[f"{kind}-1.png"] for kind in ("results", "labels", "training")]
    assert all(attrs["alt"] for attrs in pictures)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert b"http" not in files["report.html"].replace(b"http-equiv", b"")
    text = " ".join(page.text)
    assert text.index("Warnings") < text.index("Main results") < text.index("Settings and manifest")
    for table in run_tables.of_run(run):
        assert all(column.meaning in text for column in table.columns)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> dict[str, bytes]:
    """A report of a run whose every name is hostile."""
    right = dict(RIGHT) | {NASTY: (1, 2)}
    workdir = write_run(
        tmp_path_factory.mktemp("nasty") / "run", right=right, task=NASTY, weak=NASTY, strong=NASTY,
        notes=[NASTY], diagnostics=[diagnosis(NASTY, ik_rate=0.0)], p_ik=[P_IK | {"task": NASTY}],
    )  # fmt: skip
    return run_report.files([run_results.read(workdir)])


def test_names_of_anyone_are_text_in_the_page(nasty):
    page = Page(nasty["report.html"])
    assert b"<b>" not in nasty["report.html"]
    assert "b" not in {tag for tag, _ in page.tags}
    assert any(NASTY in text for text in page.text)


def test_names_of_anyone_are_text_in_latex_markdown_and_csv(nasty):
    escaped = (
        r"\textless{}b\textgreater{}\&a\_b\%\textbackslash{}\{c\}\textbar{}\$d\#`"
        r"\textasciitilde{}\textasciicircum{}\textless{}/b\textgreater{} '" + '"'
    )
    latex = nasty["main.tex"].decode()
    row = next(line for line in latex.splitlines() if line.startswith(escaped))
    assert row.count(" & ") == 8 and row.endswith(r" \\")
    row = next(line for line in nasty["main.md"].decode().splitlines() if line.startswith("| &lt;b&gt;"))
    assert row.replace("\\|", "").count("|") == 10 and "<b>" not in row and "\\`" in row
    assert NASTY in [row["method"] for row in read_csv(nasty["main.csv"])]


def test_latex_is_a_booktabs_table_with_minus_signs(files):
    latex = files["comparisons.tex"].decode()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert latex.index(r"\toprule") < latex.index(r"\midrule") < latex.index(r"\bottomrule")
    assert len(rows) == 1 + 3 and len({line.count(" & ") for line in rows}) == 1
    assert "{lrrrrl}" not in latex and r"\begin{tabular}{llrrrrl}" in latex
    row = {"x": -0.25, "y": (-0.5, 0.25), "z": "-1"}
    columns = [tables.Column("x", "x", "", "points"), tables.Column("y", "y", "", "ratio interval")]
    columns.append(tables.Column("z", "z", ""))
    text = tables.to_latex(tables.Table("t", "t", columns, [row]), "t")
    assert r"$-$25.00 & $-$0.500 to 0.250 & -1 \\" in text


def test_the_papers_numbers_stand_beside_ours_only_for_its_data_and_pair(tmp_path, run):
    table = run_tables.main_table(run_results.read(write_run(tmp_path / "same", is_papers_data=True)))
    (column,) = (column for column in table.columns if column.key == "paper_accuracy")
    assert column.heading == "paper's accuracy" and "not measured here" in column.meaning
    assert {row["method"]: column.text(row) for row in table.rows}["selective"] == "83.30"
    assert {row["method"]: column.text(row) for row in table.rows}["random_selection"] == "-"
    other_pair = run_results.read(write_run(tmp_path / "pair", is_papers_data=True, strong="gpt2-xl"))
    for other in (other_pair, run):
        assert all(column.key != "paper_accuracy" for column in run_tables.main_table(other).columns)


def test_several_runs_have_a_table_by_task_and_a_transfer_matrix(tmp_path, run):
    runs = [
        run,
        run_results.read(write_run(tmp_path / "boolq", task="boolq", is_papers_data=True)),
        run_results.read(write_run(tmp_path / "xl", strong="gpt2-xl", unfinished=("selective",))),
    ]
    made = run_report.files(runs)
    rows = {(row["strong"], row["method"]): row for row in read_csv(made["overview.csv"])}
    assert float(rows["qwen-14b", "selective"]["boolq accuracy"]) == pytest.approx(0.75)
    assert rows["gpt2-xl", "finetune"]["boolq accuracy"] == ""
    assert {row["run"] for row in read_csv(made["main.csv"])} == {one.title for one in runs}
    assert "paper_accuracy" in made["main.csv"].decode().splitlines()[0]
    assert [name for name in made if name.startswith("transfer")] == ["transfer-1.png"]
    matrix = run_tables.transfer(runs)
    assert list(matrix) == [("sciq", "finetune"), ("sciq", "random_selection")]
    assert matrix["sciq", "finetune"] == pytest.approx({("gpt2", "qwen-14b"): 0.6, ("gpt2", "gpt2-xl"): 0.6})
    Page(made["report.html"])


def test_one_experiment_in_two_workdirs_is_told_apart_by_workdir(tmp_path, run):
    other = run_results.read(write_run(tmp_path / "other"))
    made = run_report.files([run, other])
    assert len({row["run"] for row in read_csv(made["main.csv"])}) == 2
    assert "overview.csv" not in made and "transfer-1.png" not in made
    assert str(other.workdir) in made["report.html"].decode()


def test_a_part_of_a_run_says_what_is_missing(tmp_path):
    workdir = write_run(tmp_path / "run", unfinished=("ceiling", "selective"), with_results=False)
    run = run_results.read(workdir)
    assert run.missing[:2] == ["evaluation of ceiling, seed 0", "evaluation of ceiling, seed 1"]
    assert len(run.missing) == 5 and "when it ends" in run.missing[-1]
    made = run_report.files([run])
    text = " ".join(Page(made["report.html"]).text)
    assert all(label in text for label in run.missing)
    rows = {row["method"]: row for row in read_csv(made["main.csv"])}
    assert set(rows) == {"weak", "finetune", "random_selection"}
    assert rows["finetune"]["pgr"] == "" and float(rows["finetune"]["accuracy"]) == 0.6
    assert "labels.csv" not in made and "results-1.png" in made


def test_seeds_that_are_not_finished_for_both_are_not_compared(tmp_path):
    workdir = write_run(tmp_path / "run")
    run = run_results.read(workdir)
    predictions = run.predictions | {"selective": {1: run.predictions["selective"][1]}}
    run = dataclasses.replace(run, predictions=predictions)
    rows = {row["method"]: row for row in run_statistics.main_results(run)}
    assert rows["selective"]["num_seeds"] == 1
    assert rows["selective"]["pgr"] == pytest.approx((0.7 - 0.4) / (1 - 0.4))


def test_results_of_an_earlier_config_are_not_used(tmp_path):
    workdir = write_run(tmp_path / "run")
    manifest = json.loads((workdir / "manifest.json").read_text())
    manifest["config"]["p_ik"]["gamma"] = 0.5
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    run = run_results.read(workdir)
    assert run.diagnostics == run.p_ik == [] and "earlier config" in run.missing[0]


def damage(path: pathlib.Path, content: str | None):
    path.unlink() if content is None else path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", "manifest.json cannot be read"),
        ("manifest.json", "[]", "manifest.json"),
        ("manifest.json", '{"config": {}, "models": {}, "students": []}', "says nothing of predictions"),
        (
            "manifest.json",
            '{"config": {}, "models": {}, "students": [], "test": 3, "stages": []}',
            "cannot be read",
        ),
        ("results.json", "", "results.json cannot be read"),
        ("results.json", '{"manifest": 1}', "results.json cannot be read"),
        (collect.TRUTH_FILE, None, f"{collect.TRUTH_FILE} cannot be read"),
        (collect.TRUTH_FILE, "[1, 2]", f"{collect.TRUTH_FILE} cannot be read"),
        (collect.TRUTH_FILE, '{"example_id": ["item-0"], "label": [1]}', "is not the file that was written"),
        ("predictions.parquet", "PAR1", "is damaged"),
        ("artifact manifest", "{", "no readable manifest"),
        ("artifact manifest", '{"stage": "predictions", "inputs": {}, "files": {}}', "other inputs"),
    ],
)
def test_damaged_runs_are_refused_in_one_line(tmp_path, name, content, message):
    workdir = write_run(tmp_path / "run")
    artifact = next((workdir / "artifacts" / "predictions").iterdir())
    named = {
        "artifact manifest": artifact / "manifest.json",
        "predictions.parquet": artifact / "predictions.parquet",
    }
    damage(named.get(name, workdir / name), content)
    with pytest.raises(UserError, match=message) as error:
        run_results.read(workdir)
    assert "\n" not in str(error.value)


def test_damaged_entries_of_results_are_refused(tmp_path):
    workdir = write_run(tmp_path / "run", diagnostics=[{"method": "selective"}])
    with pytest.raises(UserError, match=r"results.json cannot be read"):
        run_results.read(workdir)


def found(tmp_path, **changes) -> list[run_warnings.Finding]:
    return run_warnings.find(run_results.read(write_run(tmp_path / "run", **changes)))


EVEN = {
    "weak": (2, 2, 2), "ceiling": (10, 10, 10), "finetune": (4, 4, 5), "selective": (9, 9, 9),
    "random_selection": (5, 5, 4),
}  # fmt: skip


def test_a_run_without_failures_has_no_warning(tmp_path):
    right = {"weak": (7, 7), "ceiling": (10, 10), "finetune": (8, 8), "selective": (9, 9)}
    run = run_results.read(write_run(tmp_path / "run", right=right | {"random_selection": (7, 7)}))
    predictions = {
        method: {seed: np.tile(prob_1, 5) for seed, prob_1 in of_seed.items()}
        for method, of_seed in run.predictions.items()
    }
    run = dataclasses.replace(run, truth=np.tile(run.truth, 5), predictions=predictions)
    assert run_warnings.find(run) == []
    assert "None of the known ways" in " ".join(Page(run_report.files([run])["report.html"]).text)


@pytest.mark.parametrize(
    ("changes", "method", "seeds", "words"),
    [
        ({"diagnostics": [diagnosis(ik_rate=0.004, seed=1)]}, "selective", "1", "IK rate 0.4 %"),
        ({"diagnostics": [diagnosis(ik_rate=1.0)]}, "selective", "0", "IK rate 100.0 %"),
        (
            {"diagnostics": [diagnosis(self_accuracy_on_ik=0.5), diagnosis(seed=1)]},
            "selective",
            "0",
            "50.0 % against 80.0 %",
        ),
        ({"diagnostics": [diagnosis(self_weight=0.99)]}, "selective", "0", "mean self-weight 0.99"),
        (
            {"diagnostics": [diagnosis(effective_neighbours=31.0)]},
            "selective",
            "0",
            "31 effective neighbours",
        ),
        ({"p_ik": [P_IK | {"auroc_low": 0.45}]}, "selective", "0", "AUROC 0.8"),
        ({"right": {m: (n[0],) for m, n in EVEN.items()}}, "all", "0", "one seed only"),
        ({"right": EVEN | {"ceiling": (2, 2, 1)}}, "ceiling", "0, 1, 2", "PGR is undefined"),
        ({"right": EVEN | {"ceiling": (2, 5, 4)}}, "ceiling", "0", "in 1 of 3 seeds"),
        ({"right": EVEN | {"ceiling": (2, 3, 2)}}, "ceiling", "0, 1, 2", "denominator touches zero"),
        ({"right": EVEN}, "weak", "0, 1, 2", "more common label (60.0 %)"),
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


def test_methods_whose_mask_is_given_are_not_blamed_for_it(tmp_path):
    fixed = [diagnosis(name, ik_rate=1.0, self_accuracy_on_ik=0.1) for name in run_statistics.CONTROLS]
    fixed.append(diagnosis("selective_without_gs", self_weight=1.0))
    assert not [one for one in found(tmp_path, diagnostics=fixed) if "IK" in one.observation]


def test_pictures_without_anything_to_draw_are_left_out():
    assert report_figures.draw_training({"weak": {0: []}}, title="t", styles={"weak": ("k", "-")}) is None
    assert report_figures.draw_labels({}, title="t", styles={}) is None


def test_many_methods_each_have_a_look_of_their_own():
    methods = ["weak", "ceiling", *(f"method_{number}" for number in range(14)), *run_statistics.CONTROLS]
    styles = report_figures.method_styles(methods)
    assert list(styles) == methods and len(set(styles.values())) == len(methods)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "selw2s_jax.report", *arguments], capture_output=True, text=True, timeout=120
    )


def test_command_writes_the_report_and_refuses_what_is_no_run(tmp_path):
    workdir = write_run(tmp_path / "run", unfinished=("selective",))
    done = command(f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"{workdir}/report/report.html" in done.stdout and "2 outcomes are missing" in done.stdout
    expected = run_report.files([run_results.read(epath.Path(workdir))])
    assert {path.name: path.read_bytes() for path in (workdir / "report").iterdir()} == expected

    unfinished = write_run(tmp_path / "unfinished", unfinished=tuple(RIGHT))
    refused = command(f"--workdir={unfinished}", f"--output={tmp_path / 'out'}")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "no evaluation is finished" in refused.stderr and not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    for workdir, message in ((tmp_path / "none", "none is not there"), (tmp_path, "has no run in it")):
        with pytest.raises(UserError, match=message):
            run_results.read(workdir)


def test_report_of_a_real_run(tmp_path_factory):
    run = run_results.read(small_run.workdir(tmp_path_factory.getbasetemp()))
    results = json.loads((run.workdir / "results.json").read_text())
    assert run.missing == []
    rows = {row["method"]: row for row in run_statistics.main_results(run)}
    for row in results["summary"]:
        found = rows[row["method"]]
        assert found["accuracy"] == row["accuracy"] and found["pgr"] == row["pgr"]
        assert found["accuracy_interval"] == (row["accuracy_low"], row["accuracy_high"])
    assert set(run.logs) == set(rows)
    Page(run_report.files([run])["report.html"])
