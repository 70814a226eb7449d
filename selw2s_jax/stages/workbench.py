"""Trains classifiers for the stages, and hands trained ones to the stages that use them."""

import contextlib
import gc
import json
import pathlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import ml_collections
from etils import epath
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import batches, text_rows
from selw2s_jax.hf import loader, pretrained, tokenizers, writer
from selw2s_jax.method import objectives
from selw2s_jax.models import decoder, heads, lora
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.training import checkpointing, loop, metrics_log, pretraining, state, step
from selw2s_jax.worlds import world

_MAX_SELF_WEIGHT = 0.99  # mean self-weight above which a graph has no neighbours to speak of


class DeviceGroup:
    """Devices that make one stage at a time, for whichever config: they hold at most one model.

    Attributes:
        devices: None for all.
        live: key and module of the model that they hold.
        train_steps: compiled ones, by what they are a function of.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self.devices = devices
        self.live: tuple[str, heads.Classifier | decoder.Decoder] | None = None
        self.train_steps: dict[Any, Any] = {}


class Trainer:
    """Makes classifiers from pretrained models.

    Args:
        config: the validated config.
        workdir: for logs and what is saved under way.
        group: the devices.
        before_save: called by all processes before a state is saved.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: epath.Path,
        group: DeviceGroup,
        before_save: Callable[[], None] = lambda: None,
    ):
        self._config, self._workdir, self._group, self._before_save = config, workdir, group, before_save
        self._meshes: dict[str, jax.sharding.Mesh] = {}

    def mesh(self, model: pretrained.Model) -> jax.sharding.Mesh:
        """The devices as a model is laid out on them.

        Raises:
            UserError: `mesh.shape` does not fit the devices, or does not divide the strong model.
        """
        if model.role not in self._meshes:
            self._meshes[model.role] = sharding.mesh_for(
                model.config,
                self._config.mesh.shape,
                may_fold=model.role == "weak",
                devices=self._group.devices,
            )
        return self._meshes[model.role]

    def describe_devices(self, mesh: jax.sharding.Mesh) -> str:
        """Devices, mesh and dtypes, for people."""
        devices, precision = mesh.devices, self._config.precision
        shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
        return (
            f"{devices.size} {devices.flat[0].device_kind} device(s) as {shape}; "
            f"{precision.param_dtype} weights, {precision.compute_dtype} compute"
        )

    def release(self) -> None:
        """Lets go of the model, to make room for another."""
        self._group.live = None
        gc.collect()  # nnx.merge leaves reference cycles, which would keep the arrays on the devices

    def load_language_model(self, model: pretrained.Model) -> decoder.Decoder:
        """The untouched model with its language-model head, held in the compute dtype: it is only read."""
        options = self.language_model_options(model)
        # Runs of a sweep may differ in what an answer's key has and in what it has not.
        key = f"language model {model.fingerprint} {options['compute_dtype']} {options['attention']}"
        if self._group.live is None or self._group.live[0] != key:
            self.release()
            self._group.live = (key, loader.load_decoder(model.folder, **options))
        return self._group.live[1]

    def language_model_options(self, model: pretrained.Model) -> dict[str, Any]:
        """Of the decoder that `load_language_model` loads."""
        return pretrained.language_model_options(
            dtype=self._config.precision.compute_dtype,
            attention=self._config.execution.attention,
            mesh=self.mesh(model),
        )

    def classifier(self, trained: artifacts.Artifact, model: pretrained.Model) -> heads.Classifier:
        """The trained model of an artifact: as training left it, or from its files."""
        if self._group.live is None or self._group.live[0] != trained.key:
            self.release()
            classifier = self._load_trained(trained, model)
            self._group.live = (trained.key, classifier)
        return self._group.live[1]

    def train(
        self,
        folder: pathlib.Path,
        *,
        key: str,
        label: str,
        model: pretrained.Model,
        objective: objectives.Objective,
        sets: dict[int, batches.ExampleSet],
        batch_sizes: dict[int, int],
        num_steps: int,
        order_seed: int,
        init_seed: int,
        starts_from: artifacts.Artifact | None = None,
    ) -> None:
        """Trains a model, writes the weights that were trained, trace and summary, and keeps it for the next stage.

        Args:
            folder: of the artifact that is being made.
            key, label: of its stage.
            model: the pretrained model.
            objective: the method; seeds of one objective share a compilation.
            sets, batch_sizes: examples of each kind, and how many of them a step takes.
            order_seed: of the order of batches.
            init_seed: of adapters and their dropout; nothing else is random.
            starts_from: artifact of a trained model to start from; None: the pretrained one.
        """
        mesh = self.mesh(model)
        data = self.make_batches(model, sets, batch_sizes, num_steps, order_seed)
        self.release()
        has_p_ik_head = batches.P_IK in sets

        settings = self.classifier_settings(model, p_ik_head=has_p_ik_head, seed=init_seed)

        def initialize() -> heads.Classifier:
            if starts_from is None:
                return pretrained.load_classifier(model.folder, settings)
            return self._load_trained(starts_from, model, seed=init_seed)

        graphdef, final, metrics, history = self._run(
            key,
            label,
            data,
            pretrained.abstract_classifier(model.config, settings),
            initialize,
            objective,
            step.classification(objective),
            self.optimizer_settings(model, num_steps),
            mesh,
            keep_trace=objective.label_rule != "given",
        )
        _warn_of_lonely_rows(metrics["last_step"])
        checkpointing.save_params(folder / "params", final.params)
        if trace := history.trace:
            ids = sets[batches.TASK].example_ids
            trace["example_id"] = [ids[index] for index in trace.pop("index")]
            artifacts.write_table(folder / "trace.parquet", trace)
        summary = {
            "label": label,
            "num_steps": num_steps,
            "p_ik_head": has_p_ik_head,
            **metrics,
            "shapes": data.shapes,
            "padding_efficiency": data.padding_efficiency(),
            "devices": self.describe_devices(mesh),
            "seconds": history.seconds,
            "first_step_seconds": history.first_step_seconds,
        }
        artifacts.write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
        self._group.live = (key, nnx.merge(graphdef, final.params, final.frozen))

    def pretrain(
        self, folder, *, key: str, label: str, model: pretrained.Model, recipe: world.Recipe
    ) -> None:
        """Makes a language model from a world's text and writes it as a Hugging Face folder.

        Args:
            folder: of the artifact that is being made.
            key, label: of its stage.
            model: to be.
            recipe: which its weights are a function of.
        """
        self.release()
        mesh = self.mesh(model)
        print("  writing and packing the text", flush=True)
        data = recipe.text_batches(row_multiple=sharding.num_row_groups(mesh))
        execution = self._config.execution
        options = {
            "param_dtype": "float32",
            "compute_dtype": recipe.compute_dtype,
            "remat": execution.remat,
            "attention": execution.attention,
            "mesh": mesh,
        }
        _, final, metrics, history = self._run(
            key,
            label,
            data,
            decoder.abstract_decoder(recipe.model, lm_head=True, **options),
            lambda: pretraining.initialize(recipe.model, recipe.seed, **options),
            "next token",
            pretraining.next_token(),
            recipe.optimizer,
            mesh,
            keep_trace=False,
        )
        writer.save_checkpoint(folder, recipe.model, final.params)
        if distributed.is_main():
            for file in tokenizers.load_tokenizer(recipe.tokenizer_folder).files:
                (folder / file.name).write_bytes(file.read_bytes())
        summary = {
            **metrics,
            "tokens": data.num_tokens,
            "seconds": history.seconds,
            "first_step_seconds": history.first_step_seconds,
        }
        artifacts.write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")

    def _run(
        self,
        key: str,
        label: str,
        data: batches.TrainBatches | text_rows.TextBatches,
        abstract: nnx.Module,
        initialize: Callable[[], nnx.Module],
        objective: Hashable,
        computation: step.Computation,
        settings: state.OptimizerSettings,
        mesh: jax.sharding.Mesh,
        *,
        keep_trace: bool,
    ):
        """Trains from the last state that was saved, or from what `initialize` makes.

        Args:
            abstract: the shapes of what `initialize` makes.
            objective: what the computation is a function of; runs of one objective share a compilation.

        Returns:
            The graphdef, the final state, the metrics and the history.
        """
        section = self._config.checkpoint
        with checkpointing.Checkpoints(
            self.checkpoints_folder(key),
            every_steps=section.every_steps,
            keep=section.keep,
            before_save=self._before_save,
        ) as checkpoints:
            graphdef, abstract_state, shardings = state.abstract(abstract, settings, mesh)
            saved = checkpoints.latest(abstract_state._replace(frozen=()))
            if saved is None:
                graphdef, train_state, shardings = state.start(initialize(), settings, mesh)
            else:
                train_state = saved.state._replace(frozen=abstract_state.frozen)
                if jax.tree.leaves(abstract_state.frozen):
                    train_state = state.resume(saved.state, initialize(), settings, mesh)
                print(f"  going on from step {saved.step} of {data.num_steps}", flush=True)
            self.release()
            history = loop.History(keep_trace=keep_trace, saved=saved)
            first_step = 0 if saved is None else saved.step
            saved = None
            with contextlib.closing(self._metrics_log(label, key, first_step)) as log:
                compiled = (graphdef, objective, settings)
                if compiled not in self._group.train_steps:
                    print("  compiling the train step with its first batch", flush=True)
                    self._group.train_steps[compiled] = step.make_train_step(
                        graphdef, computation, settings, mesh=mesh, state_shardings=shardings
                    )
                train_state, metrics = loop.train(
                    self._group.train_steps[compiled],
                    train_state,
                    data,
                    mesh=mesh,
                    log=log,
                    label=label,
                    history=history,
                    checkpoints=checkpoints,
                    failure_path=self._workdir / "failures" / f"{_file_name(label, key)}.json",
                )
        return graphdef, train_state, metrics, history

    def checkpoints_folder(self, key: str) -> epath.Path:
        """Where what a stage saves under way is."""
        return self._workdir / "checkpoints" / key

    def make_batches(self, model, sets, batch_sizes, num_steps: int, order_seed: int) -> batches.TrainBatches:
        """The batches of a training run, packed for the model's mesh; arguments as for `train`."""
        training = self._config.training
        micro = training.micro_batch_size or training.batch_size
        return batches.TrainBatches(
            sets,
            batch_sizes,
            num_steps=num_steps,
            num_micro=training.batch_size // micro,
            seed=order_seed,
            reshuffle=self._config.data.reshuffle,
            row_multiple=sharding.num_row_groups(self.mesh(model)),
            most_shapes=self._config.execution.train_shapes,
            openai_pooling=self._config.compat.openai_pooling,
        )

    def optimizer_settings(self, model: pretrained.Model, num_steps: int) -> state.OptimizerSettings:
        """Those of a training run of so many steps."""
        training = self._config.training
        same = (
            "b1",
            "b2",
            "eps",
            "optimizer",
            "schedule",
            "warmup_steps",
            "weight_decay",
            "clip_norm",
            "trained",
        )
        return state.OptimizerSettings(
            learning_rate=model.learning_rate,
            num_steps=num_steps,
            moment_dtype=self._config.precision.moment_dtype,
            **{name: training[name] for name in same},
        )

    def _load_trained(
        self, trained: artifacts.Artifact, model: pretrained.Model, *, seed: int = 0
    ) -> heads.Classifier:
        """The model of an artifact: what was trained, in what was not.

        Args:
            seed: of the dropout where training goes on.
        """
        settings = self.classifier_settings(
            model, p_ik_head=trained.read_json("summary.json")["p_ik_head"], seed=seed
        )
        return state.load_trained(
            trained.verified("params"),
            pretrained.abstract_classifier(model.config, settings),
            settings.trained,
            lambda: pretrained.load_classifier(model.folder, settings),
            settings.mesh,
        )

    def load_backbone(self, model: pretrained.Model) -> decoder.Decoder:
        """The pretrained model as training takes it, without its language-model head."""
        settings = self.classifier_settings(model, p_ik_head=False)
        return loader.load_decoder(model.folder, **settings.decoder_options)

    def build(self, model: pretrained.Model, *, p_ik_head: bool) -> heads.Classifier:
        """A classifier as training starts from, of random weights, to be traced."""
        return pretrained.random_classifier(
            model.config, self.classifier_settings(model, p_ik_head=p_ik_head)
        )

    def classifier_settings(
        self, model: pretrained.Model, *, p_ik_head: bool, seed: int = 0
    ) -> pretrained.ClassifierSettings:
        """How a model's classifier is built."""
        config = self._config
        return pretrained.ClassifierSettings(
            trained=config.training.trained,
            param_dtype=config.precision.param_dtype,
            compute_dtype=config.precision.compute_dtype,
            mesh=self.mesh(model),
            adapters=lora.make_settings(config.training.trained, config.lora),
            p_ik_head=p_ik_head,
            seed=seed,
            remat=config.execution.remat,
            attention=config.execution.attention,
        )

    def _metrics_log(self, label: str, key: str, first_step: int) -> metrics_log.MetricsLog:
        name, logging = _file_name(label, key), self._config.logging
        return metrics_log.MetricsLog(
            self._workdir / "logs" / f"{name}.jsonl",
            first_step=first_step,
            tensorboard_dir=self._workdir / "tensorboard" / name if logging.tensorboard else None,
            every_steps=logging.every_steps,
        )


def _file_name(label: str, key: str) -> str:
    return f"{label.replace(', ', '-').replace(' ', '-')}-{key}"


def _warn_of_lonely_rows(metrics: dict[str, float]) -> None:
    if metrics.get("self_weight", 0) > _MAX_SELF_WEIGHT:
        print(
            f"  warning: mean self-weight {metrics['self_weight']:.4f} in the last batch: smoothing does next to "
            "nothing; raise graph.tau, or set graph.normalize=True or graph.include_self=False"
        )
