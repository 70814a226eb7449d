"""Runs whose models write: mistakes of a user in one line before anything is trained, and a whole run."""

import dataclasses
import json
import pathlib
import shutil

import pyarrow.parquet as pq
import pytest
from support import item_runs, marks, plans, tokenizer_folders, written_config

from configs import reliability
from selw2s_jax.hf import random_checkpoint
from selw2s_jax.run import pipeline
from selw2s_jax.worlds import generated_written, smoke


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    """Generated questions of all tasks."""
    folder = tmp_path_factory.mktemp("written_data")
    generated_written.write(folder)
    return folder


@pytest.fixture
def own_data(data, tmp_path) -> pathlib.Path:
    """A copy, free to be damaged."""
    return shutil.copytree(data, tmp_path / "data")


def edit(path: pathlib.Path, row: int, **values) -> None:
    """Writes a table with other values in one row."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[row] |= values
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)


def write_rows(path: pathlib.Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


WRITTEN = {"answers__by": "generate"}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (
            {"methods": ("selective",)},
            ["'selective' is a method of supervision=class_head", "supervision=completion"],
        ),
        (
            {"supervision": "class_head", "methods": ("entropy_filter",), "answers__by": "generate"},
            ["'entropy_filter' is a method of supervision=completion", "supervision=class_head"],
        ),
        ({"methods": ("reweihgted",)}, ["config.methods='reweihgted'", "did you mean 'reweighted'?"]),
        ({"variations__count": 0}, ["config.variations.count=0 must be 1 or more"]),
        ({"variations__kind": "sampling"} | WRITTEN, ["kind=sampling", "set answers.temperature above 0"]),
        ({"variations__kind": "sampling"}, ["set answers.by=generate and answers.temperature above 0"]),
        ({"variations__kind": "words"}, ["the task's are of kind choice", "set it to permutation or auto"]),
        ({"variations__kind": "file"}, ["needs variations.file"]),
        ({"variations__temperature": 0.0}, ["config.variations.temperature=0.0 must be greater than 0"]),
        (
            {"variations__kind": "model", "variations__max_new_tokens": 99_999},
            ["rewordings, seed 0: none of 32 questions leaves room", "lower variations.max_new_tokens"],
        ),
        ({"variations__file": "/no/such.jsonl"}, ["/no/such.jsonl is missing"]),
        (
            {"answers__temperature": 0.5},
            ["answers.temperature=0.5 is of sampled answers", "answers.by=generate"],
        ),
        (
            {"task": "gsm8k"},
            ["answers.by='score' needs candidates, and gsm8k has none", "set answers.by=generate"],
        ),
        ({"task": "sciq"}, ["unknown config.task 'sciq' of written answers", "gsm8k"]),
        ({"training__trained": "heads"}, ["trained=heads with supervision=completion", "set lora or all"]),
        ({"weak__trained": "heads"}, ["the weak model cannot have training.trained=heads"]),
        ({"lora__targets": ("qkv",)}, ["'qkv'", "lora.targets"]),
        ({"reliability__percentile": 101.0}, ["reliability.percentile=101.0 must lie in [0, 100]"]),
        ({"reliability__temperature": 0.0}, ["reliability.temperature=0.0 must be greater than 0"]),
        ({"data__num_train": 1}, ["data.num_train=1 cannot be halved; give at least 2"]),
        ({"training__batch_size": 97}, ["weak, seed 0: 32 examples and 3.0 epochs make no batch of 97"]),
        ({"training__warmup_steps": 12}, ["warmup_steps=12 leaves nothing of the 12 steps of weak, seed 0"]),
        ({"data__max_length": 9}, ["none of the 32 rows", "more than 9 tokens; raise data.max_length"]),
        (
            {"data__max_length": 60, "data__overlong": "error"},
            ["rows of prompt and answer have more than 60 tokens (first: mmlu/", "data.overlong=drop"],
        ),
        (
            {"answers__max_new_tokens": 8192} | WRITTEN,
            [
                "weak: 32 of 32 questions are longer than the context",
                "; lower answers.max_new_tokens, or choose",
            ],
        ),
        ({"answers__learn_end": False}, ["answers.learn_end=False", "set answers.by=generate"]),
        ({"p_ik__gamma": 0.3}, ["config.p_ik.gamma=0.3 is read by nothing: set supervision=class_head"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_config_value(refused, values, parts):
    line = refused(written_config.raw(**values))
    assert all(part in line for part in parts), line


def test_a_tokenizer_that_ends_no_text(refused, tmp_path):
    sizes = dataclasses.replace(
        smoke.RANDOM_MODELS["random-tiny-gpt2"],
        num_layers=1,
        embed_dim=16,
        mlp_dim=24,
        num_heads=2,
        head_dim=8,
    )
    random_checkpoint.write_random_checkpoint(tmp_path / "model", dataclasses.replace(sizes, vocab_size=301))
    tokenizer_folders.write_json(tmp_path / "model")
    line = refused(written_config.raw(weak__model=str(tmp_path / "model")))
    assert "names no end-of-text token" in line and "name an eos_token in its tokenizer_config.json" in line


def test_questions_longer_than_the_context(refused, own_data, tmp_path):
    """A test question is refused, as a model that cannot be asked has no answer; others may be dropped."""
    long = {"question": "word " * 9000}
    edit(own_data / "mmlu/all/test.parquet", 3, **long)
    config = written_config.raw(data__source=str(own_data), data__num_test=None)
    line = refused(config)
    assert "test: 1 of 90 questions are longer than the context" in line and "mmlu/test/3" in line
    assert (
        line.endswith("; choose models with a longer context\n") or "or choose models with a longer" in line
    )
    assert "data.overlong" not in line
    edit(own_data / "mmlu/all/test.parquet", 3, question="short?")
    edit(own_data / "mmlu/all/validation.parquet", 5, **long)
    config = written_config.raw(data__source=str(own_data), data__num_train=180, data__overlong="error")
    line = refused(config)
    assert (
        "student: 1 of 90 questions" in line and "mmlu/validation/5" in line and "data.overlong=drop" in line
    )


@pytest.mark.parametrize(
    ("task", "file", "values", "message"),
    [
        ("hellaswag", "hellaswag/validation", {"label": ""}, "label is '', no answer"),
        ("hellaswag", "hellaswag/validation", {"label": "4"}, "the answer is 4, not one of 0 to 3"),
        ("hellaswag", "hellaswag/train", {"endings": ["a", "b", "A ", "d"]}, "two choices are equal"),
        (
            "hellaswag",
            "hellaswag/train",
            {"endings": ["a"], "label": "0"},
            "1 choice, where 2 to 26 can be shown",
        ),
        ("mmlu", "mmlu/all/test", {"answer": 7}, "the answer is 7, not one of 0 to 3"),
        ("ethics_commonsense", "ethics/commonsense/validation", {"label": 2}, "label is 2, not 0 or 1"),
        ("gsm8k", "gsm8k/main/test", {"answer": "It cannot be said."}, "answer"),
    ],
)
def test_a_question_that_cannot_be_asked(refused, own_data, task, file, values, message):
    edit(own_data / f"{file}.parquet", 3, **values)
    by = {"answers__by": "generate" if task == "gsm8k" else "score"}
    line = refused(written_config.raw(task=task, data__source=str(own_data), **by))
    assert message in line and ("3" in line or "row 4" in line)


GOOD = [{"question": f"q {i}?", "choices": ["a b", "c d", "e f"], "answer": i % 3} for i in range(60)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "choices": ["a"], "answer": 0}, "choices must be a list of at least two texts"),
        ({"question": "q", "choices": ["a", "A"], "answer": 0}, "differ in case only"),
        ({"question": "q", "choices": ["a b", "a b ", "c"], "answer": 0}, "two choices are equal"),
        ({"question": "q", "choices": ["a", "b"]}, "found nothing"),
        ({"question": "q", "choices": ["a", "b"], "answer": None}, "found nothing"),
    ],
)
def test_a_wrong_row_of_a_file(refused, tmp_path, row, message):
    good, bad = write_rows(tmp_path / "good.jsonl", GOOD), write_rows(tmp_path / "bad.jsonl", [*GOOD, row])
    files = {"data__train_file": good, "data__test_file": bad}
    line = refused(written_config.raw(task="mine", data__source="hub", **files))
    assert "bad.jsonl: line 61: " in line and message in line


@pytest.mark.parametrize(
    "arguments",
    ["task=gsm8k,smoke", "compat", *map(marks.in_ci, ("compat,smoke", "task=hellaswag,smoke"))],
)
def test_the_configs_are_read(tmp_path, capsys, arguments):
    """Up to their models, which are not here where they are those of the paper."""
    config = reliability.get_config(arguments)
    if "smoke" not in arguments:
        pipeline._check_config(config)
        return
    pipeline.show(config, tmp_path)
    shown = capsys.readouterr().out
    assert " to run:\n" in shown and "### Answer:" in shown


# Whole runs.


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> pathlib.Path:
    """A run of two methods on choices that are scored; the folder has its data too."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(data, folder / "data")
    pipeline.run(make_run(folder), folder / "run")
    return folder


