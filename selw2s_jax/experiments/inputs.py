"""Everything a run reads, found and checked before any device work: models, tokenizers, tasks, splits."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence

import ml_collections

from selw2s_jax.data import contexts as contexts_lib
from selw2s_jax.data import doubts, fitting, members, model_names, splits
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import columns, data, teachers
from selw2s_jax.hf import chat_files, loader, pretrained, tokenizers, weight_files
from selw2s_jax.inference import answering
from selw2s_jax.method import method_options, objectives
from selw2s_jax.method import registry as method_registry
from selw2s_jax.models import registry
from selw2s_jax.runtime import artifacts, remote
from selw2s_jax.stages import pretrain
from selw2s_jax.worlds import smoke, world


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that the stages read.

    Attributes:
        weak: the weak models, which label together; none in a run of P(IK) alone.
        by_seed: the splits of each base seed.
        recipes: how the run itself makes models, by their slot.
        notes: what a reader of the results has to know.
        is_papers_data: whether data and conversion are those of the paper's tables.
        warnings: those of the notes that are reasons to doubt the results.
        contexts: by slot of a weak model and base seed, what it reads behind each example of its half, the student's
            half and the test.
        chain: the models between the weak and the strong one, where a method hands labels on over them.
    """

    weak: tuple[pretrained.Model, ...]
    strong: pretrained.Model
    by_seed: dict[int, splits.SeedData]
    recipes: dict[str, world.Recipe]
    notes: tuple[str, ...]
    is_papers_data: bool
    warnings: tuple[doubts.Doubt, ...] = ()
    contexts: Mapping[tuple[str, int], Mapping[str, str]] = dataclasses.field(default_factory=dict)
    chain: tuple[pretrained.Model, ...] = ()

    @property
    def models(self) -> tuple[pretrained.Model, ...]:
        """Those that there are, the strong one last."""
        return (*self.weak, *self.chain, self.strong)

    @property
    def test(self) -> splits.Split:
        """The test set: every seed tests on the same items."""
        return next(iter(self.by_seed.values())).test


def prepare(config: ml_collections.ConfigDict, workdir, *, notes: Sequence[str] = ()) -> Inputs:
    """Finds, reads and checks every input.

    Args:
        notes: of the config, which come before those of what is read.

    Raises:
        UserError: the first thing that is wrong.
    """
    # The data first: models can be long downloads.
    reader = data.DataReader(config, workdir)
    by_seed = reader.read()
    notes = [*notes, *_notes_on_own_labels(config), *reader.notes]
    is_p_ik_alone = method_registry.is_p_ik_alone(config.methods)
    recipes = make_recipes(config, workdir)
    find = functools.partial(find_model, config, recipes=recipes, workdir=workdir)
    weak = () if is_p_ik_alone else find_weak(config, find)
    strong, chain = find("strong"), find_chain(config, find)
    *others, strong = named(config, (*weak, *chain, strong))
    weak, chain = tuple(others[: len(weak)]), tuple(others[len(weak) :])
    by_seed, of_chat = _with_chat(config, by_seed, strong)
    notes += of_chat + notes_on_models(config, (*weak, *chain, strong))
    by_seed, dropped = fit(config, by_seed, weak, strong, chain)
    notes += dropped
    contexts, cut = _contexts(config, by_seed, weak)
    notes += cut
    return Inputs(
        weak,
        strong,
        by_seed,
        recipes,
        notes=tuple(dict.fromkeys(notes)),
        is_papers_data=reader.is_papers_data and not contexts,
        contexts=contexts,
        warnings=tuple(reader.found.doubts),
        chain=chain,
    )


