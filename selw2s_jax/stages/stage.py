"""The stages of a run: what each is a function of, and how its artifact is made.

A stage's inputs name everything that its result depends on, earlier stages by their keys, and nothing else:
how a model is laid out over devices, micro-batched, rematerialised or logged is not among them.
"""

import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches, by_id, lengths, splits
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import answering, classify, generate, partials
from selw2s_jax.method import label_rules, label_sources, losses, objectives, registry
from selw2s_jax.models import decoder, heads, lora
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.stages import workbench
from selw2s_jax.training import checkpointing, state
from selw2s_jax.worlds import world

# Raised when a stage's code changes what it computes, so that older artifacts are no longer found.
VERSION = 1
_ANSWERS_VERSION = 2

ANSWERS = "answers"  # name of the stages that ask a language model


# Settings that came later: at their defaults they are not named, so that older artifacts are still found.
_LATER_SETTINGS = ("optimizer", "schedule", "warmup_steps", "weight_decay", "clip_norm", "trained")
_DEFAULTS = state.OptimizerSettings._field_defaults


@dataclasses.dataclass(frozen=True)
class Stage:
    """One node of the plan.

    Attributes:
        name: kind of the stage and folder of its artifacts.
        label: what it is, for people.
        inputs: everything its result is a function of, as JSON values.
        needs: the stages whose artifacts it reads.
        write: fills the artifact's folder.
        detail: its size, for the plan.
        num_bytes: of the weights it writes.
    """

    name: str
    label: str
    inputs: dict[str, Any]
    needs: tuple["Stage", ...]
    write: Callable[[pathlib.Path], None]
    detail: str
    num_bytes: int = 0

    @functools.cached_property
    def key(self) -> str:
        """The name of its artifact."""
        return artifacts.artifact_key(self.name, self.inputs)


