"""Label rules: functions that choose the targets of a batch, by name.

A rule sees the whole global batch and the model's present outputs on it, all without gradient, and never
ground truth: supervised training (weak model, ceiling) gives the ground truth as `weak_probs` of its own
batches.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from selw2s_jax.method import factories


class RuleInputs(NamedTuple):
    """What a label rule may use; leading axis E, all examples of the global batch."""

    class_logits: jax.Array  # [E, 2]
    p_ik: jax.Array  # [E] from the P(IK) head; 0.5 where the model has none
    embeddings: jax.Array  # [E, D]
    # [E, ...] float32 by name: what the examples carry, with all that the rule `reads`.
    columns: dict[str, jax.Array]
    example_mask: jax.Array  # [E] bool: task examples that count
    step_fraction: jax.Array  # []

    def with_columns(self, **values: jax.Array) -> "RuleInputs":
        """The same with other columns, as a rule gives them to one that it is made of."""
        return self._replace(columns=self.columns | values)

    @property
    def weak_probs(self) -> jax.Array:
        """`[E, 2]` soft labels of the weak model."""
        return self.columns["weak_probs"]

    @property
    def self_labels(self) -> jax.Array:
        """`[E]` the strong model's own labels, as probabilities of class 1."""
        return self.columns["self_labels"]

    @property
    def given_p_ik(self) -> jax.Array:
        """`[E]` P(IK) scores of an earlier model or a file."""
        return self.columns["given_p_ik"]


class Labels(NamedTuple):
    """What a label rule returns; leading axis E."""

    targets: jax.Array  # [E, 2]
    prior: jax.Array  # [E, 2] before any smoothing
    ik_mask: jax.Array  # [E] bool
    p_ik: jax.Array  # [E] the scores that made the mask
    metrics: dict[str, jax.Array]  # scalars to log
    # [E] bool: the rows that the loss is a mean over, of those that count; None: all of them. Where there is none it is
    # 0. The others' targets are trained on no more than those of padding.
    in_loss: jax.Array | None = None


class WithState(NamedTuple):
    """A label rule that keeps something from step to step, as the weights of several weak models.

    Its state is a pytree of small arrays, whose shapes and dtypes never change. It is part of the training's state:
    whole on every device, saved and restored with the rest. What of it is to be logged a rule puts into
    `Labels.metrics`.

    Attributes:
        init: makes the state before the first step, of the shape of one example's values of each column.
        label: `(inputs, state) -> (labels, the state after this step)`. It is asked once a step, of the whole global
            batch, and all is without gradient.
    """

    init: Callable[[Mapping[str, tuple[int, ...]]], Any]
    label: Callable[[RuleInputs, Any], tuple[Labels, Any]]


LabelRule = Callable[[RuleInputs], Labels] | WithState
# Names of columns, or a function of the factory's options that gives them.
Reads = tuple[str, ...] | Callable[..., tuple[str, ...]]


class Registry(factories.Registry):
    """Factories of functions of `RuleInputs`, each with the names of the columns that its function reads.

    Args:
        kind, built_in: as of any registry.
        reads: where a registration does not say.
    """

    def __init__(self, kind: str, *, reads: Reads, built_in: Sequence[str] = ()):
        super().__init__(kind, sections=factories.RULE_SECTIONS, built_in=built_in)
        self._default = reads
        self._reads: dict[str, Reads] = {}

    def register(self, name: str, *, reads: Reads | None = None, sections: Sequence[str] | None = None):
        """As of any registry.

        Args:
            reads: names of columns, or `reads(**options)` where they depend on the options. It is given those that
                are not left open, also such as are not for it.
        """
        if isinstance(reads, str):
            raise ValueError(f"reads of {self.kind} {name!r} is {reads!r}: give a tuple of names")
        add = super().register(name, sections=sections)

        def add_with_columns(factory):
            added = add(factory)
            self._reads[name] = self._default if reads is None else reads
            return added

        return add_with_columns

    def reads(self, name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The columns that what `make(name, **options)` makes reads, each once.

        Raises:
            KeyError: nothing of that name.
        """
        if name not in self:
            raise KeyError(f"unknown {self.kind} {name!r}; registered: {', '.join(sorted(self))}")
        reads = self._reads.get(name, self._default)
        return tuple(dict.fromkeys(reads(**options) if callable(reads) else reads))


LABEL_RULES = Registry(
    "label rule",
    reads=("weak_probs",),
    built_in=tuple(f"selw2s_jax.method.{name}" for name in ("selection", "controls", "posterior", "raven")),
)
register, reads = LABEL_RULES.register, LABEL_RULES.reads


def get(name: str, **options) -> LabelRule:
    """The label rule registered as `name`, with its options bound.

    Raises:
        KeyError: no label rule of that name.
    """
    return LABEL_RULES.make(name, **options)


def with_state(rule: LabelRule) -> WithState:
    """A label rule as one with a state, which is empty where the rule keeps none."""
    if isinstance(rule, WithState):
        return rule
    return WithState(lambda shapes: (), lambda inputs, state: (rule(inputs), state))


@register("given")
def make_given_rule() -> LabelRule:
    """The labels of the batch as they are."""

    def rule(inputs: RuleInputs) -> Labels:
        weak_probs = inputs.weak_probs.astype(jnp.float32)
        return Labels(weak_probs, weak_probs, jnp.zeros_like(inputs.example_mask), inputs.p_ik, {})

    return rule
