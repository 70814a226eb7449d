"""Reports of sweeps: averages over tasks worked out by hand, axes, pairs, what is missing, damaged or hostile."""

import json
from unittest import mock

import numpy as np
import pytest
from support import commands, report_runs

from selw2s_jax.analysis import formats, plotting
from selw2s_jax.errors import UserError
from selw2s_jax.report import __main__ as report_command
from selw2s_jax.report import document, stored, sweep_numbers, sweep_sections
from selw2s_jax.run import manifests

SCIQ = report_runs.RIGHT  # of ten items
BOOLQ = {  # of fifteen
    "weak": (6, 6),
    "ceiling": (15, 12),
    "finetune": (9, 9),
    "selective": (12, 9),
    "random_selection": (9, 12),
}
ABLATED = {"selective_without_ik": (6, 7), "mtl": (7, 7)}
TWO_TASKS = {"task=sciq": {}, "task=boolq": {"task": "boolq", "right": BOOLQ, "num_items": 15}}


def read_sweep(workdir, cells, **arguments) -> stored.Contents:
    return stored.read(report_runs.write_sweep(workdir, cells, **arguments))


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory) -> dict[str, bytes]:
    """The report of one pair on two tasks with the paper's data, its pictures made up."""
    workdir = tmp_path_factory.mktemp("sweep") / "tasks"
    with mock.patch.object(plotting.Picture, "_save", lambda self, form, **_: b"<svg></svg>"):
        return document.files(read_sweep(workdir, TWO_TASKS, is_papers_data=True).runs)


def tables_of(runs) -> dict[str, list[dict[str, str]]]:
    """What the files of the sections would hold, without the parts of each run."""
    found: dict[str, list] = {}
    for section in sweep_sections.sections(runs):
        for table in section.tables:
            found.setdefault(table.name, []).append((section.labels, table))
    return {name: report_runs.read_csv(formats.to_csv(parts).encode()) for name, parts in found.items()}


def by_method(content: bytes) -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in report_runs.read_csv(content)}


def test_tasks_stand_beside_each_other_with_the_mean_over_them(two_tasks):
    rows = by_method(two_tasks["overview.csv"])
    assert list(rows) == ["weak", "finetune", "selective", "random_selection", "ceiling"]
    row = rows["selective"]
    assert (row["weak"], row["strong"]) == ("gpt2", "qwen-14b")
    assert float(row["sciq accuracy"]) == pytest.approx(0.75)
    assert float(row["boolq accuracy"]) == pytest.approx(0.7)
    assert float(row["boolq pgr"]) == pytest.approx((0.7 - 0.4) / (0.9 - 0.4))
    # Each task counts once, and PGR is that of the mean accuracies.
    assert float(row["mean over tasks accuracy"]) == pytest.approx((0.75 + 0.7) / 2)
    weak, ceiling = (0.45 + 0.4) / 2, (0.95 + 0.9) / 2
    assert float(row["mean over tasks pgr"]) == pytest.approx((0.725 - weak) / (ceiling - weak))
    for name in ("accuracy", "pgr"):
        bounds = [float(row[f"mean over tasks {name}_{end}"]) for end in ("low", "high")]
        assert bounds[0] < float(row[f"mean over tasks {name}"]) < bounds[1]
    assert rows["weak"]["mean over tasks pgr"] == rows["ceiling"]["sciq pgr"] == ""
    assert "averages-1.svg" in two_tasks


def test_averages_are_drawn(tmp_path):
    found = sweep_sections.sections(read_sweep(tmp_path / "run", TWO_TASKS).runs)
    (drawn,) = [one.pictures["averages-1"][0].svg for one in found if "averages-1" in one.pictures]
    assert b"<path" in drawn and b"Mean over sciq, boolq" in drawn and b">72.5<" in drawn


def test_the_papers_numbers_stand_beside_ours_and_are_marked(two_tasks, tmp_path):
    row = by_method(two_tasks["overview.csv"])["selective"]
    assert [float(row[f"{task} paper_accuracy"]) for task in ("sciq", "boolq")] == [0.833, 0.6864]
    assert float(row["boolq paper_pgr"]) == pytest.approx(0.1492, abs=1e-4)
    assert (
        "mean over tasks paper_accuracy" in row
        and "sciq: paper's accuracy" in two_tasks["overview.md"].decode()
    )
    assert by_method(two_tasks["overview.csv"])["random_selection"]["sciq paper_accuracy"] == ""
    noisy = {name: cell | {"settings": {"weak.label_noise": 0.2}} for name, cell in TWO_TASKS.items()}
    for name, cells in (("other", TWO_TASKS), ("noisy", noisy)):
        runs = read_sweep(tmp_path / name, cells, is_papers_data=name == "noisy").runs
        assert not any("paper" in column for column in tables_of(runs)["overview"][0])


