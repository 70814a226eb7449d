"""The programs of a run, made of shapes alone: what training, scoring and answering would give to the compiler."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import answer_tokens, batches, packing
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import columns
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import candidates, classify, fewshot
from selw2s_jax.method import method_options, objectives
from selw2s_jax.models import decoder, language_model, lora
from selw2s_jax.plan import estimate, limits
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.training import completion, state, step

COMPLETION = "train completion"  # of a program, the train step of models that learn to write
# The program is the same for any number of steps; the learning rate's schedule needs one.
_NUM_STEPS = 1000


class Program(NamedTuple):
    """A function of a run with the shapes that it is called with.

    Attributes:
        name: for people, as "train selective".
        model: it runs, `pretrained.Model`.
        mesh: devices.
        length: tokens of each example.
        num_rows, row_length: of the packed tokens of all micro-batches.
        num_examples: in a batch.
        state_bytes: on each device, of what stays there between calls.
        num_read: tokens that the last layer computes whole, all rows together; None: all.
        costs: arguments of `estimate.step_flops` and `estimate.memory_bytes`.
        function: jitted.
        arguments: of the function, of `ShapeDtypeStruct`s.
    """

    name: str
    model: pretrained.Model
    mesh: jax.sharding.Mesh
    length: int
    num_rows: int
    row_length: int
    num_examples: int
    state_bytes: int
    num_read: int | None
    costs: dict[str, Any]
    function: Any
    arguments: tuple[Any, ...]

    def lower(self) -> jax.stages.Lowered:
        """The program for the devices of the mesh, traced."""
        return self.function.lower(*self.arguments)


class Programs:
    """Makes the programs of a run.

    Args:
        config: the validated config.
        devices: of the target, `targets.make_devices`; with `mesh.num_groups` the first group of them is used.

    Attributes:
        settings: of the config's stages, whose programs these are.
    """

    def __init__(self, config: ml_collections.ConfigDict, devices: Sequence[jax.Device]):
        num_groups = config.mesh.num_groups
        if len(devices) % num_groups:
            raise UserError(
                f"config.mesh.num_groups={num_groups} does not divide the {len(devices)} devices: choose a divisor"
            )
        platform = devices[0].platform
        if config.execution.attention == "cudnn" and platform not in ("gpu", "cuda"):
            raise UserError(f"config.execution.attention=cudnn needs a GPU, not {platform}: set it to xla")
        self._config = config
        self._devices = devices[: len(devices) // num_groups]
        self.settings = settings_lib.Settings.of(config)

    def train_batches(
        self,
        model: pretrained.Model,
        sets: dict[int, batches.ExampleSet],
        batch_sizes: dict[int, int],
        num_steps: int,
        order_seed: int,
    ) -> batches.TrainBatches:
        """The batches of a training run, packed for the mesh."""
        mesh = self.mesh(model)
        return self.settings.make_batches(
            sets, batch_sizes, num_steps=num_steps, order_seed=order_seed, mesh=mesh
        )

    @property
    def compute_bytes(self) -> int:
        """Of a number that products are made of."""
        return jax.numpy.dtype(self._config.precision.compute_dtype).itemsize

    def mesh(self, model: pretrained.Model) -> jax.sharding.Mesh:
        """The devices as a model is laid out on them."""
        return self.settings.mesh_for(model, self._devices)

    def train_step(
        self,
        model: pretrained.Model,
        method_name: str,
        length: int,
        *,
        shape: tuple[int, int] | None = None,
    ) -> Program:
        """The train step of a method.

        Args:
            length: tokens of each example.
            shape: rows of a batch, in as many micro-batches as the config has, and the tokens of each; default those of
                examples that all have `length` tokens.
        """
        config = self._config
        method = method_options.applied(config, method_name)
        batch_sizes = {}
        if method.task_weight > 0:
            batch_sizes[batches.TASK] = config.training.batch_size
        if objectives.trains_p_ik(config, method):
            batch_sizes[batches.P_IK] = config.p_ik.batch_size or config.training.batch_size
        sets = self._classified_sets(model, columns.carried(config, method), batch_sizes, length)
        batch = self._train_batch(model, sets, batch_sizes, shape)
        classifier = self._abstract_classifier(model, p_ik_head=batches.P_IK in batch_sizes)
        computation = self.computation(model, method_name)
        return self._training(f"train {method_name}", model, classifier, computation, batch, length)

    def completion_step(
        self,
        model: pretrained.Model,
        length: int,
        num_answer: int,
        *,
        shape: tuple[int, int] | None = None,
        num_places: int | None = None,
        computation: step.Computation | None = None,
    ) -> Program:
        """The train step of a model that learns to write, weak or strong; all methods have the same.

        Args:
            length: tokens of each example, a prompt and its answer; num_answer: those of the answer.
            shape: as of `train_step`.
            num_places: for the answer tokens of a row of this shape; default those of its share of the examples.
            computation: default that of Eq. 5.
        """
        batch_sizes = {batches.TASK: self._config.training.batch_size}
        size = batch_sizes[batches.TASK]
        of_parts = [[np.zeros(part, np.int32)] * size for part in (length - num_answer, num_answer)]
        sets = {batches.TASK: batches.completion_examples([""] * size, *of_parts, np.ones(size))}
        batch = self._train_batch(model, sets, batch_sizes, shape, num_places)
        computation = computation or completion.completion(mean=self._config.loss.mean)
        module = self._abstract_language_model(model)
        return self._training(COMPLETION, model, module, computation, batch, length, num_answer)

    def _training(
        self,
        name: str,
        model: pretrained.Model,
        module: nnx.Module,
        computation: step.Computation,
        batch: batches.Batch,
        length: int,
        num_answer: int = 0,
    ) -> Program:
        """The train step of a module, abstract as the batch is."""
        mesh, settings = self.mesh(model), self.settings.optimizer(model, self._num_steps())
        graphdef, abstract_state, shardings = state.abstract(module, settings, mesh, computation.rule_state)
        function = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
        num_params = count(abstract_state.params) + count(abstract_state.frozen)
        costs = self._costs(model, num_params=num_params, num_trained=count(abstract_state.params))
        costs |= {"trained": self.settings.trained[model.role], "remat": self.settings.remat}
        costs |= {"num_micro": batch.tokens.shape[0]}
        if batch.answers is not None:
            num_predicted = math.prod(batch.answers.column.shape)
            num_parts = decoder.num_parts_of_logits(model.config, mesh, num_predicted // costs["num_micro"])
            costs |= {"num_predicted": num_predicted, "num_answered": num_answer * batch.row.size}
            costs |= {"logits_again": num_parts > 1}  # of one part they are still there
        return self._program(name, model, batch, length, costs, function, (abstract_state, batch))

    def computation(self, model: pretrained.Model, method_name: str) -> step.Computation:
        """What the train step of a method computes."""
        config = self._config
        method = method_options.applied(config, method_name)
        names = columns.carried(config, method).get(batches.TASK, ())
        return step.classification(
            objectives.make_objective(config, method),
            step.classify_embeddings if self.settings.is_probe(model) else step.classify,
            {name: columns.shape(config, name) for name in names},
        )

    def scores(self, model: pretrained.Model, length: int, *, p_ik_head: bool) -> Program:
        """Scoring or evaluation by a trained model, of examples that all have `length` tokens.

        Of a probe, the pass that makes its embeddings: what the heads do with them is nothing beside it.
        """
        if self.settings.is_probe(model):
            return self.embeddings(model, length)
        graphdef, params = self._with_shardings(model, self._abstract_classifier(model, p_ik_head=p_ik_head))
        batch = self._score_batch(model, length)
        costs = self._costs(model, num_params=count(params), num_trained=0) | {"backward": False}
        function = self._scoring(model, classify.class_forward)
        return self._program("score", model, batch, length, costs, function, (graphdef, params, batch))

    def embeddings(self, model: pretrained.Model, length: int) -> Program:
        """The pass that makes embeddings by the untouched model, of texts that all have `length` tokens."""
        return self._untouched("embed", model, length, classify.embed_forward)

    def answers(self, model: pretrained.Model, length: int) -> Program:
        """Few-shot answers of the untouched model, of prompts that all have `length` tokens and share none of them."""
        program = self._untouched("answer", model, length, fewshot.answer_forward)
        graphdef, params, batch = program.arguments
        return program._replace(arguments=((graphdef, (0, 1)), (params, None, ()), batch))

    def candidates(self, model: pretrained.Model, length: int, num_answer: int) -> Program:
        """Log-probabilities of candidates by a model that learns to write, adapters beside its weights.

        Args:
            length: tokens of each prompt with a candidate; num_answer: those of the candidate.
        """
        num_answer = max(min(num_answer, length - 1), 1)
        graphdef, params = self._with_shardings(model, self._abstract_language_model(model))
        batch = self._score_batch(model, length, keep=num_answer + 1)
        num_predicted = batch.row.size * num_answer
        costs = self._costs(model, num_params=count(params), num_trained=0) | {"backward": False}
        costs |= {"num_predicted": num_predicted, "num_answered": num_predicted}
        whole = sharding.replicated(self.mesh(model))
        counts = jax.ShapeDtypeStruct((batch.row.size,), np.int32, sharding=whole)
        static, arrays = (graphdef, num_answer), (params, None, counts)
        function = self._scoring(model, candidates.forward)
        return self._program("candidates", model, batch, length, costs, function, (static, arrays, batch))

    def _untouched(self, name: str, model: pretrained.Model, length: int, forward) -> Program:
        """A program of the model as it was pretrained, which is called as `embed_forward` is."""
        options = self.settings.language_model_options(model, self.mesh(model))
        language_model = decoder.abstract_decoder(model.config, **options)
        graphdef, params = self._with_shardings(model, language_model)
        batch = self._score_batch(model, length)
        costs = self._costs(model, num_params=count(params), num_trained=0) | {"backward": False}
        costs |= {"param_bytes": jax.numpy.dtype(options["param_dtype"]).itemsize}
        function = self._scoring(model, forward)
        return self._program(name, model, batch, length, costs, function, (graphdef, params, batch))

    def _num_steps(self) -> int:
        return self._config.training.warmup_steps + _NUM_STEPS

    def _abstract_classifier(self, model: pretrained.Model, *, p_ik_head: bool) -> nnx.Module:
        settings = self.settings.classifier(model, self.mesh(model), p_ik_head=p_ik_head)
        if self.settings.is_probe(model):
            return nnx.eval_shape(lambda: pretrained.probe(model.config, settings))
        return pretrained.abstract_classifier(model.config, settings)

    def _with_shardings(self, model: pretrained.Model, module: nnx.Module):
        graphdef, params = nnx.split(module)
        shardings = sharding.param_shardings(self.mesh(model), params)
        return graphdef, jax.tree.map(_abstract, params, shardings)

    def _scoring(self, model: pretrained.Model, forward):
        """As `classify.score` compiles it."""
        whole = sharding.replicated(self.mesh(model))
        return jax.jit(forward, static_argnums=0, out_shardings=whole)

    def _abstract_language_model(self, model: pretrained.Model) -> language_model.LanguageModel:
        settings = self.settings.language_model(model, self.mesh(model))
        return pretrained.abstract_trainable(model.config, settings)

    def _classified_sets(
        self,
        model: pretrained.Model,
        carried: dict[int, tuple[str, ...]],
        batch_sizes: dict[int, int],
        length: int,
    ) -> dict[int, batches.ExampleSet]:
        """A batch of examples of each kind that all have `length` tokens, with the columns `carried`."""
        sets = {}
        for kind, size in batch_sizes.items():
            zeros = {name: np.zeros((size, *columns.shape(self._config, name))) for name in carried[kind]}
            tokens = [np.zeros(length, np.int32)] * size
            if self.settings.is_probe(model):
                zeros[batches.EMBEDDINGS], tokens = np.zeros((size, model.config.embed_dim)), None
            sets[kind] = batches.ExampleSet([""] * size, tokens, zeros)
        return sets

    def _train_batch(
        self,
        model: pretrained.Model,
        sets: dict[int, batches.ExampleSet],
        batch_sizes: dict[int, int],
        shape: tuple[int, int] | None,
        num_places: int | None = None,
    ) -> batches.Batch:
        """As of a run, with the rows of that shape divided over its micro-batches."""
        mesh = self.mesh(model)
        batch = self.train_batches(model, sets, batch_sizes, num_steps=1, order_seed=0).batch_at(0)
        if shape is not None and batch.tokens.size:
            num_groups = sharding.num_row_groups(mesh)
            num_micro, num_slots = batch.row.shape
            num_rows = packing.round_up(-(-shape[0] // num_micro), num_groups)
            grid = np.zeros((num_micro, num_rows, shape[1]), np.int32)
            of_row = -(-num_slots // num_rows)
            reads = np.zeros((*grid.shape[:2], batches.reads_needed(of_row)), np.int32)
            batch = batch._replace(tokens=grid, positions=grid, segment_ids=grid, reads=reads)
            if batch.answers is not None:
                counts = batch.columns[answer_tokens.COLUMN][0].astype(int)
                places = num_places or answer_tokens.places_needed([list(range(of_row))], counts)
                batch = batch._replace(answers=answer_tokens.empty(num_micro, num_rows, places, num_slots))
        return batches.abstract_batch(batch, mesh)

    def _score_batch(self, model: pretrained.Model, length: int, *, keep: int = 1) -> batches.Batch:
        mesh = self.mesh(model)
        batch_tokens = self._config.execution.score_tokens
        tokens = [np.zeros(length, np.int32)] * -(-batch_tokens // length)
        batch, _ = next(
            batches.score_batches(
                tokens,
                keep=[keep] * len(tokens),
                batch_tokens=batch_tokens,
                row_multiple=sharding.num_row_groups(mesh),
            )
        )
        return batches.abstract_batch(batch, mesh)

    def _costs(self, model: pretrained.Model, *, num_params: int, num_trained: int) -> dict[str, Any]:
        training, precision = self._config.training, self._config.precision
        adapters = self.settings.adapters(model)
        held_whole = self.settings.trained[model.role] == "all" or self.settings.is_probe(model)
        itemsize = lambda name: jax.numpy.dtype(name).itemsize  # noqa: E731
        held = precision.param_dtype if held_whole else precision.compute_dtype
        return {
            "num_params": num_params,
            "num_trained": num_trained,
            "adapter_params": lora.num_params(model.config, adapters) if adapters else 0,
            "param_bytes": itemsize(held),
            "compute_bytes": itemsize(precision.compute_dtype),
            "moment_bytes": 0 if training.optimizer == "adafactor" else itemsize(precision.moment_dtype),
        }

    def _program(self, name, model, batch: batches.Batch, length: int, costs, function, arguments) -> Program:
        num_micro, num_rows, row_length = batch.tokens.shape
        held = arguments[0] if name.startswith("train") else arguments[1]
        return Program(
            name,
            model,
            self.mesh(model),
            length,
            num_micro * num_rows,
            row_length,
            num_micro * batch.row.shape[1],
            bytes_per_device(held),
            _num_read(model, batch),
            costs,
            function,
            arguments,
        )


def flops(
    program: Program,
    *,
    num_tokens: int,
    num_examples: int,
    mean_length: float,
    row_length: int | None = None,
    num_read: int | None = None,
    num_predicted: int = 0,
    logits_again: bool = False,
) -> estimate.Flops:
    """FLOPs of all devices in a call of a program on other numbers of tokens and examples: `estimate.step_flops`."""
    given = program.costs
    return estimate.step_flops(
        program.model.config,
        num_tokens=num_tokens,
        num_examples=num_examples,
        mean_length=mean_length,
        row_length=row_length,
        backward=given.get("backward", True),
        adapter_params=given["adapter_params"] if given.get("trained") == "lora" else 0,
        num_read=num_read,
        num_predicted=num_predicted,
        logits_again=logits_again,
        **_of_passes(given),
    )


def _num_read(model: pretrained.Model, batch: batches.Batch) -> int | None:
    """As of `Program`, of a batch that says which tokens are read."""
    read = batch.reads if batch.answers is None else batch.answers.column
    if read is None or not math.prod(read.shape):
        return None
    layer_stacks = nnx.split(decoder.abstract_decoder(model.config).layers)[1]
    tokens, reads = (jax.ShapeDtypeStruct(one.shape[1:], one.dtype) for one in (batch.tokens, read))
    return math.prod(read.shape) if decoder.is_worth_a_layer(layer_stacks, tokens, reads) else None


def _of_passes(given: dict[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in ("trained", "remat", "num_micro") if key in given}


def costs(program: Program) -> tuple[estimate.Flops, estimate.Traffic]:
    """FLOPs of all devices and memory traffic of one, in one call of a program."""
    given, num_tokens = program.costs, program.num_rows * program.row_length
    of_call = flops(
        program,
        num_tokens=num_tokens,
        num_examples=program.num_examples,
        mean_length=program.length,
        row_length=program.row_length,
        num_read=program.num_read,
        num_predicted=given.get("num_predicted", 0),
        logits_again=given.get("logits_again", False),
    )
    sizes = ("num_params", "num_trained", "param_bytes", "compute_bytes", "moment_bytes")
    traffic = estimate.memory_bytes(
        program.model.config,
        num_tokens=num_tokens,
        row_length=program.row_length,
        mesh_shape=tuple(program.mesh.shape.values()),
        backward=given.get("backward", True),
        **{key: given[key] for key in sizes},
        **_of_passes(given),
    )
    return of_call, traffic


def step_of(program: Program) -> limits.Step:
    """What a program does, as far as its limits depend on it."""
    given, num_tokens = program.costs, program.num_rows * program.row_length
    sizes = ("num_params", "num_trained", "param_bytes", "compute_bytes", "moment_bytes")
    return limits.Step(
        config=program.model.config,
        num_tokens=num_tokens,
        num_used=min(program.num_examples * program.length, num_tokens),
        num_examples=program.num_examples,
        length=program.length,
        row_length=program.row_length,
        backward=given.get("backward", True),
        adapter_params=given["adapter_params"] if given.get("trained") == "lora" else 0,
        mesh_shape=tuple(program.mesh.shape.values()),
        num_read=program.num_read,
        num_predicted=given.get("num_predicted", 0),
        num_answered=given.get("num_answered", 0),
        logits_again=given.get("logits_again", False),
        **{key: given[key] for key in sizes},
        **{"trained": "all", "remat": "full", "num_micro": 1} | _of_passes(given),
    )


def _abstract(x, placed: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed)


def count(tree) -> int:
    """Numbers in a tree of arrays or of their shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def bytes_per_device(tree) -> int:
    """Bytes that each device holds of a tree of arrays, or of `ShapeDtypeStruct`s with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
