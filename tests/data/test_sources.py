"""Reading task files: real data sets, generated ones, damaged ones, and the hub out of reach."""

import collections
import dataclasses
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selw2s_jax import errors
from selw2s_jax.data import sources, tasks
from selw2s_jax.worlds import generated


@pytest.fixture
def generated_folder(tmp_path):
    generated.write_generated_data(tmp_path, seed=3, num_train=31, num_test=13)
    return tmp_path


def load(name, split, folder, **kwargs):
    return sources.load_questions(tasks.get_task(name), split, source=str(folder), **kwargs)


@pytest.mark.parametrize(
    ("name", "num_train", "num_test"),
    [("sciq", 11679, 1000), ("boolq", 9427, 3270), ("arc", 3370, 3548), ("winogrande", 40398, 1267)],
)
def test_real_counts_and_balance(real_data, name, num_train, num_test):
    task = tasks.get_task(name)
    for split, count in (("train", num_train), ("test", num_test)):
        questions = load(name, split, real_data)
        assert len(questions) == count
        assert len({question.question_id for question in questions}) == count
        examples = tasks.convert(task, questions, mode="coin", seed=0)
        assert len(examples) == count
        share = sum(example.label for example in examples) / count
        assert abs(share - (0.6217 if name == "boolq" else 0.5)) < 0.03
    assert sources.notes(task, source=str(real_data)) == ()


def test_real_sciq_rows(real_data):
    task = tasks.get_task("sciq")
    questions = load("sciq", "train", real_data)
    assert questions[0].question_id == "sciq/train/0"
    texts = {
        example.text: example.label for example in tasks.convert(task, questions[:1], mode="all", seed=0)
    }
    start = "Q: What type of organism is commonly used in preparation of foods such as cheese and yogurt? A: "
    assert texts == {
        start + "mesophilic organisms": 1,
        start + "protozoa": 0,
        start + "gymnosperms": 0,
        start + "viruses": 0,
    }
    assert sum(len(tasks.wrong_choices(question)) < 3 for question in questions) == 14
    wrong_of = {question.question_id: question.choices[question.answer].casefold() for question in questions}
    for mode in tasks.CONVERSIONS:
        for example in tasks.convert(task, questions, mode=mode, seed=1):
            if not example.label:
                assert example.text.rsplit(" A: ", 1)[1].casefold() != wrong_of[example.group]


def test_real_boolq_row(real_data):
    questions = load("boolq", "test", real_data)[:1]
    (example,) = tasks.convert(tasks.get_task("boolq"), questions, mode="coin", seed=0)
    assert example.text.startswith("Passage: All biomass goes through at least some of these steps: ")
    assert example.text.endswith(".\nQuestion: does ethanol take more energy make that produces")
    assert (example.example_id, example.label) == ("boolq/test/0", 0)


def test_real_arc_subsets(real_data):
    easy, challenge = (load("arc", "train", real_data, subsets=name) for name in ("easy", "challenge"))
    assert (len(easy), len(challenge)) == (2251, 1119)
    assert load("arc", "train", real_data, subsets="easy+challenge") == easy + challenge
    assert challenge[0].question_id == "arc/train/challenge-0"
    assert challenge[0].choices[challenge[0].answer] == "dry palms"


def test_real_winogrande_row(real_data):
    questions = load("winogrande", "train", real_data)[:1]
    false, true = tasks.convert(tasks.get_task("winogrande"), questions, mode="all", seed=0)
    assert (false.label, true.label) == (0, 1)
    assert true.text == (
        "Ian volunteered to eat Dennis's menudo after already having a bowl "
        "because Dennis despised eating intestine."
    )


def test_real_gsm8k(real_data):
    if not (real_data / "gsm8k").is_dir():
        pytest.skip(f"GSM8K not found in {real_data}")
    task = tasks.get_task("gsm8k")
    assert sources.notes(task, source=str(real_data)) == ()
    for split, count in (("train", 7473), ("test", 1319)):
        questions = load("gsm8k", split, real_data)
        assert questions[17].question_id == f"gsm8k/{split}/17"
        answers = pq.read_table(real_data / "gsm8k" / "main" / f"{split}.parquet")["answer"].to_pylist()
        for mode in tasks.CONVERSIONS:
            examples = tasks.convert(task, questions, mode=mode, seed=0)
            assert [example.text for example in examples] == [question.text for question in questions]
        assert len(examples) == len({example.example_id for example in examples}) == count
        # The solutions are the file's but for six blank lines, and each is right by the file's own answer.
        pairs = list(zip(examples, answers, strict=True))
        assert all(task.is_correct(example.solution, answer) for example, answer in pairs)
        assert sum(example.solution != answer for example, answer in pairs) == {"train": 4, "test": 2}[split]
        assert not any(stop in example.solution for example in examples for stop in task.stop)