def test_selective_less_the_others_is_pooled_over_tasks(two_tasks):
    rows = {row["second"]: row for row in report_runs.read_csv(two_tasks["pooled_differences.csv"])}
    assert list(rows) == ["finetune", "random_selection"]
    row = rows["finetune"]
    assert float(row["sciq difference"]) == pytest.approx(0.15)
    assert float(row["mean over tasks difference"]) == pytest.approx((0.15 + 0.1) / 2)
    assert (
        float(row["mean over tasks difference_low"]) < 0.125 < float(row["mean over tasks difference_high"])
    )
    assert 0 < float(row["p_value"]) <= 1 and row["num_tasks"] == "2"


@pytest.mark.usefixtures("no_pictures")
def test_ablations_have_a_table_of_their_own_beside_controls(tmp_path):
    ablated = {"task=sciq": {"right": SCIQ | ABLATED}}
    made = tables_of(read_sweep(tmp_path / "run", TWO_TASKS | ablated).runs)
    assert "overview" not in made
    rows = {row["method"]: row for row in made["ablations"]}
    assert list(rows) == [
        "weak", "finetune", "random_selection", "selective_without_ik", "mtl", "selective", "ceiling",
    ]  # fmt: skip
    assert float(rows["mtl"]["sciq accuracy"]) == 0.7 and rows["mtl"]["boolq accuracy"] == ""
    # No mean where a task is missing.
    assert rows["mtl"]["mean over tasks accuracy"] == "" != rows["weak"]["mean over tasks accuracy"]
    with_others = {"task=sciq": {"right": SCIQ | ABLATED | {"confidence": (7, 8)}}}
    made = tables_of(read_sweep(tmp_path / "more", TWO_TASKS | with_others).runs)
    assert "mtl" not in {row["method"] for row in made["overview"]}
    assert "confidence" not in {row["method"] for row in made["ablations"]}


def p_ik_cells() -> dict[str, dict]:
    cells = {}
    for number, source in enumerate(("cosmos_qa", "winogrande", "arc")):
        for task, right, num_items in (("sciq", SCIQ, 10), ("boolq", BOOLQ, 15)):
            cells[f"task={task},p_ik.task={source}"] = {
                "task": task,
                "right": right | {"selective": (9 - number, 9)},
                "num_items": num_items,
                "settings": {"p_ik.task": source},
                "depend": ("selective", "random_selection"),
            }
    return cells


@pytest.mark.usefixtures("no_pictures")
def test_the_task_that_p_ik_is_trained_on_has_rows_for_what_depends_on_it(tmp_path):
    runs = read_sweep(tmp_path / "run", p_ik_cells(), weak="qwen-1.8b", is_papers_data=True).runs
    made = tables_of(runs)["axes"]
    sources = ("cosmos_qa", "winogrande", "arc")
    assert [(row["method"], row["value"]) for row in made] == [
        ("weak", ""), ("finetune", ""), *(("selective", name) for name in sources),
        *(("random_selection", name) for name in sources), ("ceiling", ""),
    ]  # fmt: skip
    selective = [row for row in made if row["method"] == "selective"]
    assert [float(row["sciq accuracy"]) for row in selective] == pytest.approx([0.9, 0.85, 0.8])
    # Table 5 of the paper.
    assert [float(row["sciq paper_accuracy"]) for row in selective] == pytest.approx([0.907, 0.898, 0.906])
    assert [float(row["boolq paper_accuracy"]) for row in selective] == pytest.approx([0.832, 0.8299, 0.8339])
    assert float(made[1]["sciq paper_accuracy"]) == pytest.approx(0.881)
    section = sweep_sections.sections(runs)[0]
    assert section.tables[0].title == "The task that P(IK) is trained on"
    assert not section.pictures  # names have no order


def noise_cells(values=(0.2, 0.0, 0.05)) -> dict[str, dict]:
    return {
        f"task={task},weak.label_noise={noise}": {
            "task": task,
            "right": SCIQ | {"selective": (9 - round(20 * noise), 8)},
            "settings": {"weak.label_noise": noise},
            "depend": ("finetune", "selective", "random_selection"),
        }
        for task in ("sciq", "boolq")
        for noise in values
    }


