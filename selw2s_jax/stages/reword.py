"""The stage in which a model writes questions in other words, in which others are asked (`written.Write`)."""

import dataclasses
import functools
import json

from selw2s_jax.data import paraphrasing, variations, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.inference import answering, writing
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import workbench, written

# Raised when `paraphrasing` changes which texts are taken, so that older artifacts are no longer found.
_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Reword(written.Write):
    """Questions in other words: samples of one prompt, asked and kept as answers are; `make` gives it its questions.

    Attributes:
        left_out: how many questions leave no room for that, and stay as they are.
    """

    name = "reworded"
    left_out: int = 0

    @property
    def count(self) -> int:
        """N, the texts to a question."""
        return 1 + len(self.plan[0])

    @property
    def detail(self):
        return f"{len(self.split)} questions, {self.count} times"

    @functools.cached_property
    def inputs(self):
        return super().inputs | {"rewording_version": _VERSION}

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `paraphrasing.FILE` and a summary, the number of each outcome."""
        language_model = self.hold(bench)
        with answering.naming(self.model.name, self.asked.example_ids, language_model):
            found = writing.answer(
                language_model,
                self.model.tokenizer,
                self.asked,
                self.how,
                batch_tokens=self.settings.execution.score_tokens,
                label=self.label,
                partial=bench.partial(self),
            )
        originals = [question.text for question in self.split.questions]
        columns = paraphrasing.make_table(
            self.split.ids, originals, self._by_question(found.texts), self._by_question(found.finish)
        )
        artifacts.write_table(folder / paraphrasing.FILE, columns)
        counts = paraphrasing.count(columns["outcome"])
        artifacts.write_text(folder / "summary.json", json.dumps(counts, indent=1) + "\n")
        reasons = paraphrasing.describe(counts)
        print(f"  {counts[paraphrasing.KEPT]} of {len(self.asked)} are taken{reasons and f'; {reasons}'}")

    def _by_question(self, values: list[str]) -> list[list[str]]:
        return [values[i : i + self.count] for i in range(0, len(values), self.count)]

    def read_plan(
        self, store: artifacts.Store, split: written_splits.WrittenSplit
    ) -> list[tuple[variations.Variation, ...]]:
        """The variations of questions, once it has run; the original prompt in the place of what was not taken."""
        found = paraphrasing.by_question(stage_lib.find(store, self).read_table(paraphrasing.FILE))
        as_it_was = [""] * self.count
        return [
            tuple(variations.Variation(text=text or None) for text in found.get(name, as_it_was))
            for name in split.ids
        ]


def make(
    label: str,
    settings: settings_lib.Settings,
    reader: written.Untouched,
    split: written_splits.WrittenSplit,
    count: int,
    how: writing.Answering,
) -> Reword:
    """The stage for the questions of a split, as far as the model has room to write them anew.

    Args:
        reader: the model that rewords.
        count: N, the texts to a question.
        how: they are sampled.

    Raises:
        UserError: it has room for none.
    """
    asked = dataclasses.replace(split, task=paraphrasing.TASK)
    samples = [(variations.Variation(),) * (count - 1)]
    is_long = writing.too_long(reader.model, asked, samples * len(asked), how)
    if len(asked) and is_long.all():
        raise UserError(
            f"{label}: none of {len(asked)} questions leaves room for its rewording in the "
            f"{reader.model.config.max_seq_len} tokens of {reader.model.name}; lower variations.max_new_tokens, set "
            "variations.role to the other one, or choose variations.kind=rules"
        )
    fitting = asked.only(~is_long)
    return Reword(label, settings, reader, fitting, samples * len(fitting), how, left_out=int(is_long.sum()))
