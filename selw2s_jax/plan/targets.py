"""What a plan is made for: `cpu:8`, `a100-80gb:8`, `tpu-v5p:2x2x1`; and the devices that a compiler is given for it.

A card that is not listed is described by one like it: `h100:8,memory=94,tflops=835,bandwidth=3900,link=300`.

No accelerator is needed. TPU programs are compiled by libtpu for a named slice, GPU programs by JAX's CUDA plugin for
a description of the card, CPU programs for devices that share this machine.
"""

import dataclasses
import difflib
import importlib.util
import math
import os
from typing import TYPE_CHECKING

from selw2s_jax.errors import UserError
from selw2s_jax.plan import chips

if TYPE_CHECKING:
    import jax

_MOST_CPU_DEVICES = 512
_GPUS_PER_HOST = 8
# What a user can say of a card: the field of `chips.Chip`, and the unit. memory: GiB that CUDA reports (nvidia-smi).
_NUMBERS = {
    "memory": ("hbm_bytes", chips.GIB),
    "tflops": ("bf16_flops", 1e12),
    "bandwidth": ("hbm_bytes_per_s", 1e9),
    "link": ("interconnect_bytes_per_s", 1e9),
}
_TPU_NAMES = {"tpu-v7x": "tpu7x"}  # libtpu's, where they are not the end of ours

# Fields of xla/stream_executor/device_description.proto in which the cards differ; values of openxla/xla,
# xla/backends/gpu/target_config/specs/{a100_sxm_40,a100_sxm_80,h100_sxm,h200,b200}.txtpb. Of cards that it lacks: sizes
# and clocks of the documents in `chips`, limits of their compute capability (CUDA C++ programming guide, "Compute
# Capabilities"), beside the specs of a6000 (8.6) and rtx6000pro (12.0).
_A100 = {
    "core_count": 108,
    "fpus_per_core": 64,
    "clock_rate_ghz": 1.41,
    "l2_cache_size": 41943040,
    "shared_memory_per_core": 167936,
    "shared_memory_per_block_optin": 166912,
    "cuda_compute_capability": "{ major: 8 }",
}
_H100 = {
    "core_count": 132,
    "fpus_per_core": 128,
    "clock_rate_ghz": 1.98,
    "l2_cache_size": 52428800,
    "shared_memory_per_core": 233472,
    "shared_memory_per_block_optin": 232448,
    "cuda_compute_capability": "{ major: 9 feature_extension: ACCELERATED_FEATURES }",
}
_B200 = {
    "core_count": 148,
    "fpus_per_core": 128,
    "clock_rate_ghz": 1.965,
    "l2_cache_size": 132644864,
    "shared_memory_per_core": 233472,
    "shared_memory_per_block_optin": 232448,
    "cuda_compute_capability": "{ major: 10 feature_extension: ACCELERATED_FEATURES }",
}


def _small(
    capability: str, cores: int, clock_ghz: float, l2_bytes: int, *, shared_bytes: int = 102400
) -> dict:
    """A card of compute capability 8.6, 8.9 or 12.0, whose cores hold fewer threads and less shared memory."""
    major, minor = capability.split(".")
    return {
        "core_count": cores,
        "fpus_per_core": 128,
        "clock_rate_ghz": clock_ghz,
        "l2_cache_size": l2_bytes,
        "shared_memory_per_core": shared_bytes,
        "shared_memory_per_block_optin": 101376,
        "threads_per_core_limit": 1536,
        "cuda_compute_capability": f"{{ major: {major} minor: {minor} }}",
    }


