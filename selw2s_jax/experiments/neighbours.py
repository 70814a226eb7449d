"""The column of smoothing over a whole set: whose labels are averaged, and the stage that does it."""

from collections.abc import Mapping

import ml_collections

from selw2s_jax.data import splits
from selw2s_jax.experiments import teachers
from selw2s_jax.method import method_options, objectives, registry
from selw2s_jax.stages import embed, examples, smoothed


def column(
    config: ml_collections.ConfigDict,
    seed: int,
    name: str,
    split: splits.Split,
    named: Mapping[str, examples.Column],
    embedded: embed.Embed,
) -> smoothed.Neighbours:
    """The mean labels of neighbours in the student's half: of those that the rule chooses, where it does so once.

    Else they are of the weak labels, or what the method's teacher has in their place.

    Args:
        name: of the method.
        split: the student's half.
        named: the other columns of its examples.
        embedded: its texts, by the model as it was pretrained.
    """
    objective = objectives.without_smoothing(
        objectives.make_objective(config, method_options.applied(config, name))
    )
    is_fixed = objective is not None and not any(one.by_step for one in named.values())
    prior = smoothed.Chosen(objective, dict(named)) if is_fixed else named["weak_probs"]
    # Of weak labels they are the same for all methods, and one stage.
    is_by_weak = registry.METHODS[name].teacher == teachers.WEAK
    whose = "weak labels" if is_by_weak and not is_fixed else f"labels of {name}"
    graph = {key: value for key, value in config.graph.items() if key not in ("alpha", "over")}
    means = smoothed.Means(f"means of neighbours' {whose}, seed {seed}", split, prior, embedded, graph)
    return smoothed.Neighbours(means)
