"""Columns of examples: who makes them, who reads them, and what is refused."""

import re
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import paths, random_arrays

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches, splits, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, columns, inputs, plugins
from selw2s_jax.method import label_rules, objectives, registry, selection
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples, workbench

pytestmark = pytest.mark.usefixtures("registrations")


def config_with(*methods: str, **keys):
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    config.methods = methods
    for key, value in keys.items():
        section, _, leaf = key.partition("__")
        config[section][leaf] = value
    return config_lib.normalize(config)


def carried(config, name: str) -> dict[int, tuple[str, ...]]:
    return columns.carried(config, registry.METHODS[name])


def test_examples_carry_what_their_method_uses():
    config = config_with("selective")
    p_ik = {batches.P_IK: ("ik_target",)}
    assert carried(config, "supervised") == carried(config, "finetune") == {batches.TASK: ("weak_probs",)}
    assert carried(config, "p_ik_only") == p_ik
    assert carried(config, "selective") == {batches.TASK: ("weak_probs", "self_labels")} | p_ik
    everything = {batches.TASK: ("weak_probs", "self_labels", "given_p_ik")}
    assert carried(config, "random_selection") == everything | p_ik
    frozen = config_with("selective", p_ik__mask="frozen_scores", p_ik__stage="frozen")
    assert carried(frozen, "selective") == everything


@pytest.mark.parametrize(
    ("rule", "options", "expected"),
    [
        ("given", {}, {"weak_probs"}),
        ("self_labels", {}, {"self_labels"}),
        ("self_labels", {"self_label": "class_head"}, set()),
        ("selective", {"refiner": "none", "gamma": 0.5}, {"weak_probs", "self_labels"}),
        (
            "selective",
            {"refiner": "none", "gamma": 0.5, "mask": "given", "self_label": "class_head"},
            {"weak_probs", "given_p_ik"},
        ),
        (
            "smoothed",
            dict(alpha=0.5, tau=0.1, normalize=True, include_self=True, center=False),
            {"weak_probs"},
        ),
    ],
)
def test_a_rule_reads_what_it_says(rule, options, expected):
    assert set(label_rules.reads(rule, options)) == expected
    seen = set()

    class Recorded(dict):
        def __getitem__(self, name):
            seen.add(name)
            return super().__getitem__(name)

    inputs = random_arrays.rule_inputs(3, 11)
    label_rules.get(rule, **options)(inputs._replace(columns=Recorded(inputs.columns)))
    assert seen == expected


def test_parts_of_a_rule_add_what_they_read():
    selection.SELECTORS.register("sure", reads=lambda *, by="margin", **_: (by,))(lambda *, by="margin": None)
    selection.REFINERS.register("twice", reads=("weak_probs", "votes"))(lambda: None)
    read = label_rules.reads("selective", {"selector": "sure", "refiner": "twice", "by": "spread"})
    assert read == ("weak_probs", "self_labels", "spread", "votes")
    with pytest.raises(KeyError, match="unknown selector 'none'"):
        label_rules.reads("selective", {"selector": "none"})
    with pytest.raises(ValueError, match="reads of refiner 'thrice' is 'votes': give a tuple"):
        selection.REFINERS.register("thrice", reads="votes")


def weak_probs(inputs: label_rules.RuleInputs):
    return inputs.weak_probs


def own_labels(inputs: label_rules.RuleInputs):
    return selection.as_probs(inputs.self_labels)


def register_own(reads, targets=weak_probs, **method) -> None:
    """The method "own", with a label rule of that name."""

    @label_rules.register("own", reads=reads)
    def make_rule():
        return lambda inputs: label_rules.Labels(
            targets(inputs), targets(inputs), inputs.example_mask, inputs.p_ik, {}
        )

    registry.register("own", registry.Method(label_rule="own", **method))


def test_a_rule_need_not_say_that_it_reads_what_its_method_carries():
    register_own(None, own_labels, uses_self_labels=True)
    plugins.check_methods(config_with("own"))
    assert columns.read_by(objectives.make_objective(config_with("own"), registry.METHODS["own"])) == (
        "weak_probs",
    )


