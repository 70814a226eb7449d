"""Rows by role: from folders, whole or not, from users' files, and given directly."""

import dataclasses
import json
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selw2s_jax import errors
from selw2s_jax.data import answers, doubts, sources, tasks, written_rows, written_splits, written_tasks

ROLES = written_tasks.ROLES


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_hellaswag(folder, splits, num_rows=21):
    for split in splits:
        rows = [
            {"ctx": f"{split} {i}", "endings": [f"{i}", "b", "c", "d"], "label": f"{i % 4}"}
            for i in range(num_rows)
        ]
        write_table(folder / "hellaswag" / f"{split}.parquet", rows)
    return str(folder)


def write_mmlu(folder, **num_rows):
    for split, count in num_rows.items():
        rows = [
            {"question": f"{split} {i}?", "subject": "art", "choices": ["a", "b", "a", "d"], "answer": 1}
            for i in range(count)
        ]
        write_table(folder / "mmlu" / "all" / f"{split}.parquet", rows)
    return str(folder)


def read(name, source, found=None, **division):
    division = {"seed": 0} | division
    return written_splits.read(written_tasks.get(name), source=source, found=found, **division)


def ids_of(data):
    return {role: getattr(data, role).ids for role in ROLES}


def test_halves_are_disjoint_and_keyed_and_the_test_is_the_same_for_all_seeds(tmp_path):
    source, found = write_hellaswag(tmp_path, ("train", "validation")), doubts.Found()
    by_seed = [ids_of(read("hellaswag", source, found, seed=seed)) for seed in range(3)]
    assert not found.notes
    assert not found.doubts
    everything = {f"hellaswag/validation/{i}" for i in range(21)}
    for ids in by_seed:
        assert (len(ids["student"]), len(ids["test"])) == (10, 11)
        assert {*ids["student"], *ids["test"]} == everything
        assert {*ids["weak"]} == {f"hellaswag/train/{i}" for i in range(21)}
    assert by_seed[0]["test"] == by_seed[1]["test"] == sorted(by_seed[2]["test"], key=lambda x: int(x[21:]))
    assert by_seed[0]["student"] != by_seed[1]["student"]
    assert ids_of(read("hellaswag", source, test_seed=1))["test"] != by_seed[0]["test"]
    fewer = ids_of(read("hellaswag", source, num_train=4, num_test=5))
    assert fewer["weak"] == by_seed[0]["weak"][:4]
    assert fewer["student"] == by_seed[0]["student"][:4]
    assert len(fewer["test"]) == 5
    assert {*fewer["test"]} < {*by_seed[0]["test"]}


def test_halves_of_a_train_split_are_drawn_by_seed(tmp_path):
    for split, count in (("train", 9), ("test", 3)):
        rows = [{"question": f"{split} {i}?", "answer": f"so\n#### {i}"} for i in range(count)]
        write_table(tmp_path / "gsm8k" / "main" / f"{split}.parquet", rows)
    first, second = (ids_of(read("gsm8k", str(tmp_path), seed=seed)) for seed in (0, 1))
    for ids in (first, second):
        assert (len(ids["weak"]), len(ids["student"]), len(ids["test"])) == (4, 5, 3)
        assert {*ids["weak"], *ids["student"]} == {f"gsm8k/train/{i}" for i in range(9)}
    assert {*first["weak"]} != {*second["weak"]}
    in_order = ids_of(read("gsm8k", str(tmp_path), sample="first"))
    assert in_order["weak"] == sorted(first["weak"])


def test_a_folder_without_train_is_divided_and_a_note_says_so(tmp_path):
    source, found = write_hellaswag(tmp_path, ("validation",), num_rows=20), doubts.Found()
    by_seed = [ids_of(read("hellaswag", source, found, seed=seed)) for seed in (0, 1)]
    for ids in by_seed:
        assert [len(ids[role]) for role in ROLES] == [6, 7, 7]
        assert len({name for role in ROLES for name in ids[role]}) == 20
    assert by_seed[0]["test"] == by_seed[1]["test"]
    (note,) = found.notes
    assert "train.parquet is not there, so validation.parquet is divided equally: weak, student, test" in note