def _with_chat(
    config: ml_collections.ConfigDict, by_seed: dict[int, splits.SeedData], strong: pretrained.Model
) -> tuple[dict[int, splits.SeedData], list[str]]:
    """The splits with the chat template that the strong model is asked by, if any, and a note of it."""
    template = chat_files.choose(config.fewshot.chat, config.strong.model, strong.tokenizer)
    if template is None:
        return by_seed, []
    with_chat = {
        base: dataclasses.replace(
            of_seed,
            **{
                name: dataclasses.replace(split, chat=template)
                for name in splits.NAMES
                if (split := getattr(of_seed, name)) is not None
            },
        )
        for base, of_seed in by_seed.items()
    }
    note = (
        f"few-shot prompts are dialogues by the chat template of {strong.title} (fewshot.chat={config.fewshot.chat}); "
        "the papers' are plain text"
    )
    return with_chat, [note]


def find_weak(
    config: ml_collections.ConfigDict, find: Callable[..., pretrained.Model]
) -> tuple[pretrained.Model, ...]:
    """The weak models in their order; one that is named twice is looked for once.

    Args:
        find: `find_model` of the config, for a role and a number.
    """
    named = [member.model for member in members.of(config)]
    found = {name: find("weak", number=named.index(name)) for name in dict.fromkeys(named)}
    return tuple(dataclasses.replace(found[name], number=number) for number, name in enumerate(named))


def find_chain(
    config: ml_collections.ConfigDict, find: Callable[..., pretrained.Model]
) -> tuple[pretrained.Model, ...]:
    """The models between weak and strong one, in their order; `find` as of `find_weak`."""
    return tuple(
        find("chain", number=number) for number, _ in enumerate(teachers.chain_models(config), start=1)
    )


def named(config: ml_collections.ConfigDict, models: Sequence[pretrained.Model]) -> list[pretrained.Model]:
    """The models of a run with what readers know each by, which tells different ones apart."""
    asked = [(model.name, model_names.given(config, model.role, model.number)) for model in models]
    titles = model_names.distinct(asked)
    return [
        dataclasses.replace(model, given_title=titles[one]) for model, one in zip(models, asked, strict=True)
    ]


def fit(
    config: ml_collections.ConfigDict,
    by_seed: dict[int, splits.SeedData],
    weak: Sequence[pretrained.Model],
    strong: pretrained.Model,
    chain: Sequence[pretrained.Model] = (),
) -> tuple[dict[int, splits.SeedData], list[str]]:
    """`fitting.fit` of each seed: the splits that are left, and notes.

    Raises:
        UserError: as `fitting.fit`; or the strong model has no room to write answers.
    """
    _check_room_to_write(config, by_seed, strong)
    fitted, notes = {}, []
    by_task: dict[str | None, dict[str, pretrained.Model]] = {}  # of those that are one model the first
    first = {model.name: model for model in reversed(weak)}
    for model, member in zip(weak, members.of(config) if weak else (), strict=True):
        by_task.setdefault(member.task, {})[model.name] = first[model.name]
    for base, of_seed in by_seed.items():
        asked = {name: getattr(of_seed, name) for name in answered_splits(config, of_seed)}
        fitted[base], dropped = fitting.fit(
            of_seed,
            {task: tuple(of_task.values()) for task, of_task in by_task.items()},
            strong,
            chain,
            overlong=config.data.overlong,
            ceiling_split=config.ceiling.split,
            weak_prompt=config.weak.prompt,
            unanswerable={
                name: answering.is_too_long(strong, split, config.generation.max_new_tokens)
                for name, split in asked.items()
            },
        )
        notes += dropped
    return fitted, notes


def _contexts(
    config: ml_collections.ConfigDict,
    by_seed: dict[int, splits.SeedData],
    weak: Sequence[pretrained.Model],
) -> tuple[dict[tuple[str, int], dict[str, str]], list[str]]:
    """`Inputs.contexts` of the weak models, cut to what they are given to read, and notes of that."""
    if config.weak.context_file is None or not weak:
        return {}, []
    found, notes = contexts_lib.read(config.weak.context_file, len(weak)), []
    fitted: dict[tuple[str, int], dict[str, str]] = {}
    halves = [member.half for member in members.of(config)]
    for (model, half), (base, of_seed) in itertools.product(zip(weak, halves, strict=True), by_seed.items()):
        named = [of_seed.named(name) for name in (half, "student_half", "held_out", "test")]
        read = [one.read_as(config.weak.prompt) for one in named if one is not None]
        ids = [name for split in read for name in split.ids]
        texts = [text for split in read for text in split.texts]
        fitted[model.slot, base], num_cut = contexts_lib.cut(texts, found.of(model.number, ids), ids, model)
        if num_cut:
            notes.append(
                f"weak.context_file: {num_cut} of {len(ids)} texts cut to the {model.max_length} tokens that the "
                f"{model.slot} model is given, seed {base}"
            )
    return fitted, notes


