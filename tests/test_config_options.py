"""`method_options`, the section of free keys: from Python, files, the command line and sweeps, and back from a run."""

import json
import sys

import pytest
from absl import flags
from support import paths

from selw2s_jax import arguments, cli
from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.method import method_options
from selw2s_jax.run import run_config, sweep

TEXTS = {
    "3": 3, "3.5": 3.5, "1e-3": 1e-3, "true": True, "False": False, "none": None, "mean": "mean", "'3'": "3",
    "a b": "a b", "a/b.json": "a/b.json", "1,2": (1, 2), "(1, 2.5)": (1, 2.5), "a,b": ("a", "b"), "[1]": (1,),
    "'a,b'": "a,b", "": "", "-1": -1, "1-2": "1-2", "{}": "{}",
    "{[1]: 2}": "{[1]: 2}", "1if x": "1if x", "(" * 300: "(" * 300, ",": (), "9" * 5000: "9" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_the_type_of_a_text(text):
    value = config_lib.parse_option(text)
    assert value == TEXTS[text] and type(value) is type(TEXTS[text])


@pytest.fixture
def parse(monkeypatch):
    """Parses arguments as the commands do, with flags of its own for every call."""

    def run(*given: str, config: str = f"{paths.CONFIGS / 'gpt2.py'}:smoke"):
        values, argv = flags.FlagValues(), ["main", f"--config={config}", *given]
        cli.define_config_flag(values)
        monkeypatch.setattr(sys, "argv", argv)
        arguments.parse(values, argv)
        return config_lib.normalize(values.config)

    return run


def test_options_on_the_command_line(parse):
    config = parse(*(f"--config.method_options.own.o{number}={text}" for number, text in enumerate(TEXTS)))
    assert config.method_options.own.to_dict() == {
        f"o{number}": value for number, value in enumerate(TEXTS.values())
    }


def test_the_command_line_comes_after_the_file_and_the_last_counts(parse, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from selw2s_jax import config as config_lib\n\n\ndef get_config():\n"
        "    config = config_lib.default_config()\n"
        "    config.method_options.own = dict(beta=3, gamma='low')\n"
        "    config.method_options.other = dict(beta=(1, 2))\n"
        "    return config\n"
    )
    config = parse(
        "--config.method_options.own.beta=a",
        "-config.method_options.own.beta=0.5",
        config=str(tmp_path / "mine.py"),
    )
    assert config.method_options.to_dict() == {
        "own": {"beta": 0.5, "gamma": "low"},
        "other": {"beta": (1, 2)},
    }


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.method_options.own.beta", "--config.method_options.own.beta has no value: give it as --config"),
        ("--config.method_options.beta=3", "config.method_options.beta is no option of a method: give it as config"),
        ("--config.method_options.a.b.c=3", "config.method_options.a.b.c is no option of a method"),
        ("--config.method_options=3", "config.method_options is no option of a method"),
        ("--config.method_option.own.beta=3", "did you mean config.method_options.own.beta?"),
        ("--config.method_options.own.beta=1,{2: 3}", "config.method_options.own.beta holds a dict: give a number"),
        ("--config.method_options.own.beta=1,{2}", "config.method_options.own.beta holds a set: give a number"),
    ],
)  # fmt: skip
def test_arguments_that_are_no_options(parse, argument, words):
    with pytest.raises(UserError) as raised:
        parse(argument)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_options_from_python():
    config = config_lib.default_config()
    assert config_lib.dotted_keys(config) == config_lib.dotted_keys(config_lib.normalize(config))
    config.method_options.own = dict(beta=3)
    config.method_options.own.beta = 3.5  # of another type
    config.method_options.empty = {}
    assert config_lib.normalize(config).method_options.to_dict() == {"own": {"beta": 3.5}}
    config.method_options = {"own": {"beta": [1, (2, 3)]}}
    kept = json.loads(json.dumps(config_lib.to_json(config_lib.normalize(config))))
    again = config_lib.normalize(run_config.from_json(kept, "there"))
    assert method_options.given(again, "own") == method_options.given(config, "own") == {"beta": (1, (2, 3))}
    for wrong, words in (
        ({"own": 3}, "config.method_options.own is no option of a method"),
        ({"own": {"beta": {"a": 1}}}, "config.method_options.own.beta.a is no option of a method"),
        (
            {"own": {"beta": [1.0, float("inf")]}},
            "config.method_options.own.beta=inf must be a finite number",
        ),
        ({"own": {"beta": object()}}, "holds a object: give a number, a text, a truth value or a tuple"),
        ({"own": {"beta": "a\0"}}, "holds a NUL character"),
        ({"own": {"beta": 1 << 2000}}, "is a number of 2001 bits"),
    ):
        config.method_options = wrong
        with pytest.raises(UserError, match=words):
            config_lib.validate(config)


def test_no_option_is_a_default():
    assert config_lib.is_default("graph.tau", 0.1) and not config_lib.is_default("graph.tau", 0.2)
    assert not config_lib.is_default("method_options.own.beta", None)


def test_options_are_axes_of_a_sweep():
    config = config_lib.default_config()
    config.method_options.own = dict(gamma=0.5)
    config.sweep.settings = (
        "method_options.own.beta=1,2.5,none",
        "method_options.own.levels=(1,2),[3],a",
        "p_ik.gamma=0.5,0.7",
    )
    cells = sweep.expand(config_lib.normalize(config))
    found = [cell.config.method_options.own.to_dict() for cell in cells[::2]]
    assert found == [
        {"gamma": 0.5, "beta": beta, "levels": levels}
        for beta in (1, 2.5, None)
        for levels in ((1, 2), (3,), "a")
    ]
    assert cells[0].name == "method_options.own.beta=1,method_options.own.levels=1x2,p_ik.gamma=0.5"
    assert len({cell.name for cell in cells}) == len({cell.config_hash for cell in cells}) == 18


def test_axes_of_a_sweep_on_the_command_line(parse):
    axes = ("method_options.my-own.beta=(1,2),3", "p_ik.gamma=0.5,0.7")
    plain = [f"--config.sweep.settings={axis}" for axis in axes]
    assert parse(*plain).sweep.settings == parse(f"--config.sweep.settings={axes}").sweep.settings == axes
