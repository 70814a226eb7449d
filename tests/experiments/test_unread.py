"""Values that nothing reads: refused where they say what the run is made of, noted where other methods read them."""

import pytest

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, unread
from selw2s_jax.method import registry


def make(values, arrange=None):
    """A validated config with values at dotted keys."""
    config = config_lib.default_config()
    config.weak.model, config.strong.model = "gpt2", "qwen-14b"
    if arrange is not None:
        arrange(config)
    for key, value in values.items():
        config_lib.put(config, key, value)
    config = config_lib.normalize(config)
    checks.validate(config)
    return config


SELECTIVE = {"methods": ("selective",)}
FINETUNE = {"methods": ("finetune",)}


@pytest.mark.parametrize(
    ("key", "values", "remedy"),
    [
        ("self_label.file", {"self_label.file": "a.jsonl"}, "set self_label.source=file"),
        ("p_ik.scores_file", {"p_ik.scores_file": "a.jsonl"}, "set p_ik.mask=file"),
        ("p_ik.data", {"p_ik.data": "easy", "p_ik.file": "mine.jsonl"}, "whose parts it names"),
        ("world.seed", {"world.seed": 3}, "set data.source=world"),
        ("analysis.num_rows", {"analysis.num_rows": 300}, "set analysis.kernels=True"),
        ("analysis.kernels", {"analysis.kernels": True, "methods": ("p_ik_only",)}, "has no weak model"),
        ("pretraining.weak.num_steps", {"pretraining.weak.num_steps": 3}, "set weak.model=world"),
        ("pretraining.seed", {"pretraining.seed": 3}, "set weak.model=world"),
        ("evaluation.held_out", {"evaluation.held_out": 0.1}, "set evaluation.every_steps above 0"),
        (
            "evaluation.every_steps",
            {"evaluation.every_steps": 5, "methods": ("p_ik_only",)},
            "P.IK. alone has no curves",
        ),
        (
            "strong.revision",
            {"strong.revision": "main", "strong.model": "random-tiny-qwen"},
            "is not on the hub",
        ),
    ],
)
def test_a_value_that_is_switched_off_is_refused(key, values, remedy):
    with pytest.raises(UserError, match=rf"config\.{key}=.* is read by nothing: .*{remedy}") as raised:
        unread.check([make(values)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("self_label.file", FINETUNE | {"self_label.file": "a", "self_label.source": "file"}),
        ("p_ik.scores_file", FINETUNE | {"p_ik.scores_file": "a", "p_ik.mask": "file"}),
        ("p_ik.file", FINETUNE | {"p_ik.file": "mine.jsonl"}),
        ("p_ik.data", FINETUNE | {"p_ik.data": "easy"}),
        ("fewshot.chat", FINETUNE | {"fewshot.chat": "on", "weak.prompt": "fewshot"}),
        ("lora.rank", {"lora.rank": 4}),
        ("training.embed_once", {"training.embed_once": False}),
        ("lora.targets", {"lora.targets": ("mlp",), "training.trained": "heads"}),
        ("training.embed_once", {"training.embed_once": False}),
        ("training.b1", {"training.b1": 0.5, "training.optimizer": "adafactor"}),
        ("precision.moment_dtype", {"precision.moment_dtype": "bfloat16", "training.optimizer": "adafactor"}),
        ("loss.scale", {"loss.scale": 2.0}),
        ("loss.confidence_coefficient", SELECTIVE | {"loss.confidence_coefficient": 0.4}),
        ("graph.alpha", {"methods": ("selective_without_gs",), "graph.alpha": 0.5}),
        ("graph.tau", {"selection.refiner": "none", "graph.tau": 0.5}),
        ("selection.refiner", {"methods": ("selective_without_gs",), "selection.refiner": "none"}),
        ("compat.openai_ramp", {"compat.openai_ramp": True}),
        ("p_ik.gamma", FINETUNE | {"p_ik.gamma": 0.3}),
        ("p_ik.task", FINETUNE | {"p_ik.task": "boolq"}),
        ("p_ik.num_samples", {"p_ik.num_samples": 4, "p_ik.temperature": 0.0}),
        ("p_ik.weight", {"methods": ("p_ik_only",), "p_ik.weight": 0.5}),
        ("p_ik.epochs", SELECTIVE | {"p_ik.epochs": 5.0}),
        ("p_ik.stage", {"methods": ("p_ik_only",), "p_ik.stage": "pretrain_then_joint"}),
        ("p_ik.stage", {"methods": ("posterior_online",), "p_ik.stage": "frozen"}),
        ("self_label.soft", FINETUNE | {"self_label.soft": True}),
        ("self_label.num_shots", FINETUNE | {"self_label.num_shots": 6}),
        ("weak.label_noise", {"methods": ("p_ik_only",), "weak.label_noise": 0.2}),
        ("ceiling.split", {"methods": ("p_ik_only",), "ceiling.split": "both"}),
        ("training.epochs", {"methods": ("p_ik_only",), "training.epochs": 5.0}),
        ("seed.init", {"seed.init": 3}),
        ("seed.sampling", FINETUNE | {"seed.sampling": 3}),
        ("generation.max_new_tokens", {"generation.max_new_tokens": 9}),
        ("generation.top_p", {"generation.top_p": 0.9, "p_ik.task": "gsm8k", "p_ik.temperature": 0.0}),
        (
            "data.source",
            FINETUNE | {"data.source": "/data", "data.train_file": "mine.jsonl", "task": "mine"},
        ),
    ],
)
def test_a_value_of_other_methods_is_noted(key, values):
    start = f"config.{key}={config_lib.get(make(values), key)} is read by nothing: "
    assert len([note for note in unread.check([make(values)]) if note.startswith(start)]) == 1


