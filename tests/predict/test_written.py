"""What a model that writes answers to one's own questions, and the reliability of that: against it asked directly."""

import csv
import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath
from support import asking, written_questions, written_students

from selw2s_jax import config as config_lib
from selw2s_jax.data import variations, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.inference import partials, writing
from selw2s_jax.predict import forms, written

FIELDS = [
    "example_id", "question", "text", "answer", "letter", "conflicts", "finish", "log_prob", "entropy", "s_prob",
    "agreeing", "variations", "majority",
]  # fmt: skip
SPLIT = written_questions.make_split(7)
COUNT = 4


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A student that scores candidates, and its model."""
    return written_students.make(tmp_path_factory.mktemp("scored"), by="score")


@pytest.fixture
def questions_file(tmp_path):
    return write_questions(tmp_path / "in.jsonl", SPLIT)


def write_questions(path, split):
    lines = [
        {"example_id": q.question_id, "question": q.text} | ({"choices": q.choices} if q.choices else {})
        for q in split.questions
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def with_config(student, **sections):
    return dataclasses.replace(student, run_config=student.run_config | sections)


def asked_directly(student, model, split, plan, how, tmp_path) -> list[list[int | None]]:
    """Parsed answers `[Q][1 + N]`, in order."""
    tokenizer = written_students.tokenizers.load_tokenizer(student.base_folder)
    asked = writing.Asked(split, plan)
    found = writing.answer(
        model,
        tokenizer,
        asked,
        how,
        batch_tokens=512,
        label="",
        partial=partials.Partial(epath.Path(tmp_path / "p")),
    )
    given = [[] for _ in split.questions]
    for (question, number), text in zip(asked.places, found.texts, strict=True):
        variation = asked.variation(question, number)
        given[question].append(split.task.parse(split.questions[question], text, variation).answer)
    return given


def test_records_are_the_models_answers_and_their_reliability(scored, questions_file, tmp_path):
    student, model = scored
    records = asking.write(student, questions_file, tmp_path / "out.jsonl", variations=COUNT)
    assert [list(record) for record in records] == [FIELDS] * len(SPLIT)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == records
    seed = config_lib.seed_for(config_lib.default_config(), 3, "sampling")
    plan = [
        [variations.Variation(order=o) for o in variations.permutations(q, 3, count=COUNT, seed=seed)]
        for q in SPLIT.ids
    ]
    given = asked_directly(student, model, SPLIT, plan, writing.Answering(by="score"), tmp_path)
    assert len({tuple(own) for own in given}) > 2
    for record, question, (answer, *others) in zip(records, SPLIT.questions, given, strict=True):
        assert (record["example_id"], record["question"]) == (question.question_id, question.text)
        assert (record["answer"], record["letter"]) == (question.choices[answer], "ABC"[answer])
        assert record["finish"] == "scored" and record["log_prob"] < 0
        shares = {one: others.count(one) / COUNT for one in others}
        assert (record["agreeing"], record["variations"]) == (others.count(answer), COUNT)
        assert record["entropy"] == pytest.approx(-sum(p * math.log(p) for p in shares.values()), abs=1e-12)
        whole = sum(math.exp(p / 0.2) for p in shares.values())
        expected = math.exp(shares[answer] / 0.2) / whole if answer in shares else None
        assert record["s_prob"] == (expected and pytest.approx(expected, rel=1e-9))
        assert record["majority"] == question.choices[max(shares, key=shares.get)]


def test_without_variations_there_is_no_reliability(scored, questions_file, tmp_path):
    student, _ = scored
    whole = asking.write(student, questions_file, tmp_path / "out.jsonl", variations=COUNT)
    records = asking.write(student, questions_file, tmp_path / "out.csv", variations=0)
    assert [r["text"] for r in records] == [r["text"] for r in whole]
    assert {(r["entropy"], r["s_prob"], r["agreeing"], r["majority"]) for r in records} == {(None,) * 4}
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == [r["answer"] for r in records]
    lines = [json.loads(line) for line in questions_file.read_text().splitlines()]
    assert written.asker(student, variations=0)(lines) == records  # of a script
    assert {(row["entropy"], row["variations"]) for row in rows} == {("", "0")}


def test_answers_to_variations_are_as_long_as_in_the_run(tmp_path, monkeypatch):
    """Where the run's tests had others than its answers. A prompt that has room for the shorter alone is not asked."""
    student, _ = written_students.make(tmp_path)
    student = with_config(student, answers={"max_new_tokens": 17, "test_max_new_tokens": 9})
    calls, split = [], written_questions.make_split(2)

    def answer(language_model, tokenizer, asked, how, **_):
        calls.append((len(asked), how))
        given = [f" A. {how.max_new_tokens}"] * len(asked)
        numbers = np.zeros(len(asked), np.int32)
        return writing.Answers(given, ["eos"] * len(asked), numbers, numbers * np.nan, numbers - 1)

    monkeypatch.setattr(writing, "answer", answer)
    lines = [{"question": q.text, "choices": list(q.choices)} for q in split.questions]
    records = written.asker(student, variations=COUNT)(lines)
    of_each = [writing.Answering(max_new_tokens=most) for most in (17, 9)]
    assert [(n, how.sampling(())) for n, how in calls] == [
        (n, how.sampling(())) for n, how in zip((2 * (1 + COUNT), 2), of_each, strict=True)
    ]
    assert [record["text"] for record in records] == [" A. 9"] * 2
    tokenizer = written_students.tokenizers.load_tokenizer(student.base_folder)
    longer = (dataclasses.replace(split.questions[0], choices=("w" * n, "b", "c")) for n in range(128))
    most = next(q for q in longer if len(tokenizer.encode(split.task.prompt(q))) == 128 - 9)
    with pytest.raises(UserError, match="1 of 1 questions leave no room"):
        written.asker(student, variations=COUNT)([{"question": "Q", "choices": list(most.choices)}])