@pytest.mark.parametrize(
    ("reads", "targets", "words"),
    [
        (
            ("votes",),
            weak_probs,
            ["the column 'votes', which nothing makes", "register a function that makes it"],
        ),
        (("self_labels",), weak_probs, ["'self_labels'", "give the method uses_self_labels=True"]),
        (("given_p_ik",), weak_probs, ["'given_p_ik'", "uses_p_ik=True"]),
        (("example_weight",), weak_probs, ["'example_weight', which nothing makes"]),
        (None, own_labels, ["it reads the column 'self_labels' and does not say so", "(..., 'self_labels')"]),
        (lambda: 1 / 0, weak_probs, ["does not say which columns it reads: ZeroDivisionError"]),
    ],
)
def test_a_rule_that_reads_what_is_not_there(reads, targets, words):
    register_own(reads, targets)
    with pytest.raises(UserError) as raised:
        plugins.check_methods(config_with("own"))
    message = str(raised.value)
    assert message.startswith("label rule 'own' of method 'own'") and "\n" not in message
    assert all(word in message for word in words), message


def test_a_made_column_is_carried_where_it_is_read():
    columns.register("example_weight")(lambda ids, texts, seed: np.ones(len(ids)))
    register_own(("weak_probs", "example_weight"))
    config = config_with("own", "finetune")
    plugins.check_methods(config)
    assert carried(config, "own") == {batches.TASK: ("weak_probs", "example_weight")}
    assert carried(config, "finetune") == {batches.TASK: ("weak_probs",)}
    registry.register("weighed", registry.Method(columns=("example_weight",)))
    assert carried(config, "weighed") == {batches.TASK: ("weak_probs", "example_weight")}


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("weak_probs", (2,), "'weak_probs' is made already"),
        ("shuffled_order", (), "a column named 'shuffled_order' is registered already"),
        ("example_weight", (2,), r"'example_weight' is of shape \(\) for each example, not \(2,\)"),
    ],
)
def test_a_column_that_is_taken(name, shape, words):
    with pytest.raises(ValueError, match=words):
        columns.register(name, shape)(print)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda ids, texts, seed: 1 / 0, "fails on 3 examples: ZeroDivisionError"),
        (lambda ids, texts, seed: np.zeros(3), r"is of shape \(3,\) for 3 examples: return \(3, 2\)"),
        (lambda ids, texts, seed: np.array([[0, 1], [0, np.nan], [1, 0]]), "is not finite for b"),
    ],
)
def test_a_column_that_is_not_right(make, words):
    columns.register("mine", (2,))(make)
    with pytest.raises(UserError, match=f"column 'mine' {words}"):
        columns.made("mine", "abc", ["text"] * 3, 0)


def test_made_up_columns_have_the_shapes_of_real_ones():
    columns.register("mine", (4, 3))(lambda ids, texts, seed: np.zeros((len(ids), 4, 3)))
    config = config_with("finetune")
    for name in columns.COLUMNS:
        shape = columns.shape(config, name)
        values = columns.random(shape, 5, np.random.default_rng(0))
        assert values.shape == (5, *shape) and values.dtype == np.float32
    assert columns.shape(config, "mine") == (4, 3) and columns.shape(config, columns.WEAK_EACH) == (1, 2)
    for shape in ((2,), (3, 2)):
        np.testing.assert_allclose(columns.random(shape, 5, np.random.default_rng(0)).sum(-1), 1)
    assert columns.made("mine", "ab", ["text"] * 2, 0).dtype == np.float32


