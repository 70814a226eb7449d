"""The calibration of labels: what it reads and writes, the columns made of it, and how these join their examples."""

import dataclasses

import numpy as np
import pytest
from scipy import special

from selw2s_jax.data import splits, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.inference import answering
from selw2s_jax.method import calibration as method
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import calibrated, calibration, examples, predict, workbench
from selw2s_jax.stages import stage as stage_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Table(stage_lib.Stage):
    """A finished stage with a table, as predictions and answers are."""

    name = "tables"
    file: str
    split: splits.Split
    values: dict[str, np.ndarray]

    @property
    def inputs(self):
        return {"label": self.label}

    def write(self, folder, bench):
        order = np.random.default_rng(0).permutation(len(self.split))  # another than the split's
        columns = {name: values[order] for name, values in self.values.items()}
        artifacts.write_table(folder / self.file, {"example_id": np.array(self.split.ids)[order]} | columns)


def make_split(prefix: str, labels) -> splits.Split:
    rows = [
        tasks.Example(f"{prefix}/{i}", f"{prefix}/{i // 2}", f"text {i}", int(y))
        for i, y in enumerate(labels)
    ]
    return splits.Split(rows, tasks.TASKS["sciq"], "bare", ())


def predictions(label: str, split: splits.Split, prob_1=None, p_ik=None) -> Table:
    values = {} if p_ik is None else {"p_ik": p_ik.astype(np.float32)}
    if prob_1 is not None:
        values |= {"prob_0": (1 - prob_1).astype(np.float32), "prob_1": prob_1.astype(np.float32)}
    return Table(label, predict.FILE, split, values)


class World:
    """Labels and scores of 301 rows of the weak half, 201 questions of P(IK) and 37 of the student's half."""

    def __init__(self, store_folder):
        rng = np.random.default_rng(4)
        self.weak_half = make_split("weak", rng.integers(0, 2, 301))
        self.log_odds = 2 * rng.standard_normal(301) + np.where(self.weak_half.labels, 1, -1)
        fold = splits.folds(self.weak_half.examples, 3, seed=0)
        probs = special.expit(self.log_odds)
        folds = tuple(
            predictions(f"fold {number}", self.weak_half.only(fold == number), probs[fold == number])
            for number in range(3)
        )
        self.questions = make_split("p_ik", rng.integers(0, 2, 201))
        self.p_ik, self.right = rng.random(201), rng.random(201) < 0.7
        answered = np.where(self.right, self.questions.labels, 1 - self.questions.labels)
        answers = Table(
            "answers",
            answering.FILE,
            self.questions,
            {"prob_1": np.where(answered, 0.9, 0.2).astype(np.float32)},
        )
        scores = predictions("scores", self.questions, p_ik=self.p_ik)
        self.stage = calibration.Calibrate(
            "calibration", self.weak_half, folds, 0.0, 5, scores, answers, self.questions
        )
        self.half = make_split("half", np.zeros(37))
        self.half_probs, self.half_p_ik = rng.random(37), rng.random(37)
        self.weak_labels = predictions("weak labels", self.half, self.half_probs)
        self.half_scores = predictions("P(IK)", self.half, p_ik=self.half_p_ik)
        self.store = artifacts.Store(store_folder)
        self.bench = workbench.Workbench(self.store, store_folder)
        for stage in (*stage_lib.in_order([self.stage]), self.weak_labels, self.half_scores):
            self.bench.make(stage)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("calibration"))


def test_the_numbers_are_those_of_the_fits(made):
    fitted, content = calibration.read(made.store, made.stage)
    assert fitted.weak_slope == pytest.approx(
        method.fit_weak_slope(made.log_odds, made.weak_half.labels), rel=1e-5
    )
    assert (fitted.p_ik_intercept, fitted.p_ik_slope) == pytest.approx(
        method.fit_p_ik(made.p_ik.astype(np.float32), made.right), rel=1e-5
    )
    assert fitted.constant_reliability == made.right.mean()
    for kind, num in (("weak", 301), ("p_ik", 201)):
        described = content[kind]
        assert described["n"] == num == sum(one["n"] for one in described["bins_after"])
        assert described["log_loss_after"] < described["log_loss_before"]
    # The mean reliability is the share that is right: the fit has an intercept.
    after = [one["n"] * one["mean_score"] for one in content["p_ik"]["bins_after"]]
    assert sum(after) / 201 == pytest.approx(made.right.mean(), abs=1e-3)


