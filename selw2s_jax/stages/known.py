"""What P(IK) is trained on where answers are written: questions that the untouched strong model answers or does not."""

import dataclasses

import numpy as np

from selw2s_jax.inference import writing
from selw2s_jax.stages import examples, written


@dataclasses.dataclass(frozen=True, eq=False)
class IsRight(examples.Column):
    """Targets of P(IK) `[N]`, 1 where the answer to the original prompt is right; one that says nothing is not.

    Attributes:
        answers: the stage that has them.
    """

    answers: written.Write

    @property
    def needs(self):
        return (self.answers,)

    @property
    def inputs(self):
        return {"p_ik_answers": self.answers.key}

    def read(self, split, store):
        given = [own[0] for own in writing.read_answers(store, self.answers, split)]
        is_right = [a is not None and a == truth for a, truth in zip(given, split.truths, strict=True)]
        print(f"  {sum(is_right)} of {len(is_right)} answers that P(IK) is trained on are right")
        return np.array(is_right, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Questions(examples.Examples):
    """Questions of a `WrittenSplit`, read by their original prompts, with the column `ik_target`."""

    @property
    def inputs(self):
        return {
            "p_ik_texts": self.split.texts_hash,
            "p_ik_truth": self.split.truth_hash,
            **self.columns["ik_target"].inputs,
        }
