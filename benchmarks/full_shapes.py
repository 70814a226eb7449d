"""Time and peak memory of published sizes with random weights on this machine.

    python benchmarks/full_shapes.py load-and-score --model=qwen-1.8b --folder=DIR
    python benchmarks/full_shapes.py train --model=gpt2

`load-and-score` writes a random checkpoint to DIR in bfloat16 (unless it is there), loads it with its
language-model head and scores eight short questions by two answer logits. Peak memory is the resident set
of the process that loads and scores; writing runs in a process of its own. `train` takes three steps of the real
train step; the first one compiles.
"""

import argparse
import json
import multiprocessing
import pathlib
import resource
import time

import jax
import numpy as np
import outputs
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.hf import loader, random_checkpoint, weight_files
from selw2s_jax.method import objectives
from selw2s_jax.models import decoder, heads, registry
from selw2s_jax.training import state, step


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _write(folder, name):
    start = time.perf_counter()
    random_checkpoint.write_random_checkpoint(folder, registry.MODELS[name].config, dtype="bfloat16")
    seconds = time.perf_counter() - start
    print(json.dumps({"write_seconds": round(seconds, 1), "write_peak_gib": round(_peak_gib(), 2)}))


def load_and_score(args):
    """Loads a bfloat16 checkpoint and scores eight questions of 48 tokens, twice."""
    if not (args.folder / weight_files.CONFIG_NAME).exists():
        writer = multiprocessing.get_context("spawn").Process(target=_write, args=(args.folder, args.model))
        writer.start()
        writer.join()
    start = time.perf_counter()
    model = loader.load_decoder(
        args.folder, param_dtype="bfloat16", compute_dtype="bfloat16", lm_head=True, mesh=None
    )
    jax.block_until_ready(nnx.state(model))
    report = {"load_seconds": time.perf_counter() - start, "load_peak_gib": _peak_gib()}
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.config.vocab_size, (8, 48), dtype=np.int32)
    token_ids = np.tile(np.array([[15, 16]], np.int32), (8, 1))
    for run in ("first", "second"):
        start = time.perf_counter()
        logits = model.answer_logits(model.hidden_states(tokens)[:, -1], token_ids)
        jax.block_until_ready(logits)
        report[f"score_seconds_{run}"] = time.perf_counter() - start
    probs = np.asarray(jax.nn.softmax(logits))[:, 1]
    report |= {"peak_gib": _peak_gib(), "probs": [round(float(p), 3) for p in probs]}
    return report


def train(args):
    """Three steps of `finetune` in float32, batches of 32 examples of 23 tokens (SciQ's mean)."""
    config = registry.MODELS[args.model].config
    mesh = sharding.single_device_mesh()
    backbone = decoder.Decoder(
        config,
        param_dtype="float32",
        compute_dtype=args.compute_dtype,
        remat=args.remat,
        mesh=mesh,
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(0)
    tokens = list(rng.integers(0, config.vocab_size, (96, 23), dtype=np.int32))
    labels = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 96)]
    examples = batches.ExampleSet([str(i) for i in range(96)], tokens, {"weak_probs": labels})
    data = batches.TrainBatches({batches.TASK: examples}, {batches.TASK: 32}, num_steps=3)
    settings = state.OptimizerSettings(1e-5, data.num_steps)
    classifier = heads.Classifier(backbone, p_ik_head=False)
    graphdef, train_state, shardings = state.start(classifier, settings, mesh)
    computation = step.classification(objectives.Objective("given", (), "finetune", (), 1.0, 0.0))
    train_step = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
    report = {"shapes": data.shapes, "padding_efficiency": data.padding_efficiency(), "losses": []}
    for k in range(data.num_steps):
        start = time.perf_counter()
        batch = batches.device_batch(data.batch_at(k), mesh)
        train_state, metrics, _ = train_step(train_state, batch)
        report["losses"].append(round(float(metrics["loss"]), 6))
        report[f"step_{k}_seconds"] = time.perf_counter() - start
    return report | {"peak_gib": _peak_gib()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help="also write the JSON here")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("load-and-score")
    command.add_argument("--model", default="qwen-1.8b", choices=registry.MODELS)
    command.add_argument("--folder", type=pathlib.Path, required=True)
    command.set_defaults(run=load_and_score)
    command = commands.add_parser("train")
    command.add_argument("--model", default="gpt2", choices=registry.MODELS)
    command.add_argument("--remat", default="full", choices=decoder.REMAT_POLICIES)
    command.add_argument("--compute_dtype", default="float32", choices=decoder.DTYPES)
    command.set_defaults(run=train)
    args = parser.parse_args()
    machine = {"machine": outputs.MACHINE, "model": args.model}
    report = {k: round(v, 3) if isinstance(v, float) else v for k, v in (machine | args.run(args)).items()}
    outputs.write(report, args.output)


if __name__ == "__main__":
    main()
