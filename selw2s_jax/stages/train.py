"""The stage that trains a classifier: the weak model, the ceiling, P(IK) alone, or a student."""

import dataclasses
import functools
from typing import Any

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.method import label_rules, losses, objectives
from selw2s_jax.models import heads
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import curve, examples, own_code, training, workbench
from selw2s_jax.training import step

_MAX_SELF_WEIGHT = 0.99  # mean self-weight above which a graph has no neighbours to speak of


@dataclasses.dataclass(frozen=True, eq=False)
class Train(training.Training):
    """Training of a classifier.

    Attributes:
        objective: of its method, with the config's values; seeds of one objective share a compilation.
        batch_sizes: how many examples of each kind a step takes.
        task: examples of the task, None where P(IK) is trained alone.
        p_ik: examples of P(IK), None where it is not trained.
        starts_from: the trained model to start from; None: the pretrained one.
        asked: what, while it is trained; None: nothing.
    """

    forward = staticmethod(step.classify)
    objective: objectives.Objective
    batch_sizes: dict[int, int]
    task: examples.Examples | None = None
    p_ik: examples.Examples | None = None
    starts_from: "Train | None" = None
    asked: curve.Curve | None = None

    @property
    def by_kind(self) -> dict[int, examples.Examples]:
        """Its examples."""
        kinds = {batches.TASK: self.task, batches.P_IK: self.p_ik}
        return {kind: carried for kind, carried in kinds.items() if carried is not None}

    @property
    def texts_by_kind(self):
        return {kind: carried.split.texts for kind, carried in self.by_kind.items()}

    @property
    def needs(self):
        of_examples = [stage for carried in self.by_kind.values() for stage in carried.needs]
        last = () if self.starts_from is None else (self.starts_from,)
        of_curve = () if self.asked is None else self.asked.needs
        return (*super().needs, *of_examples, *last, *of_curve)

    @property
    def num_examples(self) -> int:
        """Those that fix the number of steps: of the task, or of P(IK) where it is trained alone."""
        return len(self.p_ik if self.task is None else self.task)

    @property
    def num_expected(self):
        return {kind: len(carried) for kind, carried in self.by_kind.items()}

    def expected_sets(self):
        # Which rows labels will choose is not known: as many others stand for them.
        return {
            kind: batches.ExampleSet(
                carried.split.ids[: len(carried)], carried.split.tokens(self.model)[: len(carried)]
            )
            for kind, carried in self.by_kind.items()
        }

    @property
    def num_steps(self) -> int:
        """Raises a UserError where there is none."""
        kind = batches.P_IK if self.task is None else batches.TASK
        return training.count_steps(self.num_examples, self.epochs, self.batch_sizes[kind], self.label)

    @property
    def detail(self):
        described = f"{self.num_examples} examples, {self.num_steps} steps"
        return described if self.asked is None else f"{described}, {self.asked.describe(self.num_steps)}"

    @property
    def num_head_params(self):
        """Of both heads."""
        return 2 * heads.NUM_CLASSES * self.model.config.embed_dim

    def check(self):
        training.check_warmup(self.settings.training.warmup_steps, self.num_steps, self.label)
        of_p_ik = self.batch_sizes[batches.P_IK]
        # Where it is not set it is that of the task, which runs across the ends of epochs.
        if self.p_ik is not None and len(self.p_ik) < of_p_ik != self.batch_sizes[batches.TASK]:
            raise UserError(
                f"config.p_ik.batch_size={of_p_ik} is more than the {len(self.p_ik)} examples of P(IK) of "
                f"{self.label}: lower it, or give more examples"
            )
        super().check()

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        return {
            **self.training_inputs(),
            "num_steps": self.num_steps,
            "openai_pooling": self.settings.openai_pooling,
            "objective": self.objective._asdict(),
            **own_code.hashes(
                label_rule=label_rules.LABEL_RULES[self.objective.label_rule],
                loss=losses.LOSSES[self.objective.loss],
                **objectives.rule_parts(self.objective),
            ),
            "starts_from": self.starts_from.key if self.starts_from else None,
            # What is trained is the same without it, but what the artifact holds is not.
            **({} if self.asked is None else {"curve": self.asked.inputs(self.model)}),
            **self._data_inputs(),
        }

    def _data_inputs(self) -> dict[str, Any]:
        p_ik = None
        if self.p_ik is not None:
            p_ik = {**self.p_ik.inputs, "p_ik_batch_size": self.batch_sizes[batches.P_IK]}
        if self.task is None:
            return {"role": self.role, **p_ik}
        named = {"role": self.role, **self.task.inputs}
        return named | ({"p_ik": p_ik} if self.role == "student" else {})

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Trains, writes the weights that were trained, trace and summary, and leaves the model on the devices."""
        sets = {kind: carried.read(self.model, bench.store) for kind, carried in self.by_kind.items()}
        shapes = sets[batches.TASK].column_shapes if batches.TASK in sets else {}
        asked = self.asked and self.asked.read(self.label, self.settings, self.model, bench.store)
        fitted, summary = self.train_on(
            bench,
            sets,
            self.batch_sizes,
            self.num_steps,
            objective=self.objective,
            computation=step.classification(self.objective, self.forward, shapes),
            keep_trace=self.objective.label_rule != "given",
            evaluate=asked and asked.evaluation,
        )
        _warn_of_lonely_rows(fitted.metrics["last_step"])
        if trace := fitted.history.trace:
            ids = sets[batches.TASK].example_ids
            trace["example_id"] = [ids[index] for index in trace.pop("index")]
            artifacts.write_table(folder / "trace.parquet", trace)
        if asked is not None:
            asked.write(folder, *fitted.history.curve)
        self.keep(folder, bench, fitted, summary | {"p_ik_head": self.p_ik is not None})

    def before_training(self, bench, mesh) -> heads.Classifier:
        if self.starts_from is not None:
            return self.starts_from.laid_out_as(self).load(bench, seed=self.init_seed)
        return super().before_training(bench, mesh)

    def built(self, mesh, *, seed: int = 0) -> pretrained.ClassifierSettings:
        return self.settings.classifier(self.model, mesh, p_ik_head=self.p_ik is not None, seed=seed)

    def built_again(self, mesh, artifact, seed: int) -> pretrained.ClassifierSettings:
        p_ik_head = artifact.read_json("summary.json")["p_ik_head"]
        return self.settings.classifier(self.model, mesh, p_ik_head=p_ik_head, seed=seed)

    def abstract_of(self, built: pretrained.ClassifierSettings) -> heads.Classifier:
        return pretrained.abstract_classifier(self.model.config, built)

    def untrained(self, built: pretrained.ClassifierSettings) -> heads.Classifier:
        return pretrained.load_classifier(self.model.folder, built)


def _warn_of_lonely_rows(metrics: dict[str, float]) -> None:
    if metrics.get("self_weight", 0) > _MAX_SELF_WEIGHT:
        print(
            f"  warning: mean self-weight {metrics['self_weight']:.4f} in the last batch: smoothing does next to "
            "nothing; raise graph.tau, or set graph.normalize=True or graph.include_self=False"
        )
