"""One training run: from the last state that was saved or from the start, to its last step."""

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
from etils import epath
from flax import nnx

from selw2s_jax.data import batches, text_rows
from selw2s_jax.runtime import device_memory
from selw2s_jax.training import checkpointing, loggers, loop, metrics_log, state, step


@dataclasses.dataclass(frozen=True)
class Files:
    """Where a run keeps what it writes under way, and how often.

    Attributes:
        workdir: folder that they are in.
        label, key: of the stage, which name them.
        checkpoint, logging: sections of the config.
        before_save: called by all processes before a state is saved.
        inputs: what the stage is a function of, JSON, which trackers show.
    """

    workdir: epath.Path
    label: str
    key: str
    checkpoint: ml_collections.ConfigDict
    logging: ml_collections.ConfigDict
    before_save: Callable[[], None] = lambda: None
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def checkpoints(self) -> checkpointing.Checkpoints:
        """The states of the run, a context manager."""
        return checkpointing.Checkpoints(
            checkpoints_folder(self.workdir, self.key),
            every_steps=self.checkpoint.every_steps,
            keep=self.checkpoint.keep,
            before_save=self.before_save,
        )

    def log(self, first_step: int) -> metrics_log.MetricsLog:
        """Where metrics go; what earlier steps logged is kept."""

        def start(next_step: int) -> list[loggers.Logger]:
            training = loggers.Training(
                name=self._name,
                label=self.label,
                key=self.key,
                inputs=self.inputs,
                workdir=self.workdir,
                project=self.logging.get("project", ""),
                first_step=first_step,
                next_step=next_step,
            )
            return loggers.start(self.logging, training)

        return metrics_log.MetricsLog(
            self.workdir / "logs" / f"{self._name}.jsonl",
            first_step=first_step,
            every_steps=self.logging.every_steps,
            start=start,
        )

    @property
    def failure_path(self) -> epath.Path:
        """Of the file that says which examples a loss was not finite on."""
        return self.workdir / "failures" / f"{self._name}.json"

    @property
    def _name(self) -> str:
        return f"{self.label.replace(', ', '-').replace(' ', '-')}-{self.key}"


def checkpoints_folder(workdir: epath.Path, key: str) -> epath.Path:
    """Where what a stage saves under way is."""
    return workdir / "checkpoints" / key


class Fitted(NamedTuple):
    """A run that has ended.

    Attributes:
        graphdef: of the module.
        metrics: "last_step" and "mean_over_steps".
        history: with its trace and its times.
    """

    graphdef: Any
    state: state.TrainState
    metrics: dict[str, Any]
    history: loop.History

    @property
    def module(self) -> nnx.Module:
        """What was trained."""
        return nnx.merge(self.graphdef, self.state.params, self.state.frozen)

    @property
    def times(self) -> dict[str, float | None]:
        """Seconds, for the summary."""
        return {"seconds": self.history.seconds, "first_step_seconds": self.history.first_step_seconds}


def fit(
    data: batches.TrainBatches | text_rows.TextBatches,
    abstract: nnx.Module,
    initialize: Callable[[], nnx.Module],
    *,
    objective: Hashable,
    computation: step.Computation,
    optimizer: state.OptimizerSettings,
    mesh: jax.sharding.Mesh,
    files: Files,
    train_steps: dict[Hashable, Callable],
    keep_trace: bool,
    evaluation: loop.Evaluation | None = None,
) -> Fitted:
    """Trains from the last state that was saved, or from what `initialize` makes.

    Args:
        abstract: the shapes of what `initialize` makes.
        objective: what the computation is a function of; runs of one objective share a compilation.
        train_steps: compiled steps; grows.
        keep_trace: whether to keep what was done with each task example.
        evaluation: whose `predict` is given the module under way.

    Raises:
        UserError: the loss is not finite; the states saved before are kept.
        Preempted: the run was told to stop; its state is saved.
    """
    with files.checkpoints() as checkpoints:
        graphdef, abstract_state, shardings = state.abstract(
            abstract, optimizer, mesh, computation.rule_state
        )
        # What is frozen is a function of the pretrained model, and is not saved.
        saved = checkpoints.latest(abstract_state._replace(frozen=()))
        if saved is None:
            graphdef, train_state, shardings = state.start(
                initialize(), optimizer, mesh, computation.rule_state
            )
        else:
            train_state = saved.state._replace(frozen=abstract_state.frozen)
            if jax.tree.leaves(abstract_state.frozen):
                train_state = state.resume(saved.state, initialize(), optimizer, mesh)
            print(f"  going on from step {saved.step} of {data.num_steps}", flush=True)
        gc.collect()  # nnx.merge leaves reference cycles, which would keep the arrays on the devices
        history = loop.History(keep_trace=keep_trace, saved=saved)
        first_step = 0 if saved is None else saved.step
        saved = None  # its arrays are donated to the first step
        run = _train_step(graphdef, shardings, objective, computation, optimizer, mesh, train_steps)
        with contextlib.closing(files.log(first_step)) as log:
            train_state, metrics = loop.train(
                run,
                train_state,
                data,
                mesh=mesh,
                log=log,
                label=files.label,
                history=history,
                checkpoints=checkpoints,
                failure_path=files.failure_path,
                evaluation=evaluation
                and evaluation._replace(
                    predict=lambda held: evaluation.predict(nnx.merge(graphdef, held.params, held.frozen))
                ),
            )
    return Fitted(graphdef, train_state, metrics, history)


def peak_bytes(
    batch: batches.Batch,
    abstract: nnx.Module,
    *,
    objective: Hashable,
    computation: step.Computation,
    optimizer: state.OptimizerSettings,
    mesh: jax.sharding.Mesh,
    train_steps: dict[Hashable, Callable],
) -> int:
    """Bytes that a device needs for the train step of a batch, by the compiler; `fit` does not compile it again.

    Args:
        batch: of a run, on the host; the others as for `fit`.

    Returns:
        Them; of a program that the compiler refuses for its size what it names, in any case more than a device has.
    """
    graphdef, abstract_state, shardings = state.abstract(abstract, optimizer, mesh, computation.rule_state)
    run = _train_step(graphdef, shardings, objective, computation, optimizer, mesh, train_steps)
    try:
        executable = run.lower(abstract_state, batches.abstract_batch(batch, mesh)).compile()
    except jax.errors.JaxRuntimeError as error:
        refused = device_memory.refused_bytes(error)
        if refused is None:
            raise
        return max(refused, 1 + (device_memory.usable_bytes(mesh.devices.flat) or 0))
    return device_memory.peak_bytes(executable, mesh.devices.flat[0].platform)


def _train_step(graphdef, shardings, objective, computation, optimizer, mesh, train_steps) -> Callable:
    """The jitted step of what `fit` is given, one for all runs in which it is the same."""
    key = (graphdef, objective, optimizer, mesh)
    if key not in train_steps:
        print("  compiling the train step with its first batch", flush=True)
        train_steps[key] = step.make_train_step(
            graphdef, computation, optimizer, mesh=mesh, state_shardings=shardings
        )
    return train_steps[key]
