"""Tasks that are learnt one after the other: every student, and the ceiling, starts from its weights of the last task.

A run is one of a sweep over the tasks, in their order. The weak model learns each task anew, as new labels come from a
teacher of the new task; optimizer and schedule begin anew too. Each model is tested on all tasks after each, so that
what it forgets, and what it can do before it learns it, is seen.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import ml_collections

from selw2s_jax.data import overlap
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs as inputs_lib
from selw2s_jax.experiments import once, selective
from selw2s_jax.stages import predict, train
from selw2s_jax.stages import stage as stage_lib


@dataclasses.dataclass(frozen=True)
class Inputs(inputs_lib.Inputs):
    """What the stages of one task read.

    Attributes:
        of_tasks: likewise of every task, in the order in which they are learnt.
    """

    of_tasks: Mapping[str, inputs_lib.Inputs] = dataclasses.field(default_factory=dict)


def prepare(config: ml_collections.ConfigDict, workdir, *, notes: Sequence[str] = ()) -> Inputs:
    """`inputs.prepare` of every task of the sequence, for the run of one.

    Raises:
        UserError: the first thing that is wrong.
    """
    of_tasks = {
        task: inputs_lib.prepare(of_task(config, task), workdir, notes=notes)
        for task in config.continual.tasks
    }
    _check_truth(of_tasks)
    return _of(of_tasks, config.task)


def _check_truth(of_tasks: Mapping[str, inputs_lib.Inputs]) -> None:
    """That P(IK) tells a student no truth of a later task: what it is trained on is without that of its own alone."""
    for (first, before), (later, after) in itertools.combinations(of_tasks.items(), 2):
        for seed, data in after.by_seed.items():
            p_ik, parts = before.by_seed[seed].p_ik, (data.student_half, data.held_out, data.test)
            read = overlap.questions_of(one for part in parts if part is not None for one in part.examples)
            told = [one.example_id for one in p_ik.examples if one.is_of_any(read)] if p_ik else []
            if told:
                raise UserError(
                    f"config.continual.tasks: {len(told)} of the questions that P(IK) learns beside {first} are the "
                    f"student's or the test's of {later} (first: {told[0]}), which its students go on to: choose "
                    f"another p_ik.task or p_ik.file, or have {later} before {first}"
                )


def of_task(config: ml_collections.ConfigDict, task: str) -> ml_collections.ConfigDict:
    """The config of another task's run."""
    other = config.copy_and_resolve_references()
    other.task = task
    return other


def _of(of_tasks: Mapping[str, inputs_lib.Inputs], task: str) -> Inputs:
    own = of_tasks[task]
    named = {field.name: getattr(own, field.name) for field in dataclasses.fields(inputs_lib.Inputs)}
    # The paper's students and ceiling start from pretrained models.
    return Inputs(**named | {"is_papers_data": False}, of_tasks=of_tasks)


class Experiment(selective.Experiment):
    """The stages of one task of a sequence; those of earlier tasks are among what its models start from.

    Attributes:
        last: the experiment on the task before, None for the first.
    """

    def __init__(self, config: ml_collections.ConfigDict, inputs: Inputs):
        super().__init__(config, inputs)
        tasks = list(inputs.of_tasks)
        position = tasks.index(config.task)
        self.last = None
        if position:
            before = tasks[position - 1]
            self.last = Experiment(of_task(config, before), _of(inputs.of_tasks, before))

    def start(self, seed: int, name: str) -> train.Train | None:
        """The same model after the task before."""
        return super().start(seed, name) if self.last is None else self.last.trained(seed, name)

    def tests(self, seed: int, name: str) -> list[stage_lib.Stage]:
        """On its own task, and of models that go on learning on all others."""
        others = (
            () if name == "weak" else [task for task in self.inputs.of_tasks if task != self._config.task]
        )
        return [*super().tests(seed, name), *(self.evaluation_on(seed, name, task) for task in others)]

    @once.once
    def evaluation_on(self, seed: int, name: str, task: str) -> predict.Predict:
        """Predictions on the test split of a task of the sequence, after the run's own."""
        if task == self._config.task:
            return self.evaluation(seed, name)
        other, trained = self._experiment_on(task), self.trained(seed, name)
        is_probe = self.settings.is_probe(trained.model)
        return predict.Predict(
            f"evaluation of {name} on {task} after {self._config.task}, seed {seed}",
            self.settings,
            trained,
            other.split(trained.model, seed, "test"),
            other.embeddings(trained.model.slot, seed, "test") if is_probe else None,
        )

    @once.once
    def _experiment_on(self, task: str) -> selective.Experiment:
        """What reads another task."""
        return selective.Experiment(of_task(self._config, task), self.inputs.of_tasks[task])