def make_run(folder: pathlib.Path, **values):
    return written_config.raw(
        data__source=str(folder / "data"),
        weak__model="random-tiny-gpt2",
        strong__model="random-tiny-gpt2",
        lora__targets=("qkv",),
        data__num_train=32,
        data__num_test=15,
        **values,
    )


def labels_to_run(capsys, config, workdir) -> list[str]:
    """Stages that a run would make."""
    capsys.readouterr()
    pipeline.show(config, workdir)
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("  to run  ").split("  ")[0] for line in lines if line.startswith("  to run  ")]


@pytest.mark.slow
@pytest.mark.ci
def test_a_run_and_what_poisoned_truth_changes(finished, tmp_path, capsys):
    report = json.loads((finished / "run/results.json").read_text())
    assert [record["method"] for record in report["records"]] == ["weak", "ceiling", "finetune", "reweighted"]
    item_runs.assert_results_are_theirs(finished / "run")
    rows = {row["method"]: row for row in report["rows"]}
    assert (rows["weak"]["num_rows"], rows["weak"]["num_steps"]) == (16, 6)
    assert (rows["reweighted"]["num_rows"], rows["reweighted"]["num_steps"]) == (32, 12)
    assert rows["finetune"]["mean_weight"] == 1.0 and 0.5 <= rows["reweighted"]["mean_weight"] <= 1.0
    assert labels_to_run(capsys, make_run(finished), finished / "run") == []
    plans.assert_counted(make_run(finished), finished / "run", plans.COMPLETIONS)

    # Every right answer of the student's questions is another one: only the ceiling would be trained anew.
    poisoned = shutil.copytree(finished, tmp_path / "poisoned")
    path = poisoned / "data/mmlu/all/validation.parquet"
    for row, values in enumerate(pq.read_table(path).to_pylist()):
        edit(path, row, answer=(values["answer"] + 1) % 4)
    assert labels_to_run(capsys, make_run(poisoned), poisoned / "run") == [
        "ceiling, seed 0",
        "evaluation of ceiling, seed 0",
    ]
    matched = make_run(finished, training__match_steps=True)
    assert labels_to_run(capsys, matched, finished / "run") == [
        *("finetune, seed 0", "evaluation of finetune, seed 0"),
        *("reweighted, seed 0", "evaluation of reweighted, seed 0"),
    ]


