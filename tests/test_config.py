"""The config: its frozen list of keys, the shipped files, and one line for every wrong value."""

import importlib.util
import inspect
import math

import pytest
from support import golden_config, paths

from selw2s_jax import config as config_lib
from selw2s_jax.data import splits
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.inference import generate
from selw2s_jax.method import graph_smoothing, label_rules, losses, selection
from selw2s_jax.models import decoder
from selw2s_jax.training import layouts, state


def test_keys_and_defaults_are_frozen():
    config = config_lib.default_config()
    found = {}
    for key in config_lib.dotted_keys(config):
        section, _, leaf = key.rpartition(".")
        value = config_lib.get(config, key)
        section = config_lib.get(config, section) if section else config
        found[key] = section.get_type(leaf) if value is None else value
    assert found == golden_config.GOLDEN
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in golden_config.GOLDEN.items()
    }


def same_defaults(function, section) -> set[str]:
    """Those parameters of which the section of the config has a default too, which must be the same."""
    parameters = inspect.signature(function).parameters.values()
    shared = {
        one.name: one.default
        for one in parameters
        if one.default is not one.empty and one.name in section and section[one.name] != layouts.AUTO
    }
    assert shared == {name: section[name] for name in shared}, function
    return set(shared)


@pytest.mark.parametrize(
    ("function", "section", "shared"),
    [
        (
            state.OptimizerSettings,
            "training",
            "b1 b2 eps warmup_steps clip_norm optimizer schedule weight_decay trained",
        ),
        (state.OptimizerSettings, "precision", "moment_dtype"),
        (decoder.Decoder.__init__, "execution", "attention"),
        (selection.make_targets, "graph", "normalize include_self center"),
        (graph_smoothing.smooth_labels, "graph", "normalize include_self center"),
        (graph_smoothing.neighbour_weights, "graph", "normalize include_self center"),
        (splits.sample_examples, "data", "sample"),
        (splits.sample_and_halve, "data", "sample"),
        (splits.pick_shots, "self_label", "num_shots"),
        (generate.Settings, "generation", "top_p"),
        (generate.Settings, "p_ik", "num_samples"),
    ],
)
def test_what_has_a_default_of_its_own_has_that_of_the_config(function, section, shared):
    assert same_defaults(function, config_lib.default_config()[section]) == set(shared.split())


def test_losses_and_rules_have_the_defaults_of_the_config():
    config, shared = config_lib.default_config(), set()
    for known in (losses.LOSSES, label_rules.LABEL_RULES, selection.SELECTORS, selection.REFINERS):
        for name, factory in known.items():
            shared.update(*(same_defaults(factory, config[section]) for section in known.sections(name)))
    of_completions = {"mean"}
    assert (
        shared
        == {*config.loss, *config.selection, *config.raven, "openai_ramp", "mask", "over"} - of_completions
    )


def test_every_choice_is_among_its_own():
    config = config_lib.default_config()
    for key, options in checks.choices().items():
        assert config_lib.get(config, key) in options, key


def test_dotted_keys_are_whole_and_sorted():
    keys = config_lib.dotted_keys(config_lib.default_config())
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert "data" not in keys


def test_config_arguments():
    choices = {"weak": ("gpt2", "qwen-1.8b"), "smoke": ()}
    default = {"weak": "gpt2", "smoke": False}
    for text in (None, "", " , "):
        assert config_lib.parse_arguments(text, choices=choices) == default
    parsed = config_lib.parse_arguments("smoke, weak=qwen-1.8b", choices=choices)
    assert parsed == {"weak": "qwen-1.8b", "smoke": True}


def shipped(name: str, arguments: str | None):
    spec = importlib.util.spec_from_file_location(name, paths.CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arguments)


SHIPPED = {
    ("qwen", None): ("gpt2", "qwen-14b"),
    ("qwen", "weak=gpt2"): ("gpt2", "qwen-14b"),
    ("qwen", "weak=qwen-1.8b"): ("qwen-1.8b", "qwen-14b"),
    ("gpt2", None): ("gpt2", "gpt2-xl"),
    ("gpt2", "weak=gpt2-medium"): ("gpt2-medium", "gpt2-xl"),
    ("gpt2", "weak=gpt2-large"): ("gpt2-large", "gpt2-xl"),
    ("gpt2", "strong=gpt2-large"): ("gpt2", "gpt2-large"),
    ("gpt2", "weak=gpt2,strong=gpt2-medium"): ("gpt2", "gpt2-medium"),
}


@pytest.mark.parametrize(("name", "arguments"), SHIPPED)
def test_shipped_configs_are_the_papers_settings(name, arguments):
    config = shipped(name, arguments)
    golden_config.validate(config)
    assert (config.weak.model, config.strong.model) == SHIPPED[name, arguments]
    assert config_lib.dotted_keys(config) == sorted(golden_config.GOLDEN)
    assert (config.p_ik.gamma, config.p_ik.weight, config.graph.alpha, config.graph.tau) == (
        0.8,
        1.0,
        0.9,
        0.1,
    )
    assert (config.training.batch_size, config.training.epochs, config.data.num_train) == (32, 2.0, 20_000)
    assert len(config.seeds) == 3


