"""What the commands share: the config flag, and errors as one line with exit status 2."""

import difflib
import pathlib
import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

EXIT_USER_ERROR = 2
_OVERRIDE = "--config."


def define_config_flag() -> None:
    """Defines `--config=FILE[:arguments]` and `--config.KEY=VALUE`."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file, as configs/qwen.py or configs/qwen.py:weak=qwen-1.8b,smoke.", lock_config=True
    )


def run(main: Callable[[], None]) -> None:
    """Parses the command line, runs `main` and turns a UserError into one line and exit status 2."""
    logging.set_verbosity(logging.WARNING)
    app.run(lambda argv: _guard(main), flags_parser=lambda argv: _guard(lambda: _parse(argv)))


def _guard(function: Callable):
    try:
        return function()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def _parse(argv: list[str]) -> list[str]:
    _check_override_keys(argv)
    try:
        rest = flags.FLAGS(argv)
        config = flags.FLAGS.config  # the file is read here
    except UserError:
        raise
    except flags.Error as error:
        raise UserError(f"{error}{_expected_type(str(error))}; see --help") from error
    except FileNotFoundError as error:
        name = _config_path(argv)
        raise UserError(f"config file {name} is not there; the shipped ones are in configs/") from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"config {_config_path(argv)} could not be read: {type(error).__name__}: {error} "
            f"({pathlib.Path(last.filename).name}, line {last.lineno})"
        ) from error
    if len(rest) > 1:
        raise UserError(f"argument {rest[1]!r} is not understood; options start with --, see --help")
    if config is None:
        raise UserError("no config given; pass --config=configs/qwen.py or another config file")
    return rest


def _config_path(argv: list[str]) -> str:
    values = [arg.partition("=")[2] for arg in argv if arg.startswith("--config=")]
    values += [after for arg, after in zip(argv, argv[1:], strict=False) if arg == "--config"]
    return values[-1].partition(":")[0] if values else "?"


def _check_override_keys(argv: list[str]) -> None:
    known = config_lib.dotted_keys(config_lib.default_config())
    sections = {key.rpartition(".")[0] for key in known} - {""}
    for argument in argv[1:]:
        if not argument.startswith(_OVERRIDE):
            continue
        key = argument.removeprefix(_OVERRIDE).partition("=")[0]
        if key in sections:
            inside = ", ".join(name for name in known if name.startswith(f"{key}."))
            raise UserError(f"config.{key} is a section, not a value; set one of: {inside}")
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
            raise UserError(f"config key {key!r} is not known; did you mean config.{nearest[0]}?")


def _expected_type(message: str) -> str:
    key = message.partition("flag --config.")[2].partition("=")[0]
    if not key:
        return ""
    config, _, leaf = key.rpartition(".")
    section = config_lib.default_config()
    section = config_lib.get(section, config) if config else section
    return f" (config.{key} takes a value of type {section.get_type(leaf).__name__})"
