"""What the stages that train have in common: a pretrained model, an order of examples, what is kept of it."""

import dataclasses
import functools
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.models import decoder, lora
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import layouts, workbench
from selw2s_jax.stages import pretrain as pretrain_lib
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.training import checkpointing, fit, loop, state, step
from selw2s_jax.training import layouts as layout_search

# Settings that came later: at their defaults they are not named, so that older artifacts are still found.
_LATER_SETTINGS = ("optimizer", "schedule", "warmup_steps", "weight_decay", "clip_norm")
_DEFAULTS = state.OptimizerSettings._field_defaults


@dataclasses.dataclass(frozen=True, eq=False)
class Training(stage_lib.Stage):
    """Training of a pretrained model; what is trained of it, and on what, say its kinds.

    Attributes:
        role: what it is trained for: "weak", "ceiling", "p_ik" or "student".
        model: the pretrained model.
        epochs: of its examples.
        order_seed: of the order of batches.
        init_seed: of adapters and their dropout; nothing else is random.
        pretraining: the stage that makes the model, where the run has to make it.
    """

    name = "train"
    settings: settings_lib.Settings
    role: str
    model: pretrained.Model
    _: dataclasses.KW_ONLY
    epochs: float
    order_seed: int
    init_seed: int
    pretraining: pretrain_lib.Pretrain | None = None

    @property
    def needs(self):
        return () if self.pretraining is None else (self.pretraining,)

    @property
    def num_bytes(self):
        """Of the parameters that are trained and kept."""
        num_params = self.num_head_params
        if self.trained == "all":
            num_params += decoder.num_params(self.model.config, lm_head=self.trains_lm_head)
        if adapters := self.settings.adapters(self.model):
            num_params += lora.num_params(self.model.config, adapters)
        return num_params * jnp.dtype(self.settings.precision.param_dtype).itemsize

    num_head_params = 0
    trains_lm_head = False

    @property
    def state_bytes(self):
        return 3 * self.num_bytes  # with two moments

    @property
    def is_probe(self) -> bool:
        """Whether heads alone are trained, on embeddings that another stage makes."""
        return self.settings.is_probe(self.model)

    @property
    def texts_by_kind(self) -> Mapping[int, Sequence[str]] | None:
        """Of examples of each kind, where they are known before it is made."""
        return None

    @property
    def num_expected(self) -> dict[int, int]:
        """Examples of each kind, as many as a plan counts with before any stage has run."""
        raise NotImplementedError

    def expected_sets(self) -> dict[int, batches.ExampleSet]:
        """Examples of each kind that a plan packs, of their lengths; which of them are chosen may not be known yet.

        Raises:
            UserError: as of `write`, of what is known.
        """
        raise NotImplementedError

    @property
    def trained(self) -> str:
        """What of the model is, of `state.TRAINED`."""
        return self.settings.trained[self.model.role]

    def check(self):
        if adapters := self.settings.adapters(self.model):
            lora.check_targets(self.model.config, adapters.targets)

    def training_inputs(self) -> dict[str, Any]:
        """What it is a function of besides its method, its data and how long it lasts."""
        settings, training = self.settings, self.settings.training
        return {
            "version": stage_lib.VERSION,
            "model": self.model.fingerprint,
            # With any other setting no training example reaches the limit.
            "max_length": self.model.max_length if settings.overlong == "truncate" else None,
            "learning_rate": self.model.learning_rate,
            **{key: training[key] for key in ("batch_size", "b1", "b2", "eps")},
            **{key: training[key] for key in _LATER_SETTINGS if training[key] != _DEFAULTS[key]},
            **({"trained": self.trained} if self.trained != _DEFAULTS["trained"] else {}),
            **self._parts_inputs(),
            **settings.precision.to_dict(),
            "order_seed": self.order_seed,
            "reshuffle": settings.reshuffle,
        }

    def _parts_inputs(self) -> dict[str, Any]:
        """What it is a function of where it does not train all."""
        if self.trained == "all":
            return {}
        named = {"keeps": "what is trained"}  # once a linear probe kept the backbone too
        if adapters := self.settings.adapters(self.model):
            named |= {"lora": dataclasses.asdict(adapters), "init_seed": self.init_seed}
        return named

    def train_on(
        self,
        bench: workbench.Workbench,
        sets: dict[int, batches.ExampleSet],
        batch_sizes: dict[int, int],
        num_steps: int,
        *,
        objective: Hashable,
        computation: step.Computation,
        keep_trace: bool = False,
        evaluate: Callable[[jax.sharding.Mesh], loop.Evaluation] | None = None,
    ) -> tuple[fit.Fitted, dict[str, Any]]:
        """Trains on examples, with the devices of a workbench.

        Args:
            batch_sizes: how many examples of each kind a step takes.
            objective: what the computation is a function of.
            evaluate: mesh -> what is kept of the module under way.

        Returns:
            The run, and what its summary says.
        """
        bench.release()
        run = {
            "objective": objective,
            "computation": computation,
            "optimizer": self.settings.optimizer(self.model, num_steps),
            "train_steps": bench.train_steps,
        }
        sizes = {kind: batch_sizes[kind] for kind in sets}
        prepare = functools.cache(functools.partial(self._prepare, bench, sets, sizes, num_steps))

        def count(layout: layout_search.Layout) -> int:
            laid_out, mesh, data = prepare(layout)
            return fit.peak_bytes(data.batch_at(data.largest_step), laid_out.abstract(mesh), mesh=mesh, **run)

        chosen = layouts.choose(self, bench, sets, sizes, count)
        bench.tell(layouts.to_text(chosen.record, self.settings.training.batch_size))
        laid_out, mesh, data = prepare(chosen.layout)
        fitted = fit.fit(
            data,
            laid_out.abstract(mesh),
            lambda: laid_out.before_training(bench, mesh),
            mesh=mesh,
            files=layouts.saving(bench.files(self, self.settings), self, chosen),
            keep_trace=keep_trace,
            evaluation=evaluate and evaluate(mesh),
            **run,
        )
        summary = {
            "label": self.label,
            "num_steps": num_steps,
            **fitted.metrics,
            **data.summary,
            "devices": self.settings.describe(mesh),
            "layout": chosen.record,
            **fitted.times,
        }
        return fitted, summary

    def _prepare(
        self, bench: workbench.Workbench, sets, sizes, num_steps: int, layout: layout_search.Layout
    ) -> tuple["Training", jax.sharding.Mesh, Any]:
        """This training with a layout as if the config gave it, its mesh, and its batches, packed for that."""
        laid_out = dataclasses.replace(self, settings=self.settings.laid_out(layout))
        mesh = bench.mesh_for(laid_out.settings, self.model)
        data = laid_out.settings.make_batches(
            sets, sizes, num_steps=num_steps, order_seed=self.order_seed, mesh=mesh
        )
        return laid_out, mesh, data

    def laid_out_as(self, other: "Training") -> "Training":
        """This training in the layout of another."""
        settings = dataclasses.replace(
            self.settings, mesh=other.settings.mesh, execution=other.settings.execution
        )
        return dataclasses.replace(self, settings=settings)

    def keep(self, folder, bench: workbench.Workbench, fitted: fit.Fitted, summary: dict[str, Any]) -> None:
        """Writes the weights that were trained and the summary, and leaves the model on the devices."""
        checkpointing.save_params(folder / "params", fitted.state.params)
        artifacts.write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
        bench.keep(self.key, fitted.module)

    def hold(self, bench: workbench.Workbench) -> nnx.Module:
        """The trained model: as training left it on the devices, or from its files."""
        return bench.hold(self.key, lambda: self.load(bench))

    def load(self, bench: workbench.Workbench, *, seed: int = 0) -> nnx.Module:
        """The trained model from its files: what was trained, in what was not.

        Args:
            seed: of the dropout where training goes on.
        """
        artifact = stage_lib.find(bench.store, self)
        mesh = layouts.mesh_of_trained(self, bench, artifact.read_json("summary.json"))
        built = self.built_again(mesh, artifact, seed)
        return state.load_trained(
            artifact.verified("params"),
            self.abstract_of(built),
            self.trained,
            lambda: self.untrained(built),
            mesh,
        )

    def abstract(self, mesh: jax.sharding.Mesh) -> nnx.Module:
        """The module, of shapes alone."""
        return self.abstract_of(self.built(mesh))

    def before_training(self, bench: workbench.Workbench, mesh: jax.sharding.Mesh) -> nnx.Module:
        """The module that training starts from."""
        del bench
        return self.untrained(self.built(mesh, seed=self.init_seed))

    # What a kind says of its module.

    def built(self, mesh: jax.sharding.Mesh, *, seed: int = 0) -> Any:
        """How the module is built before training.

        Args:
            seed: of adapters and their dropout.
        """
        raise NotImplementedError

    def built_again(self, mesh: jax.sharding.Mesh, artifact: artifacts.Artifact, seed: int) -> Any:
        """How the trained module is built."""
        del artifact
        return self.built(mesh, seed=seed)

    def abstract_of(self, built: Any) -> nnx.Module:
        """The module built so, of shapes alone."""
        raise NotImplementedError

    def untrained(self, built: Any) -> nnx.Module:
        """The module built so, on the pretrained weights."""
        raise NotImplementedError


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


def check_warmup(warmup_steps: int, num_steps: int, label: str) -> None:
    """Raises a UserError where a warm-up leaves no step of a training."""
    if warmup_steps >= num_steps:
        raise UserError(
            f"config.training.warmup_steps={warmup_steps} leaves nothing of the {num_steps} steps of {label}; lower it"
        )
