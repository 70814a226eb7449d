"""The stages of a run whose models write: who is trained on what, what is in whose key, and what is read."""

import dataclasses
import json

import pytest
from support import written_config

from configs import reliability
from selw2s_jax import config as config_lib
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, unread, written, written_data, written_inputs
from selw2s_jax.method import completion_methods, row_weights
from selw2s_jax.run import collect_written


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module")
def inputs(workdir):
    return written_inputs.prepare(written_config.make(), workdir)


@pytest.fixture
def make(inputs):
    """The experiment of a config, on inputs that are read once."""
    return lambda of=inputs, **values: written.Experiment(written_config.make(**values), of)


def poison(inputs, *roles: str):
    """The inputs with other right answers to the questions of some roles."""
    by_seed = {}
    for seed, data in inputs.by_seed.items():
        changed = {}
        for role in roles:
            split = getattr(data, role)
            questions = [dataclasses.replace(one, answer=(one.answer + 1) % 4) for one in split.questions]
            changed[role] = dataclasses.replace(split, questions=questions)
        by_seed[seed] = dataclasses.replace(data, **changed)
    return dataclasses.replace(inputs, by_seed=by_seed)


def keys(experiment: written.Experiment) -> dict[str, str]:
    names = experiment.classifiers()
    found = {name: experiment.trained(0, name).key for name in names}
    found |= {f"evaluation of {name}": experiment.evaluation(0, name).key for name in names}
    return found | {"weak answers": experiment.weak_answers(0).key}


def differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


EVERY = {"methods": tuple(row_weights.ROW_WEIGHTS)}


def test_ground_truth_is_read_by_weak_model_and_ceiling_alone(make, inputs):
    plain = keys(make(**EVERY))
    assert differing(plain, keys(make(poison(inputs, "student"), **EVERY))) == {
        "ceiling",
        "evaluation of ceiling",
    }
    assert not differing(plain, keys(make(poison(inputs, "test"), **EVERY)))
    assert differing(plain, keys(make(poison(inputs, "weak"), **EVERY))) == plain.keys() - {
        "ceiling",
        "evaluation of ceiling",
    }


def changed_by(make, **values) -> set[str]:
    """The methods whose students a value changes."""
    names = row_weights.ROW_WEIGHTS
    before, after = keys(make(**EVERY)), keys(make(**EVERY, **values))
    found = differing(before, after)
    assert not found & {"weak", "ceiling", "weak answers"}
    return {name for name in names if name in found}


def test_a_value_changes_the_students_of_the_methods_that_read_it(make):
    everything, known = set(row_weights.ROW_WEIGHTS), row_weights.ROW_WEIGHTS
    reading = {
        key: {name for name in everything if key in known.option_names(name)}
        for key in ("percentile", "ties", "temperature", "normalize", "unparsed")
    }
    assert reading["normalize"] == {
        "reweighted",
        "reweighted_sampled",
        "shuffled_weights",
        "question_weights",
    }
    assert changed_by(make, reliability__percentile=30.0) == reading["percentile"]
    assert changed_by(make, reliability__ties="split") == reading["ties"]
    assert changed_by(make, reliability__temperature=0.3) == reading["temperature"]
    assert changed_by(make, reliability__normalize="batch") == reading["normalize"]
    assert changed_by(make, answers__unparsed="left_out") == everything == reading["unparsed"]
    assert changed_by(make, training__match_steps=True) == everything
    assert not changed_by(make, answers__completion="canonical")  # what is scored is in form already


def test_what_students_are_told_of_their_training(make, inputs):
    normalized = make(methods=("reweighted", "finetune"), reliability__normalize="batch", loss__mean="tokens")
    of = {name: normalized.trained(0, name) for name in ("weak", "ceiling", "reweighted", "finetune")}
    assert {name: one.mean for name, one in of.items()} == dict.fromkeys(of, "tokens")
    assert {name: one.normalize for name, one in of.items()} == dict.fromkeys(of, False) | {
        "reweighted": True
    }
    assert {name: one.num_questions for name, one in of.items()} == dict.fromkeys(of)
    by_question = make(methods=("reweighted",), reliability__normalize="question").student(0, "reweighted")
    assert not by_question.normalize and by_question.rows.options["normalize"] == "question"
    matched = make(training__match_steps=True)
    numbers = [matched.trained(0, name).num_questions for name in matched.classifiers()]
    assert numbers == [None, None, *[len(inputs.by_seed[0].student)] * 2]
    some = make(training__match_steps=True, training__first_share=0.8)  # as the ceiling has
    assert some.student(0, "reweighted").num_questions == some.ceiling(0).rows.most == 25
    written_answers = make(answers__by="generate", answers__temperature=0.7)
    assert written_answers.weak_answers(0).how.temperature == 0.7
    assert written_answers.evaluation(0, "weak").how.temperature == 0.0  # models are always tested greedily
    assert written_answers.student(0, "finetune").rows.completion == "raw"


