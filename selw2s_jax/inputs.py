"""Everything a run reads, found and checked before any device work: models, tokenizers, tasks, splits."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Sequence

import ml_collections
import numpy as np

from selw2s_jax import artifacts, lengths, remote, smoke, world
from selw2s_jax.data import prompts, sources, splits, tasks, user_files
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, tokenizers, weight_files
from selw2s_jax.method import registry as method_registry
from selw2s_jax.models import registry

PRETRAINING = "pretrain"  # name of the stage that makes a language model


@dataclasses.dataclass(frozen=True)
class Model:
    """A pretrained model that was found and checked.

    Attributes:
        role: "weak" or "strong".
        name: as the config has it; of a generated world with its seed and role.
        folder: local folder of its files.
        fingerprint: hash of its weights, config and tokenizer; of its recipe where it is yet to be made.
        recipe: how the run itself makes it, None for a model that is there.
        max_length: longest example it is given, in tokens.
    """

    role: str
    name: str
    folder: pathlib.Path
    config: registry.ModelConfig
    tokenizer: tokenizers.Tokenizer
    fingerprint: str
    learning_rate: float
    max_length: int
    recipe: world.Recipe | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples with what the models read of them; ground truth apart.

    Attributes:
        examples: `data.tasks.Example`s.
        task: that they are of.
        prompt: form of the classifier input, "bare", "instruction" or "fewshot".
        shots: of the few-shot prompt.
    """

    examples: Sequence[tasks.Example]
    task: tasks.Task
    prompt: str
    shots: Sequence[tasks.Example]

    def __len__(self) -> int:
        return len(self.examples)

    @functools.cached_property
    def ids(self) -> list[str]:
        return [example.example_id for example in self.examples]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        return np.array([example.label for example in self.examples], np.int32)

    @functools.cached_property
    def texts(self) -> list[str]:
        """What the class head and the P(IK) head read."""
        return [
            prompts.classifier_input(
                example.text, prompt=self.prompt, instruction=self.task.instruction, shots=self.shots
            )
            for example in self.examples
        ]

    def few_shot_prompts(self) -> list[str]:
        """What the language model answers."""
        return self.build_prompts(len(self.shots), self.examples)

    def build_prompts(self, num_shots: int, examples: Sequence[tasks.Example]) -> list[str]:
        """The prompts of examples with the last `num_shots` shots."""
        shots = self.shots[len(self.shots) - num_shots :]
        return [prompts.few_shot_prompt(self.task.instruction, shots, example.text) for example in examples]

    @functools.cached_property
    def texts_hash(self) -> str:
        """Of ids and classifier inputs, without ground truth."""
        return artifacts.content_hash([self.ids, self.texts])

    @functools.cached_property
    def prompts_hash(self) -> str:
        return artifacts.content_hash([self.ids, self.few_shot_prompts()])

    @functools.cached_property
    def solutions_hash(self) -> str:
        """Of the ground truth of questions that are answered at length."""
        return artifacts.content_hash([self.ids, [example.solution for example in self.examples]])

    @functools.cached_property
    def labels_hash(self) -> str:
        return artifacts.content_hash([self.ids, self.labels.tolist()])

    def only(self, keep: Sequence[bool]) -> "Split":
        kept = [example for example, wanted in zip(self.examples, keep, strict=True) if wanted]
        return dataclasses.replace(self, examples=kept)


