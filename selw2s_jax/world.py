"""The small world as inputs of a run: its questions as files, its tokenizer, and how its language models are made."""

import dataclasses
import pathlib
from typing import Any

import ml_collections

from selw2s_jax import artifacts
from selw2s_jax.data import text_rows, toy_world
from selw2s_jax.hf import tokenizers
from selw2s_jax.models import registry
from selw2s_jax.training import state

# As data.source and as the name of both models.
NAME = "world"

# Raised when the same settings make another world or another model.
_VERSION = 1

_CONTEXT = 512  # tokens; the models see no longer row in pretraining, but the format wants a limit


def world_config(config: ml_collections.ConfigDict) -> toy_world.WorldConfig:
    """The world of a config."""
    return toy_world.WorldConfig(**config.world.to_dict())


def data_folder(config: toy_world.WorldConfig, folder: pathlib.Path) -> pathlib.Path:
    """The folder of a world's questions (as `data.sources` reads it) and tokenizer, made where missing."""
    key = artifacts.content_hash([_VERSION, dataclasses.asdict(config)])[:16]

    def write(path: pathlib.Path) -> None:
        world = toy_world.World(config)
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
        return {"version": _VERSION, **values, "optimizer": self.optimizer._asdict()}

    def text_batches(self, num_micro: int) -> text_rows.TextBatches:
        """The batches of the whole run: documents of the world, packed in the order they come."""
        world = toy_world.World(self.world)
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
            num_micro=num_micro,
            weighted={tokenizer.encode(word)[0]: self.fact_weight for word in toy_world.TELLING_WORDS},
        )


def recipe(config: ml_collections.ConfigDict, role: str, data: pathlib.Path) -> Recipe:
    """The recipe of a role's language model.

    Args:
        role: "weak" or "strong".
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
