"""The training loop: feeds the step, reads metrics one step late, writes them as JSON lines."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from selw2s_jax import progress
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.training import state as state_lib


class MetricsLog:
    """Metrics of each step as JSON lines, and as TensorBoard events where asked for.

    Args:
        path: of the JSON lines file; made anew.
        tensorboard_dir: folder of the event files, or None.
        every_steps: log one step in so many, and the last.
    """

    def __init__(self, path: pathlib.Path, *, tensorboard_dir: pathlib.Path | None, every_steps: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w")
        self._every_steps = every_steps
        self._writer = None
        if tensorboard_dir is not None:
            import tensorboardX

            self._writer = tensorboardX.SummaryWriter(str(tensorboard_dir))

    def write(self, step: int, metrics: dict[str, float], *, last: bool = False) -> None:
        if step % self._every_steps and not last:
            return
        record = {"step": step} | {f"train/{name}": value for name, value in metrics.items()}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def train(
    train_step,
    state: state_lib.TrainState,
    data: batches.TrainBatches,
    *,
    mesh: jax.sharding.Mesh,
    log: MetricsLog,
    label: str,
    keep_trace: bool,
) -> tuple[state_lib.TrainState, dict[str, Any], dict[str, np.ndarray]]:
    """Runs the steps of `data` that the state has not done.

    Args:
        train_step: from `step.make_train_step`; donates the state.
        state: from `state.start`.
        mesh: devices of the run.
        log: where metrics go.
        label: name of the run in progress and errors.
        keep_trace: keep what was done with each task example at each step.

    Returns:
        The final state, the metrics ("last_step" and "mean_over_steps" of this call), and the trace: arrays over
        all task examples of all steps (`step`, `index`, and the fields of `step.Trace`), empty unless asked for.

    Raises:
        UserError: the loss is not finite; nothing of this run is kept.
    """
    trace_parts: list[dict[str, np.ndarray]] = []
    metrics: dict[str, float] = {}
    totals: dict[str, float] = {}

    def finish(step: int, device_metrics, trace, batch: batches.Batch) -> None:
        nonlocal metrics, totals
        metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
        if not np.isfinite(metrics["loss"]) or not np.isfinite(metrics["grad_norm"]):
            names = ", ".join(data.example_ids(step)[:8])
            raise UserError(
                f"{label}: loss {metrics['loss']} with gradient norm {metrics['grad_norm']} at step {step} of "
                f"{data.num_steps} (first examples: {names}); lower the learning rate or use float32"
            )
        totals = {name: totals.get(name, 0.0) + value for name, value in metrics.items()}
        log.write(step, metrics, last=step == data.num_steps - 1)
        if keep_trace:
            is_task = (batch.kind.reshape(-1) == batches.TASK) & (batch.weight.reshape(-1) > 0)
            part = {
                name: np.asarray(value)[is_task] for name, value in jax.device_get(trace)._asdict().items()
            }
            index = batch.index.reshape(-1)[is_task]
            trace_parts.append({"step": np.full(len(index), step, np.int32), "index": index, **part})

    def status() -> str:
        return f"loss {metrics['loss']:.4f}" if metrics else ""

    pending = None
    steps = range(int(state.step), data.num_steps)
    for step in progress.track(steps, total=len(steps), label=label, unit="steps", status=status):
        batch = data.batch_at(step)
        state, device_metrics, trace = train_step(state, batches.device_batch(batch, mesh))
        if pending is not None:
            finish(*pending)
        pending = (step, device_metrics, trace, batch)
    finish(*pending)
    names = trace_parts[0] if trace_parts else ()
    means = {name: total / len(steps) for name, total in totals.items()}
    summary = {"last_step": metrics, "mean_over_steps": means}
    return state, summary, {name: np.concatenate([part[name] for part in trace_parts]) for name in names}
