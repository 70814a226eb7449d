"""Everything a run reads whose models write, found and checked before any device work."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from selw2s_jax.data import doubts, variation_plans, variations, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs as inputs_lib
from selw2s_jax.experiments import written_data
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing
from selw2s_jax.method import completion_methods
from selw2s_jax.worlds import world

_OVERLONG = "longer than the context with room for an answer"


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that the stages read; attributes are those of `inputs.Inputs`, but for these.

    Attributes:
        by_seed: the questions of each base seed, by role.
        plans: by base seed, the variations of the student's questions.
    """

    weak: pretrained.Model
    strong: pretrained.Model
    by_seed: dict[int, written_splits.WrittenData]
    plans: dict[int, list[tuple[variations.Variation, ...]]]
    recipes: dict[str, world.Recipe]
    notes: tuple[str, ...]
    is_papers_data: bool
    warnings: tuple[doubts.Doubt, ...] = ()

    @property
    def models(self) -> tuple[pretrained.Model, ...]:
        """Both, the strong one last."""
        return (self.weak, self.strong)

    @property
    def test(self) -> written_splits.WrittenSplit:
        """The test questions, which all seeds share."""
        return next(iter(self.by_seed.values())).test


def prepare(config: ml_collections.ConfigDict, workdir, *, notes: Sequence[str] = ()) -> Inputs:
    """Finds, reads and checks every input.

    Args:
        notes: of the config, which come before those of what is read.

    Raises:
        UserError: the first thing that is wrong.
    """
    found = written_data.read(config, workdir)
    recipes = inputs_lib.make_recipes(config, workdir)
    weak, strong = inputs_lib.named(
        config, [inputs_lib.find_model(config, role, recipes, workdir) for role in ("weak", "strong")]
    )
    notes = [*notes, *found.notes, *inputs_lib.notes_on_models(config, (weak, strong))]
    for model in (weak, strong):
        writing.check_ends(model.tokenizer)
    by_seed, plans, dropped = vary(config, found.by_seed, weak, strong)
    notes += dropped
    return Inputs(
        weak,
        strong,
        by_seed,
        plans,
        recipes,
        notes=tuple(dict.fromkeys(notes)),
        is_papers_data=found.is_papers_data,
        warnings=tuple(found.doubts),
    )


def vary(
    config: ml_collections.ConfigDict,
    by_seed: dict[int, written_splits.WrittenData],
    weak: pretrained.Model,
    strong: pretrained.Model,
):
    """The questions of each base seed that the models which read them have room for, and their variations.

    Returns:
        `by_seed` and `plans` as of `Inputs`, and what was left out, in words.

    Raises:
        UserError: one has no room, and must have.
    """
    fitted, plans, notes = {}, {}, []
    asked = {name for data in by_seed.values() for name in data.student.ids}
    for seed, data in by_seed.items():
        plan = variation_plans.plan(data.student, written_data.variation_settings(config, seed, asked))
        fitted[seed], plans[seed], dropped = _fit(config, data, plan, weak, strong)
        notes += dropped
    return fitted, plans, notes


def _fit(config, data: written_splits.WrittenData, plan, weak: pretrained.Model, strong: pretrained.Model):
    """Leaves out, or refuses, questions that a model which reads them has no room for.

    What is too long is left out for all models at once, so that all students share their questions. Test questions are
    refused: a student that cannot be asked has no answer.
    """
    originals = lambda split: [()] * len(split)  # noqa: E731
    # The strong one answers the weak model's questions where P(IK) is learnt of that.
    of_weak = (weak, strong) if completion_methods.use_p_ik(config.methods) else (weak,)
    readers = {
        "weak": (of_weak, originals(data.weak)),
        "student": ((weak, strong), plan),
        "test": ((weak, strong), originals(data.test)),
    }
    kept, notes = {}, []
    for role, (models, of_role) in readers.items():
        split = getattr(data, role)
        most = config.answers.max_new_tokens or split.task.max_new_tokens
        most = (role == "test" and config.answers.test_max_new_tokens) or most
        how = writing.Answering(by=config.answers.by, max_new_tokens=most)
        is_long = np.any([writing.too_long(model, split, of_role, how) for model in models], axis=0)
        if is_long.any():
            first = split.ids[int(np.flatnonzero(is_long)[0])]
            what = f"{role}: {is_long.sum()} of {len(split)} questions are {_OVERLONG} (first: {first})"
            if config.data.overlong == "error" or role == "test" or is_long.all():
                raise UserError(f"{what}; {_remedies(config, role, bool(is_long.all()))}")
            notes.append(f"{what}: dropped")
        kept[role] = ~is_long
    fitted = written_splits.WrittenData(
        **{role: getattr(data, role).only(keep) for role, keep in kept.items()}
    )
    plan = [of_one for of_one, keep in zip(plan, kept["student"], strict=True) if keep]
    return fitted, plan, notes


def _remedies(config: ml_collections.ConfigDict, role: str, are_all: bool) -> str:
    is_own = role == "test" and config.answers.test_max_new_tokens
    shorter = f"lower answers.{'test_' if is_own else ''}max_new_tokens, "
    shorter = "" if config.answers.by == "score" else shorter
    dropped = "" if role == "test" or are_all else "set data.overlong=drop, "
    return f"{shorter}{dropped}or choose models with a longer context"
