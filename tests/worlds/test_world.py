"""What a config may say of the generated world, and what its recipes are a function of."""

import pytest

import selw2s_jax
from configs import quickstart
from configs import world as world_study
from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.worlds import smoke, world


def test_shipped_worlds_are_valid():
    for config in (
        quickstart.get_config(),
        world_study.get_config(),
        quickstart.get_config("correlated"),
        world_study.get_config("correlated"),
        world_study.get_config("correlated,p_ik=frozen"),
    ):
        checks.validate(config)
        assert config.data.source == config.weak.model == config.strong.model == world.NAME
        assert config.task.startswith("world_")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sciq"}, "config.task='sciq' is no task of the generated world .* choose one of: world_facts"),
        ({"p_ik.task": "arc"}, "config.p_ik.task='arc' is no task of the generated world"),
        ({"data.source": "hub"}, "config.task='world_facts' is a task of the generated world: set data.source=world"),
        (
            {"data.source": "hub", "task": "sciq", "p_ik.task": "arc"},
            "config.weak.model='world' is pretrained on a generated world: set data.source=world",
        ),
        ({"pretraining.weak.num_steps": 0}, "config.pretraining.weak.num_steps=0 must be an integer, at least 1"),
        ({"pretraining.strong.embed_dim": 60}, "embed_dim=60 is not a multiple of 2 \\* num_heads=4"),
        ({"pretraining.row_length": 64}, "row_length=64 is too short .* set it to 96 or more"),
        ({"world.num_entities": 9}, r"config.world.num_entities=9 must lie in \[100, 100000\]"),
        ({"world.shown_share": 0.0}, r"config.world.shown_share=0.0 must lie in \[0.1, 0.9\]"),
        ({"world.test_share": 1.0}, r"config.world.test_share=1.0 must lie in \[0.05, 0.95\]"),
        ({"world.seed": -1}, "config.world.seed=-1 must lie in"),
        ({"pretraining.seed": -1}, "config.pretraining.seed=-1 must be an integer in"),
        ({"world.judged_share": 0.9}, "judged_share=0.9 and stated_share=0.2 exceed 1"),
        ({"world.task_shares": (1.0,)}, r"task_shares=\(1.0,\) must be 2 numbers >= 0"),
        ({"world.tasks": ("world_sums",)}, "config.world.tasks=world_sums must be some of these, in their order, and"),
        ({"world.tasks": ("world_traits", "world_facts")}, "tasks=world_traits,world_facts must be .* in their order"),
        ({"world.tasks": ("world_facts", "sciq")}, "config.world.tasks=world_facts,sciq must be some of these"),
        ({"task": "world_passage"}, "config.task='world_passage' is no task of .* choose one of: world_facts, world"),
        ({"world.told_as": "words,"}, "config.world.told_as='words,' is not one of: words, digits"),
        ({"world.shortcut": None}, "shortcut=None and shortcut_in_text=0.6 go together: give both a share, or neither"),
        ({"world.shortcut": 1.1}, r"config.world.shortcut=1.1 must lie in \[0.0, 1.0\]"),
        ({"world.tail": 0.0}, r"config.world.tail=0.0 must lie in \[1e-06, 1.0\]"),
    ],
)  # fmt: skip
def test_wrong_worlds_are_one_line_with_the_remedy(changes, message):
    config = quickstart.get_config()
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (config_lib.get(config, section) if section else config)[name] = value
    with pytest.raises(UserError, match=message) as caught:
        checks.validate(config)
    assert "\n" not in str(caught.value)


def test_frozen_p_ik_is_a_setting_of_the_correlated_world():
    with pytest.raises(UserError, match="p_ik=frozen goes with correlated"):
        world_study.get_config("p_ik=frozen")


def recipe_inputs(tmp_path, role: str = "strong", **changes):
    config = quickstart.get_config()
    config.world.num_entities = 101
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        config_lib.get(config, section.replace("__", "."))[name] = value
    return world.recipe(config, role, world.data_folder(world.world_config(config), tmp_path)).inputs


def test_a_recipe_names_what_its_weights_are_a_function_of_and_nothing_else(tmp_path):
    first = recipe_inputs(tmp_path)
    assert recipe_inputs(tmp_path) == first
    assert str(tmp_path) not in repr(first)
    for changes in (
        {"world__seed": 7},
        {"world__zipf_exponent": 1.1},
        {"world__shortcut": 0.8},
        {"pretraining__seed": 7},
        {"pretraining__strong__num_steps": 7},
        {"pretraining__learning_rate": 7.0},
        {"precision__compute_dtype": "bfloat16"},
    ):
        assert recipe_inputs(tmp_path, **changes) != first
    for changes in ({"pretraining__weak__num_steps": 7}, {"execution__remat": "full"}, {"p_ik__gamma": 0.1}):
        assert recipe_inputs(tmp_path, **changes) == first
    assert recipe_inputs(tmp_path, "weak")["model"] != first["model"]


def test_toy_models_are_offered_to_users():
    assert selw2s_jax.smoke is smoke
    with pytest.raises(AttributeError, match="no attribute 'smok'"):
        selw2s_jax.smok  # noqa: B018
