"""Arrays on disk, through Orbax: the weights of finished models, and the states of training runs under way.

Orbax is imported where arrays are written or read: what only looks at finished stages, as `--dry_run`, does without.
"""

import hashlib
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from selw2s_jax import errors, sharding
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts, distributed, storage

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

# Statuses of TensorStore and XLA, and system errors, that say nothing of what a file holds.
_UNREADABLE = (
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
)
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def save_params(folder, params) -> None:
    """Writes parameters (a pytree of arrays, sharded or not) to a folder that does not exist yet.

    Raises:
        OSError: the file system refused, for example a full disk.
    """
    import orbax.checkpoint as ocp

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(_absolute(folder), _pure(params))
    except ValueError as error:
        raise _system_error(error, folder) from error


def load_params(folder, params: nnx.State, mesh: jax.sharding.Mesh) -> nnx.State:
    """The parameters that `save_params` wrote, read straight into their shards.

    Args:
        params: of `ShapeDtypeStruct`s, as in a module that `nnx.eval_shape` makes.
    """
    import orbax.checkpoint as ocp

    shardings = sharding.param_shardings(mesh, params)
    params = jax.tree.map(lambda p, s: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=s), params, shardings)
    with ocp.StandardCheckpointer() as checkpointer:
        pure = checkpointer.restore(_absolute(folder), _pure(params))
    return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(pure))


class Saved(NamedTuple):
    """What a training run needs to go on as if it had never stopped."""

    step: int
    state: Any  # pytree of arrays on the devices
    trace: dict[str, np.ndarray]  # and what else the history of the run keeps as arrays
    record: dict[str, Any]  # JSON values


def _open_manager(folder: epath.Path, keep: int) -> "ocp.CheckpointManager":
    """Orbax's, less its question whether to stop: JAX counts those of a process, and `preemption` asks them."""
    import orbax.checkpoint as ocp

    class Manager(ocp.CheckpointManager):
        def reached_preemption(self, step: int) -> bool:
            return False

    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    return Manager(folder, options=options)


class Checkpoints:
    """The states of one training run under way: saved in the background, the last few kept.

    A state is there whole or not at all. It carries checksums of its values, which do not depend on how they are
    laid out over devices: one that is damaged is passed over for the one before it.

    Args:
        folder: of this run alone; made when the first state is saved.
        every_steps: how often `is_due`; 0 for never.
        keep: how many states are kept.
        before_save: called by all processes before a state is saved; what it raises keeps the state from being saved.
    """

    def __init__(
        self, folder, *, every_steps: int, keep: int, before_save: Callable[[], None] = lambda: None
    ):
        self._folder, self._every_steps, self._keep = _absolute(folder), every_steps, keep
        self._before_save = before_save
        self._opened: ocp.CheckpointManager | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        if self._opened is not None:
            try:
                self._opened.close()
            except ValueError as error:
                raise _system_error(error, self._folder) from error

    @property
    def _manager(self) -> "ocp.CheckpointManager":
        if self._opened is None:
            self._opened = _open_manager(self._folder, self._keep)
        return self._opened

    def is_due(self, step: int) -> bool:
        """Whether the state after so many steps is to be saved."""
        return self._every_steps > 0 and step % self._every_steps == 0

    def save(self, saved: Saved, *, wait: bool) -> None:
        """Saves a state; its arrays may be donated as soon as this returns.

        Args:
            wait: return only when it is on disk.

        Raises:
            OSError: the file system refused, now or at the save before.
        """
        import orbax.checkpoint as ocp

        self._before_save()
        arrays = _by_path(saved.state)
        # Of the arrays as they are on the devices: what goes wrong between them and the disk shows at reading.
        record = {
            "step": saved.step,
            "record": saved.record,
            "checksums": {name: int(value) for name, value in jax.device_get(_checksums(arrays)).items()},
            "trace": _trace_hash(saved.trace),
        }
        record["hash"] = artifacts.content_hash(record)
        items = {"state": ocp.args.StandardSave(arrays), "record": ocp.args.JsonSave(record)}
        if saved.trace:
            items["trace"] = ocp.args.StandardSave(saved.trace)
        try:
            if saved.step in self._manager.all_steps():  # a damaged one, that the run has passed again
                self._manager.delete(saved.step)
            self._manager.save(saved.step, args=ocp.args.Composite(**items), force=True)
            if wait:
                self._manager.wait_until_finished()
        except ValueError as error:
            raise _system_error(error, self._folder) from error

    def latest(self, abstract_state) -> Saved | None:
        """The last state that is sound, on the devices and in the shardings of `abstract_state`; None without any.

        Says which states it passes over, on standard output.

        Raises:
            UserError: all that were saved are damaged, or one cannot be read for reasons beside its content.
        """
        if not distributed.broadcast(self._folder.is_dir()):
            return None
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            saved, fault = self._restore(step, abstract_state)
            if fault is None:
                return saved
            print(f"  the state saved at step {step} is damaged and passed over ({fault})", flush=True)
        if steps:
            raise UserError(
                f"none of the states in {self._folder} is sound (see above); look for what damaged them, or delete "
                "that folder to train this stage from its start"
            )
        return None

    def _restore(self, step: int, abstract_state) -> tuple[Saved | None, str | None]:
        """A state, or what is wrong with it on any process."""
        wanted = _by_path(abstract_state)

        def read():
            try:
                return _read_state(self._folder / str(step), wanted), None
            except Exception as error:  # whatever a library says of a file that is cut short or altered
                if _is_unreadable(error):
                    raise UserError(
                        f"the state in {self._folder / str(step)} cannot be read ({errors.one_line(error)}); "
                        "mend that and run the same command again"
                    ) from error
                return None, errors.one_line(error)

        # Each process reads alone, and what takes all of them comes once all have read.
        found, fault = distributed.agree(read)
        faults = [fault for fault in distributed.gather(fault) if fault is not None]
        if faults:
            return None, faults[0]
        record, trace, arrays = found
        checksums = jax.device_get(_checksums(arrays))
        for name, expected in record["checksums"].items():
            if int(checksums[name]) != expected:
                return None, f"{name} is not what was written"
        state = jax.tree.unflatten(jax.tree.structure(abstract_state), [arrays[name] for name in wanted])
        return Saved(record["step"], state, trace, record["record"]), None