_GPUS = {
    "a100-40gb": _A100 | {"memory_bandwidth": 1555200000000, "device_memory_size": 42297786368},
    "a100-80gb": _A100 | {"memory_bandwidth": 2039040000000, "device_memory_size": 85100068864},
    "h100": _H100 | {"memory_bandwidth": 3352320000000, "device_memory_size": 84942979072},
    "h200": _H100 | {"memory_bandwidth": 4800000000000, "device_memory_size": 151397597184},
    "b200": _B200 | {"memory_bandwidth": 7672320000000, "device_memory_size": 191514411008},
    "a10g": _small("8.6", 80, 1.71, 6291456)
    | {"memory_bandwidth": 600096000000, "device_memory_size": 23568832921},
    "l40s": _small("8.9", 142, 2.52, 50331648)
    | {"memory_bandwidth": 864096000000, "device_memory_size": 47663399567},
    "rtx-4090": _small("8.9", 128, 2.52, 75497472)
    | {"memory_bandwidth": 1008096000000, "device_memory_size": 25254407700},
    "rtx-5090": _small("12.0", 170, 2.41, 100663296, shared_bytes=131072)
    | {"memory_bandwidth": 1792128000000, "device_memory_size": 33651068764},
}
_EVERY_GPU = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "threads_per_core_limit": 2048,
    "shared_memory_per_block": 49152,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
    "block_dim_limit_x": 2147483647,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
    "thread_dim_limit_x": 1024,
    "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Machines that a program is compiled for.

    Attributes:
        name: as it was given, such as "tpu-v5p:2x2x1".
        chip: the kind of each device.
        shape: chips along each dimension of a TPU slice; of other targets the number of devices alone.
    """

    name: str
    chip: chips.Chip
    shape: tuple[int, ...]

    @property
    def num_devices(self) -> int:
        """Devices that JAX shows: one for each chip, or two of TPU v7."""
        return math.prod(self.shape) * self.chip.cores_per_chip

    @property
    def interconnect_bytes_per_s(self) -> float | None:
        """What one device can send, one direction; None where it is not known."""
        if self.chip.kind == "tpu":
            return chips.slice_bytes_per_s(self.chip.name, self.shape)
        return self.chip.interconnect_bytes_per_s

    @property
    def usable_bytes(self) -> int:
        """Memory that a program can have on one device; those of a CPU share the machine's."""
        return self.chip.usable_bytes // (self.num_devices if self.chip.kind == "cpu" else 1)


def parse(text: str | None) -> Target:
    """The target of that name.

    Raises:
        UserError: no such target or slice, or the compiler for it is not installed.
    """
    if not text:
        raise UserError(f"--target is missing: give one of {_examples()}")
    name, _, size = text.lower().partition(":")
    size, *described = size.split(",")
    if name not in chips.CHIPS:
        near = [known for known in chips.CHIPS if name and name in known]
        near = near or difflib.get_close_matches(name, list(chips.CHIPS), n=1, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"--target={text} is not known: {hint}there are {_examples()}")
    chip = chips.CHIPS[name]
    parts = size.split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        wanted = "the chips along each side, as 2x2x1" if chip.kind == "tpu" else "a number of devices, as 8"
        raise UserError(f"--target={text} needs {wanted} after the colon: there are {_examples()}")
    target = Target(text.lower(), _with_numbers(chip, described), tuple(map(int, parts)))
    if problem := _problem(target):
        raise UserError(f"--target={text} does not exist: {problem}")
    _check_compiler(target)
    return target


def _with_numbers(chip: chips.Chip, described: list[str]) -> chips.Chip:
    """A card of the same architecture with the user's numbers, `key=value` each."""
    if described and chip.kind != "gpu":
        raise UserError(f"--target: {chip.name} is as it is; memory and rates are given of GPUs")
    changes = {}
    for item in described:
        key, _, value = item.partition("=")
        if key not in _NUMBERS:
            raise UserError(f"--target: {item!r} is not known; give numbers of {', '.join(_NUMBERS)}")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise UserError(f"--target: {item!r} needs a number above 0")
        field, unit = _NUMBERS[key]
        changes[field] = number * unit
    if not changes:
        return chip
    if (reported := changes.get("hbm_bytes")) is not None:
        changes |= {"hbm_bytes": int(reported), "usable_bytes": int(chips.GPU_MEMORY_FRACTION * reported)}
    return dataclasses.replace(chip, **changes, source=f"the numbers given, else {chip.source}")


def _problem(target: Target) -> str | None:
    kind, shape = target.chip.kind, target.shape
    if kind == "tpu":
        return chips.topology_problem(target.chip.name, shape)
    if len(shape) != 1:
        return f"give the number of devices alone, {target.chip.name}:{target.num_devices}"
    if kind == "cpu" and shape[0] > _MOST_CPU_DEVICES:
        return f"at most {_MOST_CPU_DEVICES} devices are made of a CPU"
    if kind == "gpu" and shape[0] > _GPUS_PER_HOST and shape[0] % _GPUS_PER_HOST:
        return f"machines have {_GPUS_PER_HOST} of them: give up to {_GPUS_PER_HOST}, or a multiple of it"
    return None


