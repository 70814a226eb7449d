"""The whole `selective` step on 8 devices equals one device. Run as a script it is the 8-device half."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import test_sharding
import test_training
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.models import heads
from selw2s_jax.training import state, step

MESHES = ((8, 1, 1), (2, 4, 1), (1, 4, 2), (2, 2, 2))
CONFIG = test_sharding.CONFIGS["qwen"]


def run_steps(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> dict:
    """Gradients of the first step, and the metrics of two small steps, micro-batched in two."""
    backbone = loader.load_decoder(
        folder, param_dtype="float32", compute_dtype="float32", lm_head=False, mesh=mesh
    )
    model = heads.Classifier(backbone, p_ik_head=True)
    rng = np.random.default_rng(3)
    for head in (model.class_head, model.p_ik_head):
        head[...] = jax.numpy.asarray(rng.standard_normal(head.shape), np.float32)
    data = test_training.make_data(
        CONFIG, "selective", num_micro=2, row_multiple=sharding.num_row_groups(mesh)
    )
    settings = state.OptimizerSettings(1e-6, data.num_steps)
    graphdef, train_state, shardings = state.start(model, settings, mesh)
    computation = test_training.make_computation("selective")
    batch = batches.device_batch(data.batch_at(0), mesh)
    grads, _, _ = jax.jit(
        lambda params, batch: step.loss_and_grads(graphdef, params, batch, 0.0, computation)
    )(train_state.params, batch)
    flat = {
        ".".join(map(str, path)): np.asarray(variable[...]).tolist()
        for path, variable in nnx.to_flat_state(grads)
    }
    train_step = step.make_train_step(graphdef, computation, settings, mesh=mesh, state_shardings=shardings)
    seen = []
    for k in range(2):
        train_state, metrics, _ = train_step(train_state, batches.device_batch(data.batch_at(k), mesh))
        seen.append({name: float(value) for name, value in metrics.items()})
    layouts = {
        ".".join(map(str, path)): list(variable[...].sharding.spec)
        for path, variable in nnx.to_flat_state(train_state.opt_state[0].mu)
    }
    return {"grads": flat, "metrics": seen, "moment_layouts": layouts}


@pytest.mark.slow
def test_eight_devices_equal_one(tmp_path):
    random_checkpoint.write_random_checkpoint(tmp_path, CONFIG, seed=2)
    expected = run_steps(tmp_path, sharding.single_device_mesh())
    assert 0 < expected["metrics"][0]["ik_rate"] < 1, "the test should see both kinds of rows"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(pathlib.Path.cwd())])),
    }
    output = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    for shape, actual in json.loads(output).items():
        for name, gradient in expected["grads"].items():
            scale = np.abs(gradient).max()
            np.testing.assert_allclose(
                actual["grads"][name], gradient, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{shape} {name}"
            )
        for theirs, ours in zip(actual["metrics"], expected["metrics"], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-5), shape
        parameter = "backbone.layers.mlp.up"
        assert actual["moment_layouts"][parameter] == [None, "tensor", "fsdp"]


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    runs = {str(shape): run_steps(folder, sharding.make_mesh(shape)) for shape in MESHES}
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
