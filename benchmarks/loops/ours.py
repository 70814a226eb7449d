"""The worker of this library: the real train step and scoring, driven as training drives them."""

import argparse

import jax
import numpy as np
from flax import nnx

from benchmarks.loops import protocol
from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.hf import loader
from selw2s_jax.inference import classify
from selw2s_jax.method import objectives
from selw2s_jax.models import decoder, heads, registry
from selw2s_jax.training import state, step


def load_backbone(args, mesh) -> decoder.Decoder:
    """The checkpoint's weights, or random ones made on the device."""
    options = dict(
        param_dtype="float32",
        compute_dtype=args.dtype,
        remat=args.remat,
        attention=args.attention,
        mesh=mesh,
    )
    if args.checkpoint:
        return loader.load_decoder(args.checkpoint, lm_head=False, **options)
    config = registry.MODELS[args.model].config
    return nnx.jit(lambda: decoder.Decoder(config, rngs=nnx.Rngs(0), **options))()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", default="dots")
    parser.add_argument("--attention", default="xla")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--scored", type=int, required=True)
    parser.add_argument("--score_tokens", type=int, required=True)
    args = parser.parse_args()
    examples = protocol.load_examples(args.examples)
    names = [str(i) for i in range(len(examples.tokens))]
    tokens = [ids.astype(np.int32) for ids in examples.tokens]
    columns = {"weak_probs": np.eye(2, dtype=np.float32)[examples.labels]}
    task = batches.ExampleSet(names, tokens, columns)
    data = batches.TrainBatches(
        {batches.TASK: task}, {batches.TASK: protocol.BATCH_SIZE}, num_steps=args.steps
    )
    mesh = sharding.single_device_mesh()
    settings = state.OptimizerSettings(protocol.LEARNING_RATE, args.steps, schedule="constant")
    classifier = heads.Classifier(load_backbone(args, mesh), p_ik_head=False)
    graphdef, train_state, shardings = state.start(classifier, settings, mesh)
    computation = step.classification(objectives.Objective("given", (), "finetune", (), 1.0, 0.0))
    train_step = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
    compiled = {}
    for k in range(args.steps):
        batch = batches.device_batch(data.batch_at(k), mesh)
        if batch.tokens.shape not in compiled:
            compiled[batch.tokens.shape] = train_step.lower(train_state, batch).compile()

    def train(k: int) -> float:
        nonlocal train_state
        batch = batches.device_batch(data.batch_at(k), mesh)
        train_state, metrics, _ = compiled[batch.tokens.shape](train_state, batch)
        return float(metrics["loss"])

    def score(_: int) -> list[float]:
        model = nnx.merge(graphdef, train_state.params, train_state.frozen)
        batch_tokens = args.score_tokens
        probs, _ = classify.predict(
            model, tokens[: args.scored], mesh=mesh, batch_tokens=batch_tokens, label="score"
        )
        return [float(value) for value in probs[:8, 1]]

    def describe(_: int) -> dict:
        order = [[int(name) for name in data.example_ids(k)] for k in range(args.steps)]
        device = jax.devices()[0].device_kind
        return {
            "order": order,
            "shapes": data.shapes,
            "padding_efficiency": data.padding_efficiency(),
            "device": device,
        }

    def train_many(num_steps: int) -> float:
        """Steps as a run takes them: metrics are read one step late."""
        nonlocal train_state
        loss = None
        for k in range(num_steps):
            batch = batches.device_batch(data.batch_at(k % args.steps), mesh)
            train_state, metrics, _ = compiled[batch.tokens.shape](train_state, batch)
            if loss is not None:
                float(loss)
            loss = metrics["loss"]
        return float(loss)

    protocol.serve({"train": train, "score": score, "describe": describe, "train_many": train_many})


if __name__ == "__main__":
    main()
