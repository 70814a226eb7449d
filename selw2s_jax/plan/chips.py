"""The accelerators that a plan can be made for: memory, peak rates, and the TPU slices that exist.

Rates are the vendors' peaks and no program reaches them. Where one number covers both directions of a link, half of it
is taken, and where one is of sparse products, half of that. A100, H100, H200 and B200 are those on SXM boards with
NVSwitch, the PCIe cards of the same name are slower. Of A10G, L40S and GeForce cards the link is PCIe x16, and GeForce
cards send through the host's memory, which takes longer.

`usable_bytes` is what XLA can give to a program:

- TPU: the limit that libtpu 0.0.42 names when it refuses a program that is too large ("exceeds available HBM"), read
  by compiling one for each kind. The rest is reserved for the runtime.
- GPU: `GPU_MEMORY_FRACTION` of what CUDA reports to a process (cudaMemGetInfo), which is less than what is sold and
  differs by some 0.2 GiB between drivers; here the least that was seen in public logs of each card.
- CPU: the memory of this machine, which all of its devices share.
"""

import dataclasses
import math

from selw2s_jax.runtime import device_memory

GIB = 2**30

# As launch/xla_flags.sh sets XLA_PYTHON_CLIENT_MEM_FRACTION; without the launch scripts JAX takes 0.75 (jax, "GPU
# memory allocation").
GPU_MEMORY_FRACTION = 0.9


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator, as JAX shows it: of a chip with several devices, one of these.

    Attributes:
        kind: "gpu", "tpu" or "cpu".
        hbm_bytes: memory as sold, where vendors write GB and mean GiB.
        usable_bytes: of it, for XLA (above).
        bf16_flops: dense peak of bfloat16 products, per second; None without a published one.
        hbm_bytes_per_s: peak of reads and writes together.
        interconnect_bytes_per_s: what all links of one chip to its fellows in a node (NVLink) or slice (ICI) send, in
            one direction. `slice_bytes_per_s` says how much of it a TPU slice can use.
        cores_per_chip: devices that JAX shows for a chip; TPU v4 and v5p join their two cores to one ("megacore"), the
            two halves of a TPU v7 chip are two devices, each with half of its links; what is between them, for which no
            rate is published, is left out.
        source: documents of the vendor.
    """

    name: str
    kind: str
    hbm_bytes: int
    usable_bytes: int
    bf16_flops: float | None
    hbm_bytes_per_s: float | None
    interconnect_bytes_per_s: float | None
    cores_per_chip: int
    source: str


def _gpu(name, sold_gib, reported_gib, bf16_flops, hbm_bytes_per_s, interconnect_bytes_per_s, source) -> Chip:
    hbm_bytes, usable_bytes = int(sold_gib * GIB), int(GPU_MEMORY_FRACTION * reported_gib * GIB)
    return Chip(
        name, "gpu", hbm_bytes, usable_bytes, bf16_flops, hbm_bytes_per_s, interconnect_bytes_per_s, 1, source
    )


def _tpu(
    name, sold_gib, usable_gib, bf16_flops, hbm_bytes_per_s, interconnect_bytes_per_s, source, *, devices=1
) -> Chip:
    """Numbers are of one device, of which a chip has so many."""
    hbm_bytes, usable_bytes = int(sold_gib * GIB), int(usable_gib * GIB)
    rates = (bf16_flops, hbm_bytes_per_s, interconnect_bytes_per_s)
    return Chip(name, "tpu", hbm_bytes, usable_bytes, *rates, devices, source)


def _cpu() -> Chip:
    memory = device_memory.of_machine()
    return Chip("cpu", "cpu", memory, memory, None, None, None, 1, "this machine")


_A100 = (
    "NVIDIA A100 Tensor Core GPU datasheet (nvidia.com, nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)"
)
_H100 = "NVIDIA H100 Tensor Core GPU (nvidia.com/en-us/data-center/h100), half of the rate with sparsity"
_H200 = "NVIDIA H200 Tensor Core GPU (nvidia.com/en-us/data-center/h200), half of the rate with sparsity"
_B200 = "NVIDIA HGX B200 and DGX B200 datasheets (nvidia.com), an eighth, half of the rate with sparsity"
_A10G = "NVIDIA A10G datasheet (d1.awsstatic.com, a10-datasheet.pdf), link: PCIe 4.0 x16"
_L40S = "NVIDIA L40S datasheet (nvidia.com/en-us/data-center/l40s), link: PCIe 4.0 x16"
# The rate of bfloat16 products that are summed in float32, as XLA asks for.
_RTX_4090 = "NVIDIA Ada GPU Architecture whitepaper (nvidia.com), appendix A, link: PCIe 4.0 x16"
_RTX_5090 = "NVIDIA RTX Blackwell GPU Architecture whitepaper (nvidia.com), appendix, link: PCIe 5.0 x16"
_V4 = "docs.cloud.google.com/tpu/docs/v4; links: Jouppi et al. 2023 (arXiv 2304.01433), 6 of 50 GB/s"
_V5E = "docs.cloud.google.com/tpu/docs/v5e"
_V5P = "docs.cloud.google.com/tpu/docs/v5p"
_V6E = "docs.cloud.google.com/tpu/docs/v6e"
_V7X = "docs.cloud.google.com/tpu/docs/tpu7x (Ironwood), half of a chip"

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        _gpu("a100-40gb", 40, 39.39, 312e12, 1555e9, 300e9, _A100),
        _gpu("a100-80gb", 80, 79.15, 312e12, 2039e9, 300e9, _A100),
        _gpu("h100", 80, 79.10, 989.4e12, 3350e9, 450e9, _H100),
        _gpu("h200", 141, 139.7, 989.4e12, 4800e9, 450e9, _H200),
        _gpu("b200", 180, 178.35, 2250e12, 8000e9, 900e9, _B200),
        _gpu("a10g", 24, 21.95, 70e12, 600e9, 32e9, _A10G),
        _gpu("l40s", 48, 44.39, 362.05e12, 864e9, 32e9, _L40S),
        _gpu("rtx-4090", 24, 23.52, 165.2e12, 1008e9, 32e9, _RTX_4090),
        _gpu("rtx-5090", 32, 31.34, 209.5e12, 1792e9, 64e9, _RTX_5090),
        _tpu("tpu-v4", 32, 30.75, 275e12, 1200e9, 300e9, _V4),
        _tpu("tpu-v5e", 16, 15.75, 197e12, 819e9, 200e9, _V5E),
        # The page lists 95 of 96 GiB, the rest being reserved; libtpu's limit lies between.
        _tpu("tpu-v5p", 96, 95.74, 459e12, 2765e9, 600e9, _V5P),
        _tpu("tpu-v6e", 32, 31.25, 918e12, 1638e9, 400e9, _V6E),
        _tpu("tpu-v7x", 96, 94.75, 1153.5e12, 3690e9, 300e9, _V7X, devices=2),
        _cpu(),
    )
}

# Pages of the sources above, "Configurations". Larger 3D slices are made of cubes of 4x4x4.
_SLICES_2D = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_SLICES_3D = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
_MOST_CHIPS_3D = {"tpu-v4": 4096, "tpu-v5p": 6144, "tpu-v7x": 9216}
_WRAPPED_2D = 16  # a 2D axis closes to a ring only where it spans the pod


def is_3d(kind: str) -> bool:
    """Whether slices of a TPU of that name have three dimensions."""
    return kind in _MOST_CHIPS_3D


def topology_problem(kind: str, shape: tuple[int, ...]) -> str | None:
    """What is wrong with a slice of `shape` chips of a TPU, as a phrase; None where such slices exist.

    Args:
        kind: a name in `CHIPS` of kind "tpu".
    """
    spelled = spell(shape)
    largest = _MOST_CHIPS_3D.get(kind)
    dims = 2 if largest is None else 3
    examples = "2x2, 2x4, 4x4 ... 16x16" if dims == 2 else "2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, 4x4x8 ..."
    if len(shape) != dims:
        return f"{kind} slices have {dims} dimensions, as in {examples}, not {spelled}"
    if dims == 2:
        if tuple(shape) in _SLICES_2D:
            return None
        if tuple(sorted(shape)) in _SLICES_2D:
            return (
                f"{kind} slices are spelled with the short side first: {spell(sorted(shape))}, not {spelled}"
            )
        return f"no {kind} slice has the shape {spelled}: there are {', '.join(map(spell, _SLICES_2D))}"
    if tuple(shape) in _SLICES_3D:
        return None
    known = next((known for known in _SLICES_3D if sorted(known) == sorted(shape)), None)
    if known is not None:
        return f"this {kind} slice is spelled {spell(known)}, not {spelled}"
    if min(shape) < 4 or any(size % 4 for size in shape):
        small = ", ".join(map(spell, _SLICES_3D))
        return f"no {kind} slice has the shape {spelled}: there are {small}, and multiples of 4 in all dimensions"
    if list(shape) != sorted(shape):
        return f"{kind} slices are spelled in ascending order: {spell(sorted(shape))}, not {spelled}"
    if math.prod(shape) > largest:
        return f"{spelled} is {math.prod(shape)} chips: the largest {kind} slice has {largest}"
    return None


def spell(shape) -> str:
    """(2, 2, 1) as "2x2x1"."""
    return "x".join(map(str, shape))


def slice_bytes_per_s(kind: str, shape: tuple[int, ...]) -> float:
    """Of `interconnect_bytes_per_s`, what a ring over a slice of a TPU can use, one direction.

    A chip has two links along each dimension. Both serve where the dimension closes to a ring: all of them in 3D slices
    of whole cubes, those of 16 in 2D slices. Along an open line it is one, since the chip at its end has no more; along
    a dimension of size 1 none.
    """
    is_cubes = len(shape) == 3 and all(size % 4 == 0 for size in shape)
    links = 0
    for size in shape:
        is_ring = is_cubes or (len(shape) == 2 and size == _WRAPPED_2D)
        links += 0 if size == 1 else 2 if is_ring else 1
    return CHIPS[kind].interconnect_bytes_per_s * links / (2 * len(shape))
