"""The stage that asks the untouched strong language model, few-shot; see `inference.answering`."""

import dataclasses
import functools

from selw2s_jax.data import splits
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import answering, generate
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import own_code, workbench
from selw2s_jax.stages import pretrain as pretrain_lib
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib

# Raised when the code changes what it computes, so that older artifacts are no longer found: of answers by their
# probability, and of those that are written, where it counts as well how a task judges them.
_VERSION = 2
_WRITTEN_VERSION = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Answer(stage_lib.Stage):
    """Few-shot answers by example_id.

    Attributes:
        split: of the questions.
        sampling: of answers that are written at length, without the strings and tokens that end one; None where
            the probability of the answer 1 is asked for.
        pretraining: the stage that makes the model, where the run has to make it.
    """

    name = "answers"
    settings: settings_lib.Settings
    model: pretrained.Model
    split: splits.Split
    sampling: generate.Settings | None = None
    pretraining: pretrain_lib.Pretrain | None = None

    @property
    def needs(self):
        return () if self.pretraining is None else (self.pretraining,)

    @property
    def detail(self):
        return f"{len(self.split)} prompts"

    @property
    def language_model(self):
        return self.model.fingerprint

    def check(self):
        max_new_tokens = 0 if self.sampling is None else self.sampling.max_new_tokens
        answering.check_prompts(self.model, self.split, max_new_tokens)

    @functools.cached_property
    def inputs(self):
        named = {
            "version": _VERSION,
            "model": self.model.fingerprint,
            "compute_dtype": self.settings.precision.compute_dtype,
            "prompts": self.split.prompts_hash,
        }
        if self.split.chat is not None:
            named["chat"] = artifacts.content_hash(dataclasses.asdict(self.split.chat))
        if self.sampling is None:
            return named
        named |= {
            "version": _WRITTEN_VERSION,
            "sampling": dataclasses.asdict(self._ending),
            "solutions": self.split.solutions_hash,
        }
        return named | own_code.hashes(judge=self.split.task.is_correct)

    @property
    def _ending(self) -> generate.Settings:
        """The sampling, with what ends an answer."""
        return dataclasses.replace(
            self.sampling, stop=self.split.few_shot.stop, eos_ids=self.model.tokenizer.eos_ids
        )

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `answering.FILE` and a summary."""
        answering.answer_split(
            folder,
            self.hold(bench),
            self.model,
            self.split,
            None if self.sampling is None else self._ending,
            batch_tokens=self.settings.execution.score_tokens,
            label=self.label,
            partial=bench.partial(self),
        )

    def hold(self, bench: workbench.Workbench) -> decoder.Decoder:
        """The language model on the devices."""
        return bench.hold_untouched(self.settings, self.model)