@dataclasses.dataclass(frozen=True)
class SeedData:
    """The splits of one seed. Every seed tests on the same items. A run of P(IK) alone has no halves."""

    weak_half: Split | None
    student_half: Split | None
    test: Split
    p_ik: Split | None
    p_ik_test: Split | None  # held-out questions of p_ik.task


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that the stages read.

    Attributes:
        by_seed: the splits of each base seed.
        notes: what a reader of the results has to know.
        is_papers_data: whether data and conversion are those of the paper's tables.
    """

    weak: Model | None  # none in a run of P(IK) alone
    strong: Model
    by_seed: dict[int, SeedData]
    notes: tuple[str, ...]
    is_papers_data: bool


def seed_for(config: ml_collections.ConfigDict, base: int, which: str) -> int:
    """The seed of one purpose: `seed.<which>` where it is set, else the base seed."""
    value = config.seed[which]
    return base if value is None else value


def is_own_task(config: ml_collections.ConfigDict) -> bool:
    """Whether P(IK) is trained on the task that the run tests on."""
    section = config.p_ik
    # A user's file is another data set than a task of its name, unless there is no student that must not see it.
    is_same_data = config.data.train_file is None or method_registry.is_p_ik_alone(config.methods)
    return section.file is None and section.task == config.task and is_same_data


def trains_p_ik(config: ml_collections.ConfigDict, method: method_registry.Method) -> bool:
    """Whether a student has a P(IK) head and P(IK) examples of its own; P(IK) alone always has."""
    return method.uses_p_ik and (method.task_weight == 0 or config.p_ik.stage != "frozen")


def needs_p_ik_data(config: ml_collections.ConfigDict) -> bool:
    """Whether P(IK) is trained at all, rather than read from a file."""
    methods = [method_registry.METHODS[name] for name in config.methods]
    scored_by_model = config.p_ik.mask == "frozen_scores"
    return any(trains_p_ik(config, method) or (method.uses_p_ik and scored_by_model) for method in methods)


def prepare(config: ml_collections.ConfigDict, workdir) -> Inputs:
    """Finds, reads and checks every input.

    Raises:
        UserError: the first thing that is wrong.
    """
    world.check(config)
    notes: list[str] = []
    # The data first: models can be long downloads.
    by_seed, is_papers_data = read_data(config, workdir, notes)
    is_p_ik_alone = method_registry.is_p_ik_alone(config.methods)
    weak = None if is_p_ik_alone else _find_model(config, "weak", workdir, notes)
    strong = _find_model(config, "strong", workdir, notes)
    for base, data in by_seed.items():
        by_seed[base] = lengths.fit(data, weak, strong, config, notes)
    _check_room_to_write(config, by_seed, strong)
    return Inputs(weak, strong, by_seed, tuple(dict.fromkeys(notes)), is_papers_data)


def read_data(
    config: ml_collections.ConfigDict, workdir, notes: list[str]
) -> tuple[dict[int, SeedData], bool]:
    """The splits of each base seed, of all lengths, and whether data and conversion are those of the paper's tables.

    Args:
        notes: what a reader of the results has to know of the data is added.

    Raises:
        UserError: the first thing that is wrong.
    """
    source = config.data.source
    if source == smoke.GENERATED:
        source = str(smoke.data_folder(workdir / "inputs"))
        notes.append("the questions are generated and the checkpoints random: the numbers mean nothing")
    elif source == world.NAME:
        source = str(world.data_folder(world.world_config(config), workdir / "inputs"))
    task, train_questions, test_questions = _read_task(config, source, notes)
    if task.is_generated and not method_registry.is_p_ik_alone(config.methods):
        raise UserError(
            f"config.task={task.name} has answers to write, not to judge: only P(IK) can be trained and tested on it; "
            "set config.methods=p_ik_only or choose another task"
        )
    test = _convert(config, task, test_questions, config.seed.test_conversion)
    test = splits.sample_examples(test, config.data.num_test, seed=config.seed.test_conversion)
    by_seed = {
        base: _seed_data(config, task, train_questions, test, source, base, notes) for base in config.seeds
    }
    is_papers_data = (
        config.data.train_file is None
        and config.data.source not in (smoke.GENERATED, world.NAME)
        and (config.data.num_train, config.data.num_test) == (20_000, None)
        and config.data.conversion == "coin"
        and not config.weak.label_noise
        and not any(sources.is_divided(one, source=source) for one in _tasks_of(config, task))
    )
    return by_seed, is_papers_data


def _check_room_to_write(config, by_seed: dict[int, SeedData], strong: Model) -> None:
    splits_read = [
        split for data in by_seed.values() for split in (data.test, data.p_ik, data.p_ik_test) if split
    ]
    wanted, context = config.generation.max_new_tokens, strong.config.max_seq_len
    if wanted >= context and any(split.task.is_generated for split in splits_read):
        raise UserError(
            f"config.generation.max_new_tokens={wanted} leaves no room for a question in the context of {context} "
            f"tokens of strong.model={strong.name}: lower it"
        )


def _tasks_of(config, task: tasks.Task) -> list[tasks.Task]:
    """The tasks whose questions a run reads: its own, and that of P(IK) unless this is in a file of the user's."""
    reads_another = needs_p_ik_data(config) and config.p_ik.file is None and not is_own_task(config)
    return [task, tasks.get_task(config.p_ik.task)] if reads_another else [task]


