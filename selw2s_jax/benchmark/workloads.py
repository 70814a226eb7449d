"""The programs that are measured, each with its weights, its batches, and the loop that drives it in a run.

Weights are random, of the sizes of the config's models, made on the devices in their layout.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.benchmark import example_texts, writing
from selw2s_jax.data import batches, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import columns
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import classify, prefix
from selw2s_jax.method import method_options
from selw2s_jax.models import decoder
from selw2s_jax.plan import programs, search
from selw2s_jax.runtime import device_memory
from selw2s_jax.stages import training
from selw2s_jax.training import loop, state, step

_SEED = 0


class Clock(Protocol):
    """Is told of every step once what it gave was read, as `metrics_log.MetricsLog` is."""

    def write(self, step: int, metrics: dict[str, float], *, last: bool = False) -> None: ...

    def settle(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Feed:
    """The first steps of a run's batches; in the place of `batches.TrainBatches`.

    Attributes:
        num_steps: steps that are run.
        make: the batch of a step, on the host.
        placed: batches that are on the devices already; None to give out those of `make`.
    """

    num_steps: int
    make: Callable[[int], batches.Batch]
    placed: Sequence[batches.Batch] | None = None

    def batch_at(self, step: int) -> batches.Batch:
        return self.make(step) if self.placed is None else self.placed[step]

    def example_ids(self, step: int) -> list[str]:
        return []

    def on(self, mesh: jax.sharding.Mesh) -> "Feed":
        """The same with all batches on the devices."""
        placed = [batches.device_batch(self.make(step), mesh) for step in range(self.num_steps)]
        jax.block_until_ready(placed)
        return dataclasses.replace(self, placed=placed)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A program and what it takes.

    Attributes:
        name: "train", "score" or "answer".
        method: that is trained, None for the others.
        program: its function and its arguments as shapes, the last two those of what is held and of some batch.
        feed: its batches.
        start: makes what it is called with besides a batch: a `TrainState`, or parameters.
        drive: `(run, held, feed, clock) -> held` calls `run(held, batch)` step by step as a run does.
        prepare_s: seconds that it took to plan the rows of all batches, before the first.
        past_length: tokens that every example attends to besides its own.
    """

    name: str
    method: str | None
    program: programs.Program
    feed: Feed
    start: Callable[[], Any]
    drive: Callable[[Callable, Any, Feed, Clock], Any]
    prepare_s: float
    past_length: int = 0

    def compile(self, held, batch: batches.Batch) -> jax.stages.Compiled:
        """The program for what `start` made and batches of one shape, to be called as `(held, batch)`."""
        shape_of = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)  # noqa: E731
        shapes = (jax.tree.map(shape_of, held), batches.abstract_batch(batch, self.program.mesh))
        return self.program._replace(arguments=(*self.program.arguments[:-2], *shapes)).lower().compile()


