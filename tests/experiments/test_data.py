"""What a run says of questions that people bring, and what it does with those that test and training share."""

import json

import numpy as np
import pytest

from selw2s_jax import config as config_lib
from selw2s_jax.data import fitting, splits, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import data, inputs


def write(path, numbers, *, form="choices") -> str:
    if form == "choices":
        rows = [
            {"question": f"Which is {i}?", "choices": [f"a{i}", f"b{i}", f"c{i}"], "answer": i % 3}
            for i in numbers
        ]
    else:
        rows = [
            {"text": f"the number {i} is {'even' if i % 4 < 2 else 'odd'}", "label": i % 2} for i in numbers
        ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make_config(train, test=None, **overrides):
    config = config_lib.default_config()
    config.task = "mine"
    config.methods = ("finetune",)
    config.seeds = (0, 1)
    config.data.train_file, config.data.test_file = train, test
    config.weak.model = config.strong.model = "gpt2"
    for key, value in overrides.items():
        section, _, leaf = key.rpartition("__")
        (config_lib.get(config, section) if section else config)[leaf] = value
    return config


def read(tmp_path, config):
    reader = data.DataReader(config, tmp_path)
    return reader.read(), reader


@pytest.mark.parametrize("form", ["choices", "texts"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_overlap_is_noted_with_its_count(tmp_path, form, seeds):
    train = write(tmp_path / "train.jsonl", range(60), form=form)
    test = write(tmp_path / "test.jsonl", range(40, 80), form=form)
    _, reader = read(tmp_path, make_config(train, test, seeds=seeds))
    (doubt,) = reader.found.doubts
    assert doubt.observation == "20 of 40 test questions are in the training halves too"
    assert str(doubt) in reader.notes
    with pytest.raises(UserError, match=r"^20 of 40 test questions .* data.overlap=drop"):
        read(tmp_path, make_config(train, test, data__overlap="refuse"))

    dropped, reader = read(tmp_path, make_config(train, test, data__overlap="drop"))
    assert "20 of 60 training questions dropped, as the test has them" in reader.notes
    for of_seed in dropped.values():
        halves = [*of_seed.weak_half.examples, *of_seed.student_half.examples]
        assert len(halves) == 40 and not {one.text for one in halves} & {
            one.text for one in of_seed.test.examples
        }


@pytest.mark.parametrize(
    "change", [str.upper, lambda text: text.replace(" ", "  "), lambda text: f" {text} "]
)
def test_case_and_spaces_make_no_other_question(tmp_path, change):
    train = write(tmp_path / "train.jsonl", range(60), form="texts")
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()[40:]]
    rows = [row | {"text": change(row["text"])} for row in rows] + [{"text": "another", "label": 1}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"^20 of 21 test questions"):
        read(tmp_path, make_config(train, str(tmp_path / "test.jsonl"), data__overlap="refuse"))


def test_what_is_sampled_away_is_not_trained_on(tmp_path):
    train, test = write(tmp_path / "train.jsonl", range(90)), write(tmp_path / "test.jsonl", range(80, 120))
    _, reader = read(tmp_path, make_config(train, test, data__num_train=30, seeds=(0, 1, 2, 3)))
    (doubt,) = reader.found.doubts
    assert "(by seed)" in doubt.observation or "of 40 test questions" in doubt.observation


@pytest.mark.parametrize("numbers", [range(60), range(10, 30)])
def test_a_test_of_training_questions_is_refused(tmp_path, numbers):
    train, test = write(tmp_path / "train.jsonl", range(60)), write(tmp_path / "test.jsonl", numbers)
    with pytest.raises(UserError, match=f"^{len(numbers)} of {len(numbers)} test questions"):
        read(tmp_path, make_config(train, test))


def test_settings_that_change_nothing_give_the_same_splits(tmp_path):
    train = write(tmp_path / "train.jsonl", range(60))
    found = [
        read(tmp_path, make_config(train, data__overlap=action))[0] for action in ("note", "drop", "refuse")
    ]
    hashes = {(one[0].weak_half.texts_hash, one[0].student_half.labels_hash) for one in found}
    assert len(hashes) == 1


def test_labels_that_a_length_gives_away_are_a_warning(tmp_path):
    path = tmp_path / "train.csv"
    rows = [f"{'word ' * (3 + i % 4 + 6 * (i % 2))},{i % 2}" for i in range(80)]
    path.write_text("text,label\n" + "\n".join(f"{i} {row}" for i, row in enumerate(rows)) + "\n")
    _, reader = read(tmp_path, make_config(str(path)))
    assert any(
        "number of characters alone tells the labels" in one.observation for one in reader.found.doubts
    )


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        ({}, None),
        ({"weak__model": "random-tiny-gpt2"}, "the checkpoint of the weak model is random"),
        (
            {"weak__model": "random-tiny-gpt2", "strong__model": "random-tiny-qwen"},
            "the checkpoints are random",
        ),
        (
            {"methods": ("selective",)},
            "P(IK) is trained on generated questions (arc): what it says means nothing",
        ),
        (
            {"methods": ("selective",), "weak__model": "random-tiny-gpt2"},
            "the questions of arc are generated and the checkpoint of the weak model is random",
        ),
        (
            {"data__train_file": None, "task": "sciq", "strong__model": "random-tiny-qwen"},
            "the questions are generated and the checkpoint of the strong model is random",
        ),
    ],
)
def test_only_what_is_generated_is_called_so(tmp_path, overrides, note):
    train = write(tmp_path / "train.jsonl", range(60))
    _, reader = read(tmp_path, make_config(train, **{"data__source": "generated"} | overrides))
    said = [one.removesuffix(": the numbers mean nothing") for one in reader.notes if "nothing" in one]
    assert said == ([] if note is None else [note])