@pytest.mark.parametrize(("name", "arguments"), SHIPPED)
def test_smoke_makes_a_toy_of_every_shipped_config(name, arguments):
    config = shipped(name, ",".join(filter(None, [arguments, "smoke"])))
    golden_config.validate(config)
    assert config.data.source == "generated" and config.data.num_train <= 256
    assert config.weak.model.startswith("random-tiny-") and config.strong.model.startswith("random-small-")
    assert config.methods == config_lib.default_config().methods


def test_normalize_leaves_the_config_alone():
    config = golden_config.valid_config()
    config.methods, config.plugins = ("finetune,selective",), ("my_methods, lab.rules",)
    config.lock()
    normalized = config_lib.normalize(config)
    assert normalized.methods == ("finetune", "selective")
    assert normalized.plugins == ("my_methods", "lab.rules")
    assert config.methods == ("finetune,selective",)


POSITIVE = [
    *("data.num_train", "data.num_test", "data.max_length", "p_ik.num_train", "p_ik.batch_size"),
    *("p_ik.num_samples", "p_ik.epochs", "graph.tau", "training.batch_size", "training.micro_batch_size"),
    *("training.epochs", "training.learning_rate", "training.eps", "weak.learning_rate"),
    *("strong.learning_rate", "execution.score_tokens", "execution.train_shapes"),
    "logging.every_steps",
    *("loss.scale", "loss.adaptive_temperature"),
]
ONE_OF = {
    "data.overlap": ("refused", "refuse"),
    "data.overlong": ("trunc", "truncate"),
    "data.conversion": ("coins", "coin"),
    "data.sample": ("randm", "random"),
    "p_ik.stage": ("joined", "joint"),
    "p_ik.mask": ("frozen_score", "frozen_scores"),
    "p_ik.prompt": ("few_shot", "fewshot"),
    "calibration.weak": ("cross_fit", "crossfit"),
    "ceiling.split": ("students", "student"),
    "graph.over": ("sets", "set"),
    "precision.param_dtype": ("flot32", "float32"),
    "precision.compute_dtype": ("bf16", "bfloat16"),
    "precision.moment_dtype": ("float16", "bfloat16"),
    "execution.remat": ("ful", "full"),
    "execution.attention": ("cudn", "cudnn"),
    "training.optimizer": ("adamww", "adamw"),
    "training.schedule": ("cosin", "cosine"),
    "self_label.source": ("few_shot", "fewshot"),
    "selection.refiner": ("grph", "graph"),
    "methods": (("selectiv",), "selective"),
}


@pytest.mark.parametrize("key", POSITIVE)
def test_numbers_that_must_be_positive(key):
    config = golden_config.valid_config()
    kind = (
        golden_config.GOLDEN[key]
        if isinstance(golden_config.GOLDEN[key], type)
        else type(golden_config.GOLDEN[key])
    )
    for value in (0, -1) if kind is int else (0.0, -1e-3, math.inf, math.nan):
        golden_config.set_key(config, key, value)
        with pytest.raises(UserError, match=rf"config\.{key}={value} must be greater than 0"):
            golden_config.validate(config)


