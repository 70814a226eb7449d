"""The stage that makes a column of examples by a user's own function."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from selw2s_jax.data import splits
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.stages import own_code, workbench
from selw2s_jax.stages import stage as stage_lib

FILE = "column.parquet"


@dataclasses.dataclass(frozen=True, eq=False)
class Column(stage_lib.Stage):
    """Values of a column by example_id; made once, on process 0, and read by all trainings.

    Attributes:
        column: its name.
        shape: of one example's values.
        make: the function whose code the values are a function of.
        read: calls it for ids, texts and seed, and checks what it returns: `[N, *shape]` float32.
        seed: that it is given.
    """

    name = "columns"
    column: str
    shape: tuple[int, ...]
    make: Callable
    read: Callable[..., np.ndarray]
    split: splits.Split
    seed: int

    @property
    def detail(self):
        return f"{len(self.split)} examples"

    @functools.cached_property
    def inputs(self):
        return {
            "version": stage_lib.VERSION,
            "column": self.column,
            "shape": list(self.shape),
            "texts": self.split.texts_hash,
            "seed": self.seed,
            **own_code.hashes(column=self.make),
        }

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `FILE`: example_id, and value_0, value_1 and so on of each example's values in their order."""
        columns = {"example_id": self.split.ids}

        def make() -> None:
            values = self.read(self.column, self.split.ids, self.split.texts, self.seed)
            for number, column in enumerate(values.reshape(len(values), -1).T):
                columns[f"value_{number}"] = column

        distributed.main_only(make)
        artifacts.write_table(folder / FILE, columns)
