"""Inputs of a smoke run, made on the spot: generated questions and random tiny checkpoints.

They are files in the real formats and go through the real reading path; their numbers mean nothing.
"""

import dataclasses
import pathlib

from selw2s_jax.data import prompts, sources, tasks
from selw2s_jax.hf import random_checkpoint, tokenizers
from selw2s_jax.models import registry
from selw2s_jax.runtime import artifacts
from selw2s_jax.worlds import generated

GENERATED = "generated"
_VOCAB_SIZE = 601  # of the tokenizer trained on the generated texts
_DATA_ROWS = (400, 160)  # of train and test


def _sizes(family: str, num_layers: int, embed_dim: int, num_heads: int) -> registry.ModelConfig:
    shipped = registry.MODELS["gpt2" if family == "gpt2" else "qwen-1.8b"].config
    return dataclasses.replace(
        shipped,
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim if family == "gpt2" else 2 * embed_dim,
        vocab_size=_VOCAB_SIZE,
    )


RANDOM_MODELS = {
    "random-tiny-gpt2": _sizes("gpt2", 2, 32, 4),
    "random-small-gpt2": _sizes("gpt2", 3, 64, 4),
    "random-tiny-qwen": _sizes("qwen", 2, 32, 4),
    "random-small-qwen": _sizes("qwen", 3, 64, 4),
}


def data_folder(folder: pathlib.Path) -> pathlib.Path:
    """The generated data sets, made where missing, laid out as `data.sources` reads them."""
    return artifacts.fill_once(
        folder / "data",
        lambda path: generated.write_generated_data(path, num_train=_DATA_ROWS[0], num_test=_DATA_ROWS[1]),
    )


def model_folder(name: str, folder: pathlib.Path) -> pathlib.Path:
    """A random checkpoint of `RANDOM_MODELS` with a tokenizer trained on the generated texts."""
    data = data_folder(folder)

    def write(path: pathlib.Path) -> None:
        config = RANDOM_MODELS[name]
        tokenizer = tokenizers.train_byte_level_bpe(_texts(data), config.vocab_size, path)
        config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
        random_checkpoint.write_random_checkpoint(path, config, seed=len(name))

    return artifacts.fill_once(folder / name, write)


def _texts(data: pathlib.Path) -> list[str]:
    texts = []
    for name in ("sciq", "boolq", "cosmos_qa", "arc"):
        task = tasks.get_task(name)
        questions = sources.load_questions(task, "train", source=str(data))
        examples = tasks.convert(task, questions, mode="all", seed=0)
        texts += [prompts.few_shot_prompt(task.instruction, (), example.text) for example in examples]
    return texts