def test_stories_say_which_two_words_are_theirs(tmp_path):
    rows = [
        {"label": i % 2, "input": "x" * (100 + 30 * i), "is_short": i % 3 == 0, "edited": False}
        for i in range(9)
    ]
    write_table(tmp_path / "ethics" / "commonsense" / "test.parquet", rows)
    data = read("ethics_commonsense", str(tmp_path))
    for question in (q for role in ROLES for q in getattr(data, role).questions):
        i = int(question.question_id.removeprefix("ethics_commonsense/test/"))
        assert question.choices == (("acceptable", "unacceptable") if i % 3 == 0 else ("right", "wrong"))
        assert question.answer == i % 2
    # The hub's copy does not say which are short.
    write_table(
        tmp_path / "ethics" / "commonsense" / "test.parquet",
        [{"label": row["label"], "input": row["input"]} for row in rows],
    )
    data = read("ethics_commonsense", str(tmp_path))
    words = {len(q.text): q.choices[0] for role in ROLES for q in getattr(data, role).questions}
    assert (words[160], words[190]) == ("acceptable", "right")


def test_mmlu_reads_its_own_splits_and_keeps_choices_that_are_equal(tmp_path):
    source, found = write_mmlu(tmp_path, dev=3, validation=4, test=5), doubts.Found()
    data = read("mmlu", source, found, num_train=4)
    assert [len(getattr(data, role)) for role in ROLES] == [3, 4, 5]
    assert found.notes == [
        "mmlu: 12 of 12 questions offer the same choice twice, and are asked as they are",
    ]
    auxiliary = written_tasks.get("mmlu").with_weak_rows("auxiliary")
    with pytest.raises(errors.UserError, match=r"auxiliary_train\.parquet is missing"):
        written_splits.read(auxiliary, source=source, seed=0)


class WholeTable:
    """What `datasets` gives in its arrow format: `[:]` is the table."""

    def __init__(self, table):
        self._table = table

    def __getitem__(self, rows):
        assert rows == slice(None)
        return self._table


def test_what_the_hub_is_asked_for(monkeypatch, tmp_path):
    asked = []

    def load_dataset(name, config, *, split, revision):
        asked.append((name, config, split))
        assert len(revision) == 40
        row = {"question": split, "subject": "art", "choices": ["a", "b"], "answer": 0}
        if name != "cais/mmlu":
            row = {"ctx": split, "endings": ["a", "b"], "label": "1"}
        table = pa.Table.from_pylist([row] * 4)
        return types.SimpleNamespace(with_format=lambda _: WholeTable(table))

    def hf_hub_download(name, path, *, repo_type, revision):
        asked.append((name, path, revision))
        write_table(tmp_path / path, [{"label": 1, "input": "I left."}] * 4)
        return str(tmp_path / path)

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    hub = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    auxiliary = written_tasks.get("mmlu").with_weak_rows("auxiliary")
    for task in (auxiliary, written_tasks.get("hellaswag"), written_tasks.get("ethics_commonsense")):
        found = doubts.Found()
        _, questions = written_rows.load(task, source="hub", found=found)
        assert all(len(of_split) == 4 for of_split in questions.values())
    assert asked == [
        *(("cais/mmlu", "all", split) for split in ("auxiliary_train", "validation", "test")),
        *(("Rowan/hellaswag", None, split) for split in ("train", "validation")),
        *(
            ("hendrycks/ethics", f"commonsense/{split}/0000.parquet", "refs/convert/parquet")
            for split in ("train", "validation")
        ),
    ]
    assert found.notes == ["ethics_commonsense: hendrycks/ethics on the hub is not pinned to a commit."]


