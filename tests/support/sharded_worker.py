"""What a layout of devices must not change, computed on the layouts of this process's devices.

    python sharded_worker.py CHECKPOINT OUTPUT.npz --meshes 1,1,1 2,2,2 [--methods selective ...] \
        [--coordinator_address=HOST:PORT --num_processes=2 --process_id=0]

OUTPUT.npz, which process 0 writes, has arrays named MESH/RUN/KIND/NAME; a run is a method, "lora", "completion",
"pretraining" or "scoring".
"""

import argparse
import functools
import math
import pathlib
from unittest import mock

import jax
import numpy as np
import optax
from flax import nnx
from support import mesh_models, training_parts, written_answers

from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.data import batches, text_rows
from selw2s_jax.hf import loader
from selw2s_jax.inference import classify, fewshot
from selw2s_jax.method import objectives, registry
from selw2s_jax.models import decoder, heads, language_model, lora
from selw2s_jax.runtime import distributed
from selw2s_jax.training import completion, pretraining, state, step

CONFIG = mesh_models.CONFIGS["qwen"]
OPTIONS = dict(param_dtype="float32", compute_dtype="float32")
NUM_STEPS, NUM_MICRO = 3, 2
BATCH_SIZES = {batches.TASK: 14, batches.P_IK: 10}  # an odd number of each in a micro-batch
Arrays = dict[str, np.ndarray]


def make_objective(method: registry.Method) -> objectives.Objective:
    """The objective of a run's own stage, with a threshold that splits the batch and a graph that smooths."""
    config = config_lib.default_config()
    config.p_ik.gamma, config.p_ik.weight = 0.5, 0.7
    config.graph.alpha, config.graph.tau = 0.5, 0.5
    config.raven.learning_rate = 0.5
    return objectives.make_objective(config, method)


def make_data(
    kinds: tuple[int, ...], mesh: jax.sharding.Mesh, *, masks_by_step: bool = False
) -> batches.TrainBatches:
    """Odd numbers of examples of odd lengths; a control's masks change from step to step."""
    sets = {kind: examples for kind, examples in training_parts.make_sets(CONFIG).items() if kind in kinds}
    if masks_by_step:
        masks = np.random.default_rng(5).random((NUM_STEPS, len(sets[batches.TASK].tokens))) < 0.4
        del sets[batches.TASK].columns["given_p_ik"]
        sets[batches.TASK].columns_by_step["given_p_ik"] = masks.astype(np.float32)
    return batches.TrainBatches(
        sets,
        {kind: BATCH_SIZES[kind] for kind in sets},
        num_steps=NUM_STEPS,
        num_micro=NUM_MICRO,
        seed=1,
        row_multiple=sharding.num_row_groups(mesh),
    )


def make_classifier(
    folder: pathlib.Path, mesh: jax.sharding.Mesh, *, p_ik_head: bool, adapters: lora.Settings | None = None
) -> heads.Classifier:
    """The checkpoint under heads and adapters that are not zero, so that selection and every gradient have work."""
    backbone = loader.load_decoder(folder, lm_head=False, mesh=mesh, **OPTIONS)
    model = heads.Classifier(backbone, p_ik_head=p_ik_head, adapters=adapters)
    rng = np.random.default_rng(3)
    for head in filter(None, (model.class_head, model.p_ik_head)):
        head[...] = jax.numpy.asarray(rng.standard_normal(head.shape), np.float32)
    for name in () if adapters is None else model.adapters.names:
        b = model.adapters[name].b
        b[...] = jax.numpy.asarray(0.3 * rng.standard_normal(b.shape), np.float32)
    return model


def named_leaves(prefix: str, tree) -> dict[str, jax.Array]:
    """The arrays of an `nnx.State` by name."""
    return {
        f"{prefix}/{'.'.join(map(str, path))}": variable[...] for path, variable in nnx.to_flat_state(tree)
    }


def run_steps(model, data, computation: step.Computation, mesh: jax.sharding.Mesh, **optimizer) -> Arrays:
    """Gradients, metrics and traces of the second and third train step, and the shapes of shards.

    With b1 = 0, Adam's first moment is the gradient. The first step is left out, where ramps are still 0.
    """
    settings = state.OptimizerSettings(1e-6, NUM_STEPS, b1=0.0, **optimizer)
    graphdef, train_state, shardings = state.start(model, settings, mesh, computation.rule_state)
    train_step = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
    gather = jax.jit(lambda arrays: arrays, out_shardings=sharding.replicated(mesh))
    found, train_state = {}, train_state._replace(step=train_state.step + 1)
    for number in range(1, NUM_STEPS):
        batch = batches.device_batch(data.batch_at(number), mesh)
        train_state, metrics, trace = train_step(train_state, batch)
        arrays = named_leaves(f"gradient {number}", optax.tree.get(train_state.opt_state, "mu"))
        arrays |= {f"metric {number}/{name}": value for name, value in metrics.items()}
        if trace:
            arrays |= {f"trace {number}/{name}": value for name, value in trace._asdict().items()}
        found |= jax.device_get(gather(arrays))
    sharded = named_leaves("parameter", train_state.params)
    for moment in ("mu", "nu"):
        sharded |= named_leaves(moment, optax.tree.get(train_state.opt_state, moment))
    fields = batch._asdict()
    fields |= fields.pop("columns", {})
    if answers := fields.pop("answers", None):
        fields |= {f"answers.{name}": value for name, value in answers._asdict().items()}
    sharded |= {f"batch/{name}": value for name, value in fields.items()}
    found |= {f"shape of batch/{name}": np.array(value.shape) for name, value in fields.items()}
    return found | {f"shard of {name}": np.array(shard_shape(array)) for name, array in sharded.items()}