def in_order(targets: Iterable[Stage]) -> list[Stage]:
    """The targets and all that they need, each once and after what it needs."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for needed in stage.needs:
            visit(needed)
        ordered.setdefault(stage.key, stage)

    for target in targets:
        visit(target)
    return list(ordered.values())


class StageFactory:
    """Makes the kinds of stages: training, predictions of a trained model, answers of an untouched one.

    A model that the run itself pretrains is one more stage, which those that start from it need.

    Args:
        config: the validated config.
        found: its inputs.
        store: artifacts of the workdir.
        workdir: for logs and what is saved under way.
        group: the devices that make them.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        found: "Inputs",
        store: artifacts.Store,
        workdir: epath.Path,
        group: workbench.DeviceGroup,
    ):
        self._config, self._found, self._store = config, found, store
        self._trainer = workbench.Trainer(config, workdir, group, before_save=store.check_held)
        self._has_overlong: dict[tuple[str, str], bool] = {}

    def check_devices(self) -> list[str]:
        """Lays the models out on the devices, and checks that those have the attention asked for.

        Returns:
            The devices and the mesh of the strong model, and of the weak one where it has another, for people.

        Raises:
            UserError: devices, mesh and models do not go together.
        """
        strong = self._trainer.mesh(self._found.strong)
        platform = strong.devices.flat[0].platform
        if self._config.execution.attention == "cudnn" and platform != "gpu":
            raise UserError(f"config.execution.attention=cudnn needs a GPU, found {platform}: set it to xla")
        described = [self._trainer.describe_devices(strong)]
        if self._found.weak is not None and (weak := self._trainer.mesh(self._found.weak)) != strong:
            described.append(f"the weak model on {self._trainer.describe_devices(weak)}")
        return described

    def make(self, stage: Stage) -> None:
        """Makes a stage's artifact, and removes what was saved under way."""
        self._store.make(stage.name, stage.inputs, stage.write)
        checkpointing.discard(self._trainer.checkpoints_folder(stage.key))

    def _pretraining(self, model: pretrained.Model) -> tuple[Stage, ...]:
        """The stage that makes a model, where the run has to make it."""
        if not model.is_made:
            return ()
        recipe = self._found.recipes[model.role]
        settings = recipe.optimizer
        tokens = settings.num_steps * recipe.batch_rows * recipe.row_length
        num_params = decoder.num_params(model.config, lm_head=True)
        label = f"pretraining of the {model.role} model"
        stage = Stage(
            PRETRAINING,
            label,
            recipe.inputs,
            (),
            lambda folder: self._trainer.pretrain(
                folder, key=stage.key, label=label, model=model, recipe=recipe
            ),
            f"{num_params} parameters, {settings.num_steps} steps, {tokens / 1e6:.1f} M tokens",
            num_params * 4,
        )
        return (stage,)

    def training(
        self,
        label: str,
        seed: int,
        model: pretrained.Model,
        method_name: str,
        *,
        num_examples: int,
        data_inputs: dict[str, Any],
        read_sets: Callable[[], dict[int, batches.ExampleSet]],
        needs: tuple[Stage, ...] = (),
        starts_from: Stage | None = None,
    ) -> Stage:
        """A stage that trains a classifier.

        Args:
            num_examples: that fix the number of steps, of the task or of P(IK) where it is trained alone.
            data_inputs: what its examples are a function of.
            read_sets: its examples, read when it runs.
        """
        method = registry.METHODS[method_name]
        sizes = {batches.TASK: self._config.training.batch_size, batches.P_IK: self.p_ik_batch_size()}
        num_steps = self._num_steps(method, num_examples, label)
        objective = objectives.make_objective(self._config, method)
        order_seed, init_seed = (
            config_lib.seed_for(self._config, seed, which) for which in ("order", "init")
        )

        def write(folder: pathlib.Path) -> None:
            self._trainer.train(
                folder,
                key=stage.key,
                label=label,
                model=model,
                objective=objective,
                sets=read_sets(),
                batch_sizes=sizes,
                num_steps=num_steps,
                order_seed=order_seed,
                init_seed=init_seed,
                starts_from=self.artifact(starts_from) if starts_from else None,
            )

        stage = Stage(
            "train",
            label,
            {
                **self._training_inputs(model, num_steps, order_seed, init_seed),
                "objective": objective._asdict(),
                **_own_code(
                    label_rule=label_rules.LABEL_RULES[method.label_rule],
                    loss=losses.LOSSES[method.loss],
                    **objectives.rule_parts(objective),
                ),
                "starts_from": starts_from.key if starts_from else None,
                **data_inputs,
            },
            (*self._pretraining(model), *needs, *((starts_from,) if starts_from else ())),
            write,
            f"{num_examples} examples, {num_steps} steps",
            self._num_trained(model) * jnp.dtype(self._config.precision.param_dtype).itemsize,
        )
        return stage

    def _num_steps(self, method: registry.Method, num_examples: int, label: str) -> int:
        training = self._config.training
        epochs, size = training.epochs, training.batch_size
        if method.task_weight == 0:
            epochs, size = self._config.p_ik.epochs, self.p_ik_batch_size()
        num_steps = count_steps(num_examples, epochs, size, label)
        if training.warmup_steps >= num_steps:
            raise UserError(
                f"config.training.warmup_steps={training.warmup_steps} leaves nothing of the {num_steps} steps of "
                f"{label}; lower it"
            )
        return num_steps

    def _training_inputs(
        self, model: pretrained.Model, num_steps: int, order_seed: int, init_seed: int
    ) -> dict[str, Any]:
        """What a training stage is a function of besides its method and data."""
        training = self._config.training
        return {
            "version": VERSION,
            "model": model.fingerprint,
            # With any other setting no training example reaches the limit.
            "max_length": model.max_length if self._config.data.overlong == "truncate" else None,
            "learning_rate": model.learning_rate,
            "num_steps": num_steps,
            **{key: training[key] for key in ("batch_size", "b1", "b2", "eps")},
            **{key: training[key] for key in _LATER_SETTINGS if training[key] != _DEFAULTS[key]},
            **self._parts_inputs(init_seed),
            **self._config.precision.to_dict(),
            "order_seed": order_seed,
            "reshuffle": self._config.data.reshuffle,
            "openai_pooling": self._config.compat.openai_pooling,
        }

    def _parts_inputs(self, init_seed: int) -> dict[str, Any]:
        """What a training stage is a function of where it does not train all."""
        if self._config.training.trained == "all":
            return {}
        named = {"keeps": "what is trained"}  # once a linear probe kept the backbone too
        if adapters := lora.make_settings(self._config.training.trained, self._config.lora):
            named |= {"lora": dataclasses.asdict(adapters), "init_seed": init_seed}
        return named

    def _num_trained(self, model: pretrained.Model) -> int:
        """The number of parameters that a training stage trains and keeps, with both heads."""
        num_params = 2 * heads.NUM_CLASSES * model.config.embed_dim
        if self._config.training.trained == "all":
            num_params += decoder.num_params(model.config, lm_head=False)
        if adapters := lora.make_settings(self._config.training.trained, self._config.lora):
            num_params += lora.num_params(model.config, adapters)
        return num_params

    def predictions(
        self,
        trained: Stage,
        model: pretrained.Model,
        split: splits.Split,
        label: str,
        show_accuracy: bool = False,
    ) -> Stage:
        """Class probabilities (and P(IK)) of a trained model by example_id."""

        def write(folder: pathlib.Path) -> None:
            probs, p_ik = classify.predict(
                self._trainer.classifier(self.artifact(trained), model),
                split.tokens(model),
                mesh=self._trainer.mesh(model),
                batch_tokens=self._config.execution.score_tokens,
                label=label,
                openai_pooling=self._config.compat.openai_pooling,
                partial=self._partial(stage),
            )
            columns = {"example_id": split.ids, "prob_0": probs[:, 0], "prob_1": probs[:, 1]}
            if p_ik is not None:
                columns["p_ik"] = p_ik
            artifacts.write_table(folder / "predictions.parquet", columns)
            if show_accuracy:
                correct = int(np.sum((probs[:, 1] > 0.5) == split.labels))
                print(f"  accuracy {correct / len(split):.4f} ({correct} of {len(split)})")

        stage = Stage(
            "predictions",
            label,
            {
                "version": VERSION,
                "model": trained.key,
                "texts": split.texts_hash,
                "truncated_to": model.max_length if self._is_truncated(split, model) else None,
            },
            (trained,),
            write,
            f"{len(split)} examples",
        )
        return stage

    def answers(self, split: splits.Split, label: str, sampling: generate.Settings | None = None) -> Stage:
        """Few-shot answers of the untouched strong language model, by example_id: see `answering`.

        Args:
            sampling: of answers that are written at length, without the strings and tokens that end one; None where
                the probability of the answer 1 is asked for.

        Raises:
            UserError: the model's tokenizer has no tokens for the answers, or a question alone is too long for it.
        """
        model, score_tokens = self._found.strong, self._config.execution.score_tokens
        stage_inputs = {
            "version": _ANSWERS_VERSION,
            "model": model.fingerprint,
            "compute_dtype": self._config.precision.compute_dtype,
            "prompts": split.prompts_hash,
        }
        answering.check_prompts(model, split, 0 if sampling is None else sampling.max_new_tokens)
        if sampling is not None:
            sampling = dataclasses.replace(sampling, stop=split.task.stop, eos_ids=model.tokenizer.eos_ids)
            stage_inputs |= {"sampling": dataclasses.asdict(sampling), "solutions": split.solutions_hash}
            stage_inputs |= _own_code(judge=split.task.is_correct)

        def write(folder: pathlib.Path) -> None:
            language_model = self._trainer.load_language_model(model)
            common = {"batch_tokens": score_tokens, "label": label, "partial": self._partial(stage)}
            answering.answer_split(folder, language_model, model, split, sampling, **common)

        stage = Stage(ANSWERS, label, stage_inputs, self._pretraining(model), write, f"{len(split)} prompts")
        return stage

    def labels(self, source: str, split: splits.Split, seed: int, label: str) -> Stage:
        """Labels of a split by a source of the user's, by example_id."""

        def write(folder: pathlib.Path) -> None:
            found = {}

            def read() -> None:
                try:
                    found["prob_1"] = label_sources.read(source, split.ids, split.texts, seed)
                except ValueError as error:
                    raise UserError(str(error)) from error

            distributed.main_only(read)
            artifacts.write_table(folder / "labels.parquet", {"example_id": split.ids, **found})

        factory = label_sources.LABEL_SOURCES[source]
        content = {"version": VERSION, "source": source, "texts": split.texts_hash, "seed": seed}
        return Stage(
            "labels", label, content | _own_code(label_source=factory), (), write, f"{len(split)} examples"
        )

    def _partial(self, stage: Stage) -> partials.Partial:
        return partials.Partial(self._trainer.checkpoints_folder(stage.key) / "scores.npz")

    def _is_truncated(self, split: splits.Split, model: pretrained.Model) -> bool:
        """Whether a model cannot read a split whole; kept, as it takes the tokens of every text."""
        key = split.texts_hash, model.fingerprint
        if key not in self._has_overlong:
            self._has_overlong[key] = bool(lengths.is_overlong(split.texts, model).any())
        return self._has_overlong[key]

    def p_ik_batch_size(self) -> int:
        """P(IK) examples in a step."""
        return self._config.p_ik.batch_size or self._config.training.batch_size

    def artifact(self, stage: Stage) -> artifacts.Artifact:
        """The finished artifact of a stage that has run."""
        return self._store.find(stage.name, stage.inputs)

    def table(self, stage: Stage, file: str, column: str, split: splits.Split) -> np.ndarray:
        """A column of an artifact, joined by example_id."""
        table = self.artifact(stage).read_table(file)
        values = dict(zip(table["example_id"], table[column], strict=True))
        return by_id.join(values, split.ids, f"artifact {stage.name}/{stage.key}")


