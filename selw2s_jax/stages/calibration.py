"""The stage that fits what weak labels and the strong model's own labels are weighed by; see `method.calibration`.

It sees the ground truth of the weak half and of held-out questions of P(IK), and of no other split.
"""

import dataclasses
import functools
import json
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from selw2s_jax.analysis import calibration as numbers
from selw2s_jax.data import splits
from selw2s_jax.errors import UserError
from selw2s_jax.inference import answering
from selw2s_jax.method import calibration
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import answer, examples, predict, workbench
from selw2s_jax.stages import stage as stage_lib

FILE, SCORES_FILE = "calibration.json", "scores.parquet"
WEAK, P_IK = "weak", "p_ik"  # the kinds of scores

# Raised when the names in its files change and what is fitted does not, so that older artifacts are no longer found.
_FORM = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Calibrate(stage_lib.Stage):
    """The fitted numbers, and the scores that they were fitted to.

    Attributes:
        weak_half: split of the weak model, with its ground truth.
        folds: predictions on the parts of the weak half, each by a weak model that was trained on the others; none
            leaves weak labels as they are.
        noise, noise_seed: of the weak labels that students get, which the calibrated ones have too.
        scores: P(IK) of held-out questions.
        answers: the strong model's few-shot answers to them.
        questions: those, with their ground truth.
    """

    name = "calibration"
    weak_half: splits.Split
    folds: tuple[predict.Predict, ...]
    noise: float
    noise_seed: int
    scores: predict.Predict
    answers: answer.Answer
    questions: splits.Split

    @property
    def needs(self):
        return (*self.folds, self.scores, self.answers)

    @property
    def detail(self):
        of_weak = f"{len(self.weak_half)} weak labels, " if self.folds else ""
        return f"{of_weak}{len(self.questions)} answers"

    def check(self):
        groups = {example.group for example in self.weak_half.examples}
        if len(groups) < len(self.folds):
            raise UserError(
                f"config.calibration.folds={len(self.folds)} is more than the {len(groups)} questions of the weak "
                "half: lower it, or set calibration.weak=none"
            )

    @functools.cached_property
    def inputs(self):
        return self._fitted_to | {"form": _FORM}

    @functools.cached_property
    def fit_key(self) -> str:
        """The name of what is fitted, for the inputs of what is made of it: the form of the files is none of these."""
        return artifacts.artifact_key(self.name, self._fitted_to)

    @functools.cached_property
    def _fitted_to(self) -> dict[str, Any]:
        named: dict[str, Any] = {
            "version": stage_lib.VERSION,
            "p_ik": self.scores.key,
            "p_ik_answers": self.answers.key,
            "p_ik_labels": self.questions.labels_hash,
        }
        if self.folds:
            named |= {"weak": [fold.key for fold in self.folds], "weak_labels": self.weak_half.labels_hash}
            named |= {"noise": self.noise, "noise_seed": self.noise_seed} if self.noise else {}
        return named

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `FILE`, the numbers, and `SCORES_FILE`, scores of each kind before and after.

        Those of weak labels are the probabilities of their own class.
        """
        scores = [self._p_ik(bench.store), *([self._weak(bench.store)] if self.folds else [])]
        of_weak = [one for one in scores if one.kind == WEAK]
        p_ik = scores[0]
        fitted = calibration.Fitted(
            of_weak[0].fitted[0] if of_weak else 1.0, *p_ik.fitted, float(np.mean(p_ik.right))
        )
        described = {one.kind: numbers.describe(one.before, one.after, one.right) for one in scores}
        content = fitted._asdict() | {WEAK: None} | described
        artifacts.write_text(folder / FILE, json.dumps(content, indent=1) + "\n")
        columns = {
            "example_id": [name for one in scores for name in one.example_id],
            "kind": [one.kind for one in scores for _ in one.example_id],
            **{
                column: np.concatenate([getattr(one, column) for one in scores])
                for column in ("before", "after", "right")
            },
        }
        artifacts.write_table(folder / SCORES_FILE, columns)
        print(f"  {_in_words(fitted)}")

    def _p_ik(self, store: artifacts.Store) -> "Scores":
        questions = self.questions
        p_ik = stage_lib.read_column(store, self.scores, predict.FILE, "p_ik", questions).astype(np.float64)
        if questions.task.is_generated:
            right = stage_lib.read_column(store, self.answers, answering.FILE, "right", questions) > 0.5
        else:
            prob_1 = stage_lib.read_column(store, self.answers, answering.FILE, "prob_1", questions)
            right = (prob_1 > 0.5) == questions.labels.astype(bool)
        intercept, slope = calibration.fit_p_ik(p_ik, right)
        fitted = calibration.Fitted(1.0, intercept, slope, 0.5)
        return Scores(
            P_IK, questions.ids, p_ik, calibration.reliability(p_ik, fitted), right, (intercept, slope)
        )

    def _weak(self, store: artifacts.Store) -> "Scores":
        probs = np.empty((len(self.weak_half), 2), np.float32)
        place = {name: row for row, name in enumerate(self.weak_half.ids)}
        for fold in self.folds:
            rows = [place[name] for name in fold.split.ids]
            for column in range(2):
                probs[rows, column] = stage_lib.read_column(
                    store, fold, predict.FILE, f"prob_{column}", fold.split
                )
        probs = examples.turn_labels(probs, self.weak_half.ids, self.noise, seed=self.noise_seed)
        log_odds = calibration.class_log_odds(probs)
        labels = self.weak_half.labels.astype(bool)
        scale = calibration.fit_weak_slope(log_odds, labels)
        confidence = np.abs(log_odds)
        return Scores(
            WEAK,
            self.weak_half.ids,
            special.expit(confidence),
            special.expit(scale * confidence),
            (log_odds > 0) == labels,
            (scale,),
        )


class Scores(NamedTuple):
    """Scores of one kind, before and after calibration, and what was fitted to them."""

    kind: str
    example_id: list[str]
    before: np.ndarray
    after: np.ndarray
    right: np.ndarray
    fitted: tuple[float, ...]


def read(store: artifacts.Store, stage: Calibrate) -> tuple[calibration.Fitted, dict[str, Any]]:
    """What a finished calibration has fitted, and all that it says of it: the numbers of `FILE` by name."""
    content = stage_lib.find(store, stage).read_json(FILE)
    return calibration.Fitted(*(content[name] for name in calibration.Fitted._fields)), content


def _in_words(fitted: calibration.Fitted) -> str:
    return (
        f"weak log-odds times {fitted.weak_slope:.3f}; own labels are right with sigmoid("
        f"{fitted.p_ik_intercept:.3f} + {fitted.p_ik_slope:.3f} log-odds of P(IK)), {fitted.constant_reliability:.1%} "
        "of all"
    )
