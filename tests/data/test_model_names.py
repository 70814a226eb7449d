"""What readers know models by: parts of names that tell them apart, and names that a config gives."""

import pytest
from support import golden_config

from selw2s_jax.data import model_names
from selw2s_jax.errors import UserError


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("gpt2", "gpt2"),
        ("Qwen/Qwen2.5-7B", "Qwen2.5-7B"),
        ("/home/me/models/my-gpt2/", "my-gpt2"),
        ("../my-gpt2", "my-gpt2"),
        ("/hub/models--Qwen--Qwen2.5-7B/snapshots/0123abc", "Qwen2.5-7B"),
    ],
)
def test_the_last_part_is_the_name(reference, name):
    assert model_names.short(reference) == name


def test_different_models_have_different_names():
    models = [
        ("/a/x/m", None),
        ("/b/y/m", None),
        ("gpt2", None),
        ("/c/gpt2", None),
        ("/q", "own"),
        ("/r", "own"),
    ]
    named = model_names.distinct([*models, models[0]])
    assert list(named.values()) == ["x/m", "y/m", "gpt2", "c/gpt2", "own (1)", "own (2)"]
    # One that was given is kept.
    named = model_names.distinct([("/a/m", "m"), ("/b/m", None)])
    assert list(named.values()) == ["m", "b/m"]


def test_members_have_a_name_each():
    config = golden_config.valid_config()
    config.weak.update(model=None, members=("/a/m", "/b/m@arc"), name="little, other")
    assert [model_names.given(config, "weak", number) for number in (0, 1)] == ["little", "other"]
    model_names.check(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weak.name": " "}, "config.weak.name=' ' is no name"),
        ({"strong.name": "two\nlines"}, "is no name"),
        ({"weak.name": "mine", "strong.name": "mine"}, "call two models mine"),
        ({"weak.model": None, "weak.members": ("a", "b"), "weak.name": "c"}, "has 1 names for 2 weak models"),
    ],
)
def test_names_that_cannot_be(values, message):
    config = golden_config.valid_config()
    for key, value in values.items():
        golden_config.set_key(config, key, value)
    with pytest.raises(UserError, match=message):
        golden_config.validate(config)


def test_a_name_of_several_models_is_refused():
    with pytest.raises(
        UserError, match=r"config\.weak\.name=mine is of one model, and the sweep has several"
    ):
        config = golden_config.valid_config()
        config.weak.name = "mine"
        model_names.check_axes(config, ["task", "weak.model"])