def test_numbers_are_drawn_in_order_and_a_missing_run_is_a_gap(tmp_path):
    cells = noise_cells()
    del cells["task=boolq,weak.label_noise=0.05"]
    axes = {"task": "boolq", "weak.model": "gpt2", "weak.label_noise": 0.05}
    contents = read_sweep(
        tmp_path / "run",
        cells,
        not_begun={"task=boolq,weak.label_noise=0.05": axes},
        unfinished=("random_selection",),
    )
    assert contents.waiting == ["task=boolq,weak.label_noise=0.05: not begun"]
    (line,) = sweep_numbers.make_lines(sweep_numbers.make_groups(contents.runs))
    assert line.values == [0.0, 0.05, 0.2] and line.is_numeric
    assert line.depends("selective") and not line.depends("ceiling")
    assert list(sweep_sections.sections(contents.runs)[0].pictures) == ["axis-1"]
    rows = {(row["method"], row["value"]): row for row in tables_of(contents.runs)["axes"]}
    assert float(rows["selective", "0.2"]["sciq accuracy"]) == pytest.approx((5 + 8) / 20)
    assert (
        rows["selective", "0.05"]["boolq accuracy"] == rows["selective", "0.05"]["mean over tasks pgr"] == ""
    )
    assert float(rows["ceiling", ""]["mean over tasks accuracy"]) == pytest.approx(0.95)
    assert not any(method == "random_selection" for method, _ in rows)


def test_pairs_of_models_have_a_transfer_matrix_of_accuracy_and_pgr(tmp_path):
    pairs = (("gpt2", "gpt2-xl"), ("gpt2", "qwen-14b"), ("qwen-1.8b", "qwen-14b"))
    cells = {f"{weak}-{strong}": {"weak": weak, "strong": strong} for weak, strong in pairs}
    cells["gpt2-gpt2-xl"]["right"] = SCIQ | {"ceiling": (4, 4)}  # PGR is undefined
    runs = read_sweep(tmp_path / "run", cells, unfinished=("random_selection",)).runs
    assert list(sweep_sections.sections(runs)[-1].pictures) == ["transfer-accuracy-1", "transfer-pgr-1"]
    made = tables_of(runs)
    rows = made["transfer"]
    shown = ("weak", "ceiling", "finetune", "selective")
    assert [(row["weak"], row["strong"], row["method"]) for row in rows] == [
        (*pair, method) for pair in pairs for method in shown
    ]
    assert rows[2]["pgr"] == "" and float(rows[7]["pgr"]) == pytest.approx(0.6)
    assert {row["task"] for row in rows} == {"sciq"}
    # One task has no table by task.
    assert "overview" not in made


@pytest.mark.usefixtures("no_pictures")
def test_single_seeds_as_an_axis_are_one_run(tmp_path):
    cells = {
        f"seeds={seed}": {
            "right": {method: (counts[place],) for method, counts in SCIQ.items()},
            "seeds": [seed],
        }
        for place, seed in enumerate((7, 3))
    }
    (run,) = read_sweep(tmp_path / "run", cells).runs
    assert run.config["seeds"] == [7, 3] and run.common_seeds("weak", "selective") == [3, 7]
    assert {entry["seed"] for entry in run.manifest["test"]["evaluations"]} == {3, 7}
    assert {seed: int(run.correct("weak", [seed]).sum()) for seed in (7, 3)} == {7: 5, 3: 4}
    assert len(run.diagnostics) == 2 and set(run.logs["weak"]) == {3, 7}
    again = {"seeds=7": cells["seeds=7"], "seeds=7,twice": cells["seeds=7"]}
    with pytest.raises(UserError, match="share a seed"):
        read_sweep(tmp_path / "again", again)


@pytest.mark.usefixtures("no_pictures")
def test_runs_that_differ_in_more_than_the_task_have_no_mean(tmp_path):
    runs = [
        stored.read_run(report_runs.write_run(tmp_path / "sciq")),
        stored.read_run(
            report_runs.write_run(tmp_path / "boolq", task="boolq", settings={"p_ik.gamma": 0.5})
        ),
    ]
    (section,) = sweep_sections.sections(runs)
    (table,) = section.tables
    assert not any("mean over tasks" in column.key for column in table.columns) and not section.pictures
    assert "No means over tasks" in table.notes[-1]


def test_runs_that_cannot_be_told_apart_and_single_runs_have_no_sections(tmp_path):
    runs = [stored.read_run(report_runs.write_run(tmp_path / name)) for name in ("a", "b")]
    assert sweep_sections.sections(runs) == sweep_sections.sections(runs[:1]) == []


