"""What stages read of a config besides what each is told of its own, and what follows from it for a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.hf import pretrained
from selw2s_jax.models import lora
from selw2s_jax.training import layouts, state


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """Sections and keys of the config, by their names there; but `trained`, what is trained of each model, by role."""

    training: ml_collections.ConfigDict
    lora: ml_collections.ConfigDict
    precision: ml_collections.ConfigDict
    mesh: ml_collections.ConfigDict
    execution: ml_collections.ConfigDict
    checkpoint: ml_collections.ConfigDict
    logging: ml_collections.ConfigDict
    overlong: str
    reshuffle: bool
    openai_pooling: bool
    trained: Mapping[str, str]

    @classmethod
    def of(cls, config: ml_collections.ConfigDict) -> "Settings":
        """Those of a validated config."""
        return cls(
            config.training,
            config.lora,
            config.precision,
            config.mesh,
            config.execution,
            config.checkpoint,
            config.logging,
            config.data.overlong,
            config.data.reshuffle,
            config.compat.openai_pooling,
            {
                role: config[same_as].trained or config.training.trained
                for role, same_as in (("weak", "weak"), ("chain", "strong"), ("strong", "strong"))
            },
        )

    def mesh_for(
        self,
        model: pretrained.Model,
        devices: Sequence[jax.Device] | None = None,
        usable_bytes: int | None = None,
    ) -> jax.sharding.Mesh:
        """The devices (None: all) as a model is laid out on them that is read; training may choose another mesh.

        Args:
            usable_bytes: memory of a device, None where it is not known.

        Raises:
            UserError: `mesh.shape` does not fit the devices, or does not divide the strong model.
        """
        if self.mesh.shape is None:
            dtype = self.precision.param_dtype
            return layouts.reading_mesh(model.config, usable_bytes, devices, dtype=dtype)
        return sharding.mesh_for(
            model.config, self.mesh.shape, may_fold=model.role != "strong", devices=devices
        )

    def given(self, model: pretrained.Model, devices: Sequence[jax.Device] | None = None) -> layouts.Given:
        """What the config says of the layout of a model's train step."""
        shape, micro = self.mesh.shape, self.training.micro_batch_size
        if shape is not None:
            shape = tuple(self.mesh_for(model, devices).shape.values())
        return layouts.Given(
            shape,
            None if self.execution.remat == layouts.AUTO else self.execution.remat,
            None if micro is None else self.training.batch_size // micro,
        )

    def laid_out(self, layout: layouts.Layout) -> "Settings":
        """The same with a layout as if the config gave it."""
        mesh, execution, training = (
            section.copy_and_resolve_references() for section in (self.mesh, self.execution, self.training)
        )
        mesh.shape, execution.remat = layout.mesh_shape, layout.remat
        training.micro_batch_size = training.batch_size // layout.num_micro
        return dataclasses.replace(self, mesh=mesh, execution=execution, training=training)

    def describe(self, mesh: jax.sharding.Mesh) -> str:
        """Devices, mesh and dtypes, for people."""
        devices, precision = mesh.devices, self.precision
        shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
        return (
            f"{devices.size} {devices.flat[0].device_kind} device(s) as {shape}; "
            f"{precision.param_dtype} weights, {precision.compute_dtype} compute"
        )

    def adapters(self, model: pretrained.Model) -> lora.Settings | None:
        """Of a model whose adapters are trained, None of another."""
        return lora.make_settings(self.trained[model.role], self.lora)

    def is_probe(self, model: pretrained.Model) -> bool:
        """Whether the heads of a model are trained on embeddings that a stage computes once."""
        return self.trained[model.role] == "heads" and self.training.embed_once

    def classifier(
        self, model: pretrained.Model, mesh: jax.sharding.Mesh, *, p_ik_head: bool, seed: int = 0
    ) -> pretrained.ClassifierSettings:
        """How a classifier is built.

        Args:
            seed: of adapters and their dropout; nothing else is random.
        """
        return pretrained.ClassifierSettings(p_ik_head=p_ik_head, **self._trained_settings(model, mesh, seed))

    def language_model(
        self, model: pretrained.Model, mesh: jax.sharding.Mesh, *, seed: int = 0
    ) -> pretrained.LanguageModelSettings:
        """How a language model is built that is trained.

        Args:
            seed: of adapters and their dropout; nothing else is random.
        """
        return pretrained.LanguageModelSettings(**self._trained_settings(model, mesh, seed))

    def _trained_settings(
        self, model: pretrained.Model, mesh: jax.sharding.Mesh, seed: int
    ) -> dict[str, Any]:
        return {
            "trained": self.trained[model.role],
            "param_dtype": self.precision.param_dtype,
            "compute_dtype": self.precision.compute_dtype,
            "mesh": mesh,
            "adapters": self.adapters(model),
            "seed": seed,
            "remat": self.remat,
            "attention": self.execution.attention,
        }

    @property
    def remat(self) -> str:
        """As given, else what is tried first; of what is only read it says nothing."""
        return layouts.REMATS[0] if self.execution.remat == layouts.AUTO else self.execution.remat

    def language_model_options(self, model: pretrained.Model, mesh: jax.sharding.Mesh) -> dict[str, Any]:
        """Of a model that is only read, as `decoder.Decoder` takes them; the strong one answers, and has its head."""
        options = pretrained.language_model_options(
            dtype=self.precision.compute_dtype, mesh=mesh, attention=self.execution.attention
        )
        return options | {"lm_head": model.role == "strong"}

    def optimizer(self, model: pretrained.Model, num_steps: int) -> state.OptimizerSettings:
        """Those of a training run of so many steps."""
        same = (
            "b1", "b2", "eps", "optimizer", "schedule", "warmup_steps", "weight_decay", "clip_norm",
        )  # fmt: skip
        return state.OptimizerSettings(
            learning_rate=model.learning_rate,
            num_steps=num_steps,
            moment_dtype=self.precision.moment_dtype,
            trained=self.trained[model.role],
            **{name: self.training[name] for name in same},
        )

    def make_batches(
        self,
        sets: dict[int, batches.ExampleSet],
        batch_sizes: dict[int, int],
        *,
        num_steps: int,
        order_seed: int,
        mesh: jax.sharding.Mesh,
    ) -> batches.TrainBatches | batches.EmbeddedBatches:
        """The batches of a training run, packed for a mesh where their examples have tokens.

        Args:
            sets, batch_sizes: examples of each kind, and how many of them a step takes.
            order_seed: of the order of batches.
        """
        micro = self.training.micro_batch_size or self.training.batch_size
        order = {
            "num_steps": num_steps,
            "num_micro": self.training.batch_size // micro,
            "seed": order_seed,
            "reshuffle": self.reshuffle,
        }
        if all(examples.tokens is None for examples in sets.values()):
            return batches.EmbeddedBatches(sets, batch_sizes, **order)
        return batches.TrainBatches(
            sets,
            batch_sizes,
            **order,
            row_multiple=sharding.num_row_groups(mesh),
            most_shapes=self.execution.train_shapes,
            openai_pooling=self.openai_pooling,
        )