@pytest.mark.slow
@pytest.mark.ci
def test_numbers_are_written_and_one_that_is_too_long_costs_itself(tmp_path, capsys):
    """The answer is greedy, and those to the variations are sampled as in the run."""
    student, model = written_students.make(tmp_path, task=written_questions.NUMBER, trained="all")
    answers = {"temperature": 1.5, "top_p": 0.9, "max_new_tokens": 9}
    sampling = {"answers": answers, "variations": {"kind": "file", "file": "gone"}}
    student, split = (
        with_config(student, **sampling),
        written_questions.make_split(4, written_questions.NUMBER),
    )
    long = dataclasses.replace(split.questions[0], question_id="long", text="and so on " * 40)
    both = written_splits.WrittenSplit(split.task, [long, *split.questions])
    path = write_questions(tmp_path / "in.jsonl", both)
    first, *records = asking.write(student, path, tmp_path / "out.parquet", variations=2)
    assert first["finish"] == "too_long" and first["text"] is first["variations"] is None
    how = writing.Answering(max_new_tokens=9)
    given = asked_directly(student, model, split, [()] * 4, how, tmp_path)
    for record, question, (answer,) in zip(records, split.questions, given, strict=True):
        expected = None if answer is None else split.task.completion(question, answer).strip()
        assert (record["answer"], record["letter"], record["variations"]) == (expected, None, 2)
        # Answers that all say nothing agree on nothing.
        is_silent = record["majority"] is None
        assert record["entropy"] is None if is_silent else 0 <= record["entropy"] <= math.log(2)
        assert record["log_prob"] is None
    out = capsys.readouterr().out
    assert "note: 1 of 5 questions leave no room for an answer in the 128 tokens of tiny (first: long)" in out
    assert "note: the run's variations of questions, gone, are of its own" in out
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == FIELDS and table.schema.field("variations").type == "int64"
    assert table["text"].to_pylist()[1:] == [record["text"] for record in records]
    write_questions(path, written_splits.WrittenSplit(split.task, [long]))
    with pytest.raises(UserError, match=r"1 of 1 questions leave no room .*; shorten them"):
        asking.write(student, path, tmp_path / "out.jsonl")


def test_what_cannot_be_asked_is_refused_before_device_work(scored, questions_file, tmp_path, monkeypatch):
    student, _ = scored
    monkeypatch.setattr(written.layouts, "reading_mesh_here", lambda *_, **__: pytest.fail("device work"))
    own = dataclasses.replace(student.facts.written, has_own_code=True)
    with_own = dataclasses.replace(student, facts=dataclasses.replace(student.facts, written=own))
    gone = dataclasses.replace(student, base_folder=tmp_path / "gone")
    (tmp_path / "bad.jsonl").write_text('{"question": "Q0"}')
    for one, source, output, message in (
        (
            with_own,
            questions_file,
            "out.csv",
            "the task tiny_choice asks and reads answers by code of its own",
        ),
        (gone, questions_file, "out.csv", "of which reweighted trained a part, is gone; .* --base"),
        (student, questions_file, "in.jsonl", "is the input; choose another file"),
        (student, tmp_path / "bad.jsonl", "out.csv", "line 1: has no choices; give question and choices"),
    ):
        with pytest.raises(UserError, match=message) as info:
            asking.write(one, source, tmp_path / output)
        assert "\n" not in str(info.value)


def test_every_form_of_supervision_can_be_asked():
    defaults = config_lib.default_config()
    assert defaults.supervision in forms.FORMS and "variations" in forms.FORMS["completion"].flags
