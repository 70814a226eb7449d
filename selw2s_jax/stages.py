"""The stages of a run: what each is a function of, and how its artifact is made.

A stage's inputs name everything that its result depends on, earlier stages by their keys, and nothing else:
how a model is laid out over devices, micro-batched, rematerialised or logged is not among them.
"""

import dataclasses
import functools
import inspect
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from selw2s_jax import artifacts, inputs, sharding, trainer
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.inference import classify, fewshot
from selw2s_jax.method import label_rules, losses, registry
from selw2s_jax.models import decoder
from selw2s_jax.training import step

# Raised when a stage's code changes what it computes, so that older artifacts are no longer found.
VERSION = 1


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


@dataclasses.dataclass(frozen=True)
class _Column:
    """A field of a student's examples: what it is a function of, and how it is read."""

    inputs: Any
    needs: tuple[Stage, ...]
    read: Callable[[], np.ndarray]


class Stages:
    """The stages of a run, by seed and name. Asking for one makes those that it needs.

    Args:
        config: the validated config.
        found: its inputs.
        store: artifacts of the workdir.
        workdir: for logs.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        found: inputs.Inputs,
        store: artifacts.Store,
        workdir: pathlib.Path,
    ):
        self._config, self._found, self._store = config, found, store
        self._trainer = trainer.Trainer(config, workdir)

    def check_devices(self) -> str:
        """Makes the mesh and checks that it divides the models, and that the devices have the attention asked for.

        Returns:
            The devices and the mesh, for people.

        Raises:
            UserError: they do not.
        """
        mesh = self._trainer.mesh
        platform = mesh.devices.flat[0].platform
        if self._config.execution.attention == "cudnn" and platform != "gpu":
            raise UserError(f"config.execution.attention=cudnn needs a GPU, found {platform}: set it to xla")
        for model in (self._found.weak, self._found.strong):
            sharding.check_divisible(mesh, model.config)
        return self._trainer.describe_devices()

    # Models.

    def weak(self, seed: int) -> Stage:
        """The weak model: fine-tuned on the ground truth of its half."""
        return self._supervised("weak", seed, self._found.weak, self._found.by_seed[seed].weak_half)

    def ceiling(self, seed: int) -> Stage:
        """The strong ceiling: the strong model on ground truth."""
        data = self._found.by_seed[seed]
        both = [*data.weak_half.examples, *data.student_half.examples]
        chosen = {
            "student": data.student_half,
            "weak": data.weak_half,
            "both": dataclasses.replace(data.student_half, examples=both),
        }
        return self._supervised("ceiling", seed, self._found.strong, chosen[self._config.ceiling.split])

    def _supervised(self, name: str, seed: int, model: inputs.Model, split: inputs.Split) -> Stage:
        def read_sets() -> dict[int, batches.ExampleSet]:
            truth = np.eye(2, dtype=np.float32)[split.labels]
            tokens = inputs.encode(split.texts, model)
            return {batches.TASK: batches.ExampleSet(split.ids, tokens, {"weak_probs": truth})}

        return self._training(
            f"{name}, seed {seed}",
            seed,
            model,
            "supervised",
            num_examples=len(split),
            data_inputs={"role": name, "texts": split.texts_hash, "labels": split.labels_hash},
            read_sets=read_sets,
        )

    def p_ik_model(self, seed: int) -> Stage:
        """P(IK) trained alone, for p_ik.stage other than joint and for frozen scores."""
        answers = self.p_ik_answers(seed)
        return self._training(
            f"P(IK) alone, seed {seed}",
            seed,
            self._found.strong,
            "p_ik_only",
            num_examples=len(self._found.by_seed[seed].p_ik),
            data_inputs={"role": "p_ik", **self._p_ik_inputs(seed)},
            read_sets=lambda: {batches.P_IK: self._p_ik_examples(seed)},
            needs=(answers,),
        )

    def student(self, seed: int, name: str) -> Stage:
        """A student by the name of its method. The ground truth of its half is not among its inputs."""
        method, model = registry.METHODS[name], self._found.strong
        split = self._found.by_seed[seed].student_half
        columns = {"weak_probs": self._weak_column(seed)}
        if method.uses_self_labels:
            columns["self_labels"] = self._self_column(seed)
        if method.uses_p_ik and self._config.p_ik.mask != "online":
            columns["given_p_ik"] = self._scores_column(seed)
        trains_p_ik = inputs.trains_p_ik(self._config, method)
        starts_from = None
        if trains_p_ik and self._config.p_ik.stage == "pretrain_then_joint":
            starts_from = self.p_ik_model(seed)
        needs = [stage for column in columns.values() for stage in column.needs]
        needs += [self.p_ik_answers(seed)] if trains_p_ik else []

        def read_sets() -> dict[int, batches.ExampleSet]:
            values = {field: column.read() for field, column in columns.items()}
            sets = {batches.TASK: batches.ExampleSet(split.ids, inputs.encode(split.texts, model), values)}
            if trains_p_ik:
                sets[batches.P_IK] = self._p_ik_examples(seed)
            return sets

        return self._training(
            f"{name}, seed {seed}",
            seed,
            model,
            name,
            num_examples=len(split),
            data_inputs={
                "role": "student",
                "texts": split.texts_hash,
                "p_ik": self._p_ik_inputs(seed) if trains_p_ik else None,
                **{field: column.inputs for field, column in columns.items()},
            },
            read_sets=read_sets,
            needs=tuple(needs),
            starts_from=starts_from,
        )

    def _training(
        self,
        label: str,
        seed: int,
        model: inputs.Model,
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
        method, training = registry.METHODS[method_name], self._config.training
        sizes = {batches.TASK: training.batch_size, batches.P_IK: self._p_ik_batch_size()}
        epochs, size = training.epochs, training.batch_size
        if method.task_weight == 0:
            epochs, size = self._config.p_ik.epochs, self._p_ik_batch_size()
        num_steps = _num_steps(num_examples, epochs, size, label)
        objective = self._objective(method)
        order_seed = inputs.seed_for(self._config, seed, "order")

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
                starts_from=self._artifact(starts_from) if starts_from else None,
            )

        stage = Stage(
            "train",
            label,
            {
                "version": VERSION,
                "model": model.fingerprint,
                # With any other setting no training example reaches the limit.
                "max_length": model.max_length if self._config.data.overlong == "truncate" else None,
                "learning_rate": model.learning_rate,
                "num_steps": num_steps,
                **{key: training[key] for key in ("batch_size", "b1", "b2", "eps")},
                **self._config.precision.to_dict(),
                "order_seed": order_seed,
                "reshuffle": self._config.data.reshuffle,
                "openai_pooling": self._config.compat.openai_pooling,
                "objective": objective._asdict(),
                "starts_from": starts_from.key if starts_from else None,
                **data_inputs,
            },
            (*needs, starts_from) if starts_from else needs,
            write,
            f"{num_examples} examples, {num_steps} steps",
            decoder.num_params(model.config, lm_head=False)
            * jnp.dtype(self._config.precision.param_dtype).itemsize,
        )
        return stage

    def _objective(self, method: registry.Method) -> step.Objective:
        """The method with the config's values for those options of its label rule and loss that it leaves open."""
        available = {
            "gamma": self._config.p_ik.gamma,
            "mask": "online" if self._config.p_ik.mask == "online" else "given",
            "self_label": "class_head" if self._config.self_label.source == "class_head" else "given",
            "openai_ramp": self._config.compat.openai_ramp,
            **self._config.graph.to_dict(),
        }

        def options_of(factory, own) -> tuple[tuple[str, Any], ...]:
            wanted = inspect.signature(factory).parameters
            from_config = {name: value for name, value in available.items() if name in wanted}
            return tuple(sorted((from_config | own).items()))

        if method.task_weight == 0:
            p_ik_weight = 1.0  # alone, there is nothing to weigh it against
        else:
            p_ik_weight = self._config.p_ik.weight if inputs.trains_p_ik(self._config, method) else 0.0
        return step.Objective(
            label_rule=method.label_rule,
            rule_options=options_of(label_rules.LABEL_RULES[method.label_rule], method.rule_options),
            loss=method.loss,
            loss_options=options_of(losses.LOSSES[method.loss], method.loss_options),
            task_weight=method.task_weight,
            p_ik_weight=p_ik_weight,
        )

    # Labels and predictions.

    def weak_labels(self, seed: int) -> Stage:
        """The weak model's soft labels on the student's half."""
        split = self._found.by_seed[seed].student_half
        return self._predictions(self.weak(seed), self._found.weak, split, f"weak labels, seed {seed}")

    def p_ik_scores(self, seed: int) -> Stage:
        """P(IK) of the student's half by the model that was trained on P(IK) alone."""
        split = self._found.by_seed[seed].student_half
        return self._predictions(
            self.p_ik_model(seed), self._found.strong, split, f"P(IK) scores, seed {seed}"
        )

    def evaluation(self, seed: int, name: str) -> Stage:
        """Predictions on the test split of "weak", "ceiling" or a student."""
        supervised = {"weak": self.weak, "ceiling": self.ceiling}
        trained = supervised[name](seed) if name in supervised else self.student(seed, name)
        model = self._found.weak if name == "weak" else self._found.strong
        label = f"evaluation of {name}, seed {seed}"
        return self._predictions(trained, model, self._found.by_seed[seed].test, label, show_accuracy=True)

    def _predictions(
        self,
        trained: Stage,
        model: inputs.Model,
        split: inputs.Split,
        label: str,
        show_accuracy: bool = False,
    ) -> Stage:
        """Class probabilities (and P(IK)) of a trained model by example_id."""

        def write(folder: pathlib.Path) -> None:
            probs, p_ik = classify.predict(
                self._trainer.classifier(self._artifact(trained), model),
                inputs.encode(split.texts, model),
                mesh=self._trainer.mesh,
                batch_tokens=self._config.execution.score_tokens,
                max_length=model.max_length,
                label=label,
                openai_pooling=self._config.compat.openai_pooling,
            )
            columns = {"example_id": split.ids, "prob_0": probs[:, 0], "prob_1": probs[:, 1]}
            if p_ik is not None:
                columns["p_ik"] = p_ik
            artifacts.write_table(folder / "predictions.parquet", columns)
            if show_accuracy:
                correct = int(np.sum((probs[:, 1] > 0.5) == split.labels))
                print(f"  accuracy {correct / len(split):.4f} ({correct} of {len(split)})")

        return Stage(
            "predictions",
            label,
            {
                "version": VERSION,
                "model": trained.key,
                "texts": split.texts_hash,
                "truncated_to": model.max_length if inputs.is_overlong(split.texts, model).any() else None,
            },
            (trained,),
            write,
            f"{len(split)} examples",
        )

    def self_answers(self, seed: int) -> Stage:
        """Few-shot answers on the student's half."""
        split = self._found.by_seed[seed].student_half
        return self._answers(split, f"few-shot answers on {self._config.task} (student's half), seed {seed}")

    def p_ik_answers(self, seed: int) -> Stage:
        """Few-shot answers on the P(IK) examples."""
        split = self._found.by_seed[seed].p_ik
        return self._answers(split, f"few-shot answers on {self._config.p_ik.task} (P(IK)), seed {seed}")

    def _answers(self, split: inputs.Split, label: str) -> Stage:
        """Few-shot answers of the untouched strong language model: the probability of 1 by example_id.

        Raises:
            UserError: the model's tokenizer has no tokens for the answers.
        """
        model = self._found.strong
        first = dataclasses.replace(split, examples=split.examples[:1])
        fewshot.encode_prompts(model.tokenizer, first.few_shot_prompts())

        def write(folder: pathlib.Path) -> None:
            language_model = self._trainer.load_language_model(model)
            tokens, answer_ids, cut = fewshot.fit_prompts(
                model.tokenizer,
                split.few_shot_prompts,
                num_shots=len(split.shots),
                max_length=model.config.max_seq_len,
            )
            probs = fewshot.answer_probs(
                language_model,
                tokens,
                answer_ids,
                mesh=self._trainer.mesh,
                batch_tokens=self._config.execution.score_tokens,
                max_length=model.config.max_seq_len,
                label=label,
            )
            artifacts.write_table(folder / "answers.parquet", {"example_id": split.ids, "prob_1": probs})
            summary = {"n": len(split), "cut": cut}
            (folder / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
            accuracy = float(np.mean((probs > 0.5) == split.labels))
            print(
                f"  few-shot accuracy {accuracy:.4f} on {len(split)} questions",
                describe_cut(cut),
                sep="; " if describe_cut(cut) else "",
            )

        return Stage(
            "answers",
            label,
            {
                "version": VERSION,
                "model": model.fingerprint,
                "compute_dtype": self._config.precision.compute_dtype,
                "prompts": split.prompts_hash,
            },
            (),
            write,
            f"{len(split)} prompts",
        )

    # What a student's examples carry.

    def _weak_column(self, seed: int) -> _Column:
        stage = self.weak_labels(seed)
        split = self._found.by_seed[seed].student_half

        def read() -> np.ndarray:
            columns = [
                self._table(stage, "predictions.parquet", name, split) for name in ("prob_0", "prob_1")
            ]
            return np.stack(columns, axis=-1)

        return _Column(stage.key, (stage,), read)

    def _self_column(self, seed: int) -> _Column:
        section, split = self._config.self_label, self._found.by_seed[seed].student_half
        if section.source == "file":
            return self._file_column(section.file, "label", split, hard=not section.soft)
        if section.source == "class_head":
            return _Column(None, (), lambda: np.zeros(len(split), np.float32))
        stage = self.self_answers(seed)

        def read() -> np.ndarray:
            probs = self._table(stage, "answers.parquet", "prob_1", split)
            return probs if section.soft else (probs > 0.5).astype(np.float32)

        return _Column([stage.key, section.soft], (stage,), read)

    def _scores_column(self, seed: int) -> _Column:
        section, split = self._config.p_ik, self._found.by_seed[seed].student_half
        if section.mask == "file":
            return self._file_column(section.scores_file, "p_ik", split)
        stage = self.p_ik_scores(seed)
        return _Column(stage.key, (stage,), lambda: self._table(stage, "predictions.parquet", "p_ik", split))

    def _file_column(self, path: str, field: str, split: inputs.Split, hard: bool = False) -> _Column:
        values = inputs.by_example_id(inputs.read_values_file(path, field, 0, 1), split.ids, path)
        values = (values > 0.5).astype(np.float32) if hard else values
        return _Column(artifacts.content_hash(values.tolist()), (), lambda: values)

    def _p_ik_batch_size(self) -> int:
        return self._config.p_ik.batch_size or self._config.training.batch_size

    def _p_ik_inputs(self, seed: int) -> dict[str, Any]:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        return {
            "p_ik_texts": split.texts_hash,
            "p_ik_labels": split.labels_hash,
            "p_ik_answers": self.p_ik_answers(seed).key,
            "p_ik_batch_size": self._p_ik_batch_size(),
            "num_samples": section.num_samples,
            "temperature": section.temperature,
            "sampling_seed": inputs.seed_for(self._config, seed, "sampling") if section.temperature else None,
        }

    def _p_ik_examples(self, seed: int) -> batches.ExampleSet:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        targets = fewshot.sampled_accuracy(
            self._table(self.p_ik_answers(seed), "answers.parquet", "prob_1", split),
            split.labels,
            split.ids,
            seed=inputs.seed_for(self._config, seed, "sampling"),
            num_samples=section.num_samples,
            temperature=section.temperature,
        )
        print(f"  the sampled answers are right on {100 * targets.mean():.1f} % of the P(IK) examples")
        return batches.ExampleSet(
            split.ids, inputs.encode(split.texts, self._found.strong), {"ik_target": targets}
        )

    # What results are read from.

    def label_columns(self, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weak labels and self labels on the student's half, as probabilities of class 1 `[N]`.

        The self labels are None where the student made them as it went.
        """
        weak = self._weak_column(seed).read()[:, 1]
        by_student = self._config.self_label.source == "class_head"
        return weak, None if by_student else self._self_column(seed).read()

    def _artifact(self, stage: Stage) -> artifacts.Artifact:
        return self._store.find(stage.name, stage.inputs)

    def _table(self, stage: Stage, file: str, column: str, split: inputs.Split) -> np.ndarray:
        """A column of an artifact, joined by example_id."""
        table = self._artifact(stage).read_table(file)
        values = dict(zip(table["example_id"], table[column], strict=True))
        return inputs.by_example_id(values, split.ids, f"artifact {stage.name}/{stage.key}")


def _num_steps(num_examples: int, epochs: float, batch_size: int, label: str) -> int:
    num_steps = int(epochs * num_examples / batch_size)
    if num_steps < 1:
        raise UserError(
            f"{label}: {num_examples} examples and {epochs} epochs make no batch of {batch_size}; "
            "give more examples or epochs, or lower training.batch_size or p_ik.batch_size"
        )
    return num_steps


def describe_cut(cut: dict[str, int]) -> str:
    """What was left out of prompts that are longer than the context, "" for nothing."""
    if not cut["fewer_shots"] and not cut["truncated"]:
        return ""
    return f"{cut['fewer_shots']} prompts with fewer shots, {cut['truncated']} truncated, to fit the context"
