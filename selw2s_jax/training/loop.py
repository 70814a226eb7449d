"""The training loop: feeds the step, reads metrics one step late, saves the state, and stops when told to."""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts, distributed, preemption, progress, storage
from selw2s_jax.training import checkpointing, metrics_log
from selw2s_jax.training import state as state_lib


class Evaluation(NamedTuple):
    """Predictions that a run keeps of the model as it is before the first step, after some steps and after the last.

    It stands beside the step and changes nothing of the state, so that what is trained is the same bits without it.

    Attributes:
        every_steps: after how many steps.
        predict: what is trained, here its state -> `[N]` float32, always of the same examples; all processes call it
            together.
    """

    every_steps: int
    predict: Callable[[Any], np.ndarray]

    def is_due(self, done: int, num_steps: int) -> bool:
        """Whether predictions are kept of the state after so many steps of all."""
        return done % self.every_steps == 0 or done == num_steps


# Of the predictions of an `Evaluation`, in what is saved beside a state.
_CURVE_STEP, _CURVE_VALUES = "curve_step", "curve_predictions"


class History:
    """What a run keeps beside its state: sums of its metrics, what was done with each task example, predictions.

    Args:
        keep_trace: whether to keep the latter.
        saved: of an earlier call, to go on from.
    """

    def __init__(self, *, keep_trace: bool, saved: checkpointing.Saved | None = None):
        self._keep_trace = keep_trace
        arrays = {} if saved is None else dict(saved.trace)
        self._curve = dict(zip(arrays.pop(_CURVE_STEP, ()), arrays.pop(_CURVE_VALUES, ()), strict=True))
        self._parts: list[dict[str, np.ndarray]] = [arrays] if arrays else []
        record = {} if saved is None else saved.record
        self._totals: dict[str, float] = record.get("totals", {})
        self._seconds_before: float = record.get("seconds", 0.0)
        self._start = time.monotonic()
        self.first_step_seconds: float | None = None  # of this call, its compilation included

    def add(self, step: int, metrics: dict[str, float], trace, batch) -> None:
        """Adds a step that is done."""
        if self.first_step_seconds is None:
            self.first_step_seconds = time.monotonic() - self._start
        self._totals = {name: self._totals.get(name, 0.0) + value for name, value in metrics.items()}
        if self._keep_trace:
            is_task = (batch.kind.reshape(-1) == batches.TASK) & (batch.weight.reshape(-1) > 0)
            values = jax.device_get(trace)._asdict()
            part = {name: np.asarray(value)[is_task] for name, value in values.items()}
            index = batch.index.reshape(-1)[is_task]
            self._parts.append({"step": np.full(len(index), step, np.int32), "index": index, **part})

    def add_predictions(self, done: int, values: np.ndarray) -> None:
        """Adds what the model predicts `[N]` after so many steps."""
        self._curve[done] = values

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The steps `[K]` int32 after which predictions were kept, and these `[K, N]`; None where none were."""
        if not self._curve:
            return None
        return np.array(list(self._curve), np.int32), np.stack(list(self._curve.values()))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is saved of it as arrays."""
        curve = {} if self.curve is None else dict(zip((_CURVE_STEP, _CURVE_VALUES), self.curve, strict=True))
        return self.trace | curve

    @property
    def trace(self) -> dict[str, np.ndarray]:
        """`step`, `index` and the fields of `step.Trace`: an entry per task example and step."""
        names = sorted(self._parts[0]) if self._parts else ()
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}

    @property
    def record(self) -> dict[str, Any]:
        """What `saved` needs of it besides `arrays`."""
        return {"totals": self._totals, "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        """Time spent on the steps that are kept, over all calls."""
        return self._seconds_before + time.monotonic() - self._start

    def means(self, num_steps: int) -> dict[str, float]:
        """Means of the metrics over all steps."""
        return {name: total / num_steps for name, total in self._totals.items()}


def train(
    train_step,
    state: state_lib.TrainState,
    data: batches.TrainBatches,
    *,
    mesh: jax.sharding.Mesh,
    log: metrics_log.MetricsLog,
    label: str,
    history: History,
    checkpoints: checkpointing.Checkpoints | None = None,
    failure_path=None,
    evaluation: Evaluation | None = None,
) -> tuple[state_lib.TrainState, dict[str, Any]]:
    """Runs the steps of `data` that the state has not done.

    Args:
        train_step: from `step.make_train_step`; donates the state.
        state: from `state.start`, or as it was saved.
        mesh: devices of the run.
        log: where metrics go.
        label: name of the run in progress and errors.
        history: of the steps that the state has done; grows.
        checkpoints: where the state is saved.
        failure_path: of the file that says which examples a loss was not finite on.
        evaluation: whose predictions the history keeps.

    Returns:
        The final state, and the metrics: "last_step" and "mean_over_steps".

    Raises:
        UserError: the loss is not finite; the states saved before are kept.
        Preempted: the run was told to stop; its state is saved.
    """
    reader = _Reader(label, data, log, history, failure_path)
    if evaluation is not None and int(state.step) == 0:
        history.add_predictions(0, evaluation.predict(state))
    steps = range(int(state.step), data.num_steps)
    shown = progress.track(
        steps,
        total=data.num_steps,
        done=steps.start,
        label=label,
        unit="steps",
        status=lambda: f"loss {reader.metrics['loss']:.4f}" if reader.metrics else "",
    )
    for step in shown:
        batch = data.batch_at(step)
        state, device_metrics, trace = train_step(state, batches.device_batch(batch, mesh))
        reader.put(step, device_metrics, trace, batch)
        done = step + 1
        if evaluation is not None and evaluation.is_due(done, data.num_steps):
            reader.settle()
            history.add_predictions(done, evaluation.predict(state))
        if checkpoints is None or done == data.num_steps:
            continue
        is_told = preemption.reached()
        if is_told or checkpoints.is_due(done):
            reader.settle()
            log.settle()
            _save(checkpoints, done, state, history, wait=is_told)
        if is_told:
            raise preemption.Preempted(
                f"stopped at step {done} of {data.num_steps} of {label}, which is saved"
            )
    reader.settle()
    log.settle()
    return state, {"last_step": reader.metrics, "mean_over_steps": history.means(data.num_steps)}


class _Reader:
    """Reads what steps gave, one step late: reading a metric waits for its step, and the next one is then under way.

    Attributes:
        metrics: of the last step that was read.
    """

    def __init__(self, label: str, data: batches.TrainBatches, log, history: History, failure_path):
        self._label, self._data, self._log, self._history = label, data, log, history
        self._failure_path = failure_path
        self._pending: tuple[int, Any, Any, batches.Batch] | None = None
        self.metrics: dict[str, float] = {}

    def put(self, step: int, device_metrics, trace, batch: batches.Batch) -> None:
        """Takes what a step gives that has only been sent to the devices, and reads the step before."""
        self.settle()
        self._pending = (step, device_metrics, trace, batch)

    def settle(self) -> None:
        """Reads the step that is done: what is saved or asked next is a state that is known to be sound."""
        if self._pending is None:
            return
        (step, device_metrics, trace, batch), self._pending = self._pending, None
        self.metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
        if not np.isfinite(self.metrics["loss"]) or not np.isfinite(self.metrics["grad_norm"]):
            raise _not_finite(self._label, step, self.metrics, self._data, self._failure_path)
        self._log.write(step, self.metrics, last=step == self._data.num_steps - 1)
        self._history.add(step, self.metrics, trace, batch)


def _save(
    checkpoints: checkpointing.Checkpoints,
    done: int,
    state: state_lib.TrainState,
    history: History,
    *,
    wait: bool,
) -> None:
    """Saves all that the run needs to go on, but for what is frozen: that is a function of the pretrained model."""
    changing = state._replace(frozen=())
    checkpoints.save(checkpointing.Saved(done, changing, history.arrays, history.record), wait=wait)


def _not_finite(
    label: str, step: int, metrics: dict[str, float], data: batches.TrainBatches, failure_path
) -> UserError:
    """The error for a loss that is not finite, once its step and examples are on disk."""
    names = data.example_ids(step)
    where = f"first examples: {', '.join(names[:8])}"
    if failure_path is not None:
        path = epath.Path(failure_path)
        distributed.main_only(lambda: storage.make_folder(path.parent))
        described = {name: str(value) for name, value in metrics.items()}
        content = {"label": label, "step": step, "metrics": described, "example_ids": names}
        artifacts.write_text(path, json.dumps(content, indent=1) + "\n")
        where += f"; all in {path}"
    remedy = "lower the learning rate or use float32"
    if step == 0:
        remedy = (
            "no weight was changed before it: the pretrained model holds values that are not finite, or it or the "
            "settings of the method overflow; use other weights, float32, or less extreme settings"
        )
    return UserError(
        f"{label}: loss {metrics['loss']} with gradient norm {metrics['grad_norm']} at step {step} of "
        f"{data.num_steps} ({where}); {remedy}"
    )
