"""What a student and the models around it say of one's own questions: against the run, NumPy, and bad input."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from flax import nnx
from support import asking, commands, small_run, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.inference import classify
from selw2s_jax.predict import __main__ as predict_command
from selw2s_jax.predict import classifiers, predictions, several
from selw2s_jax.run import pipeline, student_models, students
from selw2s_jax.runtime import artifacts

NAME = {"task": "sciq", "method": "selective", "seed": 0}
FIELDS = ["example_id", "text", "p_ik", "class", "prob_1", "few_shot", "weak", "smoothed", "used", "target"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run.workdir(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def examples(finished) -> list[tasks.Example]:
    """The run's test questions and those of the student's half, 65 of them: the last batch of 8 is a single one."""
    data = inputs.prepare(config_lib.normalize(small_run.make_config()), finished).by_seed[0]
    found = [*data.test.examples, *data.student_half.examples]
    assert len(found) == 65
    return found


@pytest.fixture(scope="module")
def questions_file(examples, tmp_path_factory) -> pathlib.Path:
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", examples)


@pytest.fixture(scope="module")
def student(finished) -> students.Student:
    """The selective one, with a gamma that about half of its questions are above."""
    found = students.find(finished, **NAME)
    test = kept_table(finished, "evaluation of selective, seed 0", "predictions.parquet")
    return with_gamma(found, float(np.median(test["p_ik"])))


@pytest.fixture(scope="module")
def records(student, questions_file, tmp_path_factory) -> list[dict]:
    output = tmp_path_factory.mktemp("out") / "out.jsonl"
    returned = asking.write(student, questions_file, output)
    assert read_lines(output) == returned
    assert list(output.parent.iterdir()) == [output]
    return returned


def with_gamma(student, gamma: float) -> students.Student:
    p_ik = student.run_config["p_ik"] | {"gamma": gamma}
    return dataclasses.replace(student, run_config=student.run_config | {"p_ik": p_ik})


def write_questions(path: pathlib.Path, examples) -> pathlib.Path:
    lines = [json.dumps({"example_id": example.example_id, "text": example.text}) for example in examples]
    path.write_text("\n\n".join(lines) + "\n")
    return path


def read_lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def kept_table(workdir: pathlib.Path, label: str, file: str) -> dict[str, np.ndarray]:
    """The table of the stage of that label."""
    stages = json.loads((workdir / "results.json").read_text())["manifest"]["stages"]
    (stage,) = (stage for stage in stages if stage["label"] == label)
    folder = workdir / "artifacts" / stage["name"] / stage["key"]
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return artifacts.Artifact(stage["name"], stage["key"], folder, files).read_table(file)


def assert_as_kept(records, table, column: str, value) -> None:
    by_id = {record["example_id"]: record for record in records}
    ours = [value(by_id[name]) for name in table["example_id"]]
    np.testing.assert_allclose(ours, table[column], rtol=0, atol=1e-6)


def find_embeddings(student, texts) -> np.ndarray:
    """Last-token embeddings of one text at a time."""
    tokenizer, model = student_models.load_tokenizer(student), student_models.load(student)
    graphdef, params = nnx.split(model)

    def forward(graphdef, params, batch):
        model = nnx.merge(graphdef, params)
        return model(
            *(getattr(batch, f)[0] for f in ("tokens", "segment_ids", "positions", "row", "last"))
        ).embeddings

    return classify.score(
        forward,
        graphdef,
        params,
        [np.array(tokenizer.encode(student.facts.classifier_input(text)), np.int32) for text in texts],
        mesh=sharding.single_device_mesh(),
        batch_tokens=512,
        label="test",
    )


def labels_by_numpy(p_ik, weak, own, embeddings, *, gamma, batch_size, alpha, tau) -> tuple[np.ndarray, ...]:
    """Smoothed labels, IK masks and targets of Eq. 1 to 3, batch by batch in float64; cosine similarity, with self."""
    known = np.asarray(p_ik, np.float32) > np.float32(gamma)
    prior = np.where(known, own, weak)
    smoothed = np.zeros(len(prior))
    for start in range(0, len(prior), batch_size):
        part = slice(start, start + batch_size)
        z = embeddings[part].astype(np.float64)
        z /= np.linalg.norm(z, axis=-1, keepdims=True)
        logits = z @ z.T / tau
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        smoothed[part] = alpha * prior[part] + (1 - alpha) * weights @ prior[part]
    return smoothed, known, np.where(known, own, smoothed)


# Against the run.


def test_a_script_is_told_the_same_bit_for_bit(student, records, examples):
    asker = classifiers.Asker(student)
    questions = [{"example_id": example.example_id, "text": example.text} for example in examples]
    for _ in range(2):  # loaded, and kept
        for found, record in zip(asker(questions), records, strict=True):
            assert found == {name: record[name] for name in found.keys() - {"prob_0"}} | {
                "prob_0": found["prob_0"]
            }
    (weak,) = students.find_weak(student)
    assert [one["prob_1"] for one in classifiers.Asker(weak)(questions)] == [
        one["weak"]["prob_1"] for one in records
    ]


def test_a_record_for_each_question_in_order(records, examples):
    assert [list(record) for record in records] == [FIELDS] * len(examples)
    assert [record["example_id"] for record in records] == [example.example_id for example in examples]
    assert [record["text"] for record in records] == [example.text for example in examples]


def test_predictions_are_those_of_the_run(finished, records):
    test = kept_table(finished, "evaluation of selective, seed 0", "predictions.parquet")
    assert_as_kept(records, test, "prob_1", lambda record: record["prob_1"])
    assert_as_kept(records, test, "p_ik", lambda record: record["p_ik"])
    for label in ("evaluation of weak, seed 0", "weak labels, seed 0"):
        kept = kept_table(finished, label, "predictions.parquet")
        assert_as_kept(records, kept, "prob_1", lambda record: record["weak"]["prob_1"])
    assert all(record["class"] == (record["prob_1"] > 0.5) for record in records)


def test_few_shot_answers_are_those_of_the_run(finished, records):
    kept = kept_table(finished, "few-shot answers on sciq (student's half), seed 0", "answers.parquet")
    assert len(kept["prob_1"]) == 32
    assert_as_kept(records, kept, "prob_1", lambda record: record["few_shot"]["prob_1"])
    assert all(record["few_shot"]["answer"] == (record["few_shot"]["prob_1"] > 0.5) for record in records)


def test_labels_are_those_of_the_papers_rule(student, records):
    p_ik, prob_1 = (np.array([record[name] for record in records]) for name in ("p_ik", "prob_1"))
    weak, answers = (np.array([r[name]["prob_1"] for r in records]) for name in ("weak", "few_shot"))
    gamma, graph = student.run_config["p_ik"]["gamma"], student.run_config["graph"]
    smoothed, known, targets = labels_by_numpy(
        p_ik,
        weak,
        (answers > 0.5).astype(float),
        find_embeddings(student, [record["text"] for record in records]),
        gamma=gamma,
        batch_size=student.run_config["training"]["batch_size"],
        alpha=graph["alpha"],
        tau=graph["tau"],
    )
    assert 10 < known.sum() < 55 and prob_1.std() > 0
    assert [record["used"] for record in records] == ["self" if k else "smoothed" for k in known]
    np.testing.assert_allclose([r["smoothed"]["prob_1"] for r in records], smoothed, rtol=0, atol=1e-5)
    np.testing.assert_allclose([r["target"] for r in records], targets, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_gamma_itself_is_not_above_gamma(student, records, questions_file, tmp_path):
    """Compared in float32, and strictly."""
    gamma = records[20]["p_ik"]
    again = asking.write(with_gamma(student, gamma), questions_file, tmp_path / "out.jsonl")
    assert [r["used"] == "self" for r in again] == [r["p_ik"] > gamma for r in records]
    assert again[20]["used"] == "smoothed"
    for key in ("p_ik", "prob_1", "few_shot", "weak"):
        assert [record[key] for record in again] == [record[key] for record in records]


@pytest.mark.slow
@pytest.mark.ci
def test_a_student_without_selection_has_weak_labels_smoothed(finished, records, questions_file, tmp_path):
    ceiling = students.find(finished, **NAME | {"method": "ceiling"})
    found = asking.write(ceiling, questions_file, tmp_path / "out.jsonl")
    assert {(r["p_ik"], r["used"], r["target"]) for r in found} == {(None, None, None)}
    assert [(r["weak"], r["few_shot"]) for r in found] == [(r["weak"], r["few_shot"]) for r in records]
    weak = np.array([record["weak"]["prob_1"] for record in found])
    smoothed, *_ = labels_by_numpy(
        np.zeros(65),
        weak,
        weak,
        find_embeddings(ceiling, [record["text"] for record in found]),
        gamma=1,
        batch_size=8,
        alpha=0.9,
        tau=0.1,
    )
    np.testing.assert_allclose([r["smoothed"]["prob_1"] for r in found], smoothed, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.ci
def test_a_run_of_an_earlier_version_has_no_few_shot_answers(
    student, records, questions_file, tmp_path, capsys
):
    old = dataclasses.replace(student, facts=dataclasses.replace(student.facts, few_shot=None))
    found = asking.write(old, questions_file, tmp_path / "out.jsonl")
    assert "note: few_shot is null: the run is of an earlier version" in capsys.readouterr().out
    assert {(r["few_shot"], r["smoothed"], r["target"]) for r in found} == {(None, None, None)}
    for key in ("p_ik", "prob_1", "weak", "used"):
        assert [record[key] for record in found] == [record[key] for record in records]


@pytest.mark.slow
def test_without_shots_the_model_is_asked_all_the_same(student, examples, tmp_path, capsys):
    form = dataclasses.replace(student.facts.few_shot, shots=())
    bare = dataclasses.replace(student, facts=dataclasses.replace(student.facts, few_shot=form))
    path = write_questions(tmp_path / "in.jsonl", examples[:3])
    found = asking.write(bare, path, tmp_path / "out.jsonl")
    assert "note: the language model is asked without shots" in capsys.readouterr().out
    assert all(0 < record["few_shot"]["prob_1"] < 1 for record in found)


@pytest.mark.slow
def test_long_questions_are_truncated_and_prompts_lose_shots(student, examples, records, tmp_path, capsys):
    limited = dataclasses.replace(student, facts=dataclasses.replace(student.facts, max_length=16))
    context = student.config.max_seq_len
    long = dataclasses.replace(examples[0], text=" ".join([examples[0].text] * 3))
    tokenizer = student_models.load_tokenizer(student)
    while len(tokenizer.encode(student.facts.few_shot.prompt(long.text))) <= context:
        long = dataclasses.replace(long, text=f"{long.text} and so on")
    path = write_questions(tmp_path / "in.jsonl", [long, examples[1]])
    found = asking.write(limited, path, tmp_path / "out.jsonl")
    out = capsys.readouterr().out
    assert "note: 2 of 2 questions truncated from the left to 16 tokens for the student" in out
    assert "note: 1 prompts with fewer shots to fit the context" in out
    assert found[0]["text"] == long.text
    np.testing.assert_allclose(
        found[1]["few_shot"]["prob_1"], records[1]["few_shot"]["prob_1"], rtol=0, atol=1e-5
    )
    assert found[1]["prob_1"] != records[1]["prob_1"]


# Bad input.


def refused(student, input_path, output_path, message: str, monkeypatch, **options) -> str:
    """The line of a refusal, which comes before any device work and leaves nothing."""
    monkeypatch.setattr(predictions.layouts, "reading_mesh_here", lambda *_, **__: pytest.fail("device work"))
    before = sorted(pathlib.Path(input_path).parent.iterdir())
    with pytest.raises(UserError, match=message) as info:
        asking.write(student, input_path, output_path, **options)
    assert sorted(pathlib.Path(input_path).parent.iterdir()) == before
    return str(info.value)


def test_a_bad_question_is_refused(student, tmp_path, monkeypatch):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": 3}')
    message = r"in.jsonl, line 2: text must be text, found 3"
    refused(student, tmp_path / "in.jsonl", tmp_path / "out.jsonl", message, monkeypatch)


def test_files_that_cannot_be_used_are_refused(student, examples, tmp_path, monkeypatch):
    path = write_questions(tmp_path / "in.jsonl", examples[:2])
    (tmp_path / "link.jsonl").symlink_to(path)
    for source, output, message in (
        (path, path, r"--output=\S+ is the input; choose another file"),
        (path, tmp_path / "link.jsonl", r"--output=\S+ is the input; choose another file"),
        (path, tmp_path, r"--output=\S+ is a folder; give a file in it"),
        (path, tmp_path / "out.xlsx", r"--output=\S+: files of .xlsx are not written"),
        (path, tmp_path / "absent" / "out", r"there is no folder \S+absent; make it, or choose another"),
        (
            tmp_path / "absent",
            tmp_path / "out",
            r"absent is missing or not a file; give a file of questions",
        ),
        (tmp_path, tmp_path / "out", r"is missing or not a file; give a file of questions with --input"),
    ):
        refused(student, source, output, message, monkeypatch)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads and writes everything")
def test_files_without_permission_are_refused(student, examples, tmp_path, monkeypatch):
    path = write_questions(tmp_path / "in.jsonl", examples[:2])
    (tmp_path / "closed").mkdir(mode=0o500)
    message = r"--output=\S+ cannot be written: no permission in \S+closed"
    refused(student, path, tmp_path / "closed" / "out", message, monkeypatch)
    path.chmod(0)
    refused(student, path, tmp_path / "out", r"in.jsonl cannot be read \(Permission denied\)", monkeypatch)


def test_a_question_that_alone_exceeds_the_context_costs_itself_alone(student, examples):
    long = dataclasses.replace(examples[0], text="word " * student.config.max_seq_len)
    config, tokenizer = classifiers.read_config(student), student_models.load_tokenizer(student)

    def prepare(*asked):
        return predictions._prepare_prompts(student, config, asked, tokenizer, None)

    (both, notes), (alone, _) = prepare(examples[1], long), prepare(examples[1])
    assert [len(ids) for ids in both.prompts.tokens][1] == student.config.max_seq_len
    assert both.prompts.tokens[0].tolist() == alone.prompts.tokens[0].tolist()
    assert "1 with the question truncated from the left" in notes[0]


def test_the_weak_model_is_no_student(finished, questions_file, tmp_path, monkeypatch):
    weak = students.find(finished, **NAME | {"method": "weak"})
    refused(weak, questions_file, tmp_path / "out", "--method=weak is the weak model", monkeypatch)


def test_models_that_are_gone_name_their_flag(finished, examples, tmp_path, monkeypatch):
    run = shutil.copytree(finished, tmp_path / "run")
    path = write_questions(tmp_path / "in.jsonl", examples[:2])
    student = students.find(run, **NAME)
    moved = pathlib.Path(shutil.move(student.base_folder, tmp_path / "moved"))
    refused(student, path, tmp_path / "out", "tokenizer folder .* is gone; .* --tokenizer", monkeypatch)
    options = {"tokenizer": moved}
    message = r"tokenizer folder .* is gone; .* --weak_tokenizer"
    refused(student, path, tmp_path / "out", message, monkeypatch, **options)
    options["weak_tokenizer"] = moved
    message = r"random-tiny-gpt2, whose few-shot answers are asked for, is gone; .* with --base"
    refused(student, path, tmp_path / "out", message, monkeypatch, **options)
    message = r"is not the one that the student was made from; .* with --base"
    other = shutil.copytree(moved, tmp_path / "other")
    with open(other / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    refused(student, path, tmp_path / "out", message, monkeypatch, base=other, **options)
    shutil.rmtree(students.find(run, **NAME | {"method": "weak"}).artifact.path)
    message = "weak, seed 0 is not trained yet"
    refused(student, path, tmp_path / "out", message, monkeypatch, base=moved, **options)


# The command.


@pytest.mark.slow
@pytest.mark.ci
def test_the_command(finished, examples, records, tmp_path):
    write_questions(tmp_path / "in.jsonl", examples[:9])
    name = (f"--workdir={finished}", "--task=sciq", "--method=selective", "--seed=0")
    ended = commands.process("predict", *name, "--input=in.jsonl", "--output=out.csv", cwd=tmp_path)
    assert ended.returncode == 0 and "error" not in ended.stderr, ended
    assert "9 lines, one for each question, are in out.csv" in ended.stdout
    assert "selective, seed 0:\n  P(IK) above gamma=0.5: " in ended.stdout
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for key in ("p_ik", "prob_1"):
        ours, expected = [float(r[key]) for r in found], [r[key] for r in records[:9]]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    assert [record["example_id"] for record in found] == [example.example_id for example in examples[:9]]


def test_several_students_are_those_asked_one_by_one(
    finished, student, examples, records, questions_file, tmp_path, monkeypatch
):
    """The same bits, the models that they share asked once, and columns that say whose a row is."""
    asked = []
    score_weak, few_shot = predictions._score_weak, predictions._answer
    monkeypatch.setattr(predictions, "_score_weak", lambda *a: asked.append("weak") or score_weak(*a))
    monkeypatch.setattr(predictions, "_answer", lambda *a: asked.append("few-shot") or few_shot(*a))
    ceiling = students.find(finished, **NAME | {"method": "ceiling"})
    lines = [json.loads(line) for line in questions_file.read_text().splitlines() if line]
    labelled = [line | {"label": i % 2} for i, line in enumerate(lines)]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in labelled))
    found, described = several.write([student, ceiling], path, tmp_path / "out.jsonl", {})
    assert found[: len(records)] == [{"method": "selective", "seed": 0} | one for one in records]
    assert [one["method"] for one in found[len(records) :]] == ["ceiling"] * len(records)
    assert asked == ["weak", "few-shot"]
    right = sum((one["prob_1"] > 0.5) == i % 2 for i, one in enumerate(records))
    assert any(line.startswith(f"  student: accuracy {right} of 65 (") for line in described)


def test_methods_and_seeds_are_all_combinations(tmp_path):
    def refuse(*arguments):
        ended = commands.call(predict_command.main, "--input=in", "--output=out", *arguments, cwd=tmp_path)
        return ended

    commands.assert_refused(refuse("--workdir=w", "--seed=0,x"), "--seed=x is no whole number")
    commands.assert_refused(refuse("--workdir=w", "--method=a,b,a"), "--method names a twice")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=out"], "--input is missing; give the file of questions"),
        (["--input=in"], "--output is missing; give the file to write"),
        (["--input=in", "--output=out"], "--workdir is missing"),
        (["--workdir=absent", "--input=in", "--output=out"], "workdir absent is not there"),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, arguments, message):
    ended = commands.call(predict_command.main, *arguments, cwd=tmp_path)
    commands.assert_refused(ended, message)
    assert not list(tmp_path.iterdir())


# Other runs.


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["heads", "lora"])
def test_students_with_parts_of_their_own(tmp_path, trained):
    """A linear probe and adapters; the pretrained models are elsewhere now."""
    config = small_run.make_config()
    config.training.trained, config.training.learning_rate = trained, 1e-2
    pipeline.run(config, tmp_path / "run")
    test = inputs.prepare(config_lib.normalize(config), tmp_path / "run").by_seed[0].test
    path = write_questions(tmp_path / "in.jsonl", test.examples)
    student = students.find(tmp_path / "run", **NAME)
    moved = pathlib.Path(shutil.move(student.base_folder, tmp_path / "moved"))
    given = {"tokenizer": moved, "base": moved, "weak_tokenizer": moved}
    with pytest.raises(UserError, match=r"of which weak trained a part, is gone; .* with --weak_base"):
        asking.write(student, path, tmp_path / "out.jsonl", **given)
    records = asking.write(student, path, tmp_path / "out.jsonl", **given, weak_base=moved)
    for method, value in (("selective", lambda r: r["prob_1"]), ("weak", lambda r: r["weak"]["prob_1"])):
        kept = kept_table(tmp_path / "run", f"evaluation of {method}, seed 0", "predictions.parquet")
        assert np.std(kept["prob_1"]) > 1e-4
        assert_as_kept(records, kept, "prob_1", value)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "prompt"), [("sciq", "bare"), ("gsm8k", "bare"), ("gsm8k", "fewshot")])
def test_a_run_of_p_ik_alone(tmp_path, task, prompt):
    """No class, no weak label; the few-shot answers are those that P(IK) was tested on, chosen or written."""
    config = tiny_config.make_config(
        task=task,
        p_ik__task=task,
        p_ik__prompt=prompt,
        weak__model=None,
        strong__model="random-tiny-gpt2",
        methods=("p_ik_only",),
        precision__compute_dtype="float32",
        generation__max_new_tokens=12,
    )
    pipeline.run(config, tmp_path / "run")
    test = inputs.prepare(config_lib.normalize(config), tmp_path / "run").by_seed[0].test
    path = write_questions(tmp_path / "in.jsonl", test.examples)
    student = students.find(tmp_path / "run", task=task, method="p_ik_only", seed=0)
    kept = kept_table(tmp_path / "run", "evaluation of p_ik_only, seed 0", "predictions.parquet")
    gamma = float(np.median(kept["p_ik"]))
    records = asking.write(with_gamma(student, gamma), path, tmp_path / "out.jsonl")
    assert_as_kept(records, kept, "p_ik", lambda record: record["p_ik"])
    empty = {(r["class"], r["prob_1"], r["weak"], r["smoothed"]) for r in records}
    assert empty == {(None, None, None, None)}
    assert [r["used"] for r in records] == ["self" if r["p_ik"] > gamma else None for r in records]
    answers = kept_table(tmp_path / "run", f"few-shot answers on {task} (test), seed 0", "answers.parquet")
    if task == "sciq":
        assert_as_kept(records, answers, "prob_1", lambda record: record["few_shot"]["prob_1"])
        assert [r["target"] for r in records] == [
            r["few_shot"]["answer"] if r["used"] else None for r in records
        ]
    else:
        assert [record["few_shot"]["answer"] for record in records] == list(answers["text"])
        assert {record["target"] for record in records} == {None}
