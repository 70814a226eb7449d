"""What models are asked while they are trained, where the config wants curves."""

from typing import Any

from selw2s_jax.data import splits
from selw2s_jax.hf import pretrained
from selw2s_jax.stages import curve, examples


def of(
    experiment: Any, seed: int, model: pretrained.Model, *, is_student: bool = False
) -> curve.Curve | None:
    """The curve of a training of an experiment; None where the config asks for none.

    Every model is asked about the test set. A student is also asked about rows of its half, whose weak labels it is
    compared with: those held out, and some that it is trained on.
    """
    section = experiment.config.evaluation
    if not section.every_steps:
        return None
    asked = {"test": _examples(experiment, seed, model, "test")}
    if is_student and experiment.inputs.by_seed[seed].held_out is not None:
        column = experiment.weak_column(seed, "held_out")
        asked["held_out"] = _examples(experiment, seed, model, "held_out", weak_probs=column)
    if is_student and section.num_trained:
        column = experiment.weak_column(seed)
        asked["trained"] = _examples(experiment, seed, model, "student_half", weak_probs=column)
        half, split_seed = asked["trained"].split, experiment.seed_for(seed, "split")
        drawn = splits.sample_examples(half.examples, section.num_trained, seed=split_seed)
        asked["trained"].split = half.of(drawn)
    return curve.Curve(section.every_steps, asked)