def answered_splits(config: ml_collections.ConfigDict, of_seed: splits.SeedData) -> tuple[str, ...]:
    """The splits of a seed that the strong model is asked few-shot, by their names in `splits.SeedData`."""
    methods = [method_registry.METHODS[name] for name in config.methods]
    tests_p_ik = any(one.mask_of is None and objectives.trains_p_ik(config, one) for one in methods)
    is_scored_first = any(objectives.is_scored_first(config, one) for one in methods)
    is_alone = of_seed.student_half is None
    labels_half = config.self_label.source == "fewshot" and any(one.uses_self_labels for one in methods)
    asked = {
        "student_half": labels_half and not is_alone,
        "p_ik": of_seed.p_ik is not None,
        "p_ik_test": (tests_p_ik or is_scored_first) and of_seed.p_ik_test is not None,
        "test": tests_p_ik and (is_alone or of_seed.p_ik_test is not None),
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


def _notes_on_own_labels(config: ml_collections.ConfigDict) -> list[str]:
    """That own labels are weighed as few-shot answers are, where they are others."""
    source = config.self_label.source
    weighing = [
        name for name in config.methods if columns.is_calibrated(config, method_options.applied(config, name))
    ]
    if source == "fewshot" or not weighing:
        return []
    return [
        f"{', '.join(weighing)}: how often own labels are right is fitted to few-shot answers, and is taken for the "
        f"labels of self_label.source={source} too"
    ]


def notes_on_models(config: ml_collections.ConfigDict, models: Sequence[pretrained.Model]) -> list[str]:
    """What a reader of the results has to know of models."""
    notes = [note for model in models if (note := _note_on_revision(config, model))]
    bos = [f"{key_of(m)}={m.name}: {m.tokenizer.bos_note}" for m in models if m.tokenizer.bos_note]
    return notes + bos


def _note_on_revision(config: ml_collections.ConfigDict, model: pretrained.Model) -> str | None:
    entry, given = registry.find_model(model.name), section_of(config, model.role, model.number).revision
    is_pinned = given is not None or (entry is not None and entry.revision is not None)
    if is_pinned or not loader.is_hub_name(model.name):
        return None
    return f"{key_of(model)}={model.name}: no revision is pinned, the hub's newest was taken"


def key_of(model: pretrained.Model) -> str:
    """The key of the config that names a model."""
    return "chain.models" if model.role == "chain" else f"{model.role}.model"


def section_of(config: ml_collections.ConfigDict, role: str, number: int = 0) -> ml_collections.ConfigDict:
    """What the config says of a model, with the keys of its sections `weak` and `strong`."""
    if role == "strong":
        return config[role]
    if role == "weak":
        section = config[role].copy_and_resolve_references()
        section.model = members.of(config)[number].model
        return section
    section = {"model": teachers.chain_models(config)[number - 1]}
    return ml_collections.ConfigDict(
        section | dict.fromkeys(("name", "revision", "tokenizer", "learning_rate", "trained"))
    )


def _check_room_to_write(
    config: ml_collections.ConfigDict, by_seed: dict[int, splits.SeedData], strong: pretrained.Model
) -> None:
    splits_read = [
        split for one in by_seed.values() for split in (one.test, one.p_ik, one.p_ik_test) if split
    ]
    wanted, context = config.generation.max_new_tokens, strong.config.max_seq_len
    if wanted >= context and any(split.task.is_generated for split in splits_read):
        raise UserError(
            f"config.generation.max_new_tokens={wanted} leaves no room for a question in the context of {context} "
            f"tokens of strong.model={strong.name}: lower it"
        )


def find_model(
    config: ml_collections.ConfigDict, role: str, recipes: dict[str, world.Recipe], workdir, number: int = 0
) -> pretrained.Model:
    """The model of a role, found and checked.

    Args:
        number: as of `pretrained.Model`.

    Raises:
        UserError: it is not there, or is not fit.
    """
    made = workdir / "inputs"
    section = section_of(config, role, number)
    name = section.model
    if name == world.NAME:
        return world_model(config, role, recipes, workdir, number)
    if name in smoke.RANDOM_MODELS:
        folder = remote.local_copy(smoke.model_folder(name, made))
    else:
        folder = loader.resolve(name, section.revision)
    # The strong model answers few-shot prompts, so its language-model head must be there.
    model_config = loader.check_checkpoint(folder, lm_head=role == "strong")
    tokenizer_folder = folder if section.tokenizer is None else section.tokenizer
    tokenizer = tokenizers.load_tokenizer(tokenizer_folder, bos=config.model.bos)
    named = f"{'chain.models' if role == 'chain' else f'{role}.model'}={name}"
    tokenizers.check_tokenizer(tokenizer, model_config.vocab_size, named)
    tokenizer.keep_in(_cache_folder(workdir) / "tokens")
    weights = weight_files.fingerprint(folder, cache_dir=_cache_folder(workdir))
    learning_rate = section.learning_rate or config.training.learning_rate
    return pretrained.Model(
        role=role,
        name=name,
        folder=folder,
        config=model_config,
        tokenizer=tokenizer,
        fingerprint=artifacts.content_hash([weights, tokenizer.fingerprint]),
        learning_rate=learning_rate or pretrained.default_learning_rate(model_config),
        max_length=min(config.data.max_length, model_config.max_seq_len),
        number=number,
    )


def _cache_folder(workdir):
    """What can be made again from the inputs alone: hashes of files, token ids of texts."""
    return workdir / ".cache"


def make_recipes(config: ml_collections.ConfigDict, workdir) -> dict[str, world.Recipe]:
    """How the run itself makes those of its models that it has to make, by slot."""
    named = {role: members.names(config, role) for role in ("weak", "strong")}
    named["chain"] = [None, *teachers.chain_models(config)]  # which are counted from 1
    roles = {
        f"{role}-{number}" if number else role: role
        for role, names in named.items()
        for number, name in enumerate(names)
        if name == world.NAME
    }
    if not roles:
        return {}
    folder = world.data_folder(world.world_config(config), workdir / "inputs")
    return {slot: world.recipe(config, role, folder) for slot, role in roles.items()}


def world_model(
    config: ml_collections.ConfigDict, role: str, recipes: dict[str, world.Recipe], workdir, number: int = 0
) -> pretrained.Model:
    """A language model of the generated world, which a stage of the run pretrains."""
    recipe = recipes[f"{role}-{number}" if number else role]
    tokenizer = tokenizers.load_tokenizer(recipe.tokenizer_folder, bos=config.model.bos)
    tokenizer.keep_in(_cache_folder(workdir) / "tokens")
    folder = artifacts.Store(workdir).path(pretrain.NAME, recipe.inputs)
    return pretrained.Model(
        role=role,
        name=f"{world.NAME}-{config.world.seed}-{role}",
        folder=folder,
        config=recipe.model,
        tokenizer=tokenizer,
        fingerprint=artifacts.content_hash([folder.name, tokenizer.fingerprint]),
        learning_rate=(
            section_of(config, role, number).learning_rate
            or config.training.learning_rate
            or pretrained.default_learning_rate(recipe.model)
        ),
        max_length=min(config.data.max_length, recipe.model.max_seq_len),
        is_made=True,
        number=number,
    )
