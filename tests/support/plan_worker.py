"""What a plan says beside what a run has, on as many CPU devices as this process was started with; JSON on stdout.

`state`: bytes of a real train state and batch on each device, and those of the plan, for several modes and meshes.
`memory`: the plan's peak of a train step, and how far the process's own memory rose over two real steps.
"""

import json
import sys

import jax
import numpy as np
from etils import epath
from flax import nnx
from support import process_memory

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches
from selw2s_jax.hf import pretrained
from selw2s_jax.method import objectives
from selw2s_jax.method import registry as methods
from selw2s_jax.models import registry
from selw2s_jax.plan import compiled, programs, targets
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.training import state, step


def make_model(family: str, **sizes) -> pretrained.Model:
    given = dict(
        num_layers=3, embed_dim=48, num_heads=4, head_dim=12, mlp_dim=88, vocab_size=64, max_seq_len=512
    )
    given |= sizes
    config = registry.ModelConfig(
        family=family,
        norm_eps=1e-5,
        rope_base=None if family == "gpt2" else 1e4,
        tie_embeddings=family == "gpt2",
        **given,
    )
    return pretrained.Model("strong", family, epath.Path(), config, None, "", 1e-4, 512)


def start(config, model: pretrained.Model, mesh):
    """A train step of `selective` with its real state."""
    of_stages = settings_lib.Settings.of(config)
    settings = of_stages.optimizer(model, 100)
    computation = step.classification(objectives.make_objective(config, methods.METHODS["selective"]))
    built = of_stages.classifier(model, mesh, p_ik_head=True)
    make = pretrained.probe if of_stages.is_probe(model) else pretrained.random_classifier
    build = nnx.jit(lambda: make(model.config, built))
    graphdef, train_state, shardings = state.start(build(), settings, mesh)
    run = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
    return run, train_state


def real_batch(program: programs.Program) -> batches.Batch:
    """Zeros of a program's batch."""
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), program.arguments[1])
    return batches.device_batch(batch, program.mesh)


def held(tree) -> int:
    """Bytes on the first device."""
    first = jax.devices()[0]
    return sum(
        shard.data.nbytes
        for array in jax.tree.leaves(tree)
        for shard in array.addressable_shards
        if shard.device == first
    )


def compare_states() -> list[dict]:
    found = []
    cases = [
        ("qwen", {"mesh.shape": (1, 4, 2)}),
        ("gpt2", {"mesh.shape": (2, 4, 1), "precision.moment_dtype": "bfloat16"}),
        ("qwen", {"mesh.shape": (1, 8, 1), "training.trained": "lora", "lora.rank": 3}),
        (
            "gpt2",
            {"training.trained": "heads", "training.optimizer": "adafactor", "training.embed_once": False},
        ),
        ("gpt2", {"training.trained": "heads", "mesh.shape": (2, 4, 1)}),
    ]
    for family, overrides in cases:
        config = config_lib.default_config()
        config.precision.compute_dtype = "bfloat16"
        for key, value in overrides.items():
            section, _, leaf = key.rpartition(".")
            config[section][leaf] = value
        model = make_model(family)
        program = programs.Programs(config, jax.devices()).train_step(model, "selective", 100)
        _, train_state = start(config, model, program.mesh)
        batch = real_batch(program)
        same = jax.tree.map(
            lambda x, planned: x.sharding.is_equivalent_to(planned.sharding, x.ndim),
            batch,
            program.arguments[1],
        )
        found.append(
            {
                "planned": program.state_bytes,
                "held": held(train_state),
                "same_batch": all(jax.tree.leaves(same)),
            }
        )
    return found


def compare_memory() -> dict:
    config = config_lib.default_config()
    config.precision.compute_dtype = "float32"
    model = make_model(
        "qwen", num_layers=4, embed_dim=512, num_heads=8, head_dim=64, mlp_dim=1024, vocab_size=5000
    )
    config.training.batch_size = 16
    target = targets.parse("cpu:1")
    program = programs.Programs(config, jax.devices()[:1]).train_step(model, "selective", 256)
    planned = compiled.compile_program(program, target).peak_bytes
    batch = real_batch(program)
    before = process_memory.read("VmHWM")
    run, train_state = start(config, model, program.mesh)
    for _ in range(2):
        train_state, *_ = run(train_state, batch)
    jax.block_until_ready(train_state)
    after = process_memory.read("VmHWM")
    return {"planned": planned, "rose": after - before}


if __name__ == "__main__":
    print(json.dumps(compare_states() if sys.argv[1] == "state" else compare_memory()))
