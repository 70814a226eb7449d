"""What examples carry in training besides their tokens: where each column comes from, and how it is read.

A column is data, as a stage is: what it is a function of goes into the key of the training that reads it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from selw2s_jax.data import batches, by_id, splits, written_splits
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import answering, fewshot
from selw2s_jax.method import disagreement
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import column, embed
from selw2s_jax.stages import stage as stage_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """What all columns have.

    Attributes:
        by_step: whether its values change from step to step, `[num_steps, N, ...]` rather than `[N, ...]`.
        named: its name among the inputs of a training, None for that of the column.
    """

    by_step: ClassVar[bool] = False
    named: ClassVar[str | None] = None

    @property
    def needs(self) -> tuple[stage_lib.Stage, ...]:
        """The stages that it is read from."""
        return ()

    @property
    def inputs(self) -> Any:
        """What it is a function of, as a JSON value."""
        return None

    def read(self, split: splits.Split, store: artifacts.Store) -> np.ndarray:
        """Its values, in the order of the split, once the stages that it needs have run."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Truth(Column):
    """The ground truth as class probabilities `[N, 2]`; for weak model and ceiling alone."""

    named = "labels"
    split: splits.Split

    @property
    def inputs(self) -> str:
        return self.split.labels_hash

    def read(self, split, store):
        return np.eye(2, dtype=np.float32)[split.labels]


@dataclasses.dataclass(frozen=True, eq=False)
class WeakLabels(Column):
    """The soft labels `[N, 2]` of the weak model, or an earlier student, a share of them turned round.

    Attributes:
        labels: the stage of its predictions.
        noise: the share.
        seed: of which rows are turned.
    """

    labels: stage_lib.Stage
    noise: float = 0.0
    seed: int = 0

    @property
    def needs(self):
        return (self.labels,)

    @property
    def inputs(self):
        key = self.labels.key
        return {"labels": key, "noise": self.noise, "seed": self.seed} if self.noise else key

    def read(self, split, store):
        probs = [
            stage_lib.read_column(store, self.labels, "predictions.parquet", name, split)
            for name in ("prob_0", "prob_1")
        ]
        return turn_labels(np.stack(probs, axis=-1), split.ids, self.noise, seed=self.seed)


