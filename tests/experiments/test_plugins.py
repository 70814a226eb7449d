"""Modules of a user: what they register is a method like any other, what is wrong with them one line."""

import json
import sys
import textwrap

import numpy as np
import pytest
from support import random_arrays, refusals, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, plugins
from selw2s_jax.method import combinations, label_rules, label_sources, losses, objectives, registry
from selw2s_jax.run import pipeline
from selw2s_jax.runtime import artifacts

pytestmark = pytest.mark.usefixtures("registrations")

HEAD = """
import jax.numpy as jnp
import numpy as np

from selw2s_jax.method import label_rules, losses, registry
"""
LOSS = """
@losses.register("own")
def make_loss(*, scale=2.0, floor=0.5):
    def loss(logits, weak_probs, step_fraction, example_mask=None):
        return {value}
    return loss

registry.register("own", registry.Method(loss="own"{extra}))
"""
RULE = """
@label_rules.register("own")
def make_rule(*, gamma, power=1.0):
    def rule(inputs):
        labels = label_rules.Labels(inputs.weak_probs, inputs.weak_probs, inputs.example_mask, inputs.p_ik, {{}})
        return {value}
    return rule

registry.register("own", registry.Method(label_rule="own"))
"""


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Writes a module into a folder that Python finds, and forgets it after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    loaded = set(sys.modules)

    def write(name: str, code: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(code))

    yield write
    for name in set(sys.modules) - loaded:
        if name.split(".")[0] in ("my_methods", "lab"):
            del sys.modules[name]


def config_with(*paths: str, methods=("own",)):
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    config.plugins, config.methods = paths, methods
    return config_lib.normalize(config)


def load_and_check(config) -> None:
    plugins.load(config)
    checks.validate(config)
    plugins.check_methods(config)


def assert_refused(config, *words: str) -> None:
    with pytest.raises(UserError) as raised:
        load_and_check(config)
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_every_method_of_the_package_passes():
    config = config_with(methods=registry.students())
    config.p_ik.num_test = 50
    plugins.check_methods(config)
    for name in config.methods:
        method, made = registry.METHODS[name], objectives.make_objective(config, registry.METHODS[name])
        assert (made.label_rule, made.loss) == (method.label_rule, method.loss)


def test_a_selector_without_its_column_names_a_method_that_has_it():
    config = config_with(methods=("selective",))
    config.selection.selector = "by_confidence"
    assert_refused(config, "'weak_log_odds'", "choose a method that has it, as selective_by_confidence")


@pytest.mark.parametrize("path", ["my_methods", "lab.rules.mine"])
def test_a_loss_by_import_path_takes_options_of_the_config(write_module, path):
    write_module(path, LOSS.format(value="scale * logits[:, 0]", extra=""))
    config = config_with(path)
    config.loss.scale = 3.0
    load_and_check(config)
    assert losses.LOSSES["own"].__module__ == path
    assert objectives.make_objective(config, registry.METHODS["own"]).loss_options == (("scale", 3.0),)
    load_and_check(config)  # as in a second run of one process


def test_a_label_rule_by_import_path(write_module):
    write_module("my_methods", RULE.format(value="labels"))
    config = config_with("my_methods")
    load_and_check(config)
    assert objectives.make_objective(config, registry.METHODS["own"]).rule_options == (("gamma", 0.8),)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("my_methodz", ["there is no module 'my_methodz'", "PYTHONPATH"]),
        ("my_methods.losses", ["there is no module 'my_methods.losses'"]),
        ("my-methods", ["'my-methods' is no import path", "package.module"]),
        ("folder/my_methods.py", ["is no import path", "without .py"]),
        ("..my_methods", ["is no import path"]),
    ],
)
def test_a_path_that_leads_nowhere(write_module, path, words):
    write_module("my_methods", "")
    assert_refused(config_with(path), "config.plugins", *words)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import a_library_that_is_not_there", ["ModuleNotFoundError: No module named 'a_library_that"]),
        ("1 +", ["SyntaxError: invalid syntax"]),
        ("raise ValueError('first line\\nsecond line')", ["ValueError: first line"]),
        ("raise SystemExit", ["SystemExit: no message"]),
        ("losses.register('finetune')(print)", ["a loss named 'finetune' is registered already"]),
    ],
)
def test_a_module_that_fails_when_it_is_imported(write_module, code, words):
    write_module("my_methods", code)
    assert_refused(config_with("my_methods"), "'my_methods' fails when it is imported", *words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("jnp.mean(logits[:, 0])", ["is float32[] on a batch of 3 examples: make it float32[3]"]),
        ("logits", ["is float32[3, 2]", "make it float32[3]"]),
        ("logits[:, 0].astype(jnp.bfloat16)", ["is bfloat16[3]", "make it float32[3]"]),
        ("None", ["is a NoneType", "make it float32[3]"]),
        ("(logits[:, 0], logits[:, 1])", ["is a tuple"]),
        ("np.asarray(logits)[:, 0]", ["fails on a batch of 3 examples: TracerArrayConversionError"]),
        ("logits[:, 0] + weak_probs", ["fails on a batch of 3 examples: "]),
    ],
)
def test_a_loss_that_returns_something_else(write_module, value, words):
    write_module("my_methods", LOSS.format(value=value, extra=""))
    assert_refused(config_with("my_methods"), "loss 'own' of method 'own'", *words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("inputs.weak_probs", ["returns float32[3, 2]: return label_rules.Labels"]),
        ("labels._replace(targets=inputs.p_ik)", ["targets is float32[3]", "make it float32[3, 2]"]),
        ("labels._replace(prior=None)", ["prior is a NoneType", "make it float32[3, 2]"]),
        ("labels._replace(ik_mask=inputs.p_ik)", ["ik_mask is float32[3]", "make it bool[3]"]),
        ("labels._replace(p_ik=inputs.p_ik.astype(jnp.float16))", ["p_ik is float16[3]"]),
        ("labels._replace(metrics=inputs.p_ik)", ["metrics is float32[3]: make it a dict of scalars"]),
        ("labels._replace(metrics=dict(mean=inputs.p_ik))", ["metrics['mean'] is float32[3]"]),
        ("labels.targets if inputs.p_ik[0] > gamma else labels", ["fails", "TracerBoolConversionError"]),
    ],
)
def test_a_label_rule_that_returns_something_else(write_module, value, words):
    write_module("my_methods", RULE.format(value=value))
    assert_refused(config_with("my_methods"), "label rule 'own' of method 'own'", *words)


