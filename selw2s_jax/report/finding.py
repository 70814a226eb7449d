"""A warning of a report."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a reader has to know before the numbers.

    Attributes:
        method: the model or models that it is about.
        seeds: as text, such as "0, 2".
        observation: what was seen, with the numbers.
        remedy: what to try.
    """

    method: str
    seeds: str
    observation: str
    remedy: str
