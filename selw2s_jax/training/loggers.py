"""Where the metrics of a training go besides its JSON lines: TensorBoard, Weights & Biases, Trackio.

A logger takes the values of one step after another until it is closed; it lives on process 0 alone. A new one is a
class here with a row of `LOGGERS`, and a switch of its name in `config.logging`.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import ml_collections
from etils import epath

from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import distributed, storage


class Logger(Protocol):
    """Takes the values of steps."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The values of a step by name; steps come in their order."""

    def close(self) -> None:
        """No more will come, as the training has ended or was stopped."""


@dataclasses.dataclass(frozen=True)
class Training:
    """The training that is logged.

    Attributes:
        name: of the stage and its key, as files are named.
        label: of the stage, for people.
        key: of the stage, the same whenever it goes on.
        inputs: what the stage is a function of, JSON.
        workdir: of the run.
        project: `logging.project`.
        first_step: of this call.
        next_step: the first that no earlier call has logged: one that was killed had gone on beyond what it saved.
    """

    name: str
    label: str
    key: str
    inputs: Mapping[str, Any]
    workdir: epath.Path
    project: str
    first_step: int = 0
    next_step: int = 0

    @property
    def group(self) -> str:
        """What trackers put the trainings of one run under: the name of its folder."""
        return self.workdir.name

    @property
    def about(self) -> dict[str, Any]:
        """What trackers show beside the curves."""
        return {"label": self.label, "key": self.key, "inputs": dict(self.inputs)}


class TensorBoard:
    """Event files in DIR/tensorboard/NAME."""

    def __init__(self, training: Training):
        import tensorboardX

        folder = training.workdir / "tensorboard" / training.name
        self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=training.first_step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases whose id is the stage's key, so that it goes on in the same one.

    What WANDB_MODE, WANDB_ENTITY and the like say holds; console, code and git are not uploaded.
    """

    def __init__(self, training: Training):
        import wandb

        self._next_step = training.next_step
        folder = training.workdir if storage.is_local(training.workdir) else None
        self._run = wandb.init(
            project=training.project,
            group=training.group,
            name=training.label,
            id=training.key,
            resume="allow",
            reinit="create_new",  # groups of devices train side by side
            config=training.about,
            allow_val_change=True,
            dir=os.environ.get("WANDB_DIR") or (None if folder is None else os.fspath(folder)),
            settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next_step:
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of Trackio, named by the stage and its key: on this machine, or where TRACKIO_SPACE_ID says."""

    def __init__(self, training: Training):
        import trackio

        self._next_step = training.next_step
        with _without_its_words():
            self._run = trackio.init(
                project=training.project,
                group=training.group,
                name=training.name,
                resume="allow",
                config=training.about,
                embed=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next_step:
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        with _without_its_words():
            self._run.finish()


@contextlib.contextmanager
def _without_its_words() -> Iterator[None]:
    """Keeps what Trackio prints of every run off the output; what other threads print meanwhile comes after it."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held):
            yield
    finally:
        others = [line for line in held.getvalue().splitlines(True) if not line.startswith(("* ", "\x1b[1m"))]
        print("".join(others), end="", flush=True)


def _log_in_to_wandb() -> None:
    """Asks for a key, or refuses, before any device works, and not when the first training begins."""
    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return
    import wandb

    if not wandb.login():
        raise UserError("config.logging.wandb=True: no account; run `wandb login`, or set WANDB_MODE=offline")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A logger by name.

    Attributes:
        start: makes that of a training.
        package: that it needs.
        extra: of this project, which installs it.
        remedy: where it does not start.
        check: raises, in one line, what would keep it from starting; called once, on process 0, before device work.
    """

    start: Callable[[Training], Logger]
    package: str
    extra: str
    remedy: str = "see its message"
    check: Callable[[], None] = lambda: None


# By the switch in `config.logging`.
LOGGERS = {
    "tensorboard": Kind(TensorBoard, package="tensorboardX", extra="tensorboard"),
    "wandb": Kind(
        Wandb,
        package="wandb",
        extra="wandb",
        remedy="run `wandb login`, or set WANDB_MODE=offline and later run `wandb sync`",
        check=_log_in_to_wandb,
    ),
    "trackio": Kind(
        Trackio,
        package="trackio",
        extra="trackio",
        remedy="see TRACKIO_DIR, where it writes, and TRACKIO_SPACE_ID, where it sends",
    ),
}


def chosen(settings: ml_collections.ConfigDict) -> list[str]:
    """The loggers that `config.logging` switches on."""
    return [name for name in LOGGERS if settings.get(name, False)]


def check_packages(settings: ml_collections.ConfigDict) -> None:
    """UserError that names a package which is missing, and what installs it."""
    for name in chosen(settings):
        kind = LOGGERS[name]
        if importlib.util.find_spec(kind.package) is None:
            raise UserError(
                f"config.logging.{name}=True needs {kind.package}: pip install 'selw2s-jax[{kind.extra}]'"
            )


def check_ready(settings: ml_collections.ConfigDict) -> None:
    """UserError, on all processes, where a logger could not start; all call this together, before device work."""

    def check() -> None:
        for name in chosen(settings):
            _in_one_line(name, LOGGERS[name].check)

    distributed.main_only(check)


def start(settings: ml_collections.ConfigDict, training: Training) -> list[Logger]:
    """Those of a training; on process 0. What fails later in one is said, and ends that one alone.

    Raises:
        UserError: one did not start.
    """
    return [
        _Guarded(name, _in_one_line(name, lambda name=name: LOGGERS[name].start(training)))
        for name in chosen(settings)
    ]


class _Guarded:
    """A logger whose faults, as of a network that is gone, do not end the training: the JSON lines have all of it."""

    def __init__(self, name: str, logger: Logger):
        self._name, self._logger = name, logger
        self._has_failed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if not self._has_failed:
            self._try(lambda: self._logger.log(step, values), f"from step {step} on it gets nothing")

    def close(self) -> None:
        self._try(self._logger.close, "its last steps may be missing there")

    def _try(self, function: Callable[[], None], outcome: str) -> None:
        try:
            function()
        except Exception as error:
            if not self._has_failed:
                reason = errors.one_line(error, with_type=True)
                print(f"note: logging.{self._name} fails ({reason}): {outcome}", flush=True)
            self._has_failed = True


def _in_one_line(name: str, function: Callable[[], Any]) -> Any:
    """`function()`, the errors of another's library as one of ours."""
    try:
        return function()
    except (UserError, OSError):
        raise
    except Exception as error:
        reason = errors.one_line(error, with_type=True)
        raise UserError(
            f"config.logging.{name}=True: it does not start ({reason}); {LOGGERS[name].remedy}"
        ) from error
