"""Which dtype a machine multiplies fastest in, by facts that are the same every time they are asked for.

A measurement of some milliseconds would say now this and now that on a machine with other work, and the keys of stages
have the dtype.
"""

import pathlib

# Instructions that multiply bfloat16 and sum in float32, as XLA's CPU products use them. With them, a product of
# 512x768 with 768x3072 ran at 394 GFLOP/s on two cores of an AMD EPYC, and at 208 in float32.
_CPU_FLAG = "avx512_bf16"
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def compute_dtype(platform: str) -> str:
    """What `precision.compute_dtype=auto` is: bfloat16, but float32 on CPUs that have to emulate it.

    Args:
        platform: of the devices, as JAX names it; "cpu" is this machine.
    """
    return "bfloat16" if platform != "cpu" or _cpu_multiplies_bfloat16() else "float32"


def _cpu_multiplies_bfloat16() -> bool:
    """False also where the processor does not say."""
    try:
        lines = _CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return _CPU_FLAG in flags.partition(":")[2].split()
