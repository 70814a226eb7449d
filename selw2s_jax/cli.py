"""What the commands share: the config flag, and errors as one line with exit status 2."""

import contextlib
import logging as std_logging
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from selw2s_jax import arguments, errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import (
    distributed,
    faults,
    garbage,
    output,
    places,
    preemption,
    shipped,
    usage,
    xla_flags,
)

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells give it
EXIT_READER_GONE = 141  # likewise, of a process that SIGPIPE ended
_ENDS = (EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_READER_GONE, preemption.EXIT_STATUS)  # without a traceback


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
    flags.DEFINE_string("task", None, "Task of the run, where it has several.", flag_values=values)
    flags.DEFINE_string(
        "run", None, "Of a sweep, the run, where several have such a student.", flag_values=values
    )
    method = "Method of the student; also weak and ceiling."
    if several:
        flags.DEFINE_list("method", None, f"{method} Several with commas.", flag_values=values)
        flags.DEFINE_list(
            "seed",
            None,
            "Seed of the student, where the run has several: one, or more with commas.",
            flag_values=values,
        )
    else:
        flags.DEFINE_string("method", None, method, flag_values=values)
        flags.DEFINE_integer(
            "seed", None, "Seed of the student, where the run has several.", flag_values=values
        )


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
        with arguments.as_arguments(["", *argv]):  # for `start_of` too
            guard(lambda: arguments.parse(values, sys.argv))
            guard(lambda: _work(work, values))


def _answer(define_flags: Callable[[flags.FlagValues], None], work: Callable, argv: list[str]) -> bool:
    """Says what the arguments ask about the command itself, if they do."""
    asks_help = usage.asked_for(argv, usage.HELP)
    if not asks_help and not usage.asked_for(argv, usage.VERSION):
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
    garbage.collect_seldom()
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
            flags_parser=lambda argv: guard(lambda: arguments.parse(values, argv)),
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
        path, *saved = (
            arguments.split_config(values["config"].config_filename) if "config" in values else [""]
        )
        if path != str(arguments.SAVED):
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
