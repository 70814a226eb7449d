"""How the time of a step grows with examples, their tokens and layers, and what the graph adds.

    python -m benchmarks.scaling --output=benchmarks/results/scaling.json

A slope is that of a least-squares line through log time over log size: 1 where cost is proportional. The model is in
the proportions of GPT-2, small enough for a laptop; the time that does not depend on the size, of the optimizer above
all, pulls a slope below 1. The settings of a line take turns within each round. The graph's share is the time of a
`selective` step over that of a `finetune` step with the same examples in the same rows.
"""

import argparse
import pathlib
import statistics
import sys
import time

import jax
import numpy as np
from flax import nnx

from benchmarks import outputs
from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.method import objectives
from selw2s_jax.method import registry as methods
from selw2s_jax.models import decoder, heads, registry
from selw2s_jax.training import state, step


def make_config(size: int | str) -> registry.ModelConfig:
    """A narrow model of so many layers, or one by name."""
    if isinstance(size, str):
        return registry.MODELS[size].config
    return registry.ModelConfig(
        family="gpt2",
        num_layers=size,
        embed_dim=256,
        num_heads=4,
        head_dim=64,
        mlp_dim=1024,
        vocab_size=2048,
        max_seq_len=1024,
        norm_eps=1e-5,
        rope_base=None,
        tie_embeddings=True,
    )


def make_sets(method: str, num_examples: int, length: int) -> dict[int, batches.ExampleSet]:
    """Random examples of one length: all of the task, or half of them of P(IK)."""
    rng = np.random.default_rng(0)
    with_p_ik = methods.METHODS[method].uses_p_ik
    num_task = num_examples // 2 if with_p_ik else num_examples

    def draw(count: int, **columns) -> batches.ExampleSet:
        tokens = list(rng.integers(1, 2048, (count, length), dtype=np.int32))
        return batches.ExampleSet([str(i) for i in range(count)], tokens, columns)

    prob = rng.random(num_task, np.float32)
    weak = {"weak_probs": np.stack([1 - prob, prob], -1), "self_labels": (prob > 0.5).astype(np.float32)}
    sets = {batches.TASK: draw(num_task, **weak)}
    if with_p_ik:
        count = num_examples - num_task
        sets[batches.P_IK] = draw(count, ik_target=rng.integers(0, 2, count).astype(np.float32))
    return sets


def make_step(method: str, size: int | str, num_examples: int, length: int):
    """A function that takes a step, on the same batch again and again."""
    mesh = sharding.single_device_mesh()
    sets = make_sets(method, num_examples, length)
    data = batches.TrainBatches(
        sets, {kind: len(examples.tokens) for kind, examples in sets.items()}, num_steps=1
    )
    backbone = decoder.Decoder(
        make_config(size),
        param_dtype="float32",
        compute_dtype="float32",
        remat="none",
        mesh=mesh,
        rngs=nnx.Rngs(0),
    )
    settings = state.OptimizerSettings(1e-5, 1000, schedule="constant")
    classifier = heads.Classifier(backbone, p_ik_head=batches.P_IK in sets)
    graphdef, held, shardings = state.start(classifier, settings, mesh)
    computation = step.classification(
        objectives.make_objective(config_lib.default_config(), methods.METHODS[method])
    )
    run = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
    batch = batches.device_batch(data.batch_at(0), mesh)

    def take() -> None:
        nonlocal held
        held, metrics, _ = run(held, batch)
        jax.block_until_ready(metrics)

    return take


def time_all(settings: list[tuple], rounds: int) -> list[float]:
    """The median seconds of a step of each setting, which take turns."""
    steps = [make_step(*setting) for setting in settings]
    for take in steps:
        take()
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for take, of_one in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            take()
            of_one.append(time.perf_counter() - start)
    medians = [statistics.median(of_one) for of_one in seconds]
    for setting, median in zip(settings, medians, strict=True):
        print(*setting, f"{median:.3f} s", file=sys.stderr, flush=True)
    return medians


def slope(sizes, seconds) -> float:
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    lines = {
        "examples": [("finetune", 4, n, 32) for n in (16, 32, 64, 128, 256)],
        "tokens": [("finetune", 4, 32, n) for n in (16, 32, 64, 128, 256)],
        "layers": [("finetune", n, 32, 64) for n in (2, 4, 8, 16)],
    }
    column = {"examples": 2, "tokens": 3, "layers": 1}
    report = {}
    for name, settings in lines.items():
        sizes, seconds = [setting[column[name]] for setting in settings], time_all(settings, args.rounds)
        report[name] = {
            "sizes": sizes,
            "seconds": [round(t, 4) for t in seconds],
            "slope": slope(sizes, seconds),
            "slope_of_the_larger": slope(sizes[-3:], seconds[-3:]),
        }
    report["selective_over_finetune"] = {}
    for size, batch_size, length in ((4, 32, 8), (4, 256, 8), (4, 2048, 8), ("gpt2", 32, 23)):
        pair = [(method, size, 2 * batch_size, length) for method in ("finetune", "selective")]
        plain, selective = time_all(pair, args.rounds)
        name = (
            f"{size if isinstance(size, str) else 'narrow'}, {batch_size} + {batch_size} of {length} tokens"
        )
        report["selective_over_finetune"][name] = round(selective / plain, 3)
    machine = {"machine": outputs.MACHINE}
    outputs.write(machine | report, args.output)


if __name__ == "__main__":
    main()
