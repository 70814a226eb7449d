"""The stages of a run: what each is a function of, and how its artifact is made.

A stage's inputs name everything that its result depends on, earlier stages by their keys, and nothing else:
how a model is laid out over devices, micro-batched, rematerialised or logged is not among them.
"""

import dataclasses
import inspect
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from selw2s_jax import artifacts, inputs, sharding, trainer
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.inference import classify, fewshot
from selw2s_jax.method import label_rules, losses, registry
from selw2s_jax.models import registry as model_registry
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
        write: fills the artifact's folder.
        detail: its size, for the plan.
        num_bytes: of the weights it writes.
    """

    name: str
    label: str
    inputs: dict[str, Any]
    write: Callable[[pathlib.Path], None]
    detail: str = ""
    num_bytes: int = 0

    @property
    def key(self) -> str:
        return artifacts.artifact_key(self.name, self.inputs)


class Stages:
    """Makes the stages of a run.

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

    def check_devices(self) -> None:
        """Makes the mesh and checks that it divides the models, and that the devices have the attention asked for.

        Raises:
            UserError: they do not.
        """
        platform = self._trainer.mesh.devices.flat[0].platform
        if self._config.execution.attention == "cudnn" and platform != "gpu":
            raise UserError(f"config.execution.attention=cudnn needs a GPU, found {platform}: set it to xla")
        for model in (self._found.weak, self._found.strong):
            sharding.check_divisible(self._trainer.mesh, model.config)

    def weak(self, seed: int) -> Stage:
        """The weak model: fine-tuned on the ground truth of its half."""
        return self._supervised("weak", seed, self._found.weak, self._found.by_seed[seed].weak_half)

    def ceiling(self, seed: int) -> Stage:
        """The strong ceiling: the strong model on ground truth."""
        data = self._found.by_seed[seed]
        chosen = {
            "student": data.student_half,
            "weak": data.weak_half,
            "both": dataclasses.replace(
                data.student_half, examples=[*data.weak_half.examples, *data.student_half.examples]
            ),
        }[self._config.ceiling.split]
        return self._supervised("ceiling", seed, self._found.strong, chosen)

    def _supervised(self, name: str, seed: int, model: inputs.Model, split: inputs.Split) -> Stage:
        num_steps = self._num_steps(len(split), self._config.training.epochs, f"{name} of seed {seed}")

        def write(folder: pathlib.Path) -> None:
            truth = np.eye(2, dtype=np.float32)[split.labels]
            task = batches.ExampleSet(split.ids, inputs.encode(split.texts, model), {"weak_probs": truth})
            self._train(folder, stage, model, "supervised", {batches.TASK: task}, num_steps, seed)

        stage = Stage(
            "train",
            f"{name}, seed {seed}",
            {
                "role": name,
                "texts": split.texts_hash,
                "labels": split.labels_hash,
                **self._training_inputs(model, seed, num_steps),
            },
            write,
            f"{len(split)} examples, {num_steps} steps",
            self._weight_bytes(model),
        )
        return stage

    def answers(self, seed: int, split: inputs.Split, name: str) -> Stage:
        """Few-shot answers of the untouched strong language model: the probability of 1 by example_id.

        Raises:
            UserError: the model's tokenizer has no tokens for the answers.
        """
        model = self._found.strong
        fewshot.encode_prompts(model.tokenizer, split.few_shot_prompts()[:1])

        def write(folder: pathlib.Path) -> None:
            decoder = self._trainer.load_language_model(model)
            tokens, answer_ids, cut = fewshot.fit_prompts(
                model.tokenizer,
                split.few_shot_prompts,
                num_shots=len(split.shots),
                max_length=model.config.max_seq_len,
            )
            probs = fewshot.answer_probs(
                decoder,
                tokens,
                answer_ids,
                mesh=self._trainer.mesh,
                batch_tokens=self._config.execution.score_tokens,
                max_length=model.config.max_seq_len,
                label=stage.label,
            )
            accuracy = float(np.mean((probs > 0.5) == split.labels))
            artifacts.write_table(folder / "answers.parquet", {"example_id": split.ids, "prob_1": probs})
            _write_json(folder / "summary.json", {"n": len(split), "cut": cut})
            print(f"  few-shot accuracy {accuracy:.4f} on {len(split)} questions{_describe_cut(cut)}")

        stage = Stage(
            "answers",
            f"few-shot answers on {name}, seed {seed}",
            {
                "version": VERSION,
                "model": model.fingerprint,
                "compute_dtype": self._config.precision.compute_dtype,
                "prompts": split.prompts_hash,
            },
            write,
            f"{len(split)} prompts",
        )
        return stage

    def p_ik_model(self, seed: int, answers: Stage) -> Stage:
        """P(IK) trained alone, for p_ik.stage other than joint or frozen scores."""
        split, model = self._found.by_seed[seed].p_ik, self._found.strong
        num_steps = self._num_steps(
            len(split), self._config.p_ik.epochs, "P(IK)", batch_size=self._p_ik_batch_size()
        )

        def write(folder: pathlib.Path) -> None:
            sets = {batches.P_IK: self._p_ik_examples(seed, answers)}
            self._train(folder, stage, model, "p_ik_only", sets, num_steps, seed)

        stage = Stage(
            "train",
            f"P(IK) alone, seed {seed}",
            {
                "role": "p_ik",
                **self._p_ik_inputs(seed, answers),
                **self._training_inputs(model, seed, num_steps),
            },
            write,
            f"{len(split)} examples, {num_steps} steps",
            self._weight_bytes(model),
        )
        return stage

    def student(
        self,
        seed: int,
        name: str,
        weak_labels: Stage,
        self_labels: Stage | None,
        p_ik_answers: Stage | None,
        p_ik_model: Stage | None,
        p_ik_scores: Stage | None,
    ) -> Stage:
        """A student by the name of its method. Its ground truth is not among its inputs."""
        method, model = registry.METHODS[name], self._found.strong
        split = self._found.by_seed[seed].student_half
        num_steps = self._num_steps(len(split), self._config.training.epochs, f"{name} of seed {seed}")
        trains_p_ik = self._trains_p_ik(method)
        starts_from = (
            p_ik_model if method.uses_p_ik and self._config.p_ik.stage == "pretrain_then_joint" else None
        )
        columns = {"self_labels": self_labels} if method.uses_self_labels else {}
        columns |= (
            {"given_p_ik": p_ik_scores} if method.uses_p_ik and self._config.p_ik.mask != "online" else {}
        )
        keys = {field: self._column_inputs(field, source, split) for field, source in columns.items()}

        def write(folder: pathlib.Path) -> None:
            values = {field: self._column(field, source, split) for field, source in columns.items()}
            values["weak_probs"] = self._probs(weak_labels, "predictions.parquet", split)
            sets = {batches.TASK: batches.ExampleSet(split.ids, inputs.encode(split.texts, model), values)}
            if trains_p_ik:
                sets[batches.P_IK] = self._p_ik_examples(seed, p_ik_answers)
            self._train(folder, stage, model, name, sets, num_steps, seed, starts_from)

        stage = Stage(
            "train",
            f"{name}, seed {seed}",
            {
                "role": "student",
                "method": self._method_inputs(method),
                "texts": split.texts_hash,
                "weak_labels": weak_labels.key,
                "p_ik": self._p_ik_inputs(seed, p_ik_answers) if trains_p_ik else None,
                "starts_from": starts_from.key if starts_from else None,
                **keys,
                **self._training_inputs(model, seed, num_steps),
            },
            write,
            f"{len(split)} examples, {num_steps} steps",
            self._weight_bytes(model),
        )
        return stage

    def predictions(self, trained: Stage, model: inputs.Model, split: inputs.Split, label: str) -> Stage:
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

        return Stage(
            "predictions",
            label,
            {"version": VERSION, "model": trained.key, "texts": split.texts_hash},
            write,
            f"{len(split)} examples",
        )

    def _train(
        self,
        folder: pathlib.Path,
        stage: Stage,
        model: inputs.Model,
        name: str,
        sets: dict[int, batches.ExampleSet],
        num_steps: int,
        seed: int,
        starts_from: Stage | None = None,
    ) -> None:
        method = registry.METHODS[name]
        objective = step.Objective(
            label_rules.get(method.label_rule, **self._rule_options(method)),
            losses.get(method.loss),
            method.task_weight,
            self._p_ik_weight(method),
        )
        self._trainer.train(
            folder,
            key=stage.key,
            label=stage.label,
            model=model,
            method=method,
            objective=objective,
            identity=artifacts.canonical_json(self._method_inputs(method)),
            sets=sets,
            batch_sizes={
                batches.TASK: self._config.training.batch_size,
                batches.P_IK: self._p_ik_batch_size(),
            },
            num_steps=num_steps,
            order_seed=inputs.seed_for(self._config, seed, "order"),
            starts_from=self._artifact(starts_from) if starts_from else None,
        )

    # What a stage is a function of.

    def _training_inputs(self, model: inputs.Model, seed: int, num_steps: int) -> dict[str, Any]:
        training, precision = self._config.training, self._config.precision
        return {
            "version": VERSION,
            "model": model.fingerprint,
            "max_length": model.max_length,
            "learning_rate": model.learning_rate,
            "num_steps": num_steps,
            **{k: training[k] for k in ("batch_size", "schedule", "optimizer", "b1", "b2", "eps")},
            **precision.to_dict(),
            "order_seed": inputs.seed_for(self._config, seed, "order"),
            "reshuffle": self._config.data.reshuffle,
            "openai_pooling": self._config.compat.openai_pooling,
        }

    def _method_inputs(self, method: registry.Method) -> dict[str, Any]:
        return {
            "label_rule": method.label_rule,
            "rule_options": self._rule_options(method),
            "loss": method.loss,
            "task_weight": method.task_weight,
            "p_ik_weight": self._p_ik_weight(method),
        }

    def _p_ik_inputs(self, seed: int, answers: Stage) -> dict[str, Any]:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        return {
            "p_ik_texts": split.texts_hash,
            "p_ik_labels": split.labels_hash,
            "p_ik_answers": answers.key,
            "p_ik_batch_size": self._p_ik_batch_size(),
            "num_samples": section.num_samples,
            "temperature": section.temperature,
            "sampling_seed": inputs.seed_for(self._config, seed, "sampling"),
        }

    def _column_inputs(self, field: str, source: Stage | None, split: inputs.Split) -> Any:
        if (values := self._file_column(field, split)) is not None:
            return artifacts.content_hash(values.tolist())
        if field == "given_p_ik":
            return source.key
        section = self._config.self_label
        return None if section.source == "class_head" else [source.key, section.soft]

    def _rule_options(self, method: registry.Method) -> dict[str, Any]:
        """The config's values for the options that the method's label rule has."""
        available = {
            "gamma": self._config.p_ik.gamma,
            "mask": "online" if self._config.p_ik.mask == "online" else "given",
            "self_label": "class_head" if self._config.self_label.source == "class_head" else "given",
            **self._config.graph.to_dict(),
        }
        wanted = inspect.signature(label_rules.LABEL_RULES[method.label_rule]).parameters
        return {name: value for name, value in available.items() if name in wanted}

    def _trains_p_ik(self, method: registry.Method) -> bool:
        return method.uses_p_ik and self._config.p_ik.stage != "frozen"

    def _p_ik_weight(self, method: registry.Method) -> float:
        return self._config.p_ik.weight if self._trains_p_ik(method) else 0.0

    def _p_ik_batch_size(self) -> int:
        return self._config.p_ik.batch_size or self._config.training.batch_size

    def _weight_bytes(self, model: inputs.Model) -> int:
        num_params = model_registry.num_params(model.config, lm_head=False)
        return num_params * jnp.dtype(self._config.precision.param_dtype).itemsize

    def _num_steps(self, num_examples: int, epochs: float, what: str, batch_size: int | None = None) -> int:
        batch_size = batch_size or self._config.training.batch_size
        num_steps = int(epochs * num_examples / batch_size)
        if num_steps < 1:
            raise UserError(
                f"{what}: {num_examples} examples and {epochs} epochs make no batch of {batch_size}; "
                "give more examples or epochs, or lower training.batch_size"
            )
        return num_steps

    # What a stage reads.

    def _artifact(self, stage: Stage) -> artifacts.Artifact:
        return self._store.find(stage.name, stage.inputs)

    def _column(self, field: str, source: Stage | None, split: inputs.Split) -> np.ndarray:
        if (values := self._file_column(field, split)) is not None:
            return values
        if field == "given_p_ik":
            return self._table(source, "predictions.parquet", "p_ik", split)
        if self._config.self_label.source == "class_head":
            return np.zeros(len(split), np.float32)
        probs = self._table(source, "answers.parquet", "prob_1", split)
        return probs if self._config.self_label.soft else (probs > 0.5).astype(np.float32)

    def _file_column(self, field: str, split: inputs.Split) -> np.ndarray | None:
        """The column from the user's own file, where the config names one for it."""
        section, self_label = self._config.p_ik, self._config.self_label
        if field == "given_p_ik" and section.mask == "file":
            path, name = section.scores_file, "p_ik"
        elif field == "self_labels" and self_label.source == "file":
            path, name = self_label.file, "label"
        else:
            return None
        return inputs.by_example_id(inputs.read_values_file(path, name, 0, 1), split.ids, path)

    def _table(self, stage: Stage, file: str, column: str, split: inputs.Split) -> np.ndarray:
        """A column of an artifact, joined by example_id."""
        table = self._artifact(stage).read_table(file)
        values = dict(zip(table["example_id"], table[column], strict=True))
        return inputs.by_example_id(values, split.ids, f"artifact {stage.name}/{stage.key}")

    def _probs(self, stage: Stage, file: str, split: inputs.Split) -> np.ndarray:
        return np.stack([self._table(stage, file, name, split) for name in ("prob_0", "prob_1")], axis=-1)

    def _p_ik_examples(self, seed: int, answers: Stage) -> batches.ExampleSet:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        targets = fewshot.sampled_accuracy(
            self._table(answers, "answers.parquet", "prob_1", split),
            split.labels,
            split.ids,
            seed=inputs.seed_for(self._config, seed, "sampling"),
            num_samples=section.num_samples,
            temperature=section.temperature,
        )
        print(f"  base rate of IK among the P(IK) examples: {targets.mean():.4f} (gamma {section.gamma})")
        tokens = inputs.encode(split.texts, self._found.strong)
        return batches.ExampleSet(split.ids, tokens, {"ik_target": targets})


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _describe_cut(cut: dict[str, int]) -> str:
    if not cut["fewer_shots"] and not cut["truncated"]:
        return ""
    return f"; {cut['fewer_shots']} with fewer shots, {cut['truncated']} truncated to fit the context"
