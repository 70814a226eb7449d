"""The stage that asks any model, trained or not, for answers that are written; see `inference.writing`."""

import dataclasses
import functools
from typing import NamedTuple

from selw2s_jax.data import answers, written_splits
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import own_code, workbench
from selw2s_jax.stages import pretrain as pretrain_lib
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib

# Raised when the code changes what it computes, how a text is parsed too, so that older artifacts are no longer found.
_VERSION = 1


class Untouched(NamedTuple):
    """A model as it was pretrained.

    Attributes:
        pretraining: the stage that makes it, where the run has to make it.
    """

    model: pretrained.Model
    pretraining: pretrain_lib.Pretrain | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Write(stage_lib.Stage):
    """Answers by example_id and variation.

    Attributes:
        reader: the model that is asked, untouched; or the stage that trains it, which has its pretrained `model` and
            gives the trained one by `hold(bench)`.
        split: of the questions; its truth is not looked at.
        plan: the variations of each question, besides its original prompt.
        how: they are answered.
        rewording: the `reword.Reword` whose texts take the place of those in the plan, which has the original prompts
            then; None for the plan as it is.
    """

    name = "written"
    settings: settings_lib.Settings
    reader: Untouched | stage_lib.Stage
    split: written_splits.WrittenSplit
    plan: writing.Plan
    how: writing.Answering
    rewording: stage_lib.Stage | None = None

    @property
    def model(self) -> pretrained.Model:
        """The pretrained model that it is, or was trained from."""
        return self.reader.model

    @property
    def needs(self):
        reader = self.reader if self._is_trained else self.reader.pretraining
        return tuple(stage for stage in (reader, self.rewording) if stage is not None)

    @property
    def _is_trained(self) -> bool:
        return isinstance(self.reader, stage_lib.Stage)

    @property
    def detail(self):
        return f"{len(self.asked)} prompts"

    @property
    def language_model(self):
        return None if self._is_trained else self.model.fingerprint

    @functools.cached_property
    def asked(self) -> writing.Asked:
        """What is asked; with `rewording` as many prompts, but `read_asked` has their texts."""
        return writing.Asked(self.split, self.plan)

    def read_asked(self, store: artifacts.Store) -> writing.Asked:
        """What is asked, once the stages that it needs have run.

        A question whose rewordings leave no room for an answer is asked in its original prompt in their place.
        """
        if self.rewording is None:
            return self.asked
        plan = self.rewording.read_plan(store, self.split)
        is_long = writing.too_long(self.model, self.split, plan, self.how)
        chosen = zip(self.plan, plan, is_long, strict=True)
        return writing.Asked(self.split, [old if long else new for old, new, long in chosen])

    def check(self):
        writing.check(self.model, self.asked, self.how)

    @functools.cached_property
    def inputs(self):
        asked, task, eos_ids = self.asked, self.split.task, self.model.tokenizer.eos_ids
        shown = [
            [question.choices for question in self.split.questions],
            [[variation.order for variation in own] for own in self.plan],
        ]
        named = {
            "version": _VERSION,
            "model": self.reader.key if self._is_trained else self.model.fingerprint,
            "compute_dtype": self.settings.precision.compute_dtype,
            "prompts": artifacts.content_hash([asked.places, asked.example_ids, asked.prompts]),
            "parsed": {
                "kind": task.kind,
                "choices": artifacts.content_hash(shown),
                # By default it is not named, so that older artifacts are still found.
                **({} if task.reading == answers.RULES else {"reading": task.reading}),
            },
            **own_code.hashes(parse=type(task).parse),
        }
        if self.rewording is not None:
            named |= {"rewording": self.rewording.key, **own_code.hashes(prompt=type(task).prompt)}
        if self.how.is_scored:
            of_text = writing.end_of_text(self.model.tokenizer)
            return named | {"candidates": artifacts.content_hash(asked.candidates), "end_of_text": of_text}
        return named | {"sampling": dataclasses.asdict(self.how.sampling(eos_ids))}

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `answer_tables.FILE` and a summary."""
        writing.answer_split(
            folder,
            self.hold(bench),
            self.model,
            self.read_asked(bench.store),
            self.how,
            batch_tokens=self.settings.execution.score_tokens,
            label=self.label,
            partial=bench.partial(self),
        )

    def hold(self, bench: workbench.Workbench) -> decoder.Decoder:
        """The model on the devices with its language-model head; a `LanguageModel` where it was trained."""
        if self._is_trained:
            return self.reader.hold(bench)
        return bench.hold_untouched(self.settings, self.model, answers=True)
