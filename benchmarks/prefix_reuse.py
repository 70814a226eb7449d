"""Questions per second of few-shot scoring, with the shots computed once and with every prompt read whole.

    python benchmarks/prefix_reuse.py --output=benchmarks/results/prefix_reuse.json

All prompts begin with the same 1,000 tokens and have 60 of their own. Both ways run in turn in one process, after a
first call of each that compiles; the ratio is the median over the repeats of two calls side by side. Reading 60 tokens
in the place of 1,060 gives 17.7 where every token costs the same.
"""

import argparse
import pathlib
import platform
import statistics
import time

import jax
import numpy as np
import outputs
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.inference import fewshot
from selw2s_jax.models import decoder, registry

ANSWER_IDS = (15, 16)


def make_model(num_layers: int, num_heads: int, num_tokens: int) -> decoder.Decoder:
    """A random model in the proportions of GPT-2, whose heads have 64 features."""
    embed_dim = 64 * num_heads
    config = registry.ModelConfig(
        family="gpt2",
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=64,
        mlp_dim=4 * embed_dim,
        vocab_size=8192,
        max_seq_len=num_tokens,
        norm_eps=1e-5,
        rope_base=None,
        tie_embeddings=True,
    )
    settings = {"param_dtype": "float32", "compute_dtype": "float32"}
    return decoder.Decoder(config, lm_head=True, rngs=nnx.Rngs(0), **settings)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--num_heads", type=int, default=6)
    parser.add_argument("--prefix_tokens", type=int, default=1000)
    parser.add_argument("--question_tokens", type=int, default=60)
    parser.add_argument("--questions", type=int, default=128)
    parser.add_argument("--batch_tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path)
    return parser


def main() -> None:
    parser = make_parser()
    arguments = parser.parse_args()
    num_tokens = arguments.prefix_tokens + arguments.question_tokens
    model = make_model(arguments.num_layers, arguments.num_heads, num_tokens)
    rng = np.random.default_rng(0)
    shots = rng.integers(8192, size=arguments.prefix_tokens)
    prompts = [
        np.concatenate([shots, rng.integers(8192, size=arguments.question_tokens)]).astype(np.int32)
        for _ in range(arguments.questions)
    ]

    def score(shares_prefix: bool) -> tuple[np.ndarray, float]:
        """Log-odds, and questions per second."""
        start = time.perf_counter()
        log_odds = fewshot.answer_log_odds(
            model,
            prompts,
            ANSWER_IDS,
            mesh=sharding.single_device_mesh(),
            batch_tokens=arguments.batch_tokens,
            label="questions",
            shares_prefix=shares_prefix,
        )
        return log_odds, arguments.questions / (time.perf_counter() - start)

    error = float(np.max(np.abs(score(True)[0] - score(False)[0])))
    rows = [(score(True)[1], score(False)[1]) for _ in range(arguments.repeats)]
    given = {
        name: value
        for name, value in vars(arguments).items()
        if name != "output" and value != parser.get_default(name)
    }
    report = {
        "machine": f"{outputs.MACHINE}; {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "command": " ".join(
            ["python benchmarks/prefix_reuse.py", *(f"--{name}={value}" for name, value in given.items())]
        ),
        "model": {"num_layers": model.config.num_layers, "embed_dim": model.config.embed_dim},
        "tokens": {"shared": arguments.prefix_tokens, "own": arguments.question_tokens},
        "questions": arguments.questions,
        "ratio": round(statistics.median(shared / whole for shared, whole in rows), 2),
        "bound": round(num_tokens / arguments.question_tokens, 1),
        "questions_per_second": {
            name: [round(value, 2) for value in column]
            for name, column in zip(("shared", "whole"), zip(*rows, strict=True), strict=True)
        },
        "largest_difference": error,
    }
    outputs.write(report, arguments.output)


if __name__ == "__main__":
    main()
