"""Cases of `support.fuzz`: configs with values of any kind, given on the command line or set from Python."""

import contextlib
import io
import json
import math
import pathlib
import random
from typing import Any

from support import fuzz, paths

from selw2s_jax import cli, errors
from selw2s_jax import config as config_lib
from selw2s_jax.data import tasks
from selw2s_jax.experiments import checks, unread
from selw2s_jax.run import forms, sweep

_KEYS = config_lib.dotted_keys(config_lib.default_config())
_FILES = ("qwen.py:smoke", "gpt2.py:smoke")
# By type, texts that are values of it, or nearly.
_TEXTS = {
    bool: ("true", "false", "True", "1", "0", "t", "yes", "2", "None"),
    int: ("1", "2", "4", "8", "0", "-1", "+3", "1_000", "0x10", "010", "1e3", "1.0", "1.5", "\uff11", "9" * 30,
          "9" * 5000),
    float: ("0.5", "1", "1e-3", "0", "-0.0", "-1", "nan", "inf", "1e400", "1e-50", "1_0.5", ".5", "0,5", "1e39"),
    str: ("random-tiny-gpt2", "float32", "none", "arc", "~nobody/a", "/dev/null", "gs://b/c", "https://a.b", "a:b",
          ".."),
    tuple: ("finetune", "selective,finetune", "(0,1)", "0,1", "[1, 2]", "(1,)", "()", "('a',)", "1x1x1", "(1,1,1)",
            "(((", "a,,b", "{1: 2}", "data.num_train=10,20", "training.batch_size=x", "weak.model=None", "a:b",
            "(True,)",
            "(0.5,)", "1j", "f'{1}'", "b'a'", "(1, None)", "seeds=0,1", "mesh.shape=1x1x1", "strong.test"),
}  # fmt: skip
_ODD_TEXTS = (
    "",
    " ",
    "None",
    "null",
    " none ",
    "\x1b[31m",
    "\ud800",
    "a\nb",
    "\0",
    '"',
    "'",
    "=",
    "--config",
    "x" * 5000,
)
# Likewise of Python.
_VALUES = {
    bool: (True, False, 0, 1, "true"),
    int: (1, 2, 4, 0, -1, 1.0, 2**31, 2**63, 10**400, True, "1"),
    float: (0.5, 1, 0, -0.0, math.nan, math.inf, 1e-300, 1e300, 10**400, True, "0.5"),
    str: ("random-tiny-qwen", "arc", b"arc", pathlib.Path("a"), "a\0b", "\ud800"),
    tuple: ((), (1,), [1, 2], ("finetune",), ("finetune", "finetune"), [[1]], (None,), "finetune", {1}, (1, 1, 1),
            (2**40,), (-1,), (True,), (0.5,), ("",), ("a,b",), ("data.num_train=1,2",), (math.nan,), ("a:b",),
            range(2)),
}  # fmt: skip


def _key(generator: random.Random) -> str:
    key = generator.choice(_KEYS)
    if generator.random() < 0.9:
        return key
    return generator.choice(
        (key.upper(), key[:-1], key.split(".")[0], f"{key}.a", f" {key}", "", ".", key.replace(".", ".."))
    )


def _text(generator: random.Random, key: str) -> str:
    kind = config_lib.type_of(key) if key in _KEYS else str
    if key in checks.choices() and generator.random() < 0.6:
        return generator.choice(checks.choices()[key])
    return generator.choice(_ODD_TEXTS if generator.random() < 0.2 else _TEXTS[kind])


def _value(generator: random.Random, key: str) -> Any:
    kind = config_lib.type_of(key) if key in _KEYS else str
    if key in checks.choices() and generator.random() < 0.6:
        return generator.choice(checks.choices()[key])
    return generator.choice(fuzz.NASTY if generator.random() < 0.3 else _VALUES[kind])


def _cells(config) -> list[sweep.Cell]:
    """The runs of a config, after all checks that need no model; as `plan.planner.cells` without its traces."""
    cells = sweep.expand(config_lib.normalize(config))
    for cell in cells:
        for section in (cell.config, cell.config.p_ik):
            section.task = tasks.canonical_name(section.task)
        checks.validate(cell.config, models=forms.get(cell.config).roles(cell.config))
    unread.check([cell.config for cell in cells])
    return cells