def shard_shape(array: jax.Array) -> tuple[int, ...]:
    """The shape of what each device holds."""
    (shape,) = {shard.data.shape for shard in array.addressable_shards}
    return shape


def train(folder: pathlib.Path, name: str, mesh: jax.sharding.Mesh) -> Arrays:
    """Two steps of a method."""
    method = registry.METHODS[name]
    kinds = (batches.TASK,) * (method.task_weight > 0) + (batches.P_IK,) * method.uses_p_ik
    return _train(folder, make_objective(method), kinds, method.mask_of is not None, mesh)


@functools.cache  # some methods differ in nothing that is computed
def _train(folder, objective: objectives.Objective, kinds, masks_by_step: bool, mesh) -> Arrays:
    model = make_classifier(folder, mesh, p_ik_head=batches.P_IK in kinds)
    data = make_data(kinds, mesh, masks_by_step=masks_by_step)
    computation = step.classification(objective, column_shapes=training_parts.COLUMN_SHAPES)
    return run_steps(model, data, computation, mesh)


def train_adapters(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Arrays:
    """Two steps of `selective` on adapters of every weight, with dropout."""
    adapters = lora.Settings(rank=3, alpha=5.0, dropout=0.3, targets=tuple(lora.PARTS))
    model = make_classifier(folder, mesh, p_ik_head=True, adapters=adapters)
    computation = step.classification(make_objective(registry.METHODS["selective"]))
    return run_steps(model, make_data((batches.TASK, batches.P_IK), mesh), computation, mesh, trained="lora")


def train_completions(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Arrays:
    """Two steps on written answers of all weights, with the vocabulary in several parts."""
    backbone = loader.load_decoder(folder, lm_head=True, mesh=mesh, **OPTIONS)
    data = written_answers.make_data(
        CONFIG, num_steps=NUM_STEPS, num_micro=NUM_MICRO, row_multiple=sharding.num_row_groups(mesh)
    )
    with mock.patch.object(decoder, "LOGITS_AT_ONCE", 300):
        return run_steps(
            language_model.LanguageModel(backbone), data, completion.completion(), mesh, clip_norm=0.1
        )


def train_probe(mesh: jax.sharding.Mesh) -> Arrays:
    """Two steps of `selective` on embeddings."""
    rng, sets = np.random.default_rng(3), {}
    for kind, one in training_parts.make_sets(CONFIG).items():
        embeddings = rng.standard_normal((len(one.tokens), CONFIG.embed_dim)).astype(np.float32)
        sets[kind] = batches.ExampleSet(one.example_ids, None, one.columns | {batches.EMBEDDINGS: embeddings})
    data = batches.EmbeddedBatches(sets, BATCH_SIZES, num_steps=NUM_STEPS, num_micro=NUM_MICRO, seed=1)
    probe = heads.Probe(CONFIG.embed_dim, p_ik_head=True, param_dtype="float32")
    for head in (probe.class_head, probe.p_ik_head):
        head[...] = jax.numpy.asarray(0.1 * rng.standard_normal(head.shape), np.float32)
    computation = step.classification(make_objective(registry.METHODS["selective"]), step.classify_embeddings)
    return run_steps(probe, data, computation, mesh, trained="heads")


def pretrain(mesh: jax.sharding.Mesh) -> Arrays:
    """Two steps of pretraining, whose gradients are clipped."""
    data = text_rows.TextBatches(
        training_parts.make_rows(18, CONFIG.max_seq_len, CONFIG.vocab_size),
        rows_per_step=6,
        num_steps=NUM_STEPS,
        num_micro=NUM_MICRO,
        row_multiple=sharding.num_row_groups(mesh),
        weighted={5: 3.0},
    )
    model = pretraining.initialize(CONFIG, 0, mesh=mesh, **OPTIONS)
    return run_steps(model, data, pretraining.next_token(), mesh, clip_norm=0.1)


def score(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Arrays:
    """Class probabilities and P(IK), and few-shot answers, over several batches of an odd number of texts."""
    tokens = training_parts.make_sets(CONFIG, num_task=101)[batches.TASK].tokens
    settings = dict(mesh=mesh, batch_tokens=71, label="test")
    model = make_classifier(folder, mesh, p_ik_head=True)
    probs, p_ik = classify.predict(model, tokens, **settings)
    language_model = loader.load_decoder(folder, lm_head=True, mesh=mesh, **OPTIONS)
    answers = fewshot.answer_log_odds(language_model, tokens, (7, 11), **settings)
    return {"score/class": probs, "score/p_ik": p_ik, "score/answer": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--coordinator_address")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    parser.add_argument("--meshes", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=list(registry.METHODS))
    args = parser.parse_args()
    distributed.start(
        coordinator_address=args.coordinator_address,
        num_processes=args.num_processes,
        process_id=args.process_id,
        timeout_s=120,
    )
    found = {}
    for text in args.meshes:
        shape = tuple(map(int, text.split(",")))
        mesh = sharding.make_mesh(shape, jax.devices()[: math.prod(shape)])
        runs = {name: train(args.checkpoint, name, mesh) for name in args.methods}
        runs["lora"] = train_adapters(args.checkpoint, mesh)
        runs["completion"] = train_completions(args.checkpoint, mesh)
        runs |= {"probe": train_probe(mesh), "pretraining": pretrain(mesh)}
        runs |= {"scoring": score(args.checkpoint, mesh)}
        for run, arrays in runs.items():
            found |= {f"{text}/{run}/{name}": array for name, array in arrays.items()}
    if distributed.is_main():
        np.savez(args.output, **found)


if __name__ == "__main__":
    main()