def test_real_cosmos_qa_is_divided_by_context(real_data):
    if (real_data / "cosmos_qa" / "train.parquet").exists():
        pytest.skip("the real CosmosQA train file is there")
    train, test = (load("cosmos_qa", split, real_data) for split in ("train", "test"))
    assert len(train) + len(test) == 2985
    assert 0.65 < len(train) / 2985 < 0.75
    assert not {question.context for question in train} & {question.context for question in test}
    (note,) = sources.notes(tasks.get_task("cosmos_qa"), source=str(real_data))
    assert "divided by context" in note

    by_id = {question.question_id: question for question in train}
    for example in tasks.convert(tasks.get_task("cosmos_qa"), train, mode="coin", seed=0):
        right = by_id[example.group].choices[by_id[example.group].answer]
        assert example.label == 0 or right != "None of the above choices ."


def test_real_schemas_are_the_generated_ones(real_data, generated_folder):
    for path in sorted(generated_folder.rglob("*.parquet")):
        relative = path.relative_to(generated_folder)
        real = real_data / relative
        if real.exists():
            schema = pq.read_schema(real).remove_metadata()
            assert pq.read_schema(path).remove_metadata() == schema, relative


@pytest.mark.parametrize("name", ["sciq", "boolq", "cosmos_qa", "arc", "winogrande"])
def test_generated_data(generated_folder, tmp_path_factory, name):
    train, test = (load(name, split, generated_folder) for split in ("train", "test"))
    assert (len(train), len(test)) == (31, 13)
    examples = tasks.convert(tasks.get_task(name), train, mode="coin", seed=0)
    assert {example.label for example in examples} == {0, 1}
    assert len({example.text for example in examples}) == 31
    assert not {question.text + question.context for question in train} & {
        question.text + question.context for question in test
    } or name in ("sciq", "arc")

    again, other = (tmp_path_factory.mktemp("again") for _ in range(2))
    generated.write_generated_data(again, seed=3, num_train=31, num_test=13)
    generated.write_generated_data(other, seed=4, num_train=31, num_test=13)
    assert load(name, "train", again) == train
    assert load(name, "train", other) != train


def test_generated_math_problems(generated_folder):
    task = tasks.get_task("gsm8k")
    train, test = (load("gsm8k", split, generated_folder) for split in ("train", "test"))
    assert (len(train), len(test)) == (31, 13)
    assert len({question.text for question in train}) == 31
    for question in (*train, *test):
        terms = re.findall(r"(?<!day )\b[0-9]+", question.text)
        assert task.is_correct(f"in all {sum(map(int, terms))}", question.solution)
        assert task.is_correct(question.solution, question.solution.rpartition("####")[2])


def test_label_is_learnable_from_generated_words(generated_folder):
    """The shown answer alone tells the label: the signal that a few steps have to find."""
    examples = tasks.convert(
        tasks.get_task("sciq"), load("sciq", "train", generated_folder), mode="all", seed=0
    )
    labels = collections.defaultdict(set)
    for example in examples:
        labels[example.text.rsplit(" A: ", 1)[1]].add(example.label)
    assert all(len(found) == 1 for found in labels.values())


def rewrite(path, change):
    table = change(pq.read_table(path))
    pq.write_table(table, path)