def _own_code(**factories: Callable) -> dict[str, str]:
    """Hashes of the source of parts from outside this package, whose code can change."""
    package = __name__.split(".")[0]
    return {
        f"code of {role}": artifacts.content_hash(_source(role, factory))
        for role, factory in factories.items()
        if factory.__module__.split(".")[0] != package
    }


def _source(role: str, factory: Callable) -> str:
    """The whole file that defines a factory, which may use what is beside it; else the factory's own lines."""
    factory = inspect.unwrap(factory)
    try:
        return pathlib.Path(inspect.getfile(factory)).read_text(encoding="utf-8")
    except (OSError, TypeError):
        pass  # a notebook's cell has no file
    try:
        return inspect.getsource(factory)
    except (OSError, TypeError) as error:
        raise UserError(
            f"the source of {role} {factory!r} cannot be read, and stages are kept by it: "
            "register a function that a file defines, and give its options in Method"
        ) from error


def count_steps(num_examples: int, epochs: float, batch_size: int, label: str) -> int:
    """Steps of a training: whole batches, which run across the ends of epochs.

    Raises:
        UserError: there is none.
    """
    num_steps = int(epochs * num_examples / batch_size)
    if num_steps < 1:
        raise UserError(
            f"{label}: {num_examples} examples and {epochs} epochs make no batch of {batch_size}; "
            "give more examples or epochs, or lower training.batch_size or p_ik.batch_size"
        )
    return num_steps


PRETRAINING = "pretrain"  # name of the stage that makes a language model


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that the stages read.

    Attributes:
        by_seed: the splits of each base seed.
        recipes: how the run itself makes models, by role.
        notes: what a reader of the results has to know.
        is_papers_data: whether data and conversion are those of the paper's tables.
    """

    weak: pretrained.Model | None  # none in a run of P(IK) alone
    strong: pretrained.Model
    by_seed: dict[int, splits.SeedData]
    recipes: dict[str, world.Recipe]
    notes: tuple[str, ...]
    is_papers_data: bool