STATE = """
@label_rules.register("own")
def make_rule():
    def label(inputs, state):
        labels = label_rules.Labels(inputs.weak_probs, inputs.weak_probs, inputs.example_mask, inputs.p_ik, {{}}{named})
        return {value}
    return label_rules.WithState(lambda shapes: jnp.zeros(shapes["weak_probs"]), label)

registry.register("own", registry.Method(label_rule="own"))
"""


@pytest.mark.parametrize(
    ("value", "named", "words"),
    [
        ("labels, state + 1", "", None),
        ("labels, state", ", inputs.example_mask", None),
        ("labels", "", ["returns a Labels", "return (label_rules.Labels, state)"]),
        ("labels, (state, state)", "", ["another kind of state than it returns"]),
        ("labels, state[:1]", "", ["makes float32[1] of float32[2] in its state: keep shape and dtype"]),
        ("labels, state > 0", "", ["makes bool[2] of float32[2] in its state"]),
        ("labels, state", ", inputs.p_ik", ["in_loss is float32[3]", "make it bool[3]"]),
    ],
)
def test_a_label_rule_with_a_state(write_module, value, named, words):
    write_module("my_methods", STATE.format(value=value, named=named))
    if words is None:
        load_and_check(config_with("my_methods"))
    else:
        assert_refused(config_with("my_methods"), "label rule 'own' of method 'own'", *words)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (", label_rule='none'", ["method 'own' has the label rule 'none', which is not registered"]),
        (", mask_of='none'", ["method 'own' has the mask_of 'none', which is not registered"]),
        (", loss_options={'strength': 1}", ["loss 'own' of method 'own' fails", "strength"]),
    ],
)
def test_a_method_of_parts_that_are_not_there(write_module, extra, words):
    write_module("my_methods", LOSS.format(value="logits[:, 0]", extra=extra))
    assert_refused(config_with("my_methods"), *words)


PARTS = """
from selw2s_jax.method import label_sources, selection

@selection.SELECTORS.register("halves")
def make_halves(*, gamma):
    return lambda inputs, p_ik: {mask}

@selection.REFINERS.register("flat")
def make_flat(*, alpha, unknown=0.25):
    return lambda inputs, prior, ik_mask: (alpha * prior + unknown, {{"mean": jnp.mean(prior)}})

@label_sources.register("by_length")
def make_by_length():
    def source(ids, texts, seed):
        return {labels}
    return source
"""
MASK, LABELS = "p_ik > gamma / 2", "np.array([len(text) % 2 for text in texts])"


def with_parts(**keys):
    config = config_with("my_methods", methods=("selective", "selective_without_gs", "random_selection"))
    for key, value in keys.items():
        section, _, leaf = key.partition("__")
        config[section][leaf] = value
    return config