def test_questions_for_p_ik_that_are_not_there_name_the_nearer_remedies(tmp_path):
    train = write(tmp_path / "train.jsonl", range(60))
    (tmp_path / "empty").mkdir()
    config = make_config(train, data__source=str(tmp_path / "empty"), methods=("selective",))
    with pytest.raises(UserError, match=r"ARC-Easy.*config.p_ik.file, or choose methods .*\(finetune,"):
        read(tmp_path, config)
    config.p_ik.file, config.p_ik.task = write(tmp_path / "other.jsonl", range(100, 160)), "other"
    assert len(read(tmp_path, config)[0][0].p_ik) > 0


@pytest.mark.parametrize("name", ["\x1b[31mred", " ", "a\nb", "a\u202eb"])
def test_names_that_steer_a_terminal_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="is no name") as caught:
        read(tmp_path, make_config(write(tmp_path / "train.jsonl", range(60)), task=name))
    assert str(caught.value).isprintable()


# Prompts that are longer than a context.


class Words:
    """A model with a token to each word."""

    role, max_length = "strong", 12
    tokenizer = type("T", (), {"encode_batch": lambda self, texts: [text.split() for text in texts]})()


def make_data(sizes) -> splits.SeedData:
    examples = [tasks.Example(f"t/{i}", f"t/{i}", " ".join(["w"] * n), i % 2) for i, n in enumerate(sizes)]
    split = splits.Split(examples, tasks.Task("t", "", tasks.format_text), "bare", ())
    return splits.SeedData(split, split, split, None, None)


@pytest.mark.parametrize("overlong", fitting.OVERLONG)
def test_prompts_that_do_not_fit_are_treated_as_texts_that_do_not(overlong):
    unanswerable = {name: np.array([False, True, True, False]) for name in ("student_half", "test")}
    found = make_data([3, 11, 20, 4])

    def fit(**options):
        return fitting.fit(
            found, {None: [Words()]}, Words(), overlong=overlong, ceiling_split="student", **options
        )

    if overlong == "error":
        with pytest.raises(UserError, match=r"weak_half: 1 example.*longer than 12 tokens \(first: t/2\)"):
            fit(unanswerable=unanswerable)
        short = make_data([3, 11, 4, 4])
        with pytest.raises(
            UserError, match=r"few-shot prompt.*\(first: t/1\); choose a strong model .*, or set data.over"
        ):
            fitting.fit(
                short,
                {None: [Words()]},
                Words(),
                overlong=overlong,
                ceiling_split="student",
                unanswerable=unanswerable,
            )
        return
    fitted, notes = fit(unanswerable=unanswerable)
    sizes = (len(fitted.weak_half), len(fitted.student_half), len(fitted.test))
    assert sizes == {"default": (3, 2, 4), "drop": (3, 2, 2), "truncate": (4, 4, 4)}[overlong]
    assert any("few-shot prompt" in note for note in notes) == (overlong != "truncate")
    if overlong != "drop":
        assert len(fitted.test) == len(found.test)
    assert len(fit()[0].student_half) == (4 if overlong == "truncate" else 3)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"methods": ("finetune",)}, set()),
        ({"methods": ("selective",)}, {"student_half", "p_ik"}),
        ({"methods": ("mtl",)}, {"p_ik"}),
        ({"methods": ("selective",), "self_label__source": "class_head"}, {"p_ik"}),
    ],
)
def test_the_splits_that_are_asked(tmp_path, overrides, expected):
    train = write(tmp_path / "train.jsonl", range(60))
    p_ik = {"p_ik__file": write(tmp_path / "other.jsonl", range(100, 160)), "p_ik__task": "other"}
    config = make_config(train, **p_ik | overrides)
    by_seed, _ = read(tmp_path, config)
    assert set(inputs.answered_splits(config, by_seed[0])) == expected