@pytest.mark.slow
def test_numbers_are_written_at_length(tmp_path, capsys):
    """Answers that say nothing are learnt as they are; two seeds share their test; a random model rewords nothing."""
    config = reliability.get_config("task=gsm8k,smoke")
    config.methods, config.seeds, config.answers.max_new_tokens = ("reweighted",), (0, 1), 8
    config.weak.model = config.strong.model = "random-tiny-gpt2"
    config.lora.targets, config.variations.count, config.training.epochs = ("qkv",), 2, 1.0
    config.variations.kind, config.variations.max_new_tokens = "model", 8
    report = pipeline.run(config, tmp_path)
    said = [f"rewordings, seed {seed}: 0 of 64 variations are in the words of the strong" for seed in (0, 1)]
    for found in (report["notes"], [one["observation"] for one in report["warnings"]]):
        assert all(any(one.startswith(start) for one in found) for start in said), found
    assert [(row["method"], row["seed"]) for row in report["rows"]] == [
        (method, seed) for seed in (0, 1) for method in ("weak", "ceiling", "reweighted")
    ]
    assert len(report["reliability"]) == 2
    item_runs.assert_results_are_theirs(tmp_path)
    assert capsys.readouterr().out.count("compiling the train step") == 2  # of truth, and of so many rows


@pytest.mark.slow
def test_rows_are_weighed_by_p_ik_that_the_run_trains(tmp_path):
    config = written_config.raw(methods=("finetune_by_p_ik", "self_training_by_shuffled_p_ik"))
    config.weak.model = config.strong.model = "random-tiny-gpt2"
    config.lora.targets, config.training.epochs = ("qkv",), 1.0
    config.data.num_train, config.data.num_test = 48, 9
    report = pipeline.run(config, tmp_path)
    rows = {row["method"]: row for row in report["rows"]}
    for name in config.methods:
        assert rows[name]["num_rows"] == 24 and rows[name]["mean_weight"] == pytest.approx(1, abs=1e-6)
    (entry,) = report["reliability"]
    found = {one["label"]: one for one in entry["auroc"] if one["score"] == "p_ik"}
    assert found.keys() == {"original", "own"} and found["own"]["n"] == 24