@pytest.mark.parametrize(
    ("values", "arrange"),
    [
        ({}, None),
        (
            {
                "methods": registry.students(),
                "p_ik.num_test": 50,
                "weak.members": ("a", "b"),
                "weak.model": None,
                "chain.models": ("gpt2",),
            },
            None,
        ),
        (
            {"graph.alpha": 0.5, "p_ik.gamma": 0.5, "p_ik.weight": 0.5, "selection.selector": "threshold"},
            None,
        ),
        ({"methods": ("selective_without_ik",), "graph.tau": 0.5}, None),
        ({"methods": ("confidence",), "loss.confidence_coefficient": 0.4, "compat.openai_ramp": True}, None),
        ({"methods": ("reverse_kl",), "loss.scale": 2.0}, None),
        ({"training.trained": "lora", "lora.rank": 4, "seed.init": 3}, None),
        ({"weak.label_noise": 0.1, "seed.sampling": 4, "methods": ("finetune",)}, None),
        ({"p_ik.stage": "frozen", "p_ik.mask": "frozen_scores", "p_ik.epochs": 3.0}, None),
        ({"p_ik.task": "gsm8k", "generation.top_p": 0.9, "generation.max_new_tokens": 9}, None),
        ({"methods": ("p_ik_only",), "p_ik.epochs": 3.0, "p_ik.gamma": 0.4, "weak.model": "gpt2"}, None),
        ({"p_ik.data": "easy"}, None),
        ({"analysis.kernels": True, "analysis.num_rows": 300, "methods": ("finetune",)}, None),
        ({"methods": ("posterior",), "p_ik.num_test": 50, "p_ik.gamma": 0.5}, None),
        ({"world.seed": 3, "pretraining.strong.num_steps": 3}, config_lib.world_settings),
        # For any methods, so that every method can be tried under them.
        (
            FINETUNE,
            lambda config: config_lib.smoke_settings(
                config, weak="random-tiny-gpt2", strong="random-tiny-gpt2"
            ),
        ),
        (FINETUNE, config_lib.world_settings),
        (FINETUNE, config_lib.correlated_world),
    ],
)
def test_what_is_read_needs_no_word(values, arrange):
    assert unread.check([make(values, arrange)]) == []


def test_what_switches_smoothing_of_posterior_labels_off_is_read():
    values = {"methods": ("posterior",), "graph.over": "set", "selection.refiner": "none"}
    assert not [note for note in unread.check([make(values)]) if "selection.refiner" in note]


def test_of_a_sweep_one_run_that_reads_a_value_is_enough():
    """As `training.trained=all,lora` with a rank: the run of the whole model has no adapters."""
    values = {"lora.rank": 4, "loss.scale": 2.0}
    whole, adapters = make(values), make(values | {"training.trained": "lora", "methods": ("reverse_kl",)})
    assert unread.check([whole, adapters]) == []
    found = {note.partition("=")[0] for note in unread.check([whole, whole])}
    assert found == {"config.lora.rank", "config.loss.scale"}
    file = {"self_label.file": "a.jsonl"}
    assert unread.check([make(file), make(file | {"self_label.source": "file"})]) == []
    with pytest.raises(UserError, match=r"config\.self_label\.file=a\.jsonl is read by nothing"):
        unread.check([make(file), make(file)])


def test_a_value_of_several_lines_is_told_in_one():
    with pytest.raises(UserError, match=r"config\.self_label\.file=a b is read by nothing"):
        unread.check([make({"self_label.file": "a\nb"})])
