"""One of two processes that fail apart and stay together; run by test_processes.py with FOLDER, PORT and NUMBER."""

import os
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax import sharding
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import distributed, preemption
from selw2s_jax.training import checkpointing


def fails_on(process: int, error: Exception):
    """A function that raises on one process only."""

    def function() -> None:
        if distributed.is_main() == (process == 0):
            raise error

    return function


def message(function) -> str:
    try:
        function()
    except UserError as error:
        return str(error)
    raise AssertionError("no error")


def check_errors() -> None:
    for process in (0, 1):
        error = fails_on(process, OSError(28, "No space left on device"))
        expected = f"process {process}: [Errno 28] No space left on device"
        assert message(lambda error=error: distributed.agree(error)) == expected
        # Inside another agreement no process asks a second time.
        nested = lambda error=error: distributed.agree(lambda: distributed.agree(error))  # noqa: E731
        assert message(nested) == expected
    deferred = distributed.Deferred()
    ran = []
    deferred.run(fails_on(0, OSError(28, "full")))
    deferred.run(lambda: ran.append(1))  # after a failure nothing is written
    assert message(deferred.settle) == "process 0: [Errno 28] full" and not ran
    assert distributed.gather(7) == [7, 7]


def make_saved(mesh, step: int) -> checkpointing.Saved:
    rows = np.arange(24, dtype=np.float32).reshape(8, 3) + step
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    state = {"w": sharding.put(rows, place), "step": sharding.put(np.int32(step), sharding.replicated(mesh))}
    return checkpointing.Saved(step, state, {"index": np.arange(step)}, {"step": step})


def check_damage_that_one_process_sees(folder: pathlib.Path, mesh) -> None:
    read = checkpointing._read_state
    with checkpointing.Checkpoints(folder, every_steps=1, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(make_saved(mesh, step), wait=True)

        def read_badly(path, wanted):
            if path.name == "2":
                fails_on(1, ValueError("a block is gone"))()
            return read(path, wanted)

        checkpointing._read_state = read_badly
        saved = checkpoints.latest(make_saved(mesh, 0).state)
        checkpointing._read_state = read
    assert saved.step == 1
    shard = saved.state["w"].addressable_shards[0]
    np.testing.assert_array_equal(
        shard.data, (np.arange(24, dtype=np.float32).reshape(8, 3) + 1)[shard.index]
    )


def check_signal_while_saving(folder: pathlib.Path, mesh) -> None:
    preemption.watch()
    with checkpointing.Checkpoints(folder, every_steps=1, keep=1) as checkpoints:
        for step in range(1, 500):
            if preemption.reached():
                break
            checkpoints.save(make_saved(mesh, step), wait=False)
            if step == 3 and not distributed.is_main():
                os.kill(os.getpid(), signal.SIGTERM)
    steps = distributed.gather(step)
    assert steps[0] == steps[1] < 499, steps


def main() -> None:
    folder, port, number = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    distributed.start(
        "on", coordinator_address=f"localhost:{port}", num_processes=2, process_id=number, timeout_s=120
    )
    mesh = sharding.make_mesh()
    assert jnp.zeros(()).sharding.num_devices == 1 and mesh.size == 4
    check_errors()
    check_damage_that_one_process_sees(folder / "damaged", mesh)
    check_signal_while_saving(folder / "told", mesh)
    print("all as it should be", file=sys.stderr)
    distributed.leave()


if __name__ == "__main__":
    main()