def _check(cells: list[sweep.Cell], asked: dict[str, Any]) -> None:
    """That every value is of its key's type, finite and as it was asked for."""
    names = [cell.name for cell in cells]
    assert cells and len(set(names)) == len(names), names
    for cell in cells:
        config_lib.validate(cell.config)
        assert len(cell.config_hash) == 16 and len(cell.name.encode()) < 255, cell.name
        json.dumps(config_lib.to_json(cell.config), allow_nan=False).encode()
        for key in _KEYS:
            value = config_lib.get(cell.config, key)
            assert type(value) is config_lib.type_of(key) or (
                value is None and config_lib.may_be_null(key)
            ), (key, value)
            for one in value if isinstance(value, tuple) else (value,):
                assert not isinstance(one, float) or math.isfinite(one), (key, value)
                assert not isinstance(one, str) or one.encode() is not None, (key, value)
        for key, value in asked.items():
            if key in cell.axes or key.startswith("sweep.") or key in ("task", "p_ik.task"):
                continue
            found = config_lib.get(cell.config, key)
            if isinstance(found, float) and type(value) is int:
                value = float(value)  # as a float is written: 10**30 is none exactly
            assert found == value and isinstance(found, bool) == isinstance(value, bool), (key, found, value)


_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _meant(key: str, text: str) -> Any:
    """What a text of the command line says for a key; raises ValueError where it says nothing."""
    kind = config_lib.type_of(key)
    if config_lib.may_be_null(key) and config_lib.is_null(text, key):
        return None
    if kind is bool:
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if kind is int:
        return int(text, 16 if text.startswith("0x") else 10)
    return kind(text)


@fuzz.register("config on the command line")
def command_line(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """Overrides of keys of a shipped config."""
    overrides = [
        (key, _text(generator, key))
        for key in (_key(generator) for _ in range(generator.choice((1, 1, 2, 3))))
    ]
    arguments = [f"--config={paths.CONFIGS / generator.choice(_FILES)}"]
    for key, text in overrides:
        dashes = generator.choice(("--", "--", "--", "-"))
        arguments += (
            [f"{dashes}config.{key}={text}"] if generator.random() < 0.9 else [f"{dashes}config.{key}", text]
        )

    def read() -> list[sweep.Cell]:
        found = []
        told = io.StringIO()
        try:
            with contextlib.redirect_stderr(told):
                cli.run(cli.define_config_flag, lambda values: found.extend(_cells(values.config)), arguments)
        except SystemExit as end:
            assert end.code == cli.EXIT_USER_ERROR and told.getvalue().startswith("error: "), (
                end.code,
                told.getvalue(),
            )
            raise errors.UserError(told.getvalue().removesuffix("\n")) from None
        return found

    def check(cells: list[sweep.Cell]) -> None:
        asked = {}
        for key, text in overrides:
            if config_lib.type_of(key) is not tuple:
                try:
                    asked[key] = _meant(key, text)
                except ValueError:
                    raise AssertionError(f"{key}={text!r} is taken") from None
        _check(cells, asked)

    return fuzz.Case(f"{arguments}"[:500], read, check)


@fuzz.register("config set from Python")
def from_python(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """Values set on a config, which is locked and checks some of the types."""
    changes = [
        (key, _value(generator, key))
        for key in (_key(generator) for _ in range(generator.choice((1, 1, 2, 3))))
    ]
    is_open = generator.random() < 0.5

    def read() -> list[sweep.Cell]:
        config = config_lib.default_config()
        config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-tiny-qwen")
        for key, value in changes:
            try:
                with config.ignore_type() if is_open else contextlib.nullcontext():
                    config_lib.put(config, key, value)
            except (
                KeyError,
                AttributeError,
                TypeError,
                ValueError,
                OverflowError,
            ) as error:  # as ml_collections refuses them
                raise errors.UserError(errors.one_line(error, with_type=True)) from None
        return _cells(config)

    def check(cells: list[sweep.Cell]) -> None:
        asked = {key: value for key, value in changes if config_lib.type_of(key) is not tuple}
        # ml_collections makes 1.0 of True where a float is wanted, before anybody can see it.
        kinds = {key: config_lib.type_of(key) for key in asked}
        asked = {
            key: one for key, one in asked.items() if not (isinstance(one, bool) and kinds[key] is float)
        }
        _check(cells, asked)

    return fuzz.Case(str(changes)[:500], read, check)
