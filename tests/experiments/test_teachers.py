"""Whom students learn from: stages, keys and rows, without making any."""

import functools
import re
import sys
import textwrap

import numpy as np
import pytest
from support import paths, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, inputs, plugins, selective, teachers, unread
from selw2s_jax.method import registry
from selw2s_jax.stages import stage as stage_lib

pytestmark = pytest.mark.usefixtures("registrations")
METHODS = ("finetune", "two_stage", "two_stage_random", "chain", "iterate")


def make_config(*methods: str, **overrides):
    options = {"strong__model": "random-small-gpt2", "chain__models": ("random-tiny-gpt2",)} | overrides
    return config_lib.normalize(tiny_config.make_config(methods=methods, **options))


@functools.cache
def prepared(workdir, **overrides) -> inputs.Inputs:
    return inputs.prepare(make_config(*METHODS, **overrides), workdir)


@pytest.fixture
def make(tmp_path_factory):
    """An experiment of the methods, 32 rows in its student's half."""
    workdir = tmp_path_factory.getbasetemp() / "teachers"
    return lambda *methods, **overrides: selective.Experiment(
        make_config(*methods, **overrides), prepared(workdir)
    )


def labels(stage: stage_lib.Stage) -> list[str]:
    return [needed.label for needed in stage_lib.in_order([stage])]


def test_two_stages_are_a_student_of_some_rows_that_relabels_the_others(make):
    experiment = make(*METHODS, two_stage__share_student=0.3)
    assert labels(experiment.student(0, "two_stage")) == [
        *("weak, seed 0", "weak labels, seed 0", "two_stage 1, seed 0", "labels of two_stage 1, seed 0"),
        "two_stage, seed 0",
    ]
    first = next(
        stage
        for stage in stage_lib.in_order([experiment.student(0, "two_stage")])
        if stage.label == "two_stage 1, seed 0"
    )
    assert (len(first.task), first.num_steps, first.role) == (16, 2, "student")
    assert len(experiment.student(0, "two_stage").task) == 16 + 4 and first.starts_from is None
    control = experiment.student(0, "two_stage_random")
    assert control.num_steps == experiment.student(0, "two_stage").num_steps
    assert control.key != experiment.student(0, "two_stage").key
    assert "labels of two_stage_random 1, seed 0" in labels(control)


def test_every_row_or_no_second_stage_is_a_method_that_is_known(make):
    key = make("finetune").student(0, "finetune").key
    experiment = make(*METHODS, two_stage__share_weak=1.0)
    assert experiment.student(0, "two_stage").key == experiment.student(0, "two_stage_random").key == key
    hard = make(*METHODS, two_stage__share_weak=1.0, two_stage__soft=False)
    assert hard.student(0, "two_stage").key != key
    alone = make(*METHODS, two_stage__share_student=0.0).student(0, "two_stage")
    assert labels(alone) == ["weak, seed 0", "weak labels, seed 0", "two_stage, seed 0"]
    assert len(alone.task) == 16


def test_a_chain_hands_labels_on_from_model_to_model(make):
    experiment = make(*METHODS)
    assert labels(experiment.student(0, "chain")) == [
        *(
            "weak, seed 0",
            "weak labels, seed 0",
            "chain 1, seed 0",
            "labels of chain 1, seed 0",
            "chain, seed 0",
        )
    ]
    assert [model.slot for model in experiment.inputs.models] == ["weak", "chain-1", "strong"]
    assert experiment.inputs.chain[0].name == "random-tiny-gpt2"
    assert make("finetune").inputs is not None and "chain" not in teachers.read_by(make_config("finetune"))
    assert teachers.chain_models(make_config("finetune")) == ()


def test_rounds_begin_with_a_student_of_the_weak_model(make):
    student = make(*METHODS, iterate__rounds=2).student(0, "iterate")
    stages = stage_lib.in_order([student])
    assert [stage.label for stage in stages[2:]] == [
        *(
            "iterate 1, seed 0",
            "labels of iterate 1, seed 0",
            "iterate 2, seed 0",
            "labels of iterate 2, seed 0",
        ),
        "iterate, seed 0",
    ]
    assert stages[2].key == make("finetune").student(0, "finetune").key


def test_ground_truth_of_the_half_is_in_no_key_of_a_student_or_its_teachers(tmp_path, make):
    plain = {
        stage.label: stage.key
        for name in METHODS
        for stage in stage_lib.in_order([make(*METHODS).student(0, name)])
    }
    found = inputs.prepare(make_config(*METHODS), tmp_path)
    truth = found.by_seed[0].student_half.labels
    truth[:] = 1 - truth
    poisoned = selective.Experiment(make_config(*METHODS), found)
    for name in METHODS:
        for stage in stage_lib.in_order([poisoned.student(0, name)]):
            assert plain[stage.label] == stage.key
    assert poisoned.ceiling(0).key != make(*METHODS).ceiling(0).key