def test_hashes_of_texts_say_nothing_of_the_truth(tmp_path):
    split = read("hellaswag", write_hellaswag(tmp_path, ("train", "validation"))).student
    poisoned = [dataclasses.replace(q, answer=(q.answer + 1) % 4) for q in split.questions]
    poisoned = dataclasses.replace(split, questions=poisoned)
    assert (poisoned.texts_hash, poisoned.ids) == (split.texts_hash, split.ids)
    assert poisoned.truth_hash != split.truth_hash
    turned = [dataclasses.replace(q, choices=q.choices[::-1]) for q in split.questions]
    assert dataclasses.replace(split, questions=turned).texts_hash != split.texts_hash
    part = split.only([i % 2 == 1 for i in range(len(split))])
    assert (part.ids, part.truths) == (split.ids[1::2], split.truths[1::2])


# Tasks whose questions are given directly.


def given(task, names, answer=0):
    return [tasks.Question(f"{task.name}/{name}", f"Who is {name}?", ("x", "y"), answer) for name in names]


@pytest.fixture
def plain():
    return written_tasks.WrittenTask("plain", "choice", ("Choose one of {letters}.",))


def test_questions_given_by_role(plain):
    found = doubts.Found()
    questions = {"weak": given(plain, "abc"), "student": given(plain, "defg"), "test": given(plain, "hi")}
    data = written_splits.divide(plain, questions, seed=0, found=found, num_train=3)
    written_splits.look_for_overlap([data], found)
    assert sorted(data.weak.ids) == ["plain/a", "plain/b", "plain/c"]
    assert (len(data.student), data.test.ids) == (3, ["plain/h", "plain/i"])
    assert (found.notes, found.doubts) == ([], [])


def test_overlap_between_roles(plain):
    def same(name, question, **changes):
        return dataclasses.replace(question, question_id=name, **changes)

    student, test = given(plain, "defg"), given(plain, "hi")
    weak = [
        *given(plain, "abc"),
        same("plain/w0", test[0], text="who  is H? "),
        same("plain/w1", student[0]),
        same("plain/w2", student[1], answer=1),  # with another right answer it is another question
    ]
    questions = {"weak": weak, "student": student, "test": test}
    found = doubts.Found()
    noted = written_splits.divide(plain, questions, seed=0, found=found)
    written_splits.look_for_overlap([noted, noted], found)
    assert len(noted.weak) == 6
    assert found.notes == ["1 of 4 of the student's questions are among the weak model's too"]
    assert [doubt.observation for doubt in found.doubts] == [
        "1 of 2 test questions are among the training questions too"
    ]
    found = doubts.Found()
    dropped = written_splits.divide(plain, questions, seed=0, overlap_action="drop", found=found)
    written_splits.look_for_overlap([dropped], found)
    assert sorted(dropped.weak.ids) == ["plain/a", "plain/b", "plain/c", "plain/w2"]
    assert (len(found.notes), found.doubts) == (2, [])
    with pytest.raises(errors.UserError, match="1 of 2 test questions"):
        written_splits.divide(plain, questions, seed=0, overlap_action="refuse")
    questions["weak"] = weak[4:]
    with pytest.raises(errors.UserError, match="1 of 2 questions of the weak model"):
        written_splits.divide(plain, questions, seed=0, overlap_action="refuse")


@pytest.mark.parametrize(
    ("division", "message"),
    [
        ({"num_train": 0}, "data.num_train is 0"),
        ({"overlap_action": "forget"}, "data.overlap is 'forget'"),
        ({"sample": "last"}, "data.sample is 'last'"),
    ],
)
def test_arguments_that_are_wrong(plain, division, message):
    questions = {"weak": given(plain, "a"), "student": given(plain, "b"), "test": given(plain, "c")}
    with pytest.raises(errors.UserError, match=message):
        written_splits.divide(plain, questions, seed=0, **division)


