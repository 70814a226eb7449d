"""The stage that reads texts once with an untouched model: what heads, graphs and analyses then all start from."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from selw2s_jax.data import by_id, splits
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import classify, prefix
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import pretrain as pretrain_lib
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import workbench

NAME = "embeddings"
ARRAY_FILE, IDS_FILE = "embeddings.npy", "examples.parquet"


@dataclasses.dataclass(frozen=True, eq=False)
class Embed(stage_lib.Stage):
    """Embeddings of the texts of a split: the model's final hidden state at the last token of each, as heads read it.

    Attributes:
        pretraining: the stage that makes the model, where the run has to make it.
        shares: stages of the same model that have some of the texts; what they have is not read again. They are no
            part of the key: an embedding is a function of its text.
    """

    name = NAME
    settings: settings_lib.Settings
    model: pretrained.Model
    split: splits.Split
    pretraining: pretrain_lib.Pretrain | None = None
    shares: tuple["Embed", ...] = ()

    @property
    def needs(self):
        return (*(() if self.pretraining is None else (self.pretraining,)), *self.shares)

    @property
    def detail(self):
        described = f"{len(self.split)} texts of {self.model.config.embed_dim} numbers"
        return f"{described}, {len(self._unread)} of them new" if self.shares else described

    @property
    def language_model(self):
        return self.model.fingerprint

    @property
    def num_bytes(self):
        return len(self.split) * self.model.config.embed_dim * np.dtype(np.float32).itemsize

    @functools.cached_property
    def inputs(self):
        is_truncated = bool(self.split.is_overlong(self.model).any())
        named = {
            "version": stage_lib.VERSION,
            "model": self.model.fingerprint,
            "texts": self.split.texts_hash,
            "truncated_to": self.model.max_length if is_truncated else None,
            "compute_dtype": self.settings.precision.compute_dtype,
            "openai_pooling": self.settings.openai_pooling,
        }
        return named | {"shares_prefix": True} if self._shares_prefix else named

    @property
    def _shares_prefix(self) -> bool:
        """Whether the shots that all texts begin with are read once; the pooling of openai looks at whole texts."""
        return self.split.prompt == "fewshot" and not self.settings.openai_pooling

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `ARRAY_FILE`, [N, D] float32, and `IDS_FILE` with the example_id of each row."""
        by_text = {text: row for other in self.shares for text, row in other.by_text(bench.store, self.split)}
        if self._unread:
            by_text |= zip(self._unread, self._embed(self._unread, bench), strict=True)
        artifacts.write_array(folder / ARRAY_FILE, np.stack([by_text[text] for text in self.split.texts]))
        artifacts.write_table(folder / IDS_FILE, {"example_id": self.split.ids})

    def by_text(self, store: artifacts.Store, wanted: splits.Split) -> list[tuple[str, np.ndarray]]:
        """Texts that a split has too, with their embeddings [D]; once the stage is finished."""
        array, texts = stage_lib.find(store, self).read_array(ARRAY_FILE), set(wanted.texts)
        return [(text, array[i]) for i, text in enumerate(self.split.texts) if text in texts]

    @functools.cached_property
    def _unread(self) -> list[str]:
        """The texts that no other stage has, each once."""
        shared = {text for other in self.shares for text in other.split.texts}
        return [text for text in dict.fromkeys(self.split.texts) if text not in shared]

    def _embed(self, texts: list[str], bench: workbench.Workbench) -> np.ndarray:
        tokens = dict(zip(self.split.texts, self.split.tokens(self.model), strict=True))
        ids = dict(zip(self.split.texts, self.split.ids, strict=True))
        # What is left to read depends on the other stages of the run, and what is done is kept by number.
        partial = bench.partial(self).part(artifacts.content_hash(texts)[:16])
        named = classify.naming(
            f"the embeddings by {self.model.name}",
            [ids[text] for text in texts],
            "use other weights, or precision.compute_dtype=float32",
        )
        model, chosen = bench.hold_untouched(self.settings, self.model), [tokens[text] for text in texts]
        options = {
            "batch_tokens": self.settings.execution.score_tokens,
            "label": self.label,
            "partial": partial,
        }
        with named:
            if self._shares_prefix:
                return prefix.embed(model, chosen, **options)
            return classify.embed(model, chosen, openai_pooling=self.settings.openai_pooling, **options)


def read(store: artifacts.Store, stages: Sequence[Embed], split: splits.Split) -> np.ndarray:
    """Embeddings [N, D] float32 in the order of a split, joined by example_id from the stages that have them."""
    rows: dict[str, np.ndarray] = {}
    for stage in stages:
        artifact = stage_lib.find(store, stage)
        rows |= zip(artifact.read_table(IDS_FILE)["example_id"], artifact.read_array(ARRAY_FILE), strict=True)
    return by_id.join(rows, split.ids, f"artifact {NAME}/{stages[0].key}")