def test_all_models_learn_ends_or_none_does(make):
    values = {"answers__by": "generate", **EVERY}
    before, after = keys(make(**values)), keys(make(**values, answers__learn_end=False))
    assert differing(before, after) == before.keys()
    assert "learn_end" not in make(**values).ceiling(0).inputs


def test_weak_answers_are_to_the_questions_of_the_student_and_tests_to_one_prompt(make, inputs):
    experiment = make()
    answers, test = experiment.weak_answers(0), experiment.evaluation(0, "finetune")
    assert answers.split is inputs.by_seed[0].student and answers.reader is experiment.weak(0)
    assert {len(own) for own in answers.plan} == {2} and {len(own) for own in test.plan} == {0}
    assert answers.needs == (experiment.weak(0),) and experiment.student(0, "finetune").needs == (answers,)
    assert experiment.weak(0).needs == () == experiment.ceiling(0).needs


def test_p_ik_learns_from_the_questions_of_the_weak_model(make, inputs):
    """And of these from what the untouched strong model answers: its truth, and no other, is in the key."""
    experiment, data = make(methods=("finetune", "finetune_by_p_ik")), inputs.by_seed[0]
    scores, answers = experiment.p_ik(0), experiment.known_answers(0)
    assert experiment.student(0, "finetune_by_p_ik").needs == (experiment.weak_answers(0), scores)
    assert experiment.student(0, "finetune").needs == (experiment.weak_answers(0),)
    assert (scores.split, answers.split) == (
        data.student,
        data.weak,
    ) and answers.reader.model is inputs.strong
    assert scores.trained.needs == (answers,) and scores.trained.p_ik.split.ids == data.weak.ids
    assert answers.how.temperature == 0 and {len(own) for own in answers.plan} == {0}
    assert scores.trained.texts_by_kind == {batches.P_IK: data.weak.prompts}  # which its layout is chosen by
    targets = experiment.targets()
    assert targets[:2] == [[answers], [scores]] and not experiment.has_own_answers
    assert not make().has_p_ik and make().targets()[0] != [answers]
    weak, student = (
        make(poison(inputs, role), methods=("finetune",)).p_ik(0) for role in ("weak", "student")
    )
    assert weak.key != scores.key == student.key and weak.trained.needs[0].key == answers.key


def test_the_first_share_of_all_rows(make, inputs):
    """Of the truth and of weak answers; by default no key names it."""
    before, cut = make(), make(training__first_share=0.8)
    assert differing(keys(before), keys(cut)) == keys(before).keys()
    weak, student = cut.weak(0), cut.student(0, "reweighted")
    assert (weak.rows.most, len(weak.rows.known.names), weak.rows.known.weights.shape) == (25, 25, (25,))
    assert weak.rows.known.names == before.weak(0).rows.known.names[:25]
    assert student.rows.most == int(0.8 * 96) and student.rows.known is None
    assert student.needs == (cut.weak_answers(0),)
    planned = before.student(0, "reweighted").rows.expected.names
    assert student.rows.expected.names == planned[: student.rows.num_expected] != planned


def test_tests_may_be_shorter(make):
    shorter = make(answers__by="generate", answers__test_max_new_tokens=5)
    assert shorter.evaluation(0, "weak").how.max_new_tokens == 5
    assert shorter.weak_answers(0).how.max_new_tokens == 50


def test_answers_may_be_read_by_what_comes_first(make, inputs, workdir):
    values = {"answers__by": "generate", "answers__reading": "first"}
    found = written_inputs.prepare(written_config.make(**values), workdir)
    assert found.test.task.reading == "first" and found.by_seed[0].weak.texts_hash == (
        inputs.by_seed[0].weak.texts_hash
    )
    before, after = keys(make(answers__by="generate")), keys(make(found, **values))
    assert differing(before, after) == before.keys() - {"weak", "ceiling"}

    class Own(type(found.test.task)):
        def parse(self, question, text, variation=None):
            raise NotImplementedError

    own = Own(found.test.task.name, "choice", ("",))
    with pytest.raises(UserError, match=r"reading=first, and the task mmlu reads its answers itself"):
        written_data._read_by(own, written_config.make(**values).answers)
    # Nothing is written, or nothing said.
    for other in ({"answers__reading": "first"}, {}):
        assert written_data._read_by(own, written_config.make(**other).answers) is own


