"""Reports of a run: numbers worked out by hand, text of anyone escaped, equal bytes, one whole page."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from etils import epath
from support import commands, report_runs, small_run

from selw2s_jax.analysis import formats, method_looks, methods
from selw2s_jax.method import registry
from selw2s_jax.report import __main__ as report_command
from selw2s_jax.report import document, figures, front, numbers, provenance, stored, tables
from selw2s_jax.run import outcome


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    return stored.read_run(report_runs.write_run(tmp_path_factory.mktemp("report") / "run"))


@pytest.fixture(scope="module")
def files(run) -> dict[str, bytes]:
    return document.files([run])


def test_main_results_are_those_worked_out_by_hand(run, files):
    rows = {row["method"]: row for row in report_runs.read_csv(files["main.csv"])}
    assert list(rows) == list(report_runs.RIGHT)
    row = rows["selective"]
    assert float(row["accuracy"]) == pytest.approx(0.75)
    assert float(row["pgr"]) == pytest.approx((0.75 - 0.45) / (0.95 - 0.45))
    assert float(row["difference"]) == pytest.approx(0.15)
    assert float(row["pgr_low"]) <= 0.6 <= float(row["pgr_high"])
    assert (row["n"], row["num_seeds"], row["task"]) == ("10", "2", "sciq")
    assert rows["weak"]["pgr"] == rows["finetune"]["difference"] == ""
    assert "60.00" not in files["errors.csv"].decode()
    assert numbers.majority_class_accuracy(run) == 0.6


def test_comparisons_have_mcnemars_test_of_each_seed(run):
    rows = {(row["first"], row["second"]): row for row in numbers.comparison_rows(run)}
    assert list(rows) == [
        ("selective", "finetune"), ("random_selection", "finetune"), ("selective", "random_selection"),
    ]  # fmt: skip
    # Of the first k items, more are right only for one of two: k1 - k2 items.
    tests = numbers.mcnemar_rows(run)
    found = [
        tuple(row.values()) for row in tests if (row["first"], row["second"]) == ("selective", "finetune")
    ]
    assert found == [("selective", "finetune", 0, 2, 0, 0.5), ("selective", "finetune", 1, 1, 0, 1.0)]
    assert len(tests) == 2 * len(rows)
    assert rows["random_selection", "finetune"]["difference"] == pytest.approx(0)


def test_errors_inherited_and_probabilities(run):
    rows = {row["method"]: row for row in numbers.inheritance(run)}
    # Seed 0: weak wrong on 5, selective on 2 of them; seed 1: weak wrong on 6, selective on 3 of them.
    assert rows["selective"]["inherited"] == pytest.approx((2 / 5 + 3 / 6) / 2)
    assert rows["selective"]["spoiled"] == 0 and "weak" not in rows
    by_seed = numbers.by_seed(run)
    first = next(row for row in by_seed if (row["method"], row["seed"]) == ("selective", 0))
    assert first["brier"] == pytest.approx(0.8 * 0.04 + 0.2 * 0.64)
    assert first["pgr"] == pytest.approx(3 / 4) and first["accuracy"] == 0.8


@pytest.mark.slow
@pytest.mark.ci
def test_equal_runs_give_equal_files_whatever_the_order_of_their_items(tmp_path, run, files):
    other = stored.read_run(
        report_runs.write_run(tmp_path / "run", order=np.random.default_rng(0).permutation(10))
    )
    other = dataclasses.replace(other, workdir=run.workdir, manifest=run.manifest)
    assert document.files([other]) == files == document.files([run])


def test_label_quality_on_ik_rows_is_over_the_rows_of_all_seeds(tmp_path):
    several = [
        report_runs.diagnosis(ik_rate=0.75, self_accuracy_on_ik=0.8),
        report_runs.diagnosis(seed=1, ik_rate=0.25, self_accuracy_on_ik=0.4),
    ]
    several.append(
        report_runs.diagnosis(seed=2, ik_rate=0.0, self_accuracy_on_ik=None, weak_accuracy_on_ik=None)
    )
    (row,) = tables.label_table(
        stored.read_run(report_runs.write_run(tmp_path / "run", diagnostics=several))
    ).rows
    assert row["self_accuracy_on_ik"] == pytest.approx(0.7) and row["ik_rate"] == pytest.approx(1 / 3)


def test_page_is_whole_and_needs_nothing_else(run, files):
    page = report_runs.Page(files["report.html"])
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "img" not in {tag for tag, _ in page.tags}
    kinds = (
        "results", "labels", "training", "gain_parts", "p_ik_distributions", "few_shot", "p_ik_reliability",
        "p_ik_risk_coverage", "p_ik_selection", "misfit", "known_errors", "power",
    )  # fmt: skip
    regions = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "region"]
    shown = [one.removeprefix("Picture: ") for one in regions if one.startswith("Picture: ")]
    assert shown == [f"{kind}-1" for kind in kinds] and {f"{name}.pdf" for name in shown} <= files.keys()
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert b"http" not in files["report.html"].replace(b"http-equiv", b"")
    text = " ".join(page.text)
    assert "selective minus random_selection: +15.0 points" in text
    body = text[text.index("Settings and manifest") + 1 :]  # behind the contents
    parts = ("Gains, in short", "Main results", "Warnings", "AUROC, and PGR on it", "Settings and manifest")
    assert sorted(parts, key=body.index) == list(parts)
    for table in tables.of_run(run):
        assert all(page.text.count(column.meaning) == 1 for column in table.columns)  # each once


def test_page_can_be_walked_by_keys_and_readers_of_screens(files, tmp_path):
    """Each table has a caption and scopes, each part a link, each frame that scrolls a name and the focus."""
    page = report_runs.Page(files["report.html"])
    identities = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identities) == len(set(identities))
    links = {attrs["href"] for _, attrs in page.tags if "href" in attrs}
    assert links <= {f"#{identity}" for identity in identities}
    parts = [attrs["id"] for tag, attrs in page.tags if tag in ("h2", "details") and "id" in attrs]
    assert len(parts) > 12 and {f"#{part}" for part in parts} - {"#contents-title"} <= links
    counts = collections.Counter(tag for tag, _ in page.tags)
    assert counts["table"] == counts["caption"] and counts["h1"] == counts["main"] == counts["nav"] == 1
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    frames = [attrs for _, attrs in page.tags if attrs.get("class") == "scroll"]
    assert len(frames) == counts["table"] + counts["svg"]
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in frames)
    assert all(attrs["aria-label"] for tag, attrs in page.tags if tag == "svg")


def test_page_says_what_was_run_when_by_which_command(run):
    manifest = run.manifest | {
        "started": {
            "date": "2026-01-02T03:04:05+00:00",
            "command": "python -m selw2s_jax.main --config=<x> --workdir=/home/me/run",
        },
        "version": "0.1.0",
    }
    (facts,) = front.facts([dataclasses.replace(run, manifest=manifest)])
    text = " ".join(report_runs.Page(facts.encode()).text)
    assert (
        "2026-01-02T03:04:05" in text
        and "--config=<x> --workdir=.../run" in text
        and "selw2s_jax 0.1.0" in text
    )
    (earlier,) = front.facts([run])
    assert "<dt>command</dt>" not in earlier and "<dt>seeds</dt><dd>0, 1</dd>" in earlier


def test_a_page_names_no_folders_of_the_machine():
    values = {
        "weak": {"model": "/home/me/models/gpt2", "name": None, "hub": "org/name"},
        "pairs": ["/a/b/gpt2:~me/c/d", "gs://bucket/folder/x"],
        "shots": ["either and/or /a/b"],
        "command": "selw2s run --config=/a/b.py:weak=/c/d --x='/e f/g' /h/i",
    }
    assert provenance.without_folders(values) == {
        "weak": {"model": ".../gpt2", "name": None, "hub": "org/name"},
        "pairs": [".../gpt2:.../d", "gs://bucket/folder/x"],
        "shots": ["either and/or /a/b"],
        "command": "selw2s run --config=.../b.py:weak=.../d --x='.../e f/g' .../i",
    }


def test_captions_say_things_once():
    def caption(title, name, is_section=True):
        return document._caption(title, name, is_section=is_section)

    assert caption("Methods by task", "By task: a teaches b") == "Methods by task. a teaches b"
    assert caption("All errors", "Blind spots: sciq") == "All errors. Blind spots: sciq"
    assert caption("Main results", "main: a teaches b", False) == "Main results. main: a teaches b"
    assert caption("Blind spots", "Blind spots, each seed: sciq") == "Blind spots, each seed: sciq"
    assert caption("Where labels differ", "Where labels differ") == "Where labels differ"
    assert caption("Warnings", "") == "Warnings"


def test_title_of_several_runs_counts_those_that_have_pairs(run):
    test = run.manifest["test"] | {"evaluations": []}
    alone = dataclasses.replace(run, manifest=run.manifest | {"test": test})
    found = [front.title(dict(enumerate(runs))) for runs in ([run, run], [run, alone], [alone, alone])]
    assert found == [
        "sciq: gpt2 teaches qwen-14b (2 runs)",
        "sciq: gpt2 teaches qwen-14b and P(IK) alone (2 runs)",
        "P(IK) of qwen-14b: 2 runs, tested on sciq",
    ]


def test_what_a_manifest_repeats_is_listed_once():
    shots = [["a question of some length", "an answer"]] * 6
    students = [{"method": name, "shots": shots, "few_shot": {"shots": shots}} for name in ("a", "b")]
    text = provenance.listed({"seeds": [0, 1], "students": students})
    assert text.count("a question of some length") == 6 and text.count("<as students[0].shots>") == 2
    assert text.splitlines()[0] == "seeds: [0, 1]"


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> dict[str, bytes]:
    """A report of a run whose every name is hostile."""
    right = dict(report_runs.RIGHT) | {report_runs.NASTY: (1, 2)}
    name = report_runs.NASTY
    workdir = report_runs.write_run(
        tmp_path_factory.mktemp("nasty") / "run", right=right, task=name, weak=name, strong=name, notes=[name],
        diagnostics=[report_runs.diagnosis(name, ik_rate=0.0)], p_ik=[report_runs.P_IK | {"train_task": name}],
    )  # fmt: skip
    return document.files([stored.read_run(workdir)])


@pytest.mark.slow
@pytest.mark.ci
def test_names_of_anyone_are_text_in_the_page(nasty):
    page = report_runs.Page(nasty["report.html"])
    assert b"<b>" not in nasty["report.html"]
    assert "b" not in {tag for tag, _ in page.tags}
    assert any(report_runs.NASTY in text for text in page.text)


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
    assert report_runs.NASTY in [row["method"] for row in report_runs.read_csv(nasty["main.csv"])]


def test_latex_is_a_booktabs_table_with_minus_signs(files):
    latex = files["comparisons.tex"].decode()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert latex.index(r"\toprule") < latex.index(r"\midrule") < latex.index(r"\bottomrule")
    assert len(rows) == 1 + 3 and len({line.count(" & ") for line in rows}) == 1
    assert r"\begin{tabular}{llrrrr}" in latex
    row = {"x": -0.25, "y": (-0.5, 0.25), "z": "-1"}
    columns = [formats.Column("x", "x", "", "points"), formats.Column("y", "y", "", "ratio interval")]
    columns.append(formats.Column("z", "z", ""))
    text = formats.to_latex(formats.Table("t", "t", columns, [row]), "t")
    assert r"$-$25.00 & $-$0.500 to 0.250 & -1 \\" in text


def test_the_papers_numbers_stand_beside_ours_only_for_its_data_and_pair(tmp_path, run):
    table = tables.main_table(stored.read_run(report_runs.write_run(tmp_path / "same", is_papers_data=True)))
    (column,) = (column for column in table.columns if column.key == "paper_accuracy")
    assert column.heading == "paper's accuracy" and "not measured here" in column.meaning
    assert {row["method"]: column.text(row) for row in table.rows}["selective"] == "83.30"
    assert {row["method"]: column.text(row) for row in table.rows}["random_selection"] == "-"
    other_pair = stored.read_run(
        report_runs.write_run(tmp_path / "pair", is_papers_data=True, strong="gpt2-xl")
    )
    for other in (other_pair, run):
        assert all(column.key != "paper_accuracy" for column in tables.main_table(other).columns)


@pytest.mark.usefixtures("no_pictures")
def test_one_experiment_in_two_workdirs_is_told_apart_by_workdir(tmp_path, run):
    other = stored.read_run(report_runs.write_run(tmp_path / "other"))
    made = document.files([run, other])
    assert len({row["run"] for row in report_runs.read_csv(made["main.csv"])}) == 2
    page = made["report.html"].decode()
    assert "(other)" in page and str(other.workdir) not in page
    assert "overview.csv" not in made and "transfer-1.svg" not in made


def test_pictures_without_anything_to_draw_are_left_out():
    assert figures.draw_training({"weak": {0: []}}, title="t", styles={"weak": ("k", "-")}) is None
    assert figures.draw_labels({}, title="t", styles={}) is None


def test_losses_of_heads_that_a_method_has_not_are_not_drawn():
    logs = {"p_ik_only": {0: [{"step": n, "train/loss_task": 0.0, "train/loss_ik": 1.0} for n in range(3)]}}
    drawn = figures.draw_training(logs, title="t", styles={"p_ik_only": ("#000000", "-")})
    task, ik = drawn._figure.axes
    assert not task.lines and len(ik.lines) == 2


def test_many_methods_each_have_a_look_of_their_own():
    named = {name: methods.facts(name) for name in ("weak", "ceiling", "self_training", "random_selection")}
    own = {f"own_{role}": methods.Facts(role=role) for role in registry.ROLES}
    shown = named | {f"method_{number}": methods.Facts() for number in range(8)} | own
    styles = method_looks.styles(shown)
    assert list(styles) == list(shown) and len(set(styles.values())) == len(shown)
    # A method keeps its look whatever stands beside it.
    assert {name: method_looks.styles({name: facts})[name] for name, facts in named.items()} == {
        name: styles[name] for name in named
    }


@pytest.mark.slow
@pytest.mark.ci
def test_command_writes_the_report_and_refuses_what_is_no_run(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run", unfinished=("selective",))
    done = commands.process("report", f"--workdir={workdir}", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"{workdir}/report/report.html" in done.stdout and "2 outcomes are missing" in done.stdout
    expected = document.files([stored.read_run(epath.Path(workdir))])
    made = {path.name: path.read_bytes() for path in (workdir / "report").iterdir()}
    is_drawn = {name: made.pop(name).startswith(b"%PDF") for name in list(made) if name.endswith(".pdf")}
    assert is_drawn and all(is_drawn.values())
    assert made == {name: content for name, content in expected.items() if name not in is_drawn}

    unfinished = report_runs.write_run(
        tmp_path / "unfinished", unfinished=tuple(report_runs.RIGHT), with_results=False
    )
    refused = commands.call(
        report_command.main, f"--workdir={unfinished}", f"--output={tmp_path / 'out'}", cwd=tmp_path
    )
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "no evaluation is finished" in refused.stderr and not (tmp_path / "out").exists()


def test_report_of_a_real_run(tmp_path_factory):
    run = stored.read_run(small_run.workdir(tmp_path_factory.getbasetemp()))
    results = json.loads((run.workdir / "results.json").read_text())
    assert run.missing == []
    rows = {row["method"]: row for row in numbers.main_results(run)}
    for row in results["summary"]:
        found = rows[row["method"]]
        assert found["accuracy"] == row["accuracy"] and found["pgr"] == row["pgr"]
        assert found["accuracy_interval"] == (row["accuracy_low"], row["accuracy_high"])
    assert set(run.logs) == set(rows)
    assert run.methods == {name: methods.facts(name) for name in rows} != {}
    assert run.manifest["methods"] == methods.to_json(rows)
    report_runs.Page(document.files([run])["report.html"])


def test_a_run_and_its_report_draw_the_same(tmp_path_factory):
    """One function draws both; here it gets the same of a run that ends and of one that is read."""
    run = stored.read_run(small_run.workdir(tmp_path_factory.getbasetemp()))
    results = json.loads((run.workdir / "results.json").read_text())
    names = ("method", "accuracy", "accuracy_interval", "pgr", "pgr_interval")
    at_the_end = [outcome.with_intervals(row) for row in results["summary"]]
    assert [[row[name] for name in names] for row in at_the_end] == [
        [row[name] for name in names] for row in numbers.main_results(run)
    ]
    assert results["majority_class_accuracy"] == numbers.majority_class_accuracy(run)
