"""What the commands share: the config flag, and errors as one line with exit status 2."""

import contextlib
import logging as std_logging
import os
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from selw2s_jax import config as config_lib
from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import (
    distributed,
    faults,
    output,
    places,
    preemption,
    shipped,
    started,
    usage,
    xla_flags,
)

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells give it
EXIT_READER_GONE = 141  # likewise, of a process that SIGPIPE ended
_ENDS = (EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_READER_GONE, preemption.EXIT_STATUS)  # without a traceback
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
}
# The config file that reads what a run has saved.
_SAVED = pathlib.Path(__file__).parent / "run" / "saved_config.py"
_IN_CONFIG_FILE = "Error whilst parsing config file"  # ml_collections' words for an error of get_config


def define_config_flag(values: flags.FlagValues) -> None:
    """Defines `--config=FILE[:arguments]` and `--config.KEY=VALUE`."""
    names = ", ".join(shipped.configs())
    config_flags.DEFINE_config_file(
        "config",
        None,
        f"Config file, or the name of a shipped one ({names}); arguments after a colon: qwen:weak=qwen-1.8b,smoke. Or "
        "DIR/config.json, which a run has saved.",
        flag_values=values,
        lock_config=True,
    )


def define_process_flags(values: flags.FlagValues) -> None:
    """Defines the flags of a run by several processes."""
    flags.DEFINE_enum(
        "distributed",
        "auto",
        distributed.MODES,
        "Join the other processes of the run: where the environment speaks of them, always, or never.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of process 0, to join by hand.", flag_values=values
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes, to join by hand.", flag_values=values)
    flags.DEFINE_integer(
        "process_id", None, "Number of this process from 0, to join by hand.", flag_values=values
    )
    flags.DEFINE_integer(
        "distributed_timeout",
        300,
        "Seconds to wait for the other processes.",
        lower_bound=1,
        flag_values=values,
    )


def define_student_flags(values: flags.FlagValues, *, several: bool = False) -> None:
    """Defines the flags that name a trained model of a run, the same for all commands.

    Args:
        several: whether lists of methods and seeds name several.
    """
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_string("task", None, "Task of the run.", flag_values=values)
    flags.DEFINE_string(
        "run", None, "Of a sweep, the run, where several have such a student.", flag_values=values
    )
    method = "Method of the student; also weak and ceiling."
    if several:
        flags.DEFINE_list("method", None, f"{method} Several with commas.", flag_values=values)
        flags.DEFINE_list("seed", None, "Seed of the student; several with commas.", flag_values=values)
    else:
        flags.DEFINE_string("method", None, method, flag_values=values)
        flags.DEFINE_integer("seed", None, "Seed of the student.", flag_values=values)


def student_name(values: flags.FlagValues) -> dict[str, Any]:
    """What the flags of a student say, as `students.find` takes it.

    Raises:
        UserError: no workdir is given.
    """
    name = {flag: values[flag].value for flag in ("workdir", "task", "method", "seed", "run")}
    if not name["workdir"]:
        raise UserError("--workdir is missing; give the folder of a run")
    return name


def student_names(values: flags.FlagValues) -> list[dict[str, Any]]:
    """Likewise where the flags may name several: each method of each seed, seed by seed.

    Raises:
        UserError: no workdir is given, or a seed is no number.
    """
    name = student_name(values)
    seeds = [_whole_number("--seed", text) for text in name["seed"] or []] or [None]
    methods = name["method"] or [None]
    for flag, given in (("--method", methods), ("--seed", seeds)):
        if repeated := [one for one in given if given.count(one) > 1]:
            raise UserError(f"{flag} names {repeated[0]} twice")
    return [name | {"seed": seed, "method": method} for seed in seeds for method in methods]


def _whole_number(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{flag}={text} is no whole number; several with commas, as 0,1,2") from None


def start_processes(values: flags.FlagValues) -> None:
    """Joins the other processes as the flags say, and from then on answers to being told to stop."""
    places.check_compilation_cache()
    distributed.start(
        values.distributed,
        coordinator_address=values.coordinator_address,
        num_processes=values.num_processes,
        process_id=values.process_id,
        timeout_s=values.distributed_timeout,
    )
    preemption.watch()


def run(
    define_flags: Callable[[flags.FlagValues], None],
    work: Callable[[flags.FlagValues], None],
    argv: list[str] | None = None,
    *,
    starts_devices: bool = True,
) -> None:
    """Parses the command line and does the command's work, both as `guard` does; or says what --help or --version asks.

    Args:
        define_flags: defines the flags of the command.
        work: does what their values say; a function of the command's module, whose docstring is the help.
        argv: arguments, flags only; by default those of this process, which the command then is.
        starts_devices: whether the work starts JAX's devices, whose settings are then checked before.
    """
    with output.standard_streams():
        if guard(lambda: _answer(define_flags, work, sys.argv[1:] if argv is None else argv)):
            return
        if argv is None:
            define_flags(flags.FLAGS)
            _run_process(work, starts_devices)
            return
        values = flags.FlagValues()
        define_flags(values)
        with _as_arguments(["", *argv]):  # for `start_of` too
            guard(lambda: _parse(values, sys.argv))
            guard(lambda: _work(work, values))


def _answer(define_flags: Callable[[flags.FlagValues], None], work: Callable, arguments: list[str]) -> bool:
    """Says what the arguments ask about the command itself, if they do."""
    asks_help = usage.asked_for(arguments, usage.HELP)
    if not asks_help and not usage.asked_for(arguments, usage.VERSION):
        return False
    output.end_with_reader()
    if not asks_help:
        print(f"selw2s_jax {shipped.version()}")
        return True
    values = flags.FlagValues()
    define_flags(values)
    print(usage.describe(sys.modules[work.__module__].__doc__, values))
    return True


def _run_process(work: Callable[[flags.FlagValues], None], starts_devices: bool) -> None:
    logging.set_verbosity(logging.WARNING)
    # A write that fails is raised; what Orbax, asyncio and TensorStore say about it besides is left out.
    for logger in (logging.get_absl_logger(), std_logging.getLogger("asyncio")):
        logger.addFilter(lambda record: not record.exc_info)
    sys.unraisablehook = _report_unraisable
    # Read when they are imported: retries without a network end in one line of ours, PyTorch is not wanted.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    values = flags.FLAGS

    def checked_work() -> None:
        if starts_devices:
            xla_flags.check()
        _work(work, values)

    try:
        app.run(
            lambda argv: guard(checked_work),
            flags_parser=lambda argv: guard(lambda: _parse(values, argv)),
        )
    except SystemExit as end:
        if end.code in _ENDS and "orbax" in sys.modules:
            # Orbax's threads would go on about the same error while the interpreter shuts down.
            _end_now(end.code)
        raise
    except Exception:
        if distributed.num_processes() == 1:
            raise
        traceback.print_exc()
        _end_now(1)  # an orderly end would wait for the others, and they for this process


def _work(work: Callable[[flags.FlagValues], None], values: flags.FlagValues) -> None:
    """`work(values)`; of a saved config an unknown name is told with where it may have been registered.

    Raises:
        UserError: of the work.
    """
    try:
        work(values)
    except errors.UnknownName as error:
        path, *saved = _split_config(values["config"].config_filename) if "config" in values else [""]
        if path != str(_SAVED):
            raise
        folder = workdir = pathlib.Path(saved[0]).resolve().parent
        if (folder.parent.parent / "sweep.json").is_file():  # it is a cell of
            workdir = folder.parent.parent
        if not (copy := workdir / "config.py").is_file():
            raise
        raise UserError(
            f"{error}; where the config file of that run registers it, give the copy of it, --config={copy}, with the "
            f"arguments and overrides of the command in {folder / 'manifest.json'}"
        ) from error


def _end_now(status: int) -> NoReturn:
    if status != 1:
        distributed.leave()
    with contextlib.suppress(output.ReaderGone):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _report_unraisable(unraisable) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def guard(function: Callable[[], Any]) -> Any:
    """`function()`, or the process ends with one line on standard error.

    Exit status 2 for a UserError and for errors of the environment (`runtime.faults`), 75 when told to stop, 130 for an
    interrupt; 141, without a line, where nobody reads what a command only shows.
    """
    try:
        return function()
    except UserError as error:
        _exit(str(error), EXIT_USER_ERROR)
    except preemption.Preempted as stop:
        where = str(stop).removeprefix("stopped ")
        _exit(f"{where}; the same command goes on from there", preemption.EXIT_STATUS, kind="stopped")
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on from what is saved", EXIT_INTERRUPTED)
    except output.ReaderGone:
        sys.exit(EXIT_READER_GONE)
    except Exception as error:
        explained = faults.explain(error)
        if explained is None:
            raise
        _exit(explained, EXIT_USER_ERROR)


def _exit(message: str, status: int, *, kind: str = "error") -> NoReturn:
    with contextlib.suppress(output.ReaderGone):
        sys.stdout.flush()
    print(f"{kind}: {errors.printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)


def _parse(values: flags.FlagValues, argv: list[str]) -> list[str]:
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
        with _as_arguments(argv):
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
def _as_arguments(argv: list[str]) -> Iterator[None]:
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
    path, *arguments = _split_config(value)
    if not is_saved(path):
        return value
    if arguments:
        raise UserError(
            f"--config={value}: what a run has saved takes no arguments; leave out :{arguments[0]}"
        )
    config_lib.read_saved(path)  # whose errors have no line of a Python file
    return f"{_SAVED}:{path}"


def _split_config(value: str) -> list[str]:
    """The file that the flag names, and what is given to it."""
    return re.split(r":(?!//)", value, maxsplit=1)


def is_saved(path: str) -> bool:
    """Whether a config file is one that a run has saved."""
    return path.endswith(".json")


def start_of(values: flags.FlagValues) -> started.Start:
    """The command that this is, with its config file."""
    path, *arguments = _split_config(values["config"].config_filename)
    if path == str(_SAVED):
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
            path = _split_config(value if equals else following)[0]
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
        if key == _AXES and re.match(r"[\w.]+=", axis := argument.partition("=")[2]):
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
            elif config_lib.is_null(value):
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