def test_the_column_of_the_guide(tmp_path, monkeypatch):
    text = (paths.REPO / "docs" / "extending.md").read_text()
    block = re.search(r"As `my_columns\.py`[^:]*:\n\n((?:    .*\n|\n)+)", text)
    (tmp_path / "my_columns.py").write_text(textwrap.dedent(block[1]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_columns", raising=False)
    config = config_with("selective", "finetune", selection__refiner="doubtful")
    plugins.import_modules(("my_columns",))
    checks.validate(config)
    plugins.check_methods(config)
    assert carried(config, "selective")[batches.TASK] == ("weak_probs", "self_labels", "doubt")

    inputs = random_arrays.rule_inputs(5, 11)
    texts = ["it is not so" if i % 2 else "it is nothing" for i in range(11)]
    doubt = columns.made("doubt", [str(i) for i in range(11)], texts, 0)
    inputs.columns["doubt"] = jnp.asarray(doubt)
    options = dict(objectives.make_objective(config, registry.METHODS["selective"]).rule_options)
    labels = label_rules.get("selective", **options | {"gamma": 2.0})(inputs)
    weak = np.asarray(inputs.weak_probs)
    np.testing.assert_allclose(labels.targets[::2], weak[::2], rtol=1e-6)
    np.testing.assert_allclose(labels.targets[1::2], (weak[1::2] + 0.5) / 2, rtol=1e-6)


def test_a_made_column_is_a_stage_that_trainings_read(tmp_path):
    """Called once for a split, whoever reads it and in whichever order; its code and seed are part of its key."""
    calls = []

    @columns.register("votes", (3,))
    def make_votes(ids, texts, seed):
        calls.append(len(ids))
        return np.outer(np.arange(len(ids)), [1.0, 2.0, 0.5]) + seed

    rows = [tasks.Example(f"t/{i}", f"t/{i}", f"text {i}", i % 2) for i in range(7)]
    split = splits.Split(rows, tasks.TASKS["sciq"], "bare", ())
    stage = columns.stage("votes", split, seed=5)
    store = artifacts.Store(tmp_path)
    workbench.Workbench(store, tmp_path).make(stage)
    expected = np.outer(np.arange(7), [1.0, 2.0, 0.5]).astype(np.float32) + 5
    made = examples.Made(stage)
    values = made.read(split, store)
    assert values.dtype == np.float32 and values.shape == (7, 3)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(
        made.read(splits.Split(rows[::-2], split.task, "bare", ()), store), expected[::-2]
    )
    assert calls == [7] and made.needs == (stage,) and made.inputs == stage.key
    assert [name for name in stage.inputs if name.startswith("code of")] == ["code of column"]
    assert columns.stage("votes", split, seed=6).key != stage.key


@pytest.mark.parametrize("shape", [4, [4], (0,), ("a",)])
def test_a_shape_is_a_tuple_of_sizes(shape):
    with pytest.raises(ValueError, match="give a tuple of sizes"):
        columns.register("mine", shape)(print)


def test_names_of_columns_stand_for_nothing_else_of_a_training():
    """A column called like a part of the key changes the key, and only its own part."""
    columns.register("objective")(lambda ids, texts, seed: np.ones(len(ids)))
    rows = [tasks.Example(f"t/{i}", f"t/{i}", f"text {i}", i % 2) for i in range(7)]
    split = splits.Split(rows, tasks.TASKS["sciq"], "bare", ())
    made = {"objective": examples.Made(columns.stage("objective", split, seed=5))}
    plain, other = (
        examples.Examples(split, {"weak_probs": examples.Truth(split)} | more) for more in ({}, made)
    )
    assert other.inputs == plain.inputs | {"columns": {"objective": made["objective"].inputs}}


@pytest.mark.parametrize(
    "wrap", [jax.jit, lambda rule: lambda inputs: rule(jax.tree.map(jnp.asarray, inputs))]
)
def test_rules_may_be_jitted_and_map_over_their_inputs(wrap):
    @label_rules.register("own", reads=("weak_probs", "self_labels"))
    def make_rule():
        inner = label_rules.get("given")
        return wrap(
            lambda inputs: inner(inputs.with_columns(weak_probs=selection.as_probs(inputs.self_labels)))
        )

    registry.register("own", registry.Method(label_rule="own", uses_self_labels=True))
    plugins.check_methods(config_with("own"))


def test_a_part_that_is_unknown_is_named():
    options = {"refiner": "grpah"}
    registry.register(
        "own", registry.Method(label_rule="selective", rule_options=options, uses_self_labels=True)
    )
    with pytest.raises(UserError, match="label rule 'selective' of method 'own': unknown refiner 'grpah'"):
        plugins.check_methods(config_with("own"))


def test_columns_of_a_method_are_a_tuple():
    with pytest.raises(ValueError, match="columns='example_weight' of a method: give a tuple"):
        registry.Method(columns="example_weight")


@pytest.mark.parametrize(
    ("source", "methods", "words"),
    [
        ("fewshot", ("posterior",), ""),
        ("file", ("posterior", "finetune"), "posterior: how often own labels are"),
    ],
)
def test_labels_that_are_weighed_as_others_are_noted(source, methods, words):
    config = config_lib.default_config()
    config.self_label.source, config.methods = source, methods
    notes = inputs._notes_on_own_labels(config)
    assert [words in note for note in notes] == [True] * bool(words)
