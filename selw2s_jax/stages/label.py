"""The stage that asks a user's own source of labels."""

import dataclasses
import functools

from selw2s_jax.data import splits
from selw2s_jax.errors import UserError
from selw2s_jax.method import label_sources
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.stages import own_code, workbench
from selw2s_jax.stages import stage as stage_lib

FILE = "labels.parquet"


@dataclasses.dataclass(frozen=True, eq=False)
class Label(stage_lib.Stage):
    """Labels of a split by example_id.

    Attributes:
        source: name in `label_sources.LABEL_SOURCES`.
        seed: that it is given.
    """

    name = "labels"
    source: str
    split: splits.Split
    seed: int

    @property
    def detail(self):
        return f"{len(self.split)} examples"

    @functools.cached_property
    def inputs(self):
        factory = label_sources.LABEL_SOURCES[self.source]
        return {
            "version": stage_lib.VERSION,
            "source": self.source,
            "texts": self.split.texts_hash,
            "seed": self.seed,
            **own_code.hashes(label_source=factory),
        }

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `FILE`: example_id, prob_1."""
        labels = {}

        def read() -> None:
            try:
                labels["prob_1"] = label_sources.read(
                    self.source, self.split.ids, self.split.texts, self.seed
                )
            except ValueError as error:
                raise UserError(str(error)) from error

        distributed.main_only(read)
        artifacts.write_table(folder / FILE, {"example_id": self.split.ids, **labels})