def set_column(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "sciq",
            "sciq/train",
            lambda t: t.drop_columns(["question"]),
            r"column 'question' is missing \(found: dis",
        ),
        ("sciq", "sciq/train", lambda t: t.slice(0, 0), "has no rows"),
        (
            "sciq",
            "sciq/train",
            lambda t: set_column(t, "question", pa.array(range(len(t)))),
            "column 'question' is int64, not string",
        ),
        (
            "boolq",
            "boolq/train",
            lambda t: set_column(t, "answer", pa.array([True, True, None, *[False] * (len(t) - 3)])),
            "row 2 has no value in column 'answer'",
        ),
        (
            "boolq",
            "boolq/train",
            lambda t: set_column(t, "answer", pa.array(["yes"] * len(t))),
            "column 'answer' is string, not true/false",
        ),
        (
            "cosmos_qa",
            "cosmos_qa/train",
            lambda t: set_column(t, "label", pa.array([0] * (len(t) - 1) + [4], pa.int32())),
            "row 30: label is 4, not one of 0 to 3",
        ),
        (
            "arc",
            "ai2_arc/ARC-Challenge/train",
            lambda t: set_column(t, "answerKey", pa.array(["E"] * len(t))),
            "row 0: answerKey is 'E', not one of",
        ),
        (
            "arc",
            "ai2_arc/ARC-Easy/train",
            lambda t: set_column(t, "choices", pa.array(["a"] * len(t))),
            "column 'choices' is string, not struct",
        ),
        (
            "winogrande",
            "winogrande/winogrande_xl/train",
            lambda t: set_column(t, "answer", pa.array([""] * len(t))),
            "row 0: answer is '', not '1' or '2'",
        ),
        (
            "winogrande",
            "winogrande/winogrande_xl/train",
            lambda t: set_column(t, "sentence", pa.array(["no blank"] * len(t))),
            "row 0: sentence has no blank",
        ),
        (
            "gsm8k",
            "gsm8k/main/train",
            lambda t: set_column(
                t, "answer", pa.array(["2 and 2\n#### 4"] * (len(t) - 1) + ["2 and 2 is 4"])
            ),
            "row 30: answer has no number after '####'; mend or remove the row",
        ),
        (
            "gsm8k",
            "gsm8k/main/train",
            lambda t: set_column(t, "answer", pa.array(["2 and 2 is 4\n#### four"] * len(t))),
            "row 0: answer has no number after '####'",
        ),
        (
            "gsm8k",
            "gsm8k/main/train",
            lambda t: set_column(t, "answer", pa.array(range(len(t)))),
            "column 'answer' is int64, not string; use the columns of openai/gsm8k \\(main\\)",
        ),
    ],
)
def test_bad_files(generated_folder, name, file, change, message):
    path = generated_folder / f"{file}.parquet"
    rewrite(path, change)
    with pytest.raises(errors.UserError, match=message) as caught:
        load(name, "train", generated_folder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "columns"),
    [
        ("cosmos_qa", "cosmos_qa/train", {"label": pa.float64()}),
        ("boolq", "boolq/train", {"answer": pa.float32()}),
        ("boolq", "boolq/train", {"answer": pa.int8(), "passage": pa.string_view()}),
        ("sciq", "sciq/train", {"question": pa.large_string(), "distractor1": "dictionary"}),
        (
            "winogrande",
            "winogrande/winogrande_xl/train",
            {"answer": "dictionary", "sentence": pa.string_view()},
        ),
        ("gsm8k", "gsm8k/main/train", {"question": pa.string_view(), "answer": pa.large_string()}),
    ],
)
def test_columns_as_table_libraries_write_them(generated_folder, name, file, columns):
    expected = load(name, "train", generated_folder)

    def change(table):
        for column, kind in columns.items():
            values = table[column]
            if kind == "dictionary":
                values = values.dictionary_encode()
            elif pa.types.is_boolean(values.type):
                values = values.cast(pa.int8()).cast(kind)
            else:
                values = values.cast(kind)
            table = set_column(table, column, values)
        return table

    rewrite(generated_folder / f"{file}.parquet", change)
    assert load(name, "train", generated_folder) == expected


@pytest.mark.parametrize("value", [0.5, float("nan"), 2.0])
def test_numbers_that_are_no_truth(generated_folder, value):
    path = generated_folder / "boolq" / "train.parquet"
    rewrite(path, lambda t: set_column(t, "answer", pa.array([1.0, value] + [0.0] * (len(t) - 2))))
    with pytest.raises(errors.UserError, match=r"row 1: .* is not true/false"):
        load("boolq", "train", generated_folder)


