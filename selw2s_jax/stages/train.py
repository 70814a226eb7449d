"""The stage that trains a classifier: the weak model, the ceiling, P(IK) alone, or a student."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.method import label_rules, losses, objectives
from selw2s_jax.models import decoder, heads, lora
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples, own_code, workbench
from selw2s_jax.stages import pretrain as pretrain_lib
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.training import checkpointing, fit, state, step

# Settings that came later: at their defaults they are not named, so that older artifacts are still found.
_LATER_SETTINGS = ("optimizer", "schedule", "warmup_steps", "weight_decay", "clip_norm")
_DEFAULTS = state.OptimizerSettings._field_defaults
_MAX_SELF_WEIGHT = 0.99  # mean self-weight above which a graph has no neighbours to speak of


@dataclasses.dataclass(frozen=True, eq=False)
class Train(stage_lib.Stage):
    """Training of a classifier.

    Attributes:
        role: what it is trained for: "weak", "ceiling", "p_ik" or "student".
        model: the pretrained model.
        objective: of its method, with the config's values; seeds of one objective share a compilation.
        batch_sizes: how many examples of each kind a step takes.
        epochs: of the task, or of P(IK) where it is trained alone.
        order_seed: of the order of batches.
        init_seed: of adapters and their dropout; nothing else is random.
        task: examples of the task, None where P(IK) is trained alone.
        p_ik: examples of P(IK), None where it is not trained.
        pretraining: the stage that makes the model, where the run has to make it.
        starts_from: the trained model to start from; None: the pretrained one.
    """

    name = "train"
    forward = staticmethod(step.classify)
    settings: settings_lib.Settings
    role: str
    model: pretrained.Model
    objective: objectives.Objective
    batch_sizes: dict[int, int]
    epochs: float
    order_seed: int
    init_seed: int
    task: examples.Examples | None = None
    p_ik: examples.PIKExamples | None = None
    pretraining: pretrain_lib.Pretrain | None = None
    starts_from: "Train | None" = None

    @property
    def by_kind(self) -> dict[int, examples.Examples]:
        """Its examples."""
        kinds = {batches.TASK: self.task, batches.P_IK: self.p_ik}
        return {kind: carried for kind, carried in kinds.items() if carried is not None}

    @property
    def needs(self):
        first = () if self.pretraining is None else (self.pretraining,)
        of_examples = [stage for carried in self.by_kind.values() for stage in carried.needs]
        last = () if self.starts_from is None else (self.starts_from,)
        return (*first, *of_examples, *last)

    @property
    def num_examples(self) -> int:
        """Those that fix the number of steps: of the task, or of P(IK) where it is trained alone."""
        return len(self.p_ik if self.task is None else self.task)

    @property
    def num_steps(self) -> int:
        """Raises a UserError where there is none."""
        kind = batches.P_IK if self.task is None else batches.TASK
        return count_steps(self.num_examples, self.epochs, self.batch_sizes[kind], self.label)

    @property
    def detail(self):
        return f"{self.num_examples} examples, {self.num_steps} steps"

    @property
    def num_bytes(self):
        """Of the parameters that are trained and kept, with both heads."""
        num_params = 2 * heads.NUM_CLASSES * self.model.config.embed_dim
        if self.trained == "all":
            num_params += decoder.num_params(self.model.config, lm_head=False)
        if adapters := self.settings.adapters(self.model):
            num_params += lora.num_params(self.model.config, adapters)
        return num_params * jnp.dtype(self.settings.precision.param_dtype).itemsize

    @property
    def state_bytes(self):
        return 3 * self.num_bytes  # with two moments

    @property
    def trained(self) -> str:
        """What of the model is, of `state.TRAINED`."""
        return self.settings.trained[self.model.role]

    def check(self):
        warmup = self.settings.training.warmup_steps
        if warmup >= self.num_steps:
            raise UserError(
                f"config.training.warmup_steps={warmup} leaves nothing of the {self.num_steps} steps of "
                f"{self.label}; lower it"
            )
        of_p_ik = self.batch_sizes[batches.P_IK]
        # Where it is not set it is that of the task, which runs across the ends of epochs.
        if self.p_ik is not None and len(self.p_ik) < of_p_ik != self.batch_sizes[batches.TASK]:
            raise UserError(
                f"config.p_ik.batch_size={of_p_ik} is more than the {len(self.p_ik)} examples of P(IK) of "
                f"{self.label}: lower it, or give more examples"
            )
        if adapters := self.settings.adapters(self.model):
            lora.check_targets(self.model.config, adapters.targets)

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        return {
            **self._training_inputs(),
            "objective": self.objective._asdict(),
            **own_code.hashes(
                label_rule=label_rules.LABEL_RULES[self.objective.label_rule],
                loss=losses.LOSSES[self.objective.loss],
                **objectives.rule_parts(self.objective),
            ),
            "starts_from": self.starts_from.key if self.starts_from else None,
            **self._data_inputs(),
        }

    def _training_inputs(self) -> dict[str, Any]:
        """What it is a function of besides its method and data."""
        settings, training = self.settings, self.settings.training
        return {
            "version": stage_lib.VERSION,
            "model": self.model.fingerprint,
            # With any other setting no training example reaches the limit.
            "max_length": self.model.max_length if settings.overlong == "truncate" else None,
            "learning_rate": self.model.learning_rate,
            "num_steps": self.num_steps,
            **{key: training[key] for key in ("batch_size", "b1", "b2", "eps")},
            **{key: training[key] for key in _LATER_SETTINGS if training[key] != _DEFAULTS[key]},
            **({"trained": self.trained} if self.trained != _DEFAULTS["trained"] else {}),
            **self._parts_inputs(),
            **settings.precision.to_dict(),
            "order_seed": self.order_seed,
            "reshuffle": settings.reshuffle,
            "openai_pooling": settings.openai_pooling,
        }

    def _parts_inputs(self) -> dict[str, Any]:
        """What it is a function of where it does not train all."""
        if self.trained == "all":
            return {}
        named = {"keeps": "what is trained"}  # once a linear probe kept the backbone too
        if adapters := self.settings.adapters(self.model):
            named |= {"lora": dataclasses.asdict(adapters), "init_seed": self.init_seed}
        return named

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
        sizes = {kind: self.batch_sizes[kind] for kind in sets}
        mesh, num_steps = self.settings.mesh_for(self.model, bench.devices), self.num_steps
        data = self.settings.make_batches(
            sets, sizes, num_steps=num_steps, order_seed=self.order_seed, mesh=mesh
        )
        bench.release()
        fitted = fit.fit(
            data,
            self.abstract(mesh),
            lambda: self._before_training(bench, mesh),
            objective=self.objective,
            computation=step.classification(self.objective, self.forward),
            optimizer=self.settings.optimizer(self.model, num_steps),
            mesh=mesh,
            files=bench.files(self, self.settings),
            train_steps=bench.train_steps,
            keep_trace=self.objective.label_rule != "given",
        )
        _warn_of_lonely_rows(fitted.metrics["last_step"])
        checkpointing.save_params(folder / "params", fitted.state.params)
        if trace := fitted.history.trace:
            ids = sets[batches.TASK].example_ids
            trace["example_id"] = [ids[index] for index in trace.pop("index")]
            artifacts.write_table(folder / "trace.parquet", trace)
        summary = {
            "label": self.label,
            "num_steps": num_steps,
            "p_ik_head": self.p_ik is not None,
            **fitted.metrics,
            **data.summary,
            "devices": self.settings.describe(mesh),
            **fitted.times,
        }
        artifacts.write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
        bench.keep(self.key, fitted.module)

    def abstract(self, mesh: jax.sharding.Mesh) -> heads.Classifier:
        """The classifier, of shapes alone."""
        return self._abstract(self._built(mesh))

    def hold(self, bench: workbench.Workbench) -> heads.Classifier:
        """The trained classifier: as training left it on the devices, or from its files."""
        return bench.hold(self.key, lambda: self.load(bench))

    def load(self, bench: workbench.Workbench, *, seed: int = 0) -> heads.Classifier:
        """The trained classifier from its files: what was trained, in what was not.

        Args:
            seed: of the dropout where training goes on.
        """
        mesh, artifact = self.settings.mesh_for(self.model, bench.devices), stage_lib.find(bench.store, self)
        built = self._built(mesh, p_ik_head=artifact.read_json("summary.json")["p_ik_head"], seed=seed)
        return state.load_trained(
            artifact.verified("params"),
            self._abstract(built),
            self.trained,
            lambda: self._untrained(built),
            mesh,
        )

    def _before_training(self, bench: workbench.Workbench, mesh: jax.sharding.Mesh) -> heads.Classifier:
        if self.starts_from is not None:
            return self.starts_from.load(bench, seed=self.init_seed)
        return self._untrained(self._built(mesh, seed=self.init_seed))

    def _abstract(self, built: pretrained.ClassifierSettings) -> heads.Classifier:
        return pretrained.abstract_classifier(self.model.config, built)

    def _untrained(self, built: pretrained.ClassifierSettings) -> heads.Classifier:
        return pretrained.load_classifier(self.model.folder, built)

    def _built(self, mesh, *, p_ik_head: bool | None = None, seed: int = 0) -> pretrained.ClassifierSettings:
        p_ik_head = self.p_ik is not None if p_ik_head is None else p_ik_head
        return self.settings.classifier(self.model, mesh, p_ik_head=p_ik_head, seed=seed)


_MOST_STEPS = 1_000_000  # all of which are packed before the first


def count_steps(num_examples: int, epochs: float, batch_size: int, label: str) -> int:
    """Steps of a training: whole batches, which run across the ends of epochs.

    Raises:
        UserError: there is none, or there are more than a run can work on.
    """
    if epochs * num_examples / batch_size >= _MOST_STEPS + 1:
        raise UserError(
            f"{label}: {epochs} epochs of {num_examples} examples are more than {_MOST_STEPS} steps of {batch_size}: "
            "lower training.epochs or p_ik.epochs"
        )
    num_steps = int(epochs * num_examples / batch_size)
    if num_steps < 1:
        raise UserError(
            f"{label}: {num_examples} examples and {epochs} epochs make no batch of {batch_size}; "
            "give more examples or epochs, or lower training.batch_size or p_ik.batch_size"
        )
    return num_steps


def _warn_of_lonely_rows(metrics: dict[str, float]) -> None:
    if metrics.get("self_weight", 0) > _MAX_SELF_WEIGHT:
        print(
            f"  warning: mean self-weight {metrics['self_weight']:.4f} in the last batch: smoothing does next to "
            "nothing; raise graph.tau, or set graph.normalize=True or graph.include_self=False"
        )