def test_no_row_at_all_is_refused_before_anything_runs(make):
    with pytest.raises(
        UserError, match=r"^config.two_stage.share_weak=0.03 keeps none of the 32 rows .*: raise it$"
    ):
        make(*METHODS, two_stage__share_weak=0.03).student(0, "two_stage")
    with pytest.raises(
        UserError, match=r"^two_stage 1, seed 0: 3 examples and 1.0 epochs make no batch of 8"
    ):
        make(*METHODS, two_stage__share_weak=0.1).student(0, "two_stage").key  # noqa: B018


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("two_stage.share_weak", 0.0),
        ("two_stage.share_weak", 1.5),
        ("two_stage.share_student", -0.1),
        ("iterate.rounds", 0),
        ("iterate.rounds", 101),
    ],
)
def test_shares_and_rounds_have_limits(key, value):
    config = make_config(*METHODS)
    config_lib.put(config, key, value)
    with pytest.raises(UserError, match=rf"config\.{key}={value} "):
        checks.validate(config)


def test_a_chain_needs_models_that_can_be_had():
    with pytest.raises(UserError, match=r"config.chain.models is empty, .*: name them, or leave out chain"):
        checks.validate(make_config(*METHODS, chain__models=()))
    with pytest.raises(
        UserError, match=r"config.chain.models='world' is pretrained .*: set data.source=world"
    ):
        checks.validate(make_config(*METHODS, chain__models=("world",)))


def test_what_no_teacher_reads_is_noted():
    config = make_config("finetune", "iterate", two_stage__share_weak=0.25)
    notes = sorted(note for note in unread.check([config]) if "teacher" in note)
    assert notes == [
        "config.chain.models=('random-tiny-gpt2',) is read by nothing: no method of the run has such a teacher",
        "config.two_stage.share_weak=0.25 is read by nothing: no method of the run has such a teacher",
    ]


def test_methods_of_other_rules_may_have_teachers_too(make):
    """Own labels, P(IK) and weak labels are then of the rows that the teacher chooses."""
    registry.register(
        "both",
        registry.Method(label_rule="self_labels", uses_self_labels=True, teacher="two_stage"),
    )
    experiment = make(*METHODS, "both")
    plugins.check_methods(experiment.config)
    student = experiment.student(0, "both")
    assert len(student.task) == 24 and student.task.columns.keys() == {"weak_probs", "self_labels"}
    assert "both 1, seed 0" in labels(student)
    assert np.array_equal(student.task.split.ids, experiment.inputs.by_seed[0].student_half.ids)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (dict(teacher="nobody"), "has the teacher 'nobody', which is not registered: .*two_stage"),
        (
            dict(
                label_rule="selective",
                mask_of="selective",
                uses_self_labels=True,
                uses_p_ik=True,
                rule_options={"mask": "given"},
                teacher="iterate",
            ),
            "has the teacher 'iterate' and the masks of 'selective', which has another, 'weak': give both the same",
        ),
        (
            dict(
                label_rule="posterior",
                uses_p_ik=True,
                p_ik_from="frozen",
                uses_self_labels=True,
                teacher="iterate",
            ),
            "has the teacher 'iterate' and reads the column 'weak_log_odds', .*: leave out one of the two",
        ),
    ],
)
def test_what_does_not_go_with_a_teacher_is_refused(method, words):
    registry.register("mine", registry.Method(**method))
    with pytest.raises(UserError, match=f"method 'mine' {words}"):
        plugins.check_methods(make_config("mine", p_ik__num_test=20))


def test_the_teacher_of_the_guide(tmp_path, monkeypatch, make):
    text = (paths.REPO / "docs" / "extending.md").read_text()
    block = re.search(r"As `my_teachers\.py`[^:]*:\n\n((?:    .*\n|\n)+)", text)
    (tmp_path / "my_teachers.py").write_text(textwrap.dedent(block[1]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_teachers", raising=False)
    plugins.import_modules(("my_teachers",))
    experiment = make(*METHODS, "believed")
    checks.validate(experiment.config)
    plugins.check_methods(experiment.config)
    student = experiment.student(0, "believed")
    assert (len(student.task), student.num_steps) == (22, 2)
    assert "labels of believed 1, seed 0" in labels(student)
    kept, dropped = experiment.lesson(0, "believed").links
    assert (len(kept.rows), len(dropped.rows)) == (22, 10)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="a teacher named 'weak' is registered already"):
        teachers.register("weak")(lambda experiment, seed, name: None)