def test_the_page_of_a_sweep_is_whole(tmp_path, two_tasks):
    page = report_runs.Page(two_tasks["report.html"])
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= anchors
    text = " ".join(page.text)  # of several runs each is a link, called by what it differs in
    assert "Tables of:  sciq ;  boolq" in text and "The runs at a glance" in text
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == len(
        [name for name in two_tasks if ".svg" in name]
    )
    order = np.random.default_rng(0).permutation(10)
    shuffled = TWO_TASKS | {"task=sciq": {"order": order}}
    runs = read_sweep(tmp_path / "run", shuffled, is_papers_data=True).runs
    assert tables_of(runs)["overview"] == report_runs.read_csv(two_tasks["overview.csv"])
    # Warnings are those of each run.
    named = {row["run"] for row in report_runs.read_csv(two_tasks["warnings.csv"])}
    assert named <= {"sciq: gpt2 teaches qwen-14b", "boolq: gpt2 teaches qwen-14b"} and named


@pytest.mark.slow
@pytest.mark.ci
def test_names_of_anyone_are_text(tmp_path):
    name = report_runs.NASTY
    cells = {
        f"cell-{number}": {
            "task": name, "right": SCIQ | {name: (1, 2)}, "weak": name, "strong": name,
            "settings": {"data.num_train": number, "p_ik.task": name}, "depend": ("selective",),
        }
        for number in (1000, 5000)
    }  # fmt: skip
    cells["pair"] = cells["cell-1000"] | {"weak": "gpt2"}
    contents = read_sweep(tmp_path / "run", cells, not_begun={name.replace("/", ""): {"task": name}})
    made = document.files(contents.runs, absent=contents.waiting)
    assert {"axis-1.svg", "transfer-pgr-1.pdf", "axes.tex", "transfer.md"} <= made.keys()
    page = report_runs.Page(made["report.html"])
    assert "b" not in {tag for tag, _ in page.tags} and b"<b>" not in made["report.html"]
    for kind in ("axes", "main", "transfer"):
        assert "<b>" not in made[f"{kind}.md"].decode()
        rows = [line for line in made[f"{kind}.tex"].decode().splitlines() if line.endswith(r"\\")]
        assert rows and not any(
            "<" in line or "b&a" in line.replace(r"b\textgreater{}\&a", "") for line in rows
        )
    assert name in {row["method"] for row in report_runs.read_csv(made["axes.csv"])}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_a_damaged_run_is_left_out_named_and_the_command_fails(tmp_path):
    workdir = report_runs.write_sweep(tmp_path / "run", TWO_TASKS, not_begun={"task=cosmos_qa": {"task": ""}})
    report_runs.damage(workdir / "runs" / "task=boolq" / "results.json", "{")
    contents = stored.read(workdir)
    assert [run.task for run in contents.runs] == ["sciq"] and len(contents.damaged) == 1
    done = commands.call(report_command.main, f"--workdir={workdir}", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "1 of the sweep's runs cannot be read: task=boolq: " in done.stderr
    assert "results.json cannot be read" in done.stderr and "task=cosmos_qa: not begun" in done.stdout
    page = report_runs.Page((workdir / "report" / "report.html").read_bytes())
    assert any(text.startswith("task=boolq: ") for text in page.text)

    report_runs.damage(workdir / "runs" / "task=sciq" / "manifest.json", "[")
    refused = commands.call(
        report_command.main, f"--workdir={workdir}", f"--output={tmp_path / 'out'}", cwd=tmp_path
    )
    assert refused.returncode == 2 and "2 of the sweep's runs" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3}', '{"cells": [{"name": "a"}]}'])
def test_a_damaged_list_of_runs_is_refused_in_one_line(tmp_path, content):
    workdir = report_runs.write_sweep(tmp_path / "run", TWO_TASKS)
    report_runs.damage(workdir / manifests.SWEEP_FILE, content)
    with pytest.raises(UserError, match=r"sweep\.json cannot be read") as error:
        stored.read(workdir)
    assert "\n" not in str(error.value)


def test_an_axis_that_a_config_does_not_have_is_damage(tmp_path):
    workdir = report_runs.write_sweep(tmp_path / "run", TWO_TASKS)
    found = json.loads((workdir / manifests.SWEEP_FILE).read_text())
    found["cells"][0]["axes"]["data.nothing"] = 3
    report_runs.damage(workdir / manifests.SWEEP_FILE, json.dumps(found))
    assert "task=sciq: " in stored.read(workdir).damaged[0]
