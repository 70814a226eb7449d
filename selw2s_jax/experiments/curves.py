"""What models are asked while they are trained, where the config wants curves."""

import ml_collections
import numpy as np

from selw2s_jax.data import splits
from selw2s_jax.experiments import reading
from selw2s_jax.hf import pretrained
from selw2s_jax.stages import curve, examples


def of(
    section: ml_collections.ConfigDict,
    experiment: reading.Reading,
    seed: int,
    model: pretrained.Model,
    *,
    is_student: bool = False,
) -> curve.Curve | None:
    """What one training of an experiment is asked; None where the config wants no curves.

    All are asked about the test set. A student is also asked about rows of its half, whose weak labels it is compared
    with: those held out, and some that it is trained on.

    Args:
        section: `config.evaluation`.
        experiment: with `weak_column(seed, split_name)`, where there are students.
    """
    if not section.every_steps:
        return None
    asked = {"test": "test"}
    if is_student and experiment.inputs.by_seed[seed].held_out is not None:
        asked["held_out"] = "held_out"
    if is_student and section.num_trained:
        asked["trained"] = "student_half"
    found = {}
    for name, split_name in asked.items():
        split = experiment.split(model, seed, split_name)
        if name == "trained":
            split = _some(split, section.num_trained, experiment.seed_for(seed, "split"))
        columns = experiment.embedded(model, seed, split_name)
        if name != "test":
            columns["weak_probs"] = experiment.weak_column(seed, split_name)
        found[name] = examples.Examples(split, columns)
    return curve.Curve(section.every_steps, found)


def _some(split: splits.Split, num_examples: int, seed: int) -> splits.Split:
    """At most that many of the examples of a split, or one question where that has more."""
    if not len(split):  # a plan without data
        return split
    largest = max(np.unique([example.group for example in split.examples], return_counts=True)[1])
    drawn = splits.sample_examples(split.examples, max(num_examples, largest), seed=seed)
    taken = {example.example_id for example in drawn}
    return split.only([example_id in taken for example_id in split.ids])