def test_the_scores_are_kept_by_example(made):
    table = stage_lib.find(made.store, made.stage).read_table(calibration.SCORES_FILE)
    of_weak = table["kind"] == "weak"
    assert list(table["example_id"][of_weak]) == made.weak_half.ids
    np.testing.assert_array_equal(
        table["right"][of_weak], (made.log_odds > 0) == made.weak_half.labels.astype(bool)
    )
    np.testing.assert_allclose(table["before"][of_weak], special.expit(np.abs(made.log_odds)), rtol=1e-5)
    np.testing.assert_array_equal(table["right"][~of_weak], made.right)
    np.testing.assert_allclose(table["before"][~of_weak], made.p_ik, rtol=1e-6)


def test_without_folds_weak_labels_are_as_they_are(made):
    stage = dataclasses.replace(made.stage, folds=())
    assert stage.key != made.stage.key and stage.fit_key != made.stage.fit_key
    assert "weak_labels" not in stage.inputs
    made.bench.make(stage)
    fitted, content = calibration.read(made.store, stage)
    assert fitted.weak_slope == 1 and content["weak"] is None
    assert fitted.p_ik_slope == calibration.read(made.store, made.stage)[0].p_ik_slope


def test_turned_labels_are_calibrated_as_students_get_them(made):
    stage = dataclasses.replace(made.stage, noise=0.4)
    made.bench.make(stage)
    turned, plain = (calibration.read(made.store, one)[0].weak_slope for one in (stage, made.stage))
    assert turned < 0.5 * plain


def test_more_folds_than_questions_are_refused(made):
    few = dataclasses.replace(made.stage, weak_half=made.weak_half.only(np.arange(301) < 4))
    with pytest.raises(
        UserError, match=r"calibration\.folds=3 is more than the 2 questions of the weak half"
    ):
        few.check()
    made.stage.check()


def test_columns_are_what_the_fits_make_of_labels(made):
    fitted = calibration.read(made.store, made.stage)[0]
    weak = calibrated.WeakLogOdds(made.stage, examples.WeakLabels(made.weak_labels, 0.0, 0))
    reliable = calibrated.Reliability(made.stage, examples.Scores(made.half_scores))
    w, p = (column.read(made.half, made.store) for column in (weak, reliable))
    np.testing.assert_allclose(w, fitted.weak_slope * special.logit(made.half_probs), rtol=1e-4, atol=1e-5)
    expected = special.expit(fitted.p_ik_intercept + fitted.p_ik_slope * special.logit(made.half_p_ik))
    np.testing.assert_allclose(p, expected, rtol=1e-4)
    choice = calibrated.ChoiceByConfidence(weak, reliable).read(made.half, made.store)
    np.testing.assert_array_equal(choice, np.clip(expected, 0.02, 0.98) > special.expit(np.abs(w)))
    constant = calibrated.ConstantReliability(made.stage).read(made.half, made.store)
    np.testing.assert_array_equal(constant, np.full(37, fitted.constant_reliability, np.float32))
    numbers = calibrated.PIKCalibration(made.stage).read(made.half, made.store)
    np.testing.assert_allclose(numbers, [[fitted.p_ik_intercept, fitted.p_ik_slope]] * 37, rtol=1e-6)


def test_shuffled_values_are_exchanged_by_ids_alone(made):
    scores = examples.Scores(made.half_scores)
    plain = scores.read(made.half, made.store)
    shuffled = calibrated.Shuffled(scores, 3).read(made.half, made.store)
    assert sorted(shuffled) == sorted(plain) and np.sum(shuffled == plain) < 9
    order = np.random.default_rng(1).permutation(37)
    other = dataclasses.replace(made.half, examples=[made.half.examples[i] for i in order])
    np.testing.assert_array_equal(calibrated.Shuffled(scores, 3).read(other, made.store), shuffled[order])
    assert not np.array_equal(calibrated.Shuffled(scores, 4).read(made.half, made.store), shuffled)


def test_folds_are_whole_questions_of_about_equal_number(made):
    fold = splits.folds(made.weak_half.examples, 7, seed=2)
    groups = [example.group for example in made.weak_half.examples]
    assert (
        len({(group, number) for group, number in zip(groups, fold, strict=True)}) == len(set(groups)) == 151
    )
    assert np.ptp(np.bincount(fold)) <= 4 and set(fold) == set(range(7))
    order = np.random.default_rng(1).permutation(301)
    again = splits.folds([made.weak_half.examples[i] for i in order], 7, seed=2)
    np.testing.assert_array_equal(again, fold[order])
    assert not np.array_equal(splits.folds(made.weak_half.examples, 7, seed=3), fold)
