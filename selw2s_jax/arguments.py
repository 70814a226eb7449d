"""Arguments of a command: configs by name, or as runs have saved them, free keys, and what is wrong in one line."""

import contextlib
import os
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from absl import flags

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import places, shipped, started

_OVERRIDE = "config."
_AXES = "sweep.settings"
# The flags of all commands that take a place, and what is taken.
_PLACES = {
    "workdir": places.FOLDER,
    "input": places.FILE,
    "output": "a file or folder, or gs://",
    "base": places.FOLDER,
    "tokenizer": places.FOLDER,
    "weak_base": places.FOLDER,
    "weak_tokenizer": places.FOLDER,
    "profile_dir": "a folder of this machine",
    "diff": places.FOLDER,
    "predictions": places.FILE,
}
# The config file that reads what a run has saved.
SAVED = pathlib.Path(__file__).parent / "run" / "saved_config.py"
_IN_CONFIG_FILE = "Error whilst parsing config file"  # ml_collections' words for an error of get_config


def parse(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Sets the flags of a command by its arguments.

    Args:
        values: the flags, as they are defined.
        argv: the command's name, and arguments.

    Returns:
        The name alone: there are no arguments but flags.

    Raises:
        UserError: they are not understood, or the config cannot be read or is not one.
    """
    _check_text(argv)
    argv = [_with_home(argument) for argument in argv]
    _check_override_keys(argv)
    argv, taken = _take_own(argv)
    path = _config_path(argv)
    places.check(path or None, "--config", "a config file of this machine")
    if path:
        if (saved := pathlib.Path(path) / "config.json").is_file():
            raise UserError(f"config {path} is a folder; give --config={saved}")
        found = str(shipped.find_config(path))
        argv = _with_config(argv, path, found)
        path = found
    argv = _with_pairs(_with_saved(argv), values)
    sys.modules.pop("config_config", None)  # the config file of an earlier call, under ml_collections' name
    try:
        with as_arguments(argv):
            rest = values(argv)
        config = values.config if "config" in values else None
        # A file that could not be read is reported at the first use of its config.
        keys = None if config is None else config_lib.dotted_keys(config)
        for key, value in taken.items() if keys else ():
            config_lib.put(config, key, value)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, flags.Error) and _IN_CONFIG_FILE not in str(error):
            raise UserError(f"{error}{_expected_type(str(error))}; see --help") from error
        raise UserError(_describe(error, path)) from error
    if len(rest) > 1:
        raise UserError(
            f"argument {rest[1]!r} is not understood; options start with --, lists have commas, see --help"
        )
    for flag, wanted in _PLACES.items():
        if flag in values:
            given = values[flag].value
            for place in given if isinstance(given, list) else [given]:
                places.check(place, f"--{flag}", wanted)
    if "config" not in values:  # a command that works on a finished run
        return rest
    if keys is None and path:
        raise UserError(f"config {path} could not be read: get_config() returned nothing")
    if keys is None:
        raise UserError("no config given; pass --config=qwen or another config, by name or as a file")
    try:
        config_lib.validate(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return rest


@contextlib.contextmanager
def as_arguments(argv: list[str]) -> Iterator[None]:
    """These as those of the process, where ml_collections looks for the keys that are set."""
    given, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = given


def _check_text(argv: list[str]) -> None:
    """Checks that the arguments are text: what is written of them is UTF-8."""
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(f"argument {argument!a} is not UTF-8 text: rename what it names") from None


def _with_home(argument: str) -> str:
    """`--config=~/mine.py` with `~` written out, which shells do for other arguments alone."""
    name, equals, path = argument.partition("=")
    if name != "--config" or not path.startswith("~"):
        return argument
    places.check(path, name, "a config file of this machine")
    return name + equals + os.path.expanduser(path)


def _with_saved(argv: list[str]) -> list[str]:
    """The arguments, with the config file that reads what a run has saved in the place of `--config=DIR/config.json`.

    Raises:
        UserError: it cannot be read as one, or arguments are given to it.
    """
    changed, is_value = [], False
    for argument in argv:
        name, equals, value = argument.partition("=")
        is_flag = argument.startswith("-") and name.lstrip("-") == "config"
        if is_flag and equals:
            argument = f"{name}={_saved(value)}"
        elif is_value:
            argument = _saved(argument)
        changed.append(argument)
        is_value = is_flag and not equals
    return changed


def _with_pairs(argv: list[str], values: flags.FlagValues) -> list[str]:
    """`--diff A B` as the flags know it, `--diff=A --diff=B`."""
    if "diff" not in values or "--diff" not in argv[:-2]:
        return argv
    place = argv.index("--diff")
    return [*argv[:place], *(f"--diff={one}" for one in argv[place + 1 : place + 3]), *argv[place + 3 :]]


def _saved(value: str) -> str:
    path, *arguments = split_config(value)
    if not is_saved(path):
        return value
    if arguments:
        raise UserError(
            f"--config={value}: what a run has saved takes no arguments; leave out :{arguments[0]}"
        )
    config_lib.read_saved(path)  # whose errors have no line of a Python file
    return f"{SAVED}:{path}"


def split_config(value: str) -> list[str]:
    """The file that the flag names, and what is given to it."""
    return re.split(r":(?!//)", value, maxsplit=1)


def is_saved(path: str) -> bool:
    """Whether a config file is one that a run has saved."""
    return path.endswith(".json")


def start_of(values: flags.FlagValues) -> started.Start:
    """The command that this is, with its config file."""
    path, *arguments = split_config(values["config"].config_filename)
    if path == str(SAVED):
        path, arguments, text = arguments[0], [], None
    else:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
        path = shipped.called(path)
    command = shlex.join(["python", "-m", "selw2s_jax.main", *sys.argv[1:]])
    return started.Start(command, ":".join([path, *arguments]), text)


def _config_path(argv: list[str]) -> str | None:
    """The file that `--config=FILE:arguments` or `--config FILE:arguments` names."""
    path = None
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and argument.startswith("-"):
            path = split_config(value if equals else following)[0]
    return path


def _with_config(argv: list[str], path: str, found: str) -> list[str]:
    """The arguments, with the file that was found for the config where they name it."""
    changed = list(argv)
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name.lstrip("-") != "config" or not argument.startswith("-"):
            continue
        if equals and value.startswith(path):
            changed[index] = f"{name}={found}{value.removeprefix(path)}"
        elif not equals and index + 1 < len(argv) and argv[index + 1].startswith(path):
            changed[index + 1] = found + argv[index + 1].removeprefix(path)
    return changed


def _describe(error: BaseException, path: str | None) -> str:
    """An error of reading a config: among those that led to it, the outermost that came up in the file."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    for candidate in chain:
        frames = traceback.extract_tb(candidate.__traceback__)
        lines = [
            f.lineno for f in frames if path and pathlib.Path(f.filename).name == pathlib.Path(path).name
        ]
        if lines:
            if unknown := _unknown_key(candidate):
                return f"{path}: {unknown} (line {lines[-1]})"
            return (
                f"config {path} could not be read: {type(candidate).__name__}: {candidate} (line {lines[-1]})"
            )
    return f"config {path} could not be read: {type(chain[-1]).__name__}: {chain[-1]}"


def _unknown_key(error: BaseException) -> str | None:
    """What is wrong where a file sets a key that a locked config does not have; None of other errors.

    ml_collections names the key without its section, and all that is in the section.
    """
    found = re.search(r'^.?Key "(.+?)" does not exist and cannot be added', str(error))
    if found is None or error.__traceback__ is None:
        return None
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    inside, default = set(frame.f_locals.get("self", ())), config_lib.default_config()
    sections = {key.rpartition(".")[0] for key in config_lib.dotted_keys(default)} - {""}
    section = next((name for name in sections if set(config_lib.get(default, name)) == inside), "")
    try:
        config_lib.check_key(f"{section}.{found[1]}".lstrip("."))
    except UserError as unknown:
        return str(unknown)
    return None


def _check_override_keys(argv: list[str]) -> None:
    for argument in argv[1:]:
        if key := _overridden(argument):
            config_lib.check_key(key)


def _overridden(argument: str) -> str | None:
    """The key that an argument `--config.KEY` or `--config.KEY=VALUE` sets; one dash is as good as two."""
    name = argument.lstrip("-")
    if not argument.startswith("-") or not name.startswith(_OVERRIDE):
        return None
    return name.removeprefix(_OVERRIDE).partition("=")[0]


def _take_own(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Takes out of the arguments what the flags know no value of.

    That is `--config.KEY=None`, for keys that may be null, all of `--config.method_options`, whose keys are free, and
    axes of `--config.sweep.settings`, of which there may be several.

    Returns:
        The other arguments, and the values of these keys: of several, axes apart, the last.
    """
    rest, values, index = [], {}, 0
    while index < len(argv):
        argument, key = argv[index], _overridden(argv[index])
        taken = 1
        if key == _AXES and re.match(r"[\w.-]+=", axis := argument.partition("=")[2]):
            values[key] = (*values.get(key, ()), axis)
            index += 1
            continue
        if key and (config_lib.is_option(key) or config_lib.may_be_null(key)):
            _, equals, value = argument.partition("=")
            if not equals and index + 1 < len(argv):
                value, taken = argv[index + 1], 2
            values.pop(key, None)
            if config_lib.is_option(key):
                if not equals:
                    raise UserError(f"{argument} has no value: give it as {argument}=VALUE")
                values[key] = config_lib.parse_option(value)
            elif config_lib.is_null(value, key):
                values[key] = None
            if key in values:
                index += taken
                continue
        rest += argv[index : index + taken]
        index += taken
    return rest, values


def _expected_type(message: str) -> str:
    key = message.partition("flag --config.")[2].partition("=")[0]
    return f" (config.{key} takes a value of type {config_lib.type_of(key).__name__})" if key else ""
