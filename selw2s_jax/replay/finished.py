"""Finished runs, put together again from their workdirs: their students, and these students' labels under settings."""

from typing import NamedTuple

import ml_collections
import numpy as np
from etils import epath

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import plugins, selective
from selw2s_jax.method import label_rules, method_options, objectives, posterior, registry
from selw2s_jax.replay import columns, labels, settings
from selw2s_jax.run import forms, manifests, run_config, student_labels
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples, smoothed
from selw2s_jax.stages import stage as stage_lib

# How far replay at the run's own setting may be from what was trained on: the same sums in float32, in another order.
TOLERANCE = 1e-5


class Row(NamedTuple):
    """A student's labels under one setting, `[N]` in the order of its half, each as the student last saw it.

    NaN for a row that no step had. Fields as of `labels.Replayed`.
    """

    ik_mask: np.ndarray
    prior: np.ndarray
    target: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


class Run:
    """A run of classifiers whose stages are there.

    Args:
        name: of the cell of a sweep, "" of a run of its own.
    """

    def __init__(
        self,
        name: str,
        config: ml_collections.ConfigDict,
        experiment: selective.Experiment,
        store: artifacts.Store,
    ):
        self.name, self.config, self.experiment = name, config, experiment
        self._store, self._reader = store, columns.Reader(config, store)
        self.labels = student_labels.StudentLabels(config, experiment, store)
        self._students: dict[tuple[str, int], labels.Student] = {}

    def student(self, name: str, seed: int) -> labels.Student:
        """A student with its trace.

        Raises:
            UserError: it is not there.
        """
        if (name, seed) not in self._students:
            stage = self.experiment.student(seed, name)
            # The means of neighbours can be worked out.
            needed = [one for one in (*stage.task.needs, stage) if not isinstance(one, smoothed.Means)]
            if missing := [one.label for one in needed if stage_lib.find(self._store, one) is None]:
                raise UserError(
                    f"{name}: {missing[0]} is not there as the run's config, data and models and this code would have "
                    "it; run the same config in the same workdir again, finished stages are kept"
                )
            half = self.experiment.inputs.by_seed[seed].student_half
            trace = stage_lib.find(self._store, stage).read_table(student_labels.TRACE_FILE)
            self._students[name, seed] = labels.Student(name, seed, stage, half, trace)
        return self._students[name, seed]

    def keeps_embeddings(self, name: str, seed: int) -> bool:
        """Whether a student's embeddings at every step are known, as they are those of the untouched model."""
        return batches.EMBEDDINGS in self.student(name, seed).stage.task.columns

    def replay(self, name: str, seed: int, setting: settings.Setting) -> labels.Replayed:
        """A student's labels under a setting, an entry for each of its trace.

        Raises:
            UserError: they are not known.
        """
        student, config = self.student(name, seed), setting.applied(self.config)
        method = method_options.applied(config, name)
        objective = objectives.make_objective(config, method)
        if reason := self.unknown(name, seed, setting):
            raise UserError(f"{name}: {reason}")
        by_step = {
            column: self._masks(one, student, method, setting)
            for column, one in student.stage.task.columns.items()
            if one.by_step
        }
        return labels.replay(
            student,
            objective,
            self._reader.read(student, setting),
            p_ik=self._p_ik_of_head(student),
            columns_by_step=by_step,
        )

    def rows(self, name: str, seed: int, setting: settings.Setting) -> Row:
        """The same for each row of the student's half, when it was last seen."""
        student, replayed = self.student(name, seed), self.replay(name, seed, setting)
        return Row(*(last_seen(student, values) for values in replayed))

    def unknown(self, name: str, seed: int, setting: settings.Setting) -> str | None:
        """Why a student's labels under a setting are not known; None where they are."""
        objective = self.student(name, seed).stage.objective
        options = dict(objective.rule_options)
        if isinstance(label_rules.get(objective.label_rule, **options), label_rules.WithState):
            return "its rule goes by what it kept from step to step, which is not kept"
        if options.get("self_label") == "class_head":
            return "it made its own labels as it went, which are not kept"
        if setting.tau == options.get("tau", setting.tau) or options.get("over") == "set":
            return None
        if self.keeps_embeddings(name, seed):
            return None
        return "its embeddings of each step are not kept, so that no other tau can be replayed"

    def differing(self, name: str, seed: int) -> str | None:
        """How replay at the run's own setting differs from the trace; None where it does not."""
        student = self.student(name, seed)
        again, trace = self.replay(name, seed, settings.Setting.of_run(self.config)), student.trace
        wrong = again.ik_mask != trace["ik_mask"]
        for field in ("prior", "target"):
            wrong |= ~(np.abs(getattr(again, field) - trace[field]) <= TOLERANCE)
        if not wrong.any():
            return None
        return (
            f"at the run's own setting {wrong.sum()} of {len(wrong)} labels are others than it trained on, as of a "
            "rule that looks at more than a run keeps"
        )

    def _p_ik_of_head(self, student: labels.Student) -> np.ndarray:
        """P(IK) of the student's own head at each entry of its trace, where its rule asks for it."""
        fitted = student.stage.task.columns.get("p_ik_calibration")
        if fitted is None:
            return student.trace["p_ik"]
        # The trace has what the rule made of it.
        of_rows = fitted.read(student.half, self._store)[student.place]
        return posterior.online_p_ik(student.trace["p_ik"], of_rows)

    def _masks(
        self,
        column: examples.Column,
        student: labels.Student,
        method: registry.Method,
        setting: settings.Setting,
    ) -> np.ndarray:
        """The shuffled masks `[num_steps, N]` of the student whose control another is, under the setting."""
        if not isinstance(column, examples.ShuffledMasks) or method.mask_of is None:
            raise UserError(f"{student.name} has a column that changes from step to step and is not kept")
        masks = self.replay(method.mask_of, student.seed, setting).ik_mask
        trace = self.student(method.mask_of, student.seed).trace | {"ik_mask": masks}
        return examples.shuffled_masks(trace, student.half.ids, seed=column.seed)


def last_seen(student: labels.Student, values: np.ndarray) -> np.ndarray:
    """Of values `[L]` by entry of the trace those of each row of the half in its last step, `[N]` float64 or NaN."""
    latest = np.full(len(student.half), np.nan)
    order = np.argsort(student.trace["step"], kind="stable")
    latest[student.place[order]] = values[order]
    return latest


def read(workdir: epath.PathLike, *, run: str | None = None) -> list[Run]:
    """The run in a workdir, or those of a sweep.

    Everything that they were made of is read as a run reads it, and nothing is run.

    Args:
        run: of a sweep, the one that is meant.

    Raises:
        UserError: no such run; or what it was made of is not there any more.
    """
    workdir = epath.Path(workdir).expanduser()
    by_name = manifests.read_all(workdir)
    if run is not None and run not in by_name:
        there = ", ".join(filter(None, by_name)) or "one run alone, without a name"
        raise UserError(f"--run={run} is not there: {workdir} has {there}")
    chosen = by_name if run is None else {run: by_name[run]}
    return [_read(workdir, name, manifest["config"]) for name, manifest in chosen.items()]


def _read(workdir: epath.Path, name: str, kept: dict) -> Run:
    folder = workdir / manifests.RUNS_FOLDER / name if name else workdir
    config = run_config.from_json(kept, folder)
    if config.supervision != "class_head":
        raise UserError(f"the run in {folder} has models that write, whose labels no setting here changes")
    plugins.load(config)
    form = forms.get(config)
    inputs = form.prepare(config, workdir)
    return Run(name, config, form.experiment(config, inputs), artifacts.Store(workdir))