def discard(folder) -> None:
    """Removes the states of a run that is finished."""
    distributed.main_only(lambda: storage.remove_tree(folder))


def _read_state(folder: epath.Path, wanted: dict[str, Any]):
    """Record, trace and arrays of a state, without asking the other processes.

    Raises:
        Exception: a part is missing or not what was written, as far as one process can tell.
    """
    import orbax.checkpoint as ocp

    record = dict(ocp.JsonCheckpointHandler().restore(folder / "record"))
    if record.pop("hash") != artifacts.content_hash(record):
        raise ValueError("its record is not what was written")
    trace = {}
    if (folder / "trace").is_dir():
        trace = ocp.StandardCheckpointHandler().restore(folder / "trace", args=ocp.args.StandardRestore())
        trace = {name: np.asarray(column) for name, column in trace.items()}
    if record["trace"] != _trace_hash(trace):
        raise ValueError("its trace is not what was written")
    if set(record["checksums"]) != set(wanted):
        raise ValueError("it is the state of another model or optimizer")
    # Last, since it is the one part that takes long: what is known to be damaged is not read.
    arrays = ocp.StandardCheckpointHandler().restore(folder / "state", args=ocp.args.StandardRestore(wanted))
    return record, trace, arrays


def _is_unreadable(error: Exception) -> bool:
    """Whether an error is of memory, network or permissions, and no sign of damage."""
    error = _system_error(error, "") if isinstance(error, ValueError) else error
    if isinstance(error, (OSError, MemoryError)):
        return not isinstance(error, _ABSENT)
    return any(status in str(error) for status in _UNREADABLE)


def _absolute(folder) -> epath.Path:
    folder = epath.Path(folder)
    return folder if "://" in os.fspath(folder) else folder.absolute()


def _pure(params) -> dict:
    """Nested dict of arrays by parameter path: what the files hold, whatever modules use it."""
    return nnx.to_pure_dict(params)


def _by_path(tree) -> dict[str, Any]:
    """Leaves by the path to them, in the order of `jax.tree.leaves`."""
    # The number keeps paths apart that only differ in what keystr leaves out, and files in the order of leaves.
    return {
        f"{number:05d}{jax.tree_util.keystr(path, simple=True, separator='.')}": leaf
        for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree))
    }


@jax.jit
def _checksums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """A uint32 of each array's bits and their order, by integer sums, which any sharding adds up to the same.

    Every weight is odd, so that one changed element always shows.
    """

    def checksum(x: jax.Array) -> jax.Array:
        # As integers: floats would add up differently in every layout, and wrap-around of uint32 does no harm.
        bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
        index = jnp.zeros(x.shape, jnp.uint32)
        for axis, size in enumerate(x.shape):
            index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        return jnp.sum(bits * (2 * index + 1), dtype=jnp.uint32)

    return {name: checksum(x) for name, x in arrays.items()}


def _trace_hash(trace: dict[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for name in sorted(trace):
        column = np.ascontiguousarray(trace[name])
        digest.update(f"{name} {column.dtype} {column.shape}".encode() + column.tobytes())
    return digest.hexdigest()


def _system_error(error: ValueError, folder) -> Exception:
    """The OSError that TensorStore wraps in a ValueError; another ValueError as it is."""
    # By its text, which is all that comes through: a full disk must not read as a damaged state.
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return OSError(int(code[1]), os.strerror(int(code[1])), os.fspath(folder))
    return error