def test_a_column_that_occurs_twice(generated_folder):
    path = generated_folder / "sciq" / "train.parquet"
    rewrite(path, lambda t: t.append_column("question", t["question"]))
    with pytest.raises(errors.UserError, match="column 'question' occurs twice"):
        load("sciq", "train", generated_folder)


def test_damaged_and_missing_files(generated_folder):
    path = generated_folder / "sciq" / "train.parquet"
    content = path.read_bytes()
    for damaged in (b"", b"not parquet at all", content[: len(content) // 2], content[4:]):
        path.write_bytes(damaged)
        with pytest.raises(errors.UserError, match="cannot be read as parquet") as caught:
            load("sciq", "train", generated_folder)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(
        errors.UserError, match=r"sciq/train.parquet is missing; put split 'train' of allenai/sciq"
    ):
        load("sciq", "train", generated_folder)
    (generated_folder / "gsm8k" / "main" / "train.parquet").unlink()
    with pytest.raises(
        errors.UserError, match=r"put split 'train' of openai/gsm8k \(main\) there as parquet"
    ):
        load("gsm8k", "train", generated_folder)
    with pytest.raises(errors.UserError, match="neither 'hub' nor a folder"):
        load("sciq", "train", generated_folder / "nowhere")
    with pytest.raises(errors.UserError, match="join some of easy, challenge by '\\+'"):
        load("arc", "train", generated_folder, subsets="medium")


def test_a_task_without_a_train_split(generated_folder):
    task = dataclasses.replace(tasks.get_task("gsm8k"), name="exam", splits={"test": "test"})
    for source in (str(generated_folder), sources.HUB):
        assert sources.notes(task, source=source) == ()
        with pytest.raises(errors.UserError, match=r"task exam has no train split \(it has: test\)"):
            sources.load_questions(task, "train", source=source)
    assert len(sources.load_questions(task, "test", source=str(generated_folder))) == 13


def test_cosmos_qa_without_train_file(generated_folder):
    (generated_folder / "cosmos_qa" / "train.parquet").unlink()
    train, test = (load("cosmos_qa", split, generated_folder) for split in ("train", "test"))
    assert len(train) + len(test) == 13
    rows = sorted(int(question.question_id.rsplit("/", 1)[1]) for question in train + test)
    assert rows == list(range(13))
    assert all(question.question_id.startswith("cosmos_qa/test/") for question in test)


def test_hub_out_of_reach(monkeypatch):
    import datasets
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise ConnectionError("no network\nhere")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    for name, file in (("sciq", "sciq/test"), ("cosmos_qa", "cosmos_qa/validation")):
        with pytest.raises(errors.UserError) as caught:
            load(name, "test", sources.HUB)
        message = str(caught.value)
        assert "no network here" in message
        assert tasks.get_task(name).hub_name in message
        assert f"FOLDER/{file}.parquet and set data.source=FOLDER" in message
        assert "\n" not in message


def test_hub_reads_what_a_folder_reads(generated_folder, monkeypatch):
    """The hub path with its two library calls replaced: their arguments, and the same questions."""
    import datasets
    import huggingface_hub

    calls = []

    def load_dataset(name, config, *, split, revision):
        calls.append((name, config, split, revision))
        folder = "sciq" if config is None else f"ai2_arc/{config}"
        return datasets.Dataset.from_parquet(
            str(generated_folder / folder / f"{split}.parquet"), cache_dir=str(generated_folder / "cache")
        )

    def hf_hub_download(repo, filename, *, repo_type, revision):
        calls.append((repo, filename, repo_type, revision))
        return str(generated_folder / "cosmos_qa" / "validation.parquet")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    for name in ("sciq", "arc", "cosmos_qa"):
        assert load(name, "test", sources.HUB) == load(name, "test", generated_folder)
    assert calls == [
        ("allenai/sciq", None, "test", tasks.get_task("sciq").hub_revision),
        ("allenai/ai2_arc", "ARC-Easy", "test", tasks.get_task("arc").hub_revision),
        ("allenai/ai2_arc", "ARC-Challenge", "test", tasks.get_task("arc").hub_revision),
        ("allenai/cosmos_qa", "default/validation/0000.parquet", "dataset", "refs/convert/parquet"),
    ]
