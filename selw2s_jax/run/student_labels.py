"""The labels of the student's half, and what they are worth, read from the finished stages of a run."""

from typing import Any

import ml_collections
import numpy as np

from selw2s_jax.analysis import audit, disagreement, selection_frequency
from selw2s_jax.experiments import selective
from selw2s_jax.method import objectives, registry
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples, predict
from selw2s_jax.stages import stage as stage_lib

TRACE_FILE = "trace.parquet"  # of a student whose rule chose among labels
_FROZEN, _FILE = "p_ik_only", "file"  # whose P(IK) it is, where it is not of a student's own head


class StudentLabels:
    """Reads the labels of an experiment whose stages are finished.

    Args:
        config: the validated config.
        experiment: its stages and inputs.
        store: their artifacts.
    """

    def __init__(
        self, config: ml_collections.ConfigDict, experiment: selective.Experiment, store: artifacts.Store
    ):
        self._config, self._experiment, self._store = config, experiment, store
        self._traces: dict[str, dict[str, np.ndarray] | None] = {}

    def columns(self, seed: int, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Weak labels, or those of a method's teacher, and self labels of a seed, as probabilities of class 1 `[N]`.

        The self labels are None where the student made them as it went, or no student used any.
        """
        half = self._experiment.inputs.by_seed[seed].student_half
        weak = self._experiment.lesson(seed, name).labels.read(half, self._store)[:, 1]
        used = any(registry.METHODS[name].uses_self_labels for name in self._config.methods)
        there = used and self._config.self_label.source != "class_head"
        return weak, self._experiment.self_column(seed).read(half, self._store) if there else None

    def trace(self, seed: int, name: str) -> dict[str, np.ndarray] | None:
        """What a student was trained on at each step; None where it took the weak labels as they are."""
        student = self._experiment.student(seed, name)
        if student.key not in self._traces:  # several numbers are of the same trace
            artifact = stage_lib.find(self._store, student)
            is_there = TRACE_FILE in artifact.files
            self._traces[student.key] = artifact.read_table(TRACE_FILE) if is_there else None
        return self._traces[student.key]

    def disagreement(self, seed: int) -> list[dict[str, Any]]:
        """For each method that has a trace, `disagreement.describe` of its labels.

        Also `method`, `seed`, and as `p_ik_of` whose P(IK) it is: that of the method itself or of the one that it
        controls for, at the end of training, "p_ik_only" for the scores of P(IK) trained alone, or "file"; None where
        the method has none.
        """
        half = self._experiment.inputs.by_seed[seed].student_half
        entries = []
        for name in self._config.methods:
            if (trace := self.trace(seed, name)) is not None:
                weak, own = self.columns(seed, name)
                p_ik_of, p_ik = self._p_ik(seed, name)
                target = disagreement.last_of_trace(trace, half.ids, "target")
                found = disagreement.describe(half.labels, weak, own, p_ik=p_ik, target=target)
                entries.append({"method": name, "seed": seed, "p_ik_of": p_ik_of, **found})
        return entries

    def changes(self, seed: int) -> list[dict[str, Any]]:
        """For each method that has a trace, `audit.label_changes` of its labels; also `method` and `seed`."""
        half = self._experiment.inputs.by_seed[seed].student_half
        entries = []
        for name in self._config.methods:
            if (trace := self.trace(seed, name)) is not None:
                weak, own = self.columns(seed, name)
                last = {
                    column: disagreement.last_of_trace(trace, half.ids, of_trace)
                    for column, of_trace in (("chosen", "ik_mask"), ("prior", "prior"), ("target", "target"))
                }
                found = audit.label_changes(half.labels, weak, own, **last)
                entries.append({"method": name, "seed": seed, **found})
        return entries

    def selection_frequency(self, seed: int) -> list[dict[str, Any]]:
        """For each method that has a trace, `selection_frequency.describe` of its rows, with `method` and `seed`."""
        half = self._experiment.inputs.by_seed[seed].student_half
        entries = []
        for name in self._config.methods:
            if (trace := self.trace(seed, name)) is not None:
                weak, _ = self.columns(seed, name)
                frequency = selection_frequency.frequencies(trace, half.ids)
                found = selection_frequency.describe(frequency, half.labels, weak)
                entries.append({"method": name, "seed": seed, **found})
        return entries

    def _p_ik(self, seed: int, name: str) -> tuple[str | None, np.ndarray | None]:
        """Whose P(IK) a method chose by, and its values on the student's half `[N]`."""
        method = registry.METHODS[name]
        if method.mask_of is not None:
            return self._p_ik(seed, method.mask_of)
        if method.control_of in self._config.methods:
            return self._p_ik(seed, method.control_of)
        if not method.uses_p_ik:
            return None, None
        half = self._experiment.inputs.by_seed[seed].student_half
        given = self._experiment.student(seed, name).task.columns.get("given_p_ik")
        if isinstance(given, examples.FileValues):
            return _FILE, given.read(half, self._store)
        trace = self.trace(seed, name)
        is_own = method.role != "control" and objectives.trains_p_ik(self._config, method)
        if given is None and trace is not None and is_own:
            return name, disagreement.last_of_trace(trace, half.ids, "p_ik")
        # A control that is without them is shown beside what it controls for.
        scores = [*self._frozen_scores(seed, name), *self._frozen_scores(seed, *self._config.methods)]
        return (_FROZEN, examples.Scores(scores[0]).read(half, self._store)) if scores else (None, None)

    def _frozen_scores(self, seed: int, *names: str) -> list[predict.Predict]:
        """P(IK) of the student's half by P(IK) trained alone, which examples of these methods are made of."""
        half = self._experiment.inputs.by_seed[seed].student_half
        students = [self._experiment.student(seed, name) for name in names]
        needs = [stage for student in students if student.task is not None for stage in student.task.needs]
        scores = [stage for stage in needs if isinstance(stage, predict.Predict) and stage.split is half]
        return [stage for stage in scores if stage.trained.role == "p_ik"]