def _examples() -> str:
    sizes = {"gpu": "8", "tpu": "4x4", "cpu": "8"}
    return ", ".join(
        f"{chip.name}:{'2x2x1' if chips.is_3d(chip.name) else sizes[chip.kind]}"
        for chip in chips.CHIPS.values()
    )


def _check_compiler(target: Target) -> None:
    if target.chip.kind == "tpu" and not _is_installed("libtpu"):
        raise UserError(
            f"--target={target.name} needs the TPU compiler: pip install 'selw2s-jax[plan-tpu]' (no TPU is needed)"
        )
    plugins = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
    if target.chip.kind == "gpu" and not any(map(_is_installed, plugins)):
        raise UserError(
            f"--target={target.name} needs the CUDA compiler: pip install 'selw2s-jax[plan-gpu]' (no GPU is needed)"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it is in
        return False


def set_environment(target: Target) -> None:
    """Prepares this process to compile for a target; before JAX is imported, which reads most of it then.

    Flags of the user's that change what is compiled (XLA_FLAGS, LIBTPU_INIT_ARGS) are kept.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"  # whatever this machine has is left alone
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    flags = {
        "cpu": f"--xla_force_host_platform_device_count={target.num_devices}",
        # Both measure kernels on a GPU.
        "gpu": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
        "tpu": "",
    }[target.chip.kind]
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    if target.chip.kind == "tpu":
        generation = _TPU_NAMES.get(target.chip.name, target.chip.name.removeprefix("tpu-"))
        # Otherwise libtpu asks the machine's metadata server which TPU this is.
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"
        os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
        os.environ["TPU_ACCELERATOR_TYPE"] = f"{generation}-8"


def make_devices(target: Target) -> "list[jax.Device]":
    """Devices to lay arrays out on and to compile for; those of accelerators hold nothing.

    Raises:
        UserError: this process was not prepared for the target, or the compiler does not know the slice.
    """
    import jax
    from jax.experimental import topologies

    kind = target.chip.kind
    if kind == "cpu":
        devices = jax.devices("cpu")
        if len(devices) < target.num_devices:
            raise UserError(
                f"--target={target.name}: this process was started with {len(devices)} CPU device(s)"
            )
        return devices[: target.num_devices]
    try:
        if kind == "gpu":
            hosts = -(-target.num_devices // _GPUS_PER_HOST)
            topology = topologies.get_topology_desc(
                platform="cuda",
                target_config=_describe_gpu(target.chip),
                topology=f"1x{hosts}x{target.num_devices // hosts}",
            )
        else:
            generation = _TPU_NAMES.get(target.chip.name, target.chip.name.removeprefix("tpu-"))
            topology = topologies.get_topology_desc(
                platform="tpu",
                topology_name=f"{generation}:{chips.spell(target.shape)}",
                **_slice_options(target),
            )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--target={target.name}: the compiler does not know it ({error})") from error
    return list(topology.devices)


def _slice_options(target: Target) -> dict:
    """What libtpu does not take from the name of a slice."""
    options = {}
    if target.chip.name == "tpu-v4":
        options["chip_config_name"] = "megacore"  # one device for the two cores of a chip
    if math.prod(target.shape) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    return options


def _describe_gpu(chip: chips.Chip) -> str:
    """A GpuTargetConfigProto as text."""
    fields = _EVERY_GPU | _GPUS[chip.name]
    if chip.hbm_bytes != chips.CHIPS[chip.name].hbm_bytes:
        fields |= {"device_memory_size": chip.hbm_bytes}
    described = " ".join(
        f"{field} {value}" if isinstance(value, str) else f"{field}: {value}"
        for field, value in fields.items()
    )
    return (
        f"gpu_device_info {{ {described} }} runtime_version {{ major: 12 minor: 8 }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } '
        f'device_description_str: "{chip.name}"'
    )