def test_a_model_of_the_run_writes_the_variations(make, inputs):
    """As it was pretrained; its words are asked of the weak model and, where they answer, of the strong one."""
    values = {"variations__kind": "model", "methods": ("finetune", "self_training")}
    experiment, answers = make(**values), make(**values).weak_answers(0)
    rewording = experiment.rewording(0)
    assert rewording.needs == () and rewording.reader.model is inputs.strong
    assert rewording.split.ids == inputs.by_seed[0].student.ids and rewording.count == 2
    assert (rewording.how.by, rewording.how.temperature) == ("generate", 0.7)  # also where answers are scored
    asking = experiment.weak_answers(0), experiment.own_answers(0)
    assert [one.rewording for one in asking] == [rewording] * 2 and rewording in asking[0].needs
    assert experiment.targets()[0] == [rewording, asking[1]]
    assert experiment.evaluation(0, "finetune").rewording is None and answers.key == asking[0].key
    plain = keys(make(methods=values["methods"]))
    assert differing(plain, keys(experiment)) == plain.keys() - {
        *("weak", "ceiling", "evaluation of weak", "evaluation of ceiling")
    }
    for other in ({"role": "weak"}, {"temperature": 0.5}, {"max_new_tokens": 99}):
        changed = make(**values, **{f"variations__{name}": value for name, value in other.items()})
        assert changed.weak_answers(0).key != answers.key
    assert make(**values, variations__role="weak").rewording(0).reader.model is inputs.weak
    shown = collect_written.preview(experiment)[-1]
    assert shown["reader"] == "strong model, which rewords a question" and "in other words" in shown["text"]


@pytest.mark.parametrize("task", ["world_choice", "world_addition"])
def test_models_of_the_generated_world_reword_nothing(task):
    config = reliability.get_config(f"world,task={task}")
    config.variations.kind = "model"
    with pytest.raises(
        UserError, match=r"kind=model: .* know no words .* permutation, or reworded for its sums"
    ):
        checks.validate(config_lib.normalize(config))


# Values that nothing reads.


def unread_of(**values) -> list[str]:
    return unread.check([written_config.make(**values)])


def test_every_key_of_the_other_form_is_refused():
    of_classes = (
        *("p_ik", "self_label", "generation", "calibration", "selection", "graph", "compat", "ceiling"),
        *("data.conversion", "weak.prompt", "weak.label_noise", "training.embed_once"),
        *(
            "analysis",
            "loss.scale",
            "loss.confidence_coefficient",
            "loss.confidence_ramp_fraction",
        ),
        *("loss.product_weak_power", "loss.product_student_power", "loss.adaptive_temperature"),
        *("seed.conversion", "seed.shots"),
    )
    of_written = (
        *("variations", "answers", "reliability", "loss.mean", "training.match_steps", "data.mmlu_train"),
        "training.first_share",
    )
    classes = config_lib.default_config()
    classes.weak.model, classes.strong.model = "gpt2", "qwen-14b"
    for config, names, remedy, key, value in (
        (written_config.make(), of_classes, "class_head", "graph.alpha", 0.3),
        (config_lib.normalize(classes), of_written, "completion", "reliability.percentile", 30.0),
    ):
        wanted = [key for key in config_lib.dotted_keys(config) if key.startswith(names)]
        found = unread._unread(config)
        assert len(wanted) > 10
        reason = f"set supervision={remedy}"
        assert {key: found.get(key) for key in wanted} == dict.fromkeys(wanted, (reason, True))
        config_lib.put(config, key, value)
        with pytest.raises(UserError, match=rf"^config\.{key}={value} is read by nothing: {reason}$"):
            unread.check([config])


