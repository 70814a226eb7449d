"""The small world as inputs of a run: its questions as files, its tokenizer, and how its language models are made."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import members, sources, tasks, text_rows, written_tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import tokenizers
from selw2s_jax.models import registry
from selw2s_jax.runtime import artifacts
from selw2s_jax.training import state
from selw2s_jax.worlds import toy_world, written_world

# As data.source and as the name of models.
NAME = "world"
ROLES = ("weak", "chain", "strong")  # of models that a run may make, with their sizes in `pretraining`

# Raised when the same settings make another world or another model.
_VERSION = 1

_CONTEXT = 512  # tokens; the models see no longer row in pretraining, but the format wants a limit


def check(config: ml_collections.ConfigDict) -> None:
    """Checks what a config says of the generated world.

    Raises:
        UserError: the first thing that is wrong.
    """
    _check_world(config.world)
    in_world = config.data.source == NAME
    # Where answers are written there is no P(IK).
    for key in ("task",) if is_written(config.world.tasks) else ("task", "p_ik.task"):
        name = config_lib.get(config, key)
        if in_world and name not in config.world.tasks:
            raise UserError(
                f"config.{key}={name!r} is no task of the generated world (data.source={NAME}); "
                f"choose one of: {', '.join(config.world.tasks)}"
            )
        if not in_world and name in written_world.TASK_NAMES:
            raise UserError(f"config.{key}={name!r} is a task of the generated world: set data.source={NAME}")
        if not in_world and name in toy_world.TASK_NAMES and config.data.source == sources.HUB:
            raise UserError(f"config.{key}={name!r} is a task of the generated world: set data.source={NAME}")
    for name in members.other_tasks(config) if in_world else ():
        if name not in config.world.tasks:
            raise UserError(
                f"config.weak.task or weak.members: {name!r} is no task of the generated world (data.source={NAME}); "
                f"choose one of: {', '.join(config.world.tasks)}"
            )
    named = {role: (f"{role}.model", members.names(config, role)) for role in ("weak", "strong")}
    named["chain"] = ("chain.models", config.chain.models)
    for role, (key, names) in named.items():
        if NAME in names:
            if not in_world:
                raise UserError(
                    f"config.{key}={NAME!r} is pretrained on a generated world: set data.source={NAME}"
                )
            _check_sizes(config, role)
    if not 0 <= config.pretraining.seed < 2**32:
        raise UserError(f"config.pretraining.seed={config.pretraining.seed} must be an integer in [0, 2**32)")


# Outside of these a world has too few facts of a kind to write text about or to ask for, or no law to speak of.
_LIMITS = {
    "seed": (0, 2**32 - 1),
    "num_entities": (100, 100_000),
    "zipf_exponent": (0.1, 5.0),
    "shown_share": (0.1, 0.9),
    "test_share": (0.05, 0.95),
    "tail": (1e-6, 1.0),
    "shortcut": (0.0, 1.0),
    "shortcut_in_text": (0.0, 1.0),
}


def _check_world(world: ml_collections.ConfigDict) -> None:
    for name, (low, high) in _LIMITS.items():
        if world[name] is not None and not low <= world[name] <= high:
            raise UserError(f"config.world.{name}={world[name]} must lie in [{low}, {high}]")
    if world.judged_share + world.stated_share > 1:
        raise UserError(
            f"config.world.judged_share={world.judged_share} and stated_share={world.stated_share} exceed 1"
        )
    names = written_world.TASK_NAMES if is_written(world.tasks) else toy_world.TASK_NAMES
    known = [name for name in names if name in world.tasks]
    if list(world.tasks) != known or known in ([], ["world_sums"]):
        raise UserError(
            f"config.world.tasks={','.join(world.tasks)} must be some of these, in their order, and not world_sums "
            f"alone: {','.join(toy_world.TASK_NAMES)}; or of {','.join(written_world.TASK_NAMES)}"
        )
    shares = world.task_shares
    if len(shares) != len(world.tasks) or min(shares) < 0 or not sum(shares) > 0:
        raise UserError(
            f"config.world.task_shares={tuple(shares)} must be {len(world.tasks)} numbers >= 0, one for each of "
            f"config.world.tasks: {', '.join(world.tasks)}"
        )
    if world.told_as not in toy_world.TOLD_AS:
        raise UserError(
            f"config.world.told_as={world.told_as!r} is not one of: {', '.join(toy_world.TOLD_AS)}"
        )
    if is_written(world.tasks) and world.shortcut is not None:
        raise UserError(
            f"config.world.shortcut={world.shortcut} is of tasks that models judge, and {world.tasks[0]} is written: "
            "set it to None"
        )
    if (world.shortcut is None) != (world.shortcut_in_text is None):
        raise UserError(
            f"config.world.shortcut={world.shortcut} and shortcut_in_text={world.shortcut_in_text} go together: give "
            "both a share, or neither"
        )


def _check_sizes(config: ml_collections.ConfigDict, role: str) -> None:
    sizes = config.pretraining[role]
    key = f"config.pretraining.{role}"
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{key}.{name}={value} must be an integer, at least 1")
    if sizes.embed_dim % (2 * sizes.num_heads):
        raise UserError(
            f"{key}.embed_dim={sizes.embed_dim} is not a multiple of 2 * num_heads={sizes.num_heads}"
        )
    if config.pretraining.row_length < toy_world.LONGEST_DOCUMENT:
        raise UserError(
            f"config.pretraining.row_length={config.pretraining.row_length} is too short for the documents of the "
            f"world: set it to {toy_world.LONGEST_DOCUMENT} or more"
        )


def world_config(config: ml_collections.ConfigDict) -> toy_world.WorldConfig:
    """The world of a config."""
    return toy_world.WorldConfig(**config.world.to_dict())


def make(config: toy_world.WorldConfig) -> toy_world.World:
    """The world of its tasks: a `written_world.WrittenWorld` where their answers are written."""
    return (written_world.WrittenWorld if is_written(config.tasks) else toy_world.World)(config)


def is_written(names: Sequence[str]) -> bool:
    """Whether the answers of a world's tasks are written."""
    return bool({*names} & {*written_world.TASK_NAMES})