@dataclasses.dataclass(frozen=True, eq=False)
class WeakEach(Column):
    """The soft labels of each weak model `[N, K, 2]`, of the same rows turned round as of their labels together.

    Attributes:
        labels: the stages of their predictions.
        noise, seed: as of `WeakLabels`.
    """

    labels: tuple[stage_lib.Stage, ...]
    noise: float
    seed: int

    @property
    def needs(self):
        return self.labels

    @property
    def inputs(self):
        return [WeakLabels(labels, self.noise, self.seed).inputs for labels in self.labels]

    def read(self, split, store):
        each = [WeakLabels(labels, self.noise, self.seed).read(split, store) for labels in self.labels]
        return np.stack(each, axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement(Column):
    """How many of several weak models agree with the labels that are taught `[N]`; see `disagreement.agreement`."""

    each: WeakEach
    labels: WeakLabels
    temperature: float

    @property
    def needs(self):
        return (*self.each.needs, *self.labels.needs)

    @property
    def inputs(self):
        return {"each": self.each.inputs, "labels": self.labels.inputs, "temperature": self.temperature}

    def read(self, split, store):
        each, labels = (column.read(split, store) for column in (self.each, self.labels))
        return disagreement.agreement(each, labels, self.temperature)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn(Column):
    """How often each example was drawn `[N]`, which it counts for in the loss.

    Attributes:
        by_id: the counts, known when the plan is made.
    """

    by_id: Mapping[str, float]

    @property
    def inputs(self):
        return artifacts.content_hash(sorted(self.by_id.items()))

    def read(self, split, store):
        return np.array([self.by_id[name] for name in split.ids], np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Hard(Column):
    """The class that soft labels `[N, 2]` say, as probabilities of 0 and 1."""

    labels: Column

    @property
    def needs(self):
        return self.labels.needs

    @property
    def inputs(self):
        return {"hard": self.labels.inputs}

    def read(self, split, store):
        is_one = self.labels.read(split, store)[:, 1] > 0.5
        return np.eye(2, dtype=np.float32)[is_one.astype(np.int32)]


@dataclasses.dataclass(frozen=True, eq=False)
class OwnLabels(Column):
    """The strong model's own labels `[N]`, probabilities of class 1.

    Attributes:
        answers: the stage that has them.
        file: of its artifact.
        soft: False makes them 0 or 1.
    """

    answers: stage_lib.Stage
    file: str
    soft: bool

    @property
    def needs(self):
        return (self.answers,)

    @property
    def inputs(self):
        return [self.answers.key, self.soft]

    def read(self, split, store):
        probs = stage_lib.read_column(store, self.answers, self.file, "prob_1", split)
        return probs if self.soft else (probs > 0.5).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class MadeInTraining(Column):
    """Labels `[N]` that the student makes as it goes; what is read is never looked at."""

    def read(self, split, store):
        return np.zeros(len(split), np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Scores(Column):
    """P(IK) `[N]` of a model that was trained before.

    Attributes:
        predictions: the stage that has them.
    """

    predictions: stage_lib.Stage

    @property
    def needs(self):
        return (self.predictions,)

    @property
    def inputs(self):
        return self.predictions.key

    def read(self, split, store):
        return stage_lib.read_column(store, self.predictions, "predictions.parquet", "p_ik", split)


@dataclasses.dataclass(frozen=True, eq=False)
class ShuffledMasks(Column):
    """IK masks `[num_steps, N]` of another student, each step's shuffled among the examples of its batch."""

    by_step = True
    student: stage_lib.Stage
    seed: int

    @property
    def needs(self):
        return (self.student,)

    @property
    def inputs(self):
        return {"masks_of": self.student.key, "seed": self.seed}

    def read(self, split, store):
        trace = stage_lib.find(store, self.student).read_table("trace.parquet")
        return shuffled_masks(trace, split.ids, seed=self.seed)


@dataclasses.dataclass(frozen=True, eq=False)
class FileValues(Column):
    """Numbers `[N]` of a user's file, joined by example_id when the plan is made."""

    values: np.ndarray

    @classmethod
    def of(cls, path: str, field: str, split: splits.Split, *, hard: bool = False) -> "FileValues":
        """The values of a field in [0, 1].

        Args:
            hard: makes them 0 or 1.

        Raises:
            UserError: the file cannot be read, or lacks an example.
        """
        values = by_id.join(by_id.read_values(path, field, 0, 1), split.ids, path)
        return cls((values > 0.5).astype(np.float32) if hard else values)

    @property
    def inputs(self):
        return artifacts.content_hash(self.values.tolist())

    def read(self, split, store):
        return self.values


@dataclasses.dataclass(frozen=True, eq=False)
class Made(Column):
    """Values `[N, *shape]` that a user's own function makes.

    Attributes:
        made: the stage that has them.
    """

    made: column.Column

    @property
    def needs(self):
        return (self.made,)

    @property
    def inputs(self):
        return self.made.key

    def read(self, split, store):
        size = math.prod(self.made.shape)
        values = [
            stage_lib.read_column(store, self.made, column.FILE, f"value_{number}", split)
            for number in range(size)
        ]
        return np.stack(values, axis=-1).reshape(len(split), *self.made.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings(Column):
    """What an untouched model makes of the texts `[N, D]`, which stands for their tokens.

    Attributes:
        stages: that have them, one for each part that the split was joined of.
    """

    stages: tuple[embed.Embed, ...]

    @property
    def needs(self):
        return self.stages

    @property
    def inputs(self):
        return [stage.key for stage in self.stages]

    def read(self, split, store):
        return embed.read(store, self.stages, split)


@dataclasses.dataclass(frozen=True, eq=False)
class SampledAccuracy(Column):
    """Targets of P(IK) `[N]`: the share of sampled few-shot answers that are right.

    Attributes:
        answers: the stage of the few-shot answers; where they are written at length, samples already.
        num_samples, temperature, seed: of the sampling from answers that are 0 or 1; None where they are samples.
    """

    answers: stage_lib.Stage
    num_samples: int | None = None
    temperature: float | None = None
    seed: int | None = None

    @property
    def needs(self):
        return (self.answers,)

    @property
    def inputs(self) -> dict[str, Any]:
        if self.num_samples is None:
            return {"p_ik_answers": self.answers.key}
        return {
            "p_ik_answers": self.answers.key,
            "num_samples": self.num_samples,
            "temperature": self.temperature,
            "sampling_seed": self.seed if self.temperature else None,
        }

    def read(self, split, store):
        if self.num_samples is None:
            targets = stage_lib.read_column(store, self.answers, answering.FILE, "right", split)
        else:
            targets = fewshot.sampled_accuracy(
                stage_lib.read_column(store, self.answers, answering.FILE, "log_odds", split),
                split.labels,
                split.ids,
                seed=self.seed,
                num_samples=self.num_samples,
                temperature=self.temperature,
            )
        print(f"  the sampled answers are right on {100 * targets.mean():.1f} % of the P(IK) examples")
        return targets


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """A split with the columns that its examples carry."""

    split: splits.Split | written_splits.WrittenSplit
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(self.split)

    @property
    def needs(self) -> tuple[stage_lib.Stage, ...]:
        return tuple(stage for column in self.columns.values() for stage in column.needs)

    @property
    def inputs(self) -> dict[str, Any]:
        """What they are a function of."""
        own = {name: column for name, column in self.columns.items() if not isinstance(column, Made)}
        named = {column.named or name: column.inputs for name, column in own.items()}
        # Columns of users have names of their own choice, which must not stand for anything else of a training.
        if made := {name: column.inputs for name, column in self.columns.items() if name not in own}:
            named["columns"] = made
        return {"texts": self.split.texts_hash, **named}

    def read(self, model: pretrained.Model, store: artifacts.Store) -> batches.ExampleSet:
        """The examples, once the stages that they need have run: tokenised for a model, or as their embeddings."""
        values = {name: column.read(self.split, store) for name, column in self.columns.items()}
        fixed = {name: value for name, value in values.items() if not self.columns[name].by_step}
        by_step = {name: value for name, value in values.items() if self.columns[name].by_step}
        tokens = None if batches.EMBEDDINGS in self.columns else self.split.tokens(model)
        return batches.ExampleSet(self.split.ids, tokens, fixed, by_step)


@dataclasses.dataclass(frozen=True, eq=False)
class PIKExamples(Examples):
    """Examples that P(IK) is trained on: the column `ik_target`, and embeddings where they stand for tokens."""

    @property
    def inputs(self) -> dict[str, Any]:
        named = {
            "p_ik_texts": self.split.texts_hash,
            "p_ik_labels": self.split.labels_hash,
            **self.columns["ik_target"].inputs,
        }
        if embedded := self.columns.get(batches.EMBEDDINGS):
            named["p_ik_embeddings"] = embedded.inputs
        return named


def turn_labels(probs: np.ndarray, ids: Sequence[str], share: float, *, seed: int) -> np.ndarray:
    """Soft labels `[N, 2]` with the classes of about a share of the rows exchanged.

    Which rows depends on their ids alone; those of a smaller share are among those of a larger one.
    """
    turned = np.array([by_id.keyed_uniform(seed, "label noise", name) < share for name in ids])
    return np.where(turned[:, None], probs[:, ::-1], probs)


def shuffled_masks(trace: dict[str, np.ndarray], ids: Sequence[str], *, seed: int) -> np.ndarray:
    """The IK masks of a trace, each step's shuffled among the examples of its batch.

    Args:
        trace: `step`, `example_id` and `ik_mask`, an entry per task example and step.
        ids: `[N]` example_ids.

    Returns:
        `[num_steps, N]` float32 of 0 and 1; 0 for the examples that are not in a step's batch.
    """
    place = {example_id: index for index, example_id in enumerate(ids)}
    masks = np.zeros((int(trace["step"].max()) + 1, len(ids)), np.float32)
    for step in range(len(masks)):
        members = np.flatnonzero(trace["step"] == step)
        # The order in a trace is that of packing, which the layout of the devices decides.
        members = members[np.argsort(trace["example_id"][members])]
        shuffled = np.random.default_rng([seed, step]).permutation(trace["ik_mask"][members])
        masks[step, [place[example_id] for example_id in trace["example_id"][members]]] = shuffled
    return masks
