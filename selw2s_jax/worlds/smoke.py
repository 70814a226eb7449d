"""Inputs of a smoke run, made on the spot: generated questions and random tiny checkpoints.

They are files in the real formats and go through the real reading path; their numbers mean nothing.
"""

import dataclasses
import pathlib

from selw2s_jax.data import prompts, sources, tasks
from selw2s_jax.hf import random_checkpoint, tokenizers
from selw2s_jax.models import registry
from selw2s_jax.runtime import artifacts
from selw2s_jax.worlds import generated, generated_written

GENERATED = "generated"
_VOCAB_SIZE = 601  # of the tokenizer trained on the generated texts
_DATA_ROWS = (400, 160)  # of train and test


# A shipped model of each family, of which the random ones have all but these sizes.
_SHIPPED = {
    "gpt2": "gpt2",
    "qwen": "qwen-1.8b",
    "llama": "smollm2-135m",
    "mistral": "mistral-7b-v0.1",
    "qwen2": "qwen2.5-0.5b",
    "qwen3": "qwen3-0.6b-base",
    "gpt_neox": "pythia-70m",
    "olmo2": "olmo-2-1b",
}
_SIZES = {"tiny": (2, 32, 4), "small": (3, 64, 4)}  # layers, width, heads
_WINDOW = 48  # tokens that one sees, of families that have a window: fewer than prompts have


def _sizes(family: str, num_layers: int, embed_dim: int, num_heads: int) -> registry.ModelConfig:
    shipped = registry.MODELS[_SHIPPED[family]].config
    return dataclasses.replace(
        shipped,
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        num_kv_heads=shipped.num_kv_heads and num_heads // 2,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim if family == "gpt2" else 2 * embed_dim,
        vocab_size=_VOCAB_SIZE,
        sliding_window=shipped.sliding_window and _WINDOW,
    )


RANDOM_MODELS = {
    f"random-{size}-{family}": _sizes(family, *sizes) for family in _SHIPPED for size, sizes in _SIZES.items()
}


def data_folder(folder: pathlib.Path) -> pathlib.Path:
    """The generated data sets, made where missing, laid out as `data.sources` reads them."""
    return artifacts.fill_once(
        folder / "data",
        lambda path: generated.write_generated_data(path, num_train=_DATA_ROWS[0], num_test=_DATA_ROWS[1]),
    )


def written_data_folder(folder: pathlib.Path) -> pathlib.Path:
    """The generated data sets whose answers are written, likewise."""
    return artifacts.fill_once(folder / "written_data", generated_written.write)


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