@pytest.mark.parametrize("key", ONE_OF)
def test_names_offer_the_nearest(key):
    config = golden_config.valid_config()
    value, nearest = ONE_OF[key]
    golden_config.set_key(config, key, value)
    with pytest.raises(UserError, match=rf"config\.{key}='.*' is not one of: .*did you mean '{nearest}'\?"):
        golden_config.validate(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"p_ik.weight": -0.5}, r"config.p_ik.weight=-0.5 must not be negative"),
        ({"p_ik.temperature": math.nan}, "config.p_ik.temperature=nan must not be negative"),
        ({"loss.product_weak_power": -1.0}, r"config.loss.product_weak_power=-1.0 must not be negative"),
        (
            {"loss.product_student_power": math.inf},
            "config.loss.product_student_power=inf must not be negative",
        ),
        (
            {"loss.confidence_coefficient": 1.5},
            r"config.loss.confidence_coefficient=1.5 must lie in \[0, 1\]",
        ),
        ({"loss.confidence_ramp_fraction": -0.1}, r"confidence_ramp_fraction=-0.1 must lie in \[0, 1\]"),
        ({"p_ik.gamma": 1.1}, r"config.p_ik.gamma=1.1 must lie in \[0, 1\]"),
        ({"graph.alpha": -0.1}, r"config.graph.alpha=-0.1 must lie in \[0, 1\]"),
        ({"graph.alpha": math.nan}, r"config.graph.alpha=nan must lie in \[0, 1\]"),
        ({"training.b1": 1.0}, r"config.training.b1=1.0 must lie in \[0, 1\)"),
        ({"training.b2": -0.1}, r"config.training.b2=-0.1 must lie in \[0, 1\)"),
        ({"methods": ("weak",)}, "config.methods='weak' is not one of: p_ik_only, finetune"),
        ({"methods": ("supervised",)}, "config.methods='supervised' is not one of"),
        (
            {"methods": ("finetune", "finetune")},
            r"config.methods=\('finetune', 'finetune'\) names a method twice",
        ),
        ({"seeds": ()}, "config.seeds=.* must be different integers .*, at least one"),
        ({"seeds": (0, 0)}, "must be different integers"),
        ({"seeds": (-1,)}, "must be different integers"),
        ({"seeds": (0.5,)}, "must be different integers"),
        ({"seeds": ("a",)}, "must be different integers"),
        ({"seeds": (True,)}, "must be different integers"),
        ({"seeds": (0, 2**32)}, r"must be different integers in \[0, 2\*\*32\)"),
        ({"seed.init": -1}, r"config.seed.init=-1 must be an integer in \[0, 2\*\*32\)"),
        ({"seed.order": 2**64}, "config.seed.order=18446744073709551616 must be an integer"),
        ({"mesh.shape": (1, 1)}, "config.mesh.shape=.* must be three sizes >= 1"),
        ({"mesh.shape": (1, 0, 1)}, "must be three sizes >= 1"),
        ({"mesh.shape": ("a", "b", "c")}, "must be three sizes >= 1"),
        ({"analysis.num_rows": 1}, "config.analysis.num_rows=1 must be 2 or more"),
        ({"analysis.num_rows": 50_000}, "num_rows=50000 would take 120 GB .* set it to 10000 or less"),
        ({"self_label.num_shots": 3}, "config.self_label.num_shots=3 must be even and at least 2"),
        ({"self_label.num_shots": 0}, "must be even and at least 2"),
        (
            {"training.micro_batch_size": 5},
            "config.training.batch_size=32 is not divisible by .*micro_batch_size=5",
        ),
        ({"training.micro_batch_size": 64}, "is not divisible by training.micro_batch_size=64"),
        (
            {"training.micro_batch_size": 8, "p_ik.batch_size": 6},
            "config.p_ik.batch_size=6 is not divisible by the 4 micro-batches of a step",
        ),
        ({"weak.model": None}, "config.weak.model is not set: give a model name, a hub name or a folder"),
        ({"strong.model": None}, "config.strong.model is not set"),
        ({"data.test_file": "a.csv"}, "config.data.test_file is set without data.train_file"),
        ({"self_label.source": "file"}, "config.self_label.source=file needs self_label.file"),
        ({"p_ik.mask": "file"}, "config.p_ik.mask=file needs p_ik.scores_file"),
        (
            {"p_ik.stage": "frozen"},
            "config.p_ik.stage=frozen has no head in training: set p_ik.mask=frozen_scores",
        ),
        ({"self_label.soft": True, "self_label.source": "class_head"}, "self_label.soft=True has no meaning"),
        ({"p_ik.task": "sciq"}, "config.p_ik.task=sciq is the student's own task, .* choose another task"),
        ({"task": "world_facts"}, "config.task='world_facts' is a task of the generated world"),
    ],
)
def test_wrong_values_are_one_line_with_the_remedy(values, message):
    config = golden_config.valid_config()
    for key, value in values.items():
        golden_config.set_key(config, key, value)
    with pytest.raises(UserError, match=message) as raised:
        golden_config.validate(config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"methods": ()},
        {"seeds": (2**32 - 1,)},
        {
            "loss.product_student_power": 0.0,
            "loss.confidence_coefficient": 1.0,
            "loss.confidence_ramp_fraction": 0.0,
        },
        {"p_ik.weight": 0.0, "p_ik.temperature": 0.0},
        {"p_ik.gamma": 1.0, "graph.alpha": 0.0, "training.b1": 0.0},
        {"training.micro_batch_size": 32},
        {"training.micro_batch_size": 8, "p_ik.batch_size": 12},
        {"p_ik.stage": "frozen", "p_ik.mask": "frozen_scores"},
        {"p_ik.stage": "frozen", "methods": ("posterior", "posterior_online")},
        {"p_ik.mask": "file", "p_ik.scores_file": "scores.jsonl"},
        {"self_label.source": "file", "self_label.file": "labels.jsonl", "self_label.soft": True},
        {"mesh.shape": (2, 4, 1)},
        {"p_ik.task": "sciq", "methods": ("finetune", "reverse_kl")},
        {"p_ik.task": "sciq", "methods": ("p_ik_only",)},
        {"p_ik.task": "sciq", "data.train_file": "mine.jsonl"},
    ],
)
def test_values_at_the_edge_are_allowed(values):
    config = golden_config.valid_config()
    for key, value in values.items():
        golden_config.set_key(config, key, value)
    golden_config.validate(config)
    kept = config_lib.normalize(config)
    assert {key: config_lib.get(kept, key) for key in values} == values
