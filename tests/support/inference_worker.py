"""What a layout of devices must not change of scoring and generation, computed on layouts of 8 CPU devices.

    python inference_worker.py CHECKPOINT OUTPUT.npz MESH [MESH ...]

OUTPUT.npz has arrays named MESH/NAME.
"""

import math
import pathlib
import sys

import jax
import numpy as np

from selw2s_jax import sharding
from selw2s_jax.hf import loader
from selw2s_jax.inference import candidates as candidates_lib
from selw2s_jax.inference import fewshot, generate, prefix


class NumberTokenizer:
    """Every token is a word."""

    def decode(self, ids) -> str:
        return " ".join(str(i) for i in ids)


def make_prompts(vocab_size: int, num_begin: int, sizes) -> list[np.ndarray]:
    rng = np.random.default_rng(num_begin)
    begin = rng.integers(vocab_size, size=num_begin)
    return [np.concatenate([begin, rng.integers(vocab_size, size=n)]).astype(np.int32) for n in sizes]


def compute(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    options = dict(param_dtype="float32", compute_dtype="float32")
    model = loader.load_decoder(folder, lm_head=True, mesh=mesh, **options)
    vocab_size, limit = model.config.vocab_size, model.config.max_seq_len
    prompts = make_prompts(vocab_size, 5, [1, 4, 2, 3, 1, 5, 3, 2, 4])
    prompts += make_prompts(vocab_size, 4, [3, 1, 2])
    prompts += make_prompts(vocab_size, 0, [7])
    names = [f"q{i}" for i in range(len(prompts))]
    scoring = dict(batch_tokens=3 * limit, label="test")
    found = {"groups": np.array(sorted((len(g.members), g.length) for g in prefix.group(prompts)))}
    found["answers"] = fewshot.answer_log_odds(model, prompts, (3, 8), mesh=mesh, **scoring)
    candidates = [[ids[-2:], ids[:1]] for ids in prompts]
    log_probs = candidates_lib.log_probs(model, prompts, candidates, names, mesh=mesh, **scoring)
    found["candidates"] = np.concatenate(log_probs)
    for name, prompts_here in (("alone", prompts), ("shared", prompts[:9])):
        for temperature in (0.0, 1.0):
            settings = generate.Settings(
                max_new_tokens=6, temperature=temperature, num_samples=2, top_p=0.95, eos_ids=(2, 3, 4)
            )
            completions = generate.generate(
                model,
                NumberTokenizer(),
                prompts_here,
                names[: len(prompts_here)],
                settings,
                batch_tokens=5 * limit,
                label="test",
                steps_per_chunk=2,
            )
            tokens = [[*own.tokens, -1] for pair in completions for own in pair]
            found[f"{name} at temperature {temperature}"] = np.concatenate(tokens)
    return found


def main(folder: str, output: str, *meshes: str) -> None:
    prefix.group.__kwdefaults__.update(min_members=3, min_tokens=3)
    prefix.MIN_MEMBERS, prefix.MIN_TOKENS = 3, 3
    arrays = {}
    for text in meshes:
        shape = tuple(map(int, text.split(",")))
        mesh = sharding.make_mesh(shape, jax.devices()[: math.prod(shape)])
        arrays |= {f"{text}/{name}": x for name, x in compute(pathlib.Path(folder), mesh).items()}
    np.savez(output, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
