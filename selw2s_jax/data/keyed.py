"""Random numbers that are a pure function of a seed and a name.

Row order and row count never enter, so adding, dropping or reordering rows changes no other row's draw.
"""

import hashlib


def keyed_uniform(seed: int, purpose: str, key: str) -> float:
    """A uniform draw in [0, 1), 53 bits, the same on every machine and Python version.

    Args:
        seed: the base seed.
        purpose: what the draw decides (`coin`, `halves`, ...); draws of different purposes are independent.
        key: what it is drawn for, usually an example_id.
    """
    # The text parts are joined with a separator and the length of the purpose, so no two triples collide.
    message = f"{seed}:{len(purpose)}:{purpose}:{key}".encode()
    return (int.from_bytes(hashlib.sha256(message).digest()[:8], "big") >> 11) / 2**53
