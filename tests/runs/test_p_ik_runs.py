"""Runs of P(IK) alone: any task trained on, any tested on, answers judged or written at length, and the dry run."""

import json
import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import item_runs, tiny_config

from selw2s_jax.data import gsm8k, sources, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.inference import answering, generate
from selw2s_jax.report import kept, origins
from selw2s_jax.run import manifests as manifests_lib
from selw2s_jax.run import pipeline
from selw2s_jax.runtime import preemption

FIELDS = {
    "method", "seed", "train_task", "test_task", "distribution", "n", "known", "auroc", "auroc_low", "auroc_high",
    "brier", "ece", "ik_rate", "ik_precision", "bands",
}  # fmt: skip


def make_config(**overrides):
    return tiny_config.make_config(
        methods=("p_ik_only",), weak__model=None, generation__max_new_tokens=5, **overrides
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> pathlib.Path:
    """ARC and SciQ trained on, SciQ tested on."""
    workdir = tmp_path_factory.mktemp("sweep")
    pipeline.run(make_config(sweep__settings=("p_ik.task=arc,sciq",)), workdir)
    return workdir


def read_cell(workdir: pathlib.Path, train_task: str) -> tuple[dict, dict[str, list]]:
    """results.json of a cell, and its table of questions."""
    folder = workdir / "runs" / f"p_ik.task={train_task}"
    items = pq.read_table(folder / manifests_lib.P_IK_ITEMS_FILE).to_pydict()
    return json.loads((folder / "results.json").read_text()), items


def pairwise_auroc(scores, known) -> float:
    """The share of pairs of a known and an unknown question in which the known one has the higher score."""
    pairs = [(a > b) + (a == b) / 2 for a in scores[known] for b in scores[~known]]
    return float(np.mean(pairs))


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(("train_task", "distribution"), [("arc", "out"), ("sciq", "in")])
def test_results_are_those_of_the_questions(sweep, train_task, distribution):
    results, items = read_cell(sweep, train_task)
    (entry,) = results["p_ik"]
    assert set(entry) == FIELDS
    assert (entry["train_task"], entry["test_task"]) == (train_task, "sciq")
    assert entry["distribution"] == distribution
    scores, known = np.array(items["p_ik"]), np.array(items["known"])
    assert entry["n"] == len(scores) == 33
    assert entry["known"] == known.sum()
    assert entry["auroc"] == pytest.approx(pairwise_auroc(scores, known))
    assert entry["ik_rate"] == pytest.approx(np.mean(scores > 0.5))
    assert sum(band["n"] for band in entry["bands"]) == 33
    assert sum(band["n"] * band["accuracy"] for band in entry["bands"]) == pytest.approx(known.sum())
    assert all(a["high"] <= b["low"] for a, b in zip(entry["bands"], entry["bands"][1:], strict=False))
    assert results["records"] == results["summary"] == []
    folder = sweep / "runs" / f"p_ik.task={train_task}"
    assert list(item_runs.assert_results_are_theirs(folder)) == [("sciq", "few-shot answers", 0)]
    kinds = {
        method: [line.split()[0] for line in _origins(folder, method).splitlines()[1:]]
        for method in ("p_ik_only", "few-shot answers")
    }
    assert kinds["few-shot answers"] == ["number", "answers"]
    assert {"number", "predictions", "train", "answers"} <= set(kinds["p_ik_only"])
    with pytest.raises(UserError, match="there are p_ik_only,0, few-shot answers,0"):
        _origins(folder, "selective")


def _origins(folder: pathlib.Path, method: str) -> str:
    return origins.text(kept.read(folder), origins.parse(f"sciq,{method},0"))


@pytest.mark.slow
@pytest.mark.ci
def test_questions_are_joined_with_the_stored_answers_and_scores(sweep):
    results, items = read_cell(sweep, "arc")
    keys = {stage["label"]: stage["key"] for stage in results["manifest"]["stages"]}

    def column(stage: str, label: str, file: str, name: str) -> dict[str, float]:
        table = pq.read_table(sweep / "artifacts" / stage / keys[label] / file).to_pydict()
        return dict(zip(table["example_id"], table[name], strict=True))

    prob_1 = column("answers", "few-shot answers on sciq (test), seed 0", "answers.parquet", "prob_1")
    p_ik = column("predictions", "evaluation of p_ik_only, seed 0", "predictions.parquet", "p_ik")
    truth = json.loads((sweep / "runs" / "p_ik.task=arc" / manifests_lib.TRUTH_FILE).read_text())
    labels = dict(zip(truth["example_id"], truth["label"], strict=True))
    for row, name in enumerate(items["example_id"]):
        assert items["known"][row] == ((prob_1[name] > 0.5) == labels[name])
        assert items["confidence"][row] == pytest.approx(max(prob_1[name], 1 - prob_1[name]))
        assert items["p_ik"][row] == p_ik[name]


@pytest.mark.slow
@pytest.mark.ci
def test_there_is_no_weak_model_and_answers_are_shared(sweep):
    manifests = [read_cell(sweep, task)[0]["manifest"] for task in ("arc", "sciq")]
    stages = [{stage["label"]: stage["key"] for stage in manifest["stages"]} for manifest in manifests]
    assert all(set(manifest["models"]) == {"strong"} for manifest in manifests)
    assert all([s["method"] for s in manifest["students"]] == ["p_ik_only"] for manifest in manifests)
    assert not any("weak" in label or "ceiling" in label for of_run in stages for label in of_run)
    same = "few-shot answers on sciq (test), seed 0"
    assert stages[0][same] == stages[1][same]
    readers = {(one["task"], one["reader"]) for one in manifests[0]["examples"]}
    assert readers == {
        (task, reader) for task in ("arc", "sciq") for reader in ("P(IK) head", "few-shot prompt")
    }


def write_by_row(decoder, tokenizer, prompts, example_ids, settings, **options):
    """Completions of which that to every third question is right, of several samples the first alone."""
    found = []
    for name in example_ids:
        row = int(name.rpartition("/")[2])
        texts = [
            f"so it is\n{gsm8k.ANSWER_MARK} {'x' if row % 3 or sample else _answers()[name]}"
            for sample in range(settings.num_samples)
        ]
        found.append([generate.Completion(text, np.zeros(1, np.int32), "stop") for text in texts])
    return found


def _answers() -> dict[str, str]:
    task = tasks.get_task("gsm8k")
    questions = [
        q for split in ("train", "test") for q in sources.load_questions(task, split, source=str(DATA[0]))
    ]
    return {question.question_id: str(gsm8k.parse_answer(question.solution)) for question in questions}


DATA: list[pathlib.Path] = []


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [1, 2])
def test_written_answers_are_known_where_they_are_right(tmp_path, monkeypatch, num_samples):
    DATA[:] = [tmp_path / "inputs" / "data"]
    monkeypatch.setattr(generate, "generate", write_by_row)
    config = make_config(task="gsm8k", p_ik__task="gsm8k", p_ik__num_samples=num_samples, data__num_test=13)
    report = pipeline.run(config, tmp_path)
    (entry,) = report["p_ik"]
    items = pq.read_table(tmp_path / manifests_lib.P_IK_ITEMS_FILE).to_pydict()
    assert items["known"] == [int(name.rpartition("/")[2]) % 3 == 0 for name in items["example_id"]]
    assert np.isnan(items["confidence"]).all()
    assert (entry["n"], entry["known"], entry["bands"]) == (13, sum(items["known"]), [])
    answers = [stage for stage in report["manifest"]["stages"] if "(P(IK))" in stage["label"]]
    table = pq.read_table(
        tmp_path / "artifacts" / "answers" / answers[0]["key"] / "answers.parquet"
    ).to_pydict()
    expected = [(int(name.rpartition("/")[2]) % 3 == 0) / num_samples for name in table["example_id"]]
    assert table["right"] == expected


