"""The device mesh and the one table from logical axes of arrays to axes of the mesh.

Every parameter names its axes where it is declared (`models.layers.param`), every constrained activation
where it is made; nothing else in the package names a mesh axis.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np
from flax import nnx

from selw2s_jax import errors

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axis or axes. None: whole on every device. A name that is not here is an error.
#
# A weight matrix of a layer has an axis "embed" and one of heads or mlp. fsdp splits the former: a device holds its
# share, and gathers a layer when it is needed (ZeRO stage 3, Rajbhandari et al. 2020). tensor splits the latter: the
# two products of an attention or MLP block then need one sum over devices (Shoeybi et al. 2019).
RULES: dict[str, str | tuple[str, ...] | None] = {
    "layers": None,  # scanned over: a split would send every layer to every device in turn
    "micro": None,  # scanned over, as layers are
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",  # with the heads of queries that read them
    "mlp": "tensor",
    "vocab": "tensor",
    "qkv": None,
    "head_dim": None,
    "position": None,
    "rank": None,
    "classes": None,
    "rows": ("data", "fsdp"),  # devices that share weights by fsdp still have rows of their own
    "row_groups": "data",  # rows while fsdp splits their width, as it does that of tables
    "all_rows": None,
    "time": None,
    "examples": None,  # the loss couples all examples of a batch, and they are few numbers
    "features": None,  # the model width where it stays whole: norms, biases, activations
}


class ModelSizes(Protocol):
    """What the layout needs of a `models.family.ModelConfig`, which is of a higher floor."""

    @property
    def family(self) -> str: ...
    @property
    def embed_dim(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def num_kv_heads(self) -> int | None: ...
    @property
    def mlp_dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...


def make_mesh(
    shape: tuple[int, int, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
    """A (data, fsdp, tensor) mesh over `devices` (default: all); `None` puts every device on fsdp.

    Raises:
        UserError: the product of `shape` is not the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = (1, len(devices), 1) if shape is None else tuple(shape)
    if len(shape) != len(MESH_AXES) or min(shape) < 1 or math.prod(shape) != len(devices):
        raise errors.UserError(
            f"mesh.shape {shape} does not fit {len(devices)} device(s): give three positive sizes "
            f"(data, fsdp, tensor) whose product is {len(devices)}"
        )
    # Auto: XLA propagates the layout from the parameters and from what `constrain` names.
    axis_types = (jax.sharding.AxisType.Auto,) * len(MESH_AXES)
    return jax.make_mesh(shape, MESH_AXES, axis_types=axis_types, devices=devices)


def mesh_for(
    model_config: ModelSizes,
    shape: tuple[int, int, int] | None,
    *,
    may_fold: bool,
    devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
    """The mesh that a model is laid out on.

    Args:
        shape: (data, fsdp, tensor); None puts every device on fsdp, or those that divide the model.
        may_fold: a shape that was chosen for another model may fold its tensor axis into fsdp, and fsdp into
            data, where it does not divide this one (GPT-2's vocabulary of 50257 has no divisor in common use).
        devices: default: all.

    Raises:
        UserError: the shape does not fit the devices, or does not divide the model.
    """
    devices = jax.devices() if devices is None else list(devices)
    num_devices = len(devices)
    if shape is None:
        fsdp = math.gcd(num_devices, model_config.embed_dim)
        return make_mesh((num_devices // fsdp, fsdp, 1), devices)
    mesh = make_mesh(shape, devices)
    data, fsdp, tensor = mesh.shape.values()
    for folded in ((data, fsdp * tensor, 1), (num_devices, 1, 1)):
        if not may_fold or not _indivisible(mesh, model_config):
            break
        mesh = make_mesh(folded, devices)
    check_divisible(mesh, model_config)
    return mesh


def single_device_mesh() -> jax.sharding.Mesh:
    """The mesh of the first local device: the default where no mesh is given."""
    return make_mesh((1, 1, 1), jax.local_devices()[:1])


def logical_sharding(mesh: jax.sharding.Mesh, axes: tuple[str, ...]) -> jax.sharding.NamedSharding:
    """The sharding of an array whose axes have these logical names.

    Raises:
        KeyError: a name that RULES does not have.
    """
    for axis in axes:
        if axis not in RULES:
            raise KeyError(f"unknown logical axis {axis!r} in {axes}; sharding.RULES has {', '.join(RULES)}")
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*(RULES[axis] for axis in axes)))


def mesh_of(state: nnx.State) -> jax.sharding.Mesh:
    """The mesh that the arrays of a module lie on."""
    return jax.tree.leaves(state)[0].sharding.mesh


def num_row_groups(mesh: jax.sharding.Mesh) -> int:
    """Number of data-parallel groups: what the rows of a batch are divided over."""
    return math.prod(mesh.shape[axis] for axis in RULES["rows"])


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """The sharding of an array that is whole on every device."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def put(value: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """A host array, the same on every process, on the devices of a sharding: each process fills its own."""
    if sharding.is_fully_addressable:
        return jax.device_put(value, sharding)
    # device_put onto devices of other processes would first compare the value on all of them, at every step.
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def constrain(x: jax.Array, axes: tuple[str, ...], mesh: jax.sharding.Mesh) -> jax.Array:
    """`x` with the sharding of `axes` on `mesh` as a constraint; the same path on one device as on many."""
    if len(axes) != x.ndim:
        raise ValueError(f"{len(axes)} axis names {axes} for an array of shape {x.shape}")
    return jax.lax.with_sharding_constraint(x, logical_sharding(mesh, axes))


def param_shardings(mesh: jax.sharding.Mesh, abstract_state: nnx.State) -> nnx.State:
    """The same tree with each parameter's value replaced by its sharding, for `out_shardings` and the like.

    Raises:
        KeyError: a variable without `axes` metadata, or with an unknown logical axis.
    """

    def variable_sharding(variable):
        axes = variable.get_metadata().get("axes")
        if axes is None:
            raise KeyError(f"a {type(variable).__name__} of shape {variable.shape} declares no logical axes")
        return variable.replace(logical_sharding(mesh, axes))

    return jax.tree.map(variable_sharding, abstract_state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def _indivisible(mesh: jax.sharding.Mesh, model_config: ModelSizes) -> list[str]:
    """The sharded sizes of a model that their mesh axis does not divide."""
    wanted = {
        "embed_dim": ("fsdp", model_config.embed_dim),
        "num_heads": ("tensor", model_config.num_heads),
        "mlp_dim": ("tensor", model_config.mlp_dim),
        "vocab_size": ("tensor", model_config.vocab_size),
    }
    if model_config.num_kv_heads is not None:
        wanted["num_kv_heads"] = ("tensor", model_config.num_kv_heads)
    return [
        f"{name} {size} by {axis} {mesh.shape[axis]}"
        for name, (axis, size) in wanted.items()
        if size % mesh.shape[axis]
    ]


def check_divisible(mesh: jax.sharding.Mesh, model_config: ModelSizes) -> None:
    """Checks that the mesh divides the sharded sizes of a model.

    Heads of keys and values are split, never copied: a tensor axis that does not divide them is refused.

    Raises:
        UserError: naming every size that its mesh axis does not divide.
    """
    if faults := _indivisible(mesh, model_config):
        raise errors.UserError(
            f"mesh.shape {tuple(mesh.shape.values())} does not divide the {model_config.family} model: "
            f"{', '.join(faults)}; choose mesh sizes that divide them"
        )