class Workloads:
    """Makes the workloads of a config.

    Args:
        config: the validated config.
        model: the strong model, by its sizes.
        found: examples.
        num_steps: that are run, those of the warm-up included.

    Attributes:
        settings: of the config's stages.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: pretrained.Model,
        found: example_texts.Examples,
        num_steps: int,
    ):
        self._config, self._model, self._found, self._num_steps = config, model, found, num_steps
        self._programs = programs.Programs(config, jax.devices())
        self.settings = self._programs.settings
        self._mesh = self._programs.mesh(model)

    def train(self, name: str) -> Workload:
        """The train step of a method, as `loop.train` drives it, in the layout that a run would choose.

        Raises:
            UserError: the task has no classes that the method could learn.
        """
        self.check(name)
        return self._laid_out(name)._train(name)

    def _laid_out(self, name: str) -> "Workloads":
        usable_bytes = device_memory.usable_bytes(jax.devices())
        if usable_bytes is None or self.settings.is_probe(self._model):
            return self
        sets, _ = self._training_sets(name)

        def make(config: ml_collections.ConfigDict) -> programs.Program:
            return self._step_of(programs.Programs(config, jax.devices()), name, sets)

        def count(program: programs.Program) -> int:
            try:
                return device_memory.peak_bytes(program.lower().compile(), jax.devices()[0].platform)
            except jax.errors.JaxRuntimeError as error:
                if (needed := device_memory.refused_bytes(error)) is None:
                    raise
                return max(needed, usable_bytes + 1)

        num_devices = jax.device_count() // self._config.mesh.num_groups
        chosen = search.choose(self._config, make, num_devices, usable_bytes, count)
        config = search.with_overrides(self._config, chosen)
        return type(self)(config, self._model, self._found, self._num_steps) if chosen else self

    def _train(self, name: str) -> Workload:
        sets, sizes = self._training_sets(name)
        first = min(sets)
        epochs = self._config.training.epochs if first == batches.TASK else self._config.p_ik.epochs
        # The shapes of rows are chosen for all steps of a run.
        of_run = training.count_steps(
            len(sets[first].example_ids), epochs, sizes[first], f"the run of {name}"
        )
        start = time.perf_counter()
        data = self._programs.train_batches(
            self._model, sets, sizes, max(of_run, self._num_steps), order_seed=_SEED
        )
        prepare_s = time.perf_counter() - start
        feed = Feed(self._num_steps, data.batch_at)
        program = self._step_of(self._programs, name, sets)
        build = self._build_trained(sets)

        def start_training() -> state.TrainState:
            settings = self.settings.optimizer(self._model, 1 + self._config.training.warmup_steps)
            rule_state = self.computation(name).rule_state
            return state.start(random_model(build, self._mesh), settings, self._mesh, rule_state)[1]

        keep_trace = self._keeps_trace(name)

        def drive(run, held: state.TrainState, feed: Feed, clock: Clock) -> state.TrainState:
            # The trace is read where a run keeps it.
            held = held._replace(step=sharding.put(np.zeros((), np.int32), held.step.sharding))
            history = _History(feed, keep_trace=keep_trace)
            return loop.train(
                run, held, feed, mesh=self._mesh, log=clock, label=f"train {name}", history=history
            )[0]

        return Workload("train", name, program, feed, start_training, drive, prepare_s)

    # What is trained, which `completions` has otherwise.

    def check(self, name: str) -> None:
        """Raises a UserError where the task has no classes that a method could learn."""
        method = method_options.applied(self._config, name)
        if method.task_weight > 0 and _is_generated(self._config.task):
            raise UserError(
                f"--method={name} learns to judge answers, and config.task={self._config.task} has answers to write: "
                "give --method=p_ik_only or another config.task"
            )

    def computation(self, name: str) -> step.Computation:
        """What the train step of a method computes."""
        return self._programs.computation(self._model, name)

    def trained_settings(self) -> Any:
        """How a module that is trained is built on the model."""
        return self.settings.classifier(self._model, self._mesh, p_ik_head=False)

    def _keeps_trace(self, name: str) -> bool:
        return method_options.applied(self._config, name).label_rule != "given"

    def _step_of(
        self, made: programs.Programs, name: str, sets: dict[int, batches.ExampleSet]
    ) -> programs.Program:
        """The train step of a method, of examples of the mean length of these."""
        first = sets[min(sets)]
        mean_length = 0 if first.tokens is None else int(np.mean(first.lengths))
        return made.train_step(self._model, name, mean_length)

    def _build_trained(self, sets: dict[int, batches.ExampleSet]) -> Callable[[], nnx.Module]:
        return self._build(p_ik_head=batches.P_IK in sets)

    def score(self, p_ik_head: bool) -> Workload:
        """Scoring or evaluation by a trained model, as `classify.predict` drives it; of a probe `classify.embed`."""
        feed, length, prepare_s = self._score_feed(self._found.test())
        program = self._programs.scores(self._model, length, p_ik_head=p_ik_head)
        is_probe = self.settings.is_probe(self._model)
        build = self._language_model if is_probe else self._build(p_ik_head=p_ik_head)
        start = lambda: nnx.split(random_model(build, self._mesh))[1]  # noqa: E731
        return Workload("score", None, program, feed, start, self._drive_scoring, prepare_s)

    def answer(self) -> Workload:
        """Few-shot answers by the untouched model, as `fewshot.answer_log_odds` drives them.

        They are those of the largest group of prompts that share their beginning, which is read once, outside of the
        time that is measured.
        """
        tokens = self._found.prompts()
        group = max(prefix.group(tokens), key=lambda group: len(group.members))
        slots = prefix.cache_slots(group.length)
        feed, length, prepare_s = self._score_feed(
            [tokens[i][group.length :] for i in group.members], past_slots=slots
        )
        program = self._programs.answers(self._model, length)

        def start():
            model = random_model(self._language_model, self._mesh)
            cache = None
            if group.length:
                cache = prefix.prefill(model, tokens[group.members[0]][: group.length], num_slots=slots)
            return nnx.split(model)[1], cache, ()

        return Workload(
            "answer", None, program, feed, start, self._drive_scoring, prepare_s, past_length=group.length
        )

    def write(self) -> writing.Written:
        """Answers that the untouched model writes to the few-shot prompts."""
        return writing.measure(
            random_model(self._language_model, self._mesh),
            self._found.prompts(),
            batch_tokens=self._config.execution.score_tokens,
        )

    def _training_sets(self, name: str) -> tuple[dict[int, batches.ExampleSet], dict[int, int]]:
        """Examples of each kind with random labels, and how many of them a step takes."""
        method = method_options.applied(self._config, name)
        training, generator = self._config.training, np.random.default_rng(_SEED)
        sets, sizes = {}, {batches.TASK: training.batch_size}
        sizes[batches.P_IK] = self._config.p_ik.batch_size or training.batch_size
        for kind, names in columns.carried(self._config, method).items():
            tokens = self._found.task() if kind == batches.TASK else self._found.p_ik()
            shapes = {name: columns.shape(self._config, name) for name in names}
            values = {name: columns.random(shape, len(tokens), generator) for name, shape in shapes.items()}
            ids = [""] * len(tokens)
            if self.settings.is_probe(self._model):
                shape = (len(tokens), self._model.config.embed_dim)
                values[batches.EMBEDDINGS], tokens = generator.standard_normal(shape, np.float32), None
            sets[kind] = batches.ExampleSet(ids, tokens, values)
        return sets, {kind: sizes[kind] for kind in sets}

    def _score_feed(self, tokens: example_texts.Tokens, past_slots: int = 0) -> tuple[Feed, int, float]:
        """The batches of a split, from the first again where there are too few; mean tokens of an example; seconds."""
        start = time.perf_counter()
        made = [
            batch
            for batch, _ in batches.score_batches(
                tokens,
                batch_tokens=self._config.execution.score_tokens,
                row_multiple=sharding.num_row_groups(self._mesh),
                past_slots=past_slots,
                openai_pooling=self._config.compat.openai_pooling,
            )
        ]
        seconds = time.perf_counter() - start
        feed = Feed(self._num_steps, lambda step: made[step % len(made)])
        return feed, int(np.mean([len(ids) for ids in tokens])), seconds

    def _drive_scoring(self, run, held, feed: Feed, clock: Clock):
        steps = ((feed.batch_at(number), number) for number in range(feed.num_steps))
        for _, number in classify.in_turn(lambda batch: run(held, batch), steps, self._mesh):
            clock.write(number, {}, last=number == feed.num_steps - 1)
        return held

    def _build(self, *, p_ik_head: bool) -> Callable[[], nnx.Module]:
        settings = self.settings.classifier(self._model, self._mesh, p_ik_head=p_ik_head)
        if self.settings.is_probe(self._model):
            return lambda: pretrained.probe(self._model.config, settings)
        return lambda: pretrained.random_classifier(self._model.config, settings)

    def _language_model(self) -> decoder.Decoder:
        options = self.settings.language_model_options(self._model, self._mesh)
        return decoder.Decoder(self._model.config, rngs=nnx.Rngs(_SEED), **options)


class _History(loop.History):
    """Is given batches as they were on the host, whichever were fed."""

    def __init__(self, feed: Feed, *, keep_trace: bool):
        super().__init__(keep_trace=keep_trace)
        self._hosts = None if feed.placed is None else [feed.make(step) for step in range(feed.num_steps)]

    def add(self, step: int, metrics: dict[str, float], trace, batch: batches.Batch) -> None:
        super().add(step, metrics, trace, batch if self._hosts is None else self._hosts[step])


def _is_generated(task: str) -> bool:
    return task in tasks.TASKS and tasks.TASKS[task].is_generated


def random_model(build: Callable[[], nnx.Module], mesh: jax.sharding.Mesh) -> nnx.Module:
    """What `build` builds, each array made on the devices in its shards."""
    graphdef, abstract = nnx.split(nnx.eval_shape(build))
    make = jax.jit(lambda: nnx.split(build())[1], out_shardings=sharding.param_shardings(mesh, abstract))
    return nnx.merge(graphdef, make())