def test_no_question_of_the_student_or_the_test_trains_p_ik(tmp_path):
    """Also not with another choice: a copy of the student's own file is no other task."""
    rows = [
        {"question": f"What is {i} + 1?", "choices": [str(i + 1), str(i), str(i + 2)], "answer": str(i + 1)}
        for i in range(120)
    ]
    for name in ("own.jsonl", "copy.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tiny_config.make_config(task="mine", methods=("selective",))
    config.data.train_file, config.p_ik.file = str(tmp_path / "own.jsonl"), str(tmp_path / "copy.jsonl")
    data = inputs.prepare(config, tmp_path / "run").by_seed[0]

    def questions(*splits) -> set[str]:
        return {example.text.split(" A:")[0] for split in splits for example in split}

    read = questions(data.student_half.examples, data.test.examples)
    assert not questions(data.p_ik.examples, data.p_ik.shots) & read
    assert len(data.p_ik) > 10


@pytest.mark.slow
def test_a_file_of_the_users_is_no_data_set_of_its_name(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"text": f"Is {i} odd?", "label": i % 2}) + "\n" for i in range(60)))
    config = make_config(p_ik__task="sciq", p_ik__file=str(path))
    report = pipeline.run(config, tmp_path / "run")
    assert [entry["distribution"] for entry in report["p_ik"]] == ["out"]
    assert any("not the data set of that name" in note for note in report["notes"])