def _find_model(config, role: str, workdir, notes: list[str]) -> Model:
    made = workdir / "inputs"
    section = config[role]
    name = section.model
    if name == world.NAME:
        return world_model(config, role, workdir)
    if name in smoke.RANDOM_MODELS:
        folder = remote.local_copy(smoke.model_folder(name, made))
    else:
        folder = loader.resolve(name, section.revision)
        entry = registry.MODELS.get(name)
        if entry is not None and entry.revision is None and section.revision is None:
            notes.append(f"{role}.model={name}: no revision is pinned, the hub's newest was taken")
    # The strong model answers few-shot prompts, so its language-model head must be there.
    model_config = loader.check_checkpoint(folder, lm_head=role == "strong")
    tokenizer_folder = folder if section.tokenizer is None else section.tokenizer
    tokenizer = tokenizers.load_tokenizer(tokenizer_folder)
    tokenizers.check_tokenizer(tokenizer, model_config.vocab_size, f"{role}.model={name}")
    weights = weight_files.fingerprint(folder, cache_dir=made.parent / ".cache")
    learning_rate = section.learning_rate or config.training.learning_rate
    return Model(
        role=role,
        name=name,
        folder=folder,
        config=model_config,
        tokenizer=tokenizer,
        fingerprint=artifacts.content_hash([weights, tokenizer.fingerprint]),
        learning_rate=learning_rate or default_learning_rate(model_config),
        max_length=min(config.data.max_length, model_config.max_seq_len),
    )


def world_model(config: ml_collections.ConfigDict, role: str, workdir) -> Model:
    """A language model of the generated world, which a stage of the run pretrains."""
    recipe = world.recipe(config, role, world.data_folder(world.world_config(config), workdir / "inputs"))
    tokenizer = tokenizers.load_tokenizer(recipe.tokenizer_folder)
    folder = artifacts.Store(workdir).path(PRETRAINING, recipe.inputs)
    return Model(
        role=role,
        name=f"{world.NAME}-{config.world.seed}-{role}",
        folder=folder,
        config=recipe.model,
        tokenizer=tokenizer,
        fingerprint=artifacts.content_hash([folder.name, tokenizer.fingerprint]),
        learning_rate=(
            config[role].learning_rate or config.training.learning_rate or default_learning_rate(recipe.model)
        ),
        max_length=min(config.data.max_length, recipe.model.max_seq_len),
        recipe=recipe,
    )


def default_learning_rate(config: registry.ModelConfig) -> float:
    """The fine-tuning rate of openai/weak-to-strong: 5e-5 up to GPT-2 medium's width, 1e-5 above and for Qwen."""
    medium = registry.MODELS["gpt2-medium"]
    is_small = config.family == "gpt2" and config.embed_dim <= medium.config.embed_dim
    return medium.learning_rate if is_small else registry.MODELS["gpt2-xl"].learning_rate


def _read_task(config, source: str, notes: list[str]):
    if config.data.train_file is not None:
        if config.task in tasks.TASKS:
            notes.append(
                f"task {config.task} is {config.data.train_file} here, not the data set of that name: "
                "call it otherwise by config.task=NAME"
            )
        train, test = user_files.load_user_splits(config.task, config.data.train_file, config.data.test_file)
        return user_files.user_task(config.task, train, instruction=config.data.instruction), train, test
    task = tasks.get_task(config.task, role="config.task")
    if config.data.instruction is not None:
        task = dataclasses.replace(task, instruction=config.data.instruction)
    notes += sources.notes(task, source=source)
    train = sources.load_questions(task, "train", source=source)
    return task, train, sources.load_questions(task, "test", source=source)


def _convert(config, task: tasks.Task, questions, seed: int) -> list[tasks.Example]:
    return tasks.convert(task, questions, mode=config.data.conversion, seed=seed)


def _seed_data(config, task, train_questions, test, source, base: int, notes: list[str]) -> SeedData:
    examples = _convert(config, task, train_questions, seed_for(config, base, "conversion"))
    if method_registry.is_p_ik_alone(config.methods):
        halves, read = (None, None), test
        shot_source = [example for example in examples if not example.is_of_any(_questions_of(test))]
    else:
        halves = splits.sample_and_halve(
            examples,
            num_train=config.data.num_train,
            seed=seed_for(config, base, "split"),
            sample=config.data.sample,
        )
        shot_source, read = halves[0], [*halves[1], *test]
    shots = ()
    if _uses_shots(config):
        num_shots, shot_seed = config.self_label.num_shots, seed_for(config, base, "shots")
        shots = splits.pick_shots(shot_source, num_shots=num_shots, seed=shot_seed)
    p_ik = p_ik_test = None
    if needs_p_ik_data(config):
        p_ik = _p_ik_split(config, (task, examples), read, source, base, notes)
        p_ik_test = _p_ik_test_split(config, source, p_ik, notes)
    make = functools.partial(Split, task=task, prompt=config.p_ik.prompt, shots=shots)
    return SeedData(*(half and make(half) for half in halves), make(test), p_ik, p_ik_test)


def _questions_of(examples: Iterable[tasks.Example]) -> set[str]:
    return {name for example in examples for name in example.known_as}