def written_data(
    config: ml_collections.ConfigDict,
) -> tuple[written_tasks.WrittenTask, dict[str, list[tasks.Question]]]:
    """The config's task, whose answers are written, and its questions by role.

    Raises:
        UserError: the world is too small.
    """
    return written_tasks.get(config.task), make(world_config(config)).questions(config.task)


def data_folder(config: toy_world.WorldConfig, folder: pathlib.Path) -> pathlib.Path:
    """The folder of a world's tokenizer and, but where answers are written, questions, as `data.sources` reads them.

    It is made where missing.
    """
    key = artifacts.content_hash([_VERSION, config.as_json()])[:16]

    def write(path: pathlib.Path) -> None:
        world = make(config)
        if not is_written(config.tasks):
            toy_world.write_questions(world, path)
        tokenizers.write_word_level(world.vocabulary, path / "tokenizer")

    return artifacts.fill_once(folder / f"world-{key}", write)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a language model of the world is made: everything that its weights are a function of.

    Attributes:
        tokenizer_folder: of the world's tokenizer.
        compute_dtype: of the forward pass; weights are float32.
    """

    world: toy_world.WorldConfig
    model: registry.ModelConfig
    optimizer: state.OptimizerSettings
    row_length: int
    batch_rows: int
    fact_weight: float
    seed: int
    compute_dtype: str
    tokenizer_folder: pathlib.Path

    @property
    def inputs(self) -> dict[str, Any]:
        """As JSON values, for the key of the stage."""
        values = dataclasses.asdict(self)
        del values["tokenizer_folder"]  # a function of the world
        values |= {
            "world": self.world.as_json(),
            "model": self.model.as_json(),
            "optimizer": self.optimizer._asdict(),
        }
        return {"version": _VERSION, **values}

    def text_batches(self, *, row_multiple: int) -> text_rows.TextBatches:
        """The batches of the whole run: documents of the world, packed in the order they come."""
        world = make(self.world)
        tokenizer = tokenizers.load_tokenizer(self.tokenizer_folder)
        rows = text_rows.pack_documents(
            (tokenizer.encode(text) for text in world.documents(self.seed)),
            num_rows=self.optimizer.num_steps * self.batch_rows,
            row_length=self.row_length,
        )
        return text_rows.TextBatches(
            rows,
            rows_per_step=self.batch_rows,
            num_steps=self.optimizer.num_steps,
            row_multiple=row_multiple,
            weighted={tokenizer.encode(word)[0]: self.fact_weight for word in world.weighted_words},
        )


def recipe(config: ml_collections.ConfigDict, role: str, data: pathlib.Path) -> Recipe:
    """The recipe of a role's language model.

    Args:
        role: of `ROLES`.
        data: folder of the world's data.
    """
    section = config.pretraining
    sizes = section[role]
    tokenizer_folder = data / "tokenizer"
    model = registry.ModelConfig(
        family="qwen",
        num_layers=sizes.num_layers,
        embed_dim=sizes.embed_dim,
        num_heads=sizes.num_heads,
        head_dim=sizes.embed_dim // sizes.num_heads,
        mlp_dim=sizes.mlp_dim,
        vocab_size=tokenizers.load_tokenizer(tokenizer_folder).vocab_size,
        max_seq_len=_CONTEXT,
        norm_eps=1e-6,
        rope_base=10_000.0,
        tie_embeddings=True,
    )
    optimizer = state.OptimizerSettings(
        learning_rate=section.learning_rate,
        num_steps=sizes.num_steps,
        b2=section.b2,
        warmup_steps=min(section.warmup_steps, sizes.num_steps - 1),
        final_fraction=section.final_fraction,
        clip_norm=section.clip_norm,
    )
    return Recipe(
        world=world_config(config),
        model=model,
        optimizer=optimizer,
        row_length=section.row_length,
        batch_rows=section.batch_rows,
        fact_weight=section.fact_weight,
        seed=section.seed,
        compute_dtype=config.precision.compute_dtype,
        tokenizer_folder=tokenizer_folder,
    )
