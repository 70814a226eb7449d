"""Settings of a replay: their values, their combinations, and which a method's labels depend on."""

import pytest
from support import tiny_config

from selw2s_jax.errors import UserError
from selw2s_jax.replay import settings


def test_values_are_read_sorted_and_once():
    assert settings.parse("gamma", "0.9,0.5,0.5") == (0.5, 0.9)
    assert settings.parse("alpha", None) == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gamma", "1.1"),
        ("gamma", "a"),
        ("alpha", "0.5,"),
        ("tau", "0"),
        ("temperature", "inf"),
        ("tau", "nan"),
    ],
)
def test_values_that_a_setting_may_not_have_are_refused(name, text):
    with pytest.raises(UserError, match=f"--{name}={text} must be numbers"):
        settings.parse(name, text)


def test_combinations_have_the_runs_own():
    own = settings.Setting.of_run(tiny_config.make_config(p_ik__gamma=0.7))
    assert (own.gamma, own.alpha, own.tau, own.temperatures) == (0.7, 0.9, 0.1, (1.0, 1.0))
    made = settings.grid(own, {"gamma": (0.5, 0.9), "temperature": (2.0,)})
    assert len(made) == 6 and own in made
    with pytest.raises(UserError, match="1001 combinations"):
        settings.grid(own, {"tau": [number + 1.0 for number in range(1000)]})
    config = tiny_config.make_config(p_ik__gamma=0.8)
    changed = made[0].applied(config)
    assert changed.graph.tau == config.graph.tau and changed.p_ik.gamma == 0.5
    assert config.p_ik.gamma == 0.8 and changed.is_locked


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ("finetune", ()),
        ("self_training", ()),
        ("p_ik_only", ()),
        ("selective", ("gamma", "alpha", "tau")),
        ("random_selection", ("gamma", "alpha", "tau")),  # gamma is that of the masks
        ("selective_without_ik", ("alpha", "tau")),
        ("selective_without_gs", ("gamma",)),
        ("selective_frozen", ("gamma", "alpha", "tau")),
        ("selective_by_confidence", ("temperature", "weak_temperature")),
        ("random_selection_by_confidence", ("temperature", "weak_temperature")),
        ("posterior", ("temperature", "weak_temperature")),
        ("posterior_constant", ("temperature", "weak_temperature")),
        ("posterior_online", ("temperature", "weak_temperature")),
    ],
)
def test_settings_that_labels_depend_on(method, read):
    assert settings.read_by(tiny_config.make_config(), method) == set(read)


def test_smoothing_over_the_set_is_of_the_posterior_too():
    config = tiny_config.make_config(graph__over="set")
    assert {"alpha", "tau"} <= settings.read_by(config, "posterior")


def test_what_labels_do_not_depend_on_is_not_told_apart():
    config = tiny_config.make_config()
    own = settings.Setting.of_run(config)
    made = settings.grid(own, {"gamma": (0.1, 0.2), "temperature": (2.0,)})
    assert len(settings.of_method(config, "selective", made)) == 3
    assert [one.temperature for one in settings.of_method(config, "posterior", made)] == [1.0, 2.0]