def _uses_shots(config) -> bool:
    """Whether any model reads solved problems of the task: only few-shot answers and fewshot inputs do."""
    methods = [method_registry.METHODS[name] for name in config.methods]
    answers_half = config.self_label.source == "fewshot" and any(m.uses_self_labels for m in methods)
    answers_test = config.p_ik.num_test > 0 or method_registry.is_p_ik_alone(config.methods)
    return answers_half or answers_test or config.p_ik.prompt == "fewshot"


def _p_ik_split(config, own, read: Sequence[tasks.Example], source, base: int, notes: list[str]) -> Split:
    """The examples that P(IK) is trained on, with ground truth: none is of a question that is read elsewhere.

    Args:
        own: the run's own task and the examples of its train split.
        read: the examples of the student and of the test.
    """
    section, is_alone = config.p_ik, method_registry.is_p_ik_alone(config.methods)
    if is_own_task(config) and not is_alone:
        raise UserError(
            f"config.p_ik.task={section.task} is the student's own task, whose ground truth it must not see; "
            "choose another task"
        )
    if is_own_task(config) and section.data is None:
        task, examples = own
    else:
        task, questions = _p_ik_questions(config, source, notes)
        examples = _convert(config, task, questions, seed_for(config, base, "conversion"))
    elsewhere = _questions_of(read)
    left = [example for example in examples if not example.is_of_any(elsewhere)]
    if len(left) < len(examples):
        dropped = len(examples) - len(left)
        notes.append(
            f"p_ik: {dropped} of {len(examples)} examples dropped, as the student or the test has them"
        )
    if not left:
        raise UserError(
            "every P(IK) example is one of the student's or the test's; choose another p_ik.task or file"
        )
    num_shots, shot_seed = config.self_label.num_shots, seed_for(config, base, "shots")
    shots = splits.pick_shots(left, num_shots=num_shots, seed=shot_seed)
    shown = {shot.group for shot in shots}
    rest = [example for example in left if example.group not in shown]
    if not rest:
        raise UserError(
            f"config.self_label.num_shots={num_shots} takes every question of {task.name} that P(IK) could be trained "
            "on: lower it"
        )
    split_seed = seed_for(config, base, "split")
    rest = splits.sample_examples(rest, section.num_train, seed=split_seed, sample=config.data.sample)
    return Split(rest, task, section.prompt, shots)


def _p_ik_questions(config, source, notes: list[str]):
    """The task that P(IK) is trained on, where it is not the run's own, and its questions."""
    section = config.p_ik
    if section.file is None:
        task = tasks.get_task(section.task, role="config.p_ik.task")
        notes += sources.notes(task, source=source)
        return task, sources.load_questions(task, "train", source=source, subsets=section.data)
    questions = user_files.load_user_questions(section.file, section.task, "train")
    is_alone = method_registry.is_p_ik_alone(config.methods)
    students = [] if is_alone else [config.data.train_file, config.data.test_file]
    own = [remote.local_copy(path) for path in students if path]
    if any(path.exists() and path.samefile(remote.local_copy(section.file)) for path in own):
        raise UserError(
            f"config.p_ik.file={section.file} is the student's own file, whose ground truth it must not see; "
            "choose another file"
        )
    if section.task in tasks.TASKS:
        notes.append(
            f"p_ik.task={section.task} is {section.file} here, not the data set of that name: call it otherwise by "
            "config.p_ik.task=NAME"
        )
    return user_files.user_task(section.task, questions), questions


def _p_ik_test_split(config, source, p_ik: Split, notes: list[str]) -> Split | None:
    """Questions of the P(IK) task's test split, the same for every seed, with the prompt of the P(IK) examples.

    None in a run of P(IK) alone: what it is tested on is the run's own test set.
    """
    section = config.p_ik
    if not section.num_test:
        return None
    if method_registry.is_p_ik_alone(config.methods):
        notes.append(
            f"p_ik.num_test={section.num_test} is not used: P(IK) alone is tested on config.task={config.task}"
        )
        return None
    task = tasks.get_task(section.task)
    questions = sources.load_questions(task, "test", source=source, subsets=section.data)
    examples = _convert(config, task, questions, config.seed.test_conversion)
    examples = splits.sample_examples(examples, section.num_test, seed=config.seed.test_conversion)
    trained = _questions_of((*p_ik.examples, *p_ik.shots))
    held_out = [example for example in examples if not example.is_of_any(trained)]
    if len(held_out) < len(examples):
        notes.append(
            f"p_ik test: {len(examples) - len(held_out)} of {len(examples)} examples dropped, as P(IK) trains on them"
        )
    if not held_out:
        raise UserError(
            f"config.p_ik.num_test={section.num_test}: P(IK) trains on every question of {task.name}'s test split; "
            "set it to 0 or choose another p_ik.task"
        )
    return dataclasses.replace(p_ik, examples=held_out)