def test_a_selector_and_a_refiner_of_ones_own(write_module):
    write_module("my_methods", PARTS.format(mask=MASK, labels=LABELS))
    config = with_parts(selection__selector="halves", selection__refiner="flat", p_ik__gamma=0.6)
    plugins.load(config)
    plugins.check_methods(config)
    options = {
        name: dict(objectives.make_objective(config, registry.METHODS[name]).rule_options)
        for name in config.methods
    }
    assert options["selective"] == {
        "selector": "halves", "refiner": "flat", "gamma": 0.6, "alpha": 0.9, "mask": "online", "self_label": "given"
    }  # fmt: skip
    assert options["selective_without_gs"]["refiner"] == "none"
    assert options["random_selection"]["selector"] == "threshold"

    inputs = random_arrays.rule_inputs(0, 11)
    labels = label_rules.get("selective", **options["selective"])(inputs)
    ik_mask = np.asarray((inputs.p_ik > 0.3) & inputs.example_mask)
    np.testing.assert_array_equal(labels.ik_mask, ik_mask)
    own = np.stack([1 - inputs.self_labels, inputs.self_labels], axis=-1)
    prior = np.where(ik_mask[:, None], own, inputs.weak_probs)
    expected = np.where(ik_mask[:, None], prior, 0.9 * prior + 0.25)
    np.testing.assert_allclose(labels.targets, expected, rtol=1e-6)
    np.testing.assert_allclose(labels.metrics["mean"], prior.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "mask", "words"),
    [
        (
            {"selection__selector": "half"},
            MASK,
            ["selection.selector='half' is not one of", "mean 'halves'?"],
        ),
        ({"selection__refiner": "graphs"}, MASK, ["selection.refiner='graphs'", "did you mean 'graph'?"]),
        ({"self_label__source": "by_lenght"}, MASK, ["self_label.source='by_lenght'", "mean 'by_length'?"]),
        ({"selection__selector": "halves"}, "p_ik", ["label rule 'selective' of method 'selective' fails"]),
        (
            {"selection__selector": "halves"},
            "p_ik[None] > 0",
            ["label rule 'selective'", "fails on a batch of 3 examples"],
        ),
    ],
)
def test_parts_that_are_not_there_or_not_right(write_module, keys, mask, words):
    write_module("my_methods", PARTS.format(mask=mask, labels=LABELS))
    assert_refused(with_parts(**keys), *words)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("1 / 0", ["fails on 5 examples: ZeroDivisionError: division by zero"]),
        ("np.zeros((len(ids), 2))", ["returns shape (5, 2) for 5 examples"]),
        ("[0, 1, 0.5, float('nan'), 1]", ["gives nan to d"]),
        ("[0, 1, 0.5, 1, 1.5]", ["gives 1.5 to e"]),
    ],
)
def test_a_label_source_that_is_not_right(write_module, labels, words):
    write_module("my_methods", PARTS.format(mask=MASK, labels=labels))
    plugins.import_modules(("my_methods",))
    with pytest.raises(ValueError, match="label source 'by_length'") as info:
        label_sources.read("by_length", list("abcde"), ["text"] * 5, 0)
    assert all(word in str(info.value) for word in words), info.value


@pytest.mark.slow
def test_a_run_with_labels_of_ones_own(write_module, prepared, tmp_path):
    write_module("my_methods", PARTS.format(mask=MASK, labels=LABELS))
    config = refusals.make_config(
        prepared, methods=("self_training",), plugins=("my_methods",), self_label__source="by_length"
    )
    report = pipeline.run(config, tmp_path / "run")
    (folder,) = (tmp_path / "run" / "artifacts" / "labels").iterdir()
    table = (
        artifacts.Store(tmp_path / "run")
        .find("labels", json.loads((folder / "manifest.json").read_text())["inputs"])
        .read_table("labels.parquet")
    )
    assert set(table["prob_1"]) == {0.0, 1.0} and len(table["prob_1"]) == 20
    assert any(stage["label"] == "labels by by_length, seed 0" for stage in report["manifest"]["stages"])
    (entry,) = [entry for entry in report["diagnostics"] if entry["method"] == "self_training"]
    assert entry["all"]["self_accuracy"] is not None


def test_a_run_loads_and_checks_them_before_it_reads_anything(write_module, tmp_path):
    write_module("my_methods", LOSS.format(value="logits", extra=""))
    with pytest.raises(UserError, match="there is no module 'my_methodz'"):
        pipeline.run(config_with("my_methodz"), tmp_path / "run")
    with pytest.raises(UserError, match=r"loss 'own' of method 'own' is float32\[3, 2\]"):
        pipeline.run(config_with("my_methods"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_combination_of_weak_labels_is_tried_before_models_are_trained():
    combinations.register("first")(lambda: lambda probs: probs[:, 0])
    combinations.register("own")(lambda: lambda probs: probs[:, :, 1])
    config = tiny_config.make_config(
        weak__model=None,
        weak__members=("random-tiny-gpt2",) * 3,
        weak__combine="first",
        methods=("finetune",),
    )
    plugins.check_methods(config)
    config.weak.combine = "own"
    with pytest.raises(
        UserError, match=r"config.weak.combine: .* returns shape \(8, 3\) .*: return \(8, 2\)"
    ):
        plugins.check_methods(config)
    config.weak.members = ("random-tiny-gpt2",)  # there is nothing to combine
    plugins.check_methods(config)