@pytest.mark.parametrize(
    "values",
    [
        {"reliability__normalize": "batch", "methods": ("entropy_filter",)},
        {"training__match_steps": True, "methods": ()},
        {"answers__max_new_tokens": 9},
        {"answers__test_max_new_tokens": 9},
        {"answers__reading": "first"},
        {"answers__completion": "canonical"},
        {"answers__top_p": 0.5, "answers__by": "generate"},
        {"data__mmlu_train": "auxiliary", "task": "hellaswag"},
        {"variations__cyclic": True, "task": "gsm8k", "answers__by": "generate", "variations__kind": "rules"},
        {"data__source": "/folder", "data__train_file": "mine.csv", "task": "mine"},
        {"seed__init": 3, "training__trained": "all"},
        {"variations__role": "weak"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_these_answers_and_methods_do_not_read_is_noted(values):
    key = next(iter(values)).replace("__", ".")
    notes = [note for note in unread_of(**values) if note.startswith(f"config.{key}=")]
    assert len(notes) == 1 and "is read by nothing: " in notes[0]


@pytest.mark.parametrize(
    "values",
    [
        {
            "reliability__percentile": 30.0,
            "methods": ("finetune",),
        },  # the report has what the filter would keep
        {"reliability__temperature": 0.5, "methods": ("finetune",)},
        {"answers__unparsed": "left_out"},
        {"reliability__normalize": "batch", "methods": ("question_weights",)},
        {"answers__completion": "canonical", "answers__by": "generate"},
        {
            "data__instruction": "Choose.",
            "data__train_file": "mine.csv",
            "task": "mine",
            "data__source": "hub",
        },
        {"data__mmlu_train": "auxiliary"},
        {"seed__init": 3},
        {"variations__temperature": 1.0, "variations__kind": "model"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_is_read_is_not_noted(values):
    assert unread_of(**values) == []


def test_an_instruction_is_of_files_alone():
    with pytest.raises(
        UserError, match=r"data\.instruction=.* is read by nothing: .* it is of data\.train_file"
    ):
        unread_of(data__instruction="Choose.")


# A user's own methods.


def test_row_weights_are_tried_and_their_names_are_free(monkeypatch):
    factories = row_weights.ROW_WEIGHTS._factories

    def refusal(name, weigh):
        monkeypatch.setitem(factories, name, lambda: weigh)
        assert name in completion_methods.students()
        with pytest.raises(UserError) as raised:
            written.check_methods(written_config.make(methods=(name,)))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "have the name of a model of every run" in refusal("ceiling", lambda inputs: None)
    assert "method 'own': its row weights fail: ZeroDivisionError" in refusal("own", lambda inputs: 1 / 0)
    assert "are (3, 2)" in refusal("own", lambda inputs: row_weights.Rows([[1, 1]] * 3))
    monkeypatch.setitem(factories, "own", lambda: lambda inputs: row_weights.Rows([[1, 0, 0, 2]] * 3))
    written.check_methods(written_config.make(methods=("own", "finetune")))


# Files of paraphrases, and questions without room.


def write_paraphrases(path, ids) -> str:
    lines = [json.dumps({"example_id": name, "paraphrases": ["Once?", "Twice?"]}) for name in ids]
    path.write_text("\n".join(lines))
    return str(path)


def test_one_file_has_the_paraphrases_of_all_seeds(workdir, tmp_path):
    """Whose students have other questions; no more, and no fewer."""
    values = {"task": "gsm8k", "answers__by": "generate", "seeds": (0, 1)}
    read = written_inputs.prepare(written_config.make(**values), workdir)
    by_seed = [read.by_seed[seed].student.ids for seed in (0, 1)]
    every = sorted({*by_seed[0], *by_seed[1]})
    assert len(every) > len(by_seed[0])
    file = tmp_path / "paraphrases.jsonl"
    values["variations__file"] = write_paraphrases(file, every)
    found = written_inputs.prepare(written_config.make(**values), workdir)
    for seed in (0, 1):
        texts = [[variation.text for variation in own] for own in found.plans[seed]]
        assert texts == [["Once?", "Twice?"]] * len(by_seed[seed])
    # What the file says is in the key of the answers, and in that of every student.
    keys_of = lambda: keys(written.Experiment(written_config.make(**values), found))  # noqa: E731
    before = keys_of()
    file.write_text(file.read_text().replace("Twice", "Thrice"))
    found = written_inputs.prepare(written_config.make(**values), workdir)
    assert {"weak answers", "reweighted"} <= differing(before, keys_of()) and before["weak"] == keys_of()[
        "weak"
    ]
    for ids, message in (
        (every[1:], rf"lacks 1 of \d+ questions \(first: {every[0]}\)"),
        ([*every, "gsm8k/train/x"], r"has 1 questions that are not asked \(first: 'gsm8k/train/x'\)"),
    ):
        write_paraphrases(file, ids)
        with pytest.raises(UserError, match=message):
            written_inputs.prepare(written_config.make(**values), workdir)