def test_a_role_without_rows(plain):
    questions = {"weak": given(plain, "a"), "student": [], "test": given(plain, "c")}
    with pytest.raises(errors.UserError, match="too few rows in split 'student': none are the student's"):
        written_splits.divide(plain, questions, seed=0)


def test_splits_that_are_not_there(tmp_path):
    with pytest.raises(errors.UserError, match=r"train\.parquet is missing"):
        read("hellaswag", str(tmp_path))
    with pytest.raises(errors.UserError, match="neither 'hub' nor a folder"):
        read("hellaswag", str(tmp_path / "nowhere"))
    with pytest.raises(errors.UserError, match="task mmlu has no train split"):
        sources.load_questions(written_tasks.get("mmlu").source, "train", source=str(tmp_path))


def test_a_test_split_without_answers(tmp_path):
    source = write_hellaswag(tmp_path, ("train", "validation"))
    rows = [{"ctx": "a", "endings": ["b", "c"], "label": ""}] * 2
    write_table(tmp_path / "hellaswag" / "validation.parquet", rows)
    with pytest.raises(errors.UserError, match="2 of 2 rows are bad: row 0: label is '', no answer"):
        read("hellaswag", source)


# Users' files.


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def choice_row(i, **changes):
    return {"question": f"Q{i}?", "choices": ["red", "blue", "green"], "answer": i % 3} | changes


def load(*files):
    return written_rows.load_files("mine", *files, found=doubts.Found())


def test_users_files(tmp_path):
    train = write_jsonl(tmp_path / "train.jsonl", [choice_row(i) for i in range(9)])
    test = write_jsonl(tmp_path / "test.jsonl", [choice_row(i, answer="B") for i in range(20, 24)])
    task, questions = load(train, test)
    data = written_splits.divide(task, questions, seed=0)
    assert [len(getattr(data, role)) for role in ROLES] == [4, 5, 4]
    assert (data.test.ids[0], data.test.truths) == ("mine/test/0", [1, 1, 1, 1])
    solved = write_jsonl(tmp_path / "s.jsonl", [{"question": f"Q{i}?", "solution": i} for i in range(30)])
    task, questions = load(solved)
    data = written_splits.divide(task, questions, seed=0)
    assert task.kind == "number"
    assert sum(len(getattr(data, role)) for role in ROLES) == 30
    assert all(
        answers.to_text(truth) == name.rpartition("/")[2]
        for name, truth in zip(data.weak.ids, data.weak.truths, strict=True)
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"choices": ["red"]}, "line 3: choices must be a list of at least two texts"),
        ({"choices": ["red", " red", "blue"]}, "line 3: two choices are equal"),
        ({"choices": ["red", "Red ", "blue"]}, "line 3: two choices are equal"),
        ({"choices": ["red", "red"], "answer": 0}, "line 3: choices are all the same text"),
        ({"choices": [f"c{i}" for i in range(27)]}, "line 3: 27 choices, where 2 to 26"),
        ({"answer": None}, "line 3: answer must be an index .* found nothing"),
    ],
)
def test_users_rows_that_cannot_be_asked(tmp_path, bad, message):
    good = [choice_row(i) for i in range(4)]
    train = write_jsonl(tmp_path / "train.jsonl", good)
    test = write_jsonl(tmp_path / "test.jsonl", [*good[:2], choice_row(2, **bad), good[3]])
    with pytest.raises(errors.UserError, match=rf"test\.jsonl: {message}"):
        load(train, test)


def test_a_users_test_without_answers(tmp_path):
    train = write_jsonl(tmp_path / "train.jsonl", [choice_row(i) for i in range(4)])
    test = write_jsonl(tmp_path / "test.jsonl", [{"question": "Q?", "choices": ["a", "b"]}])
    with pytest.raises(errors.UserError, match=r"needs the columns .*question,choices,answer"):
        load(train, test)