@pytest.mark.slow
def test_all_answers_come_first_and_a_question_too_long_before_them(tmp_path, capsys):
    pipeline.run(make_config(), tmp_path / "run")
    made = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert ["few-shot answers" in line for line in made] == [True, True, False, False]
    for name, extra in (("train", "Is 99 odd?"), ("test", "odd " * 20_000)):
        texts = [f"Is {i} odd in {name}?" for i in range(39)] + [extra]
        rows = [json.dumps({"text": text, "label": i % 2}) + "\n" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    config = make_config(task="mine", data__num_test=40)
    config.data.train_file, config.data.test_file = (
        str(tmp_path / "train.jsonl"),
        str(tmp_path / "test.jsonl"),
    )
    with pytest.raises(UserError, match=r"mine/test/39 has \d+ tokens without shots"):
        pipeline.show(config, tmp_path / "run")


@pytest.mark.slow
def test_a_stopped_run_writes_only_the_answers_that_are_left(tmp_path, monkeypatch):
    DATA[:] = [tmp_path / "straight" / "inputs" / "data"]
    config = make_config(task="gsm8k", p_ik__task="gsm8k", data__num_test=13)
    asked: list[str] = []

    def write(decoder, tokenizer, prompts, example_ids, settings, **options):
        if len(asked) >= 10:
            raise preemption.Preempted("the run was told to stop")
        asked.extend(example_ids)
        return write_by_row(decoder, tokenizer, prompts, example_ids, settings, **options)

    monkeypatch.setattr(generate, "generate", write_by_row)
    straight = pipeline.run(config, tmp_path / "straight")
    monkeypatch.setattr(generate, "generate", write)
    monkeypatch.setattr(answering, "_BLOCK", 5)
    with pytest.raises(preemption.Preempted):
        pipeline.run(config, tmp_path / "stopped")
    first, asked[:] = set(asked), []
    monkeypatch.setattr(generate, "generate", lambda *a, **o: asked.extend(a[3]) or write_by_row(*a, **o))
    resumed = pipeline.run(config, tmp_path / "stopped")
    assert len(first) == 10 and not first & set(asked)
    assert resumed["p_ik"] == straight["p_ik"]
    keys = [
        sorted(path.parent.name for path in (tmp_path / n).glob("artifacts/answers/*/answers.parquet"))
        for n in ("straight", "stopped")
    ]
    assert keys[0] == keys[1]
    for key in keys[0]:
        tables = [
            pq.read_table(tmp_path / n / "artifacts" / "answers" / key / "answers.parquet")
            for n in ("straight", "stopped")
        ]
        assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_a_random_model_writes_answers(tmp_path):
    """The real path: prompts, generation, parsing, training, scores; one setting of sampling is one artifact."""
    config = make_config(p_ik__task="gsm8k", data__num_test=13)
    first = pipeline.run(config, tmp_path)
    assert [entry["train_task"] for entry in first["p_ik"]] == ["gsm8k"]
    config.generation.max_new_tokens = 4
    second = pipeline.run(config, tmp_path)
    keys = [
        {stage["label"]: stage["key"] for stage in report["manifest"]["stages"]} for report in (first, second)
    ]
    written = "few-shot answers on gsm8k (P(IK)), seed 0"
    assert keys[0].pop(written) != keys[1].pop(written)
    judged = "few-shot answers on sciq (test), seed 0"
    assert keys[0][judged] == keys[1][judged]


def test_a_dry_run_shows_the_prompts_and_runs_nothing(tmp_path, capsys):
    pipeline.show(make_config(), tmp_path / "run")
    shown = capsys.readouterr().out
    assert "to run  P(IK) alone, seed 0" in shown
    assert "--- sciq, few-shot prompt\nThere is a science knowledge question" in shown
    assert shown.count(" R:") >= 10  # four problems and a question of two tasks
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"inputs", ".cache"}


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"task": "gsm8k", "methods": ("finetune",), "weak__model": "random-tiny-gpt2"},
            "has answers to write",
        ),
        ({"p_ik__task": "gsm8k", "generation__max_new_tokens": 100_000}, "leaves no room for a question"),
        ({"methods": ("p_ik_only", "finetune")}, "config.weak.model is not set"),
        ({"generation__top_p": 0.0}, "config.generation.top_p=0.0 must be greater than 0"),
    ],
)
def test_mistakes(tmp_path, overrides, line):
    config = make_config()
    for key, value in overrides.items():
        section, _, leaf = key.rpartition("__")
        (config[section] if section else config)[leaf] = value
    with pytest.raises(UserError, match=line):
        pipeline.run(config, tmp_path)
