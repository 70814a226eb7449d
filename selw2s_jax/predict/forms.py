"""How a trained model is asked, by the form of supervision that it is of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.predict import predictions, written


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        write: (student, input, output, options) -> the records that were written.
        flags: of the command that are its options, all of which may be None.
        asker: (student, options) -> questions of a script -> a record of each.
        options: of the asker.
    """

    write: Callable[..., list[dict[str, Any]]]
    flags: tuple[str, ...]
    asker: Callable[..., Callable[[Sequence[str | Mapping[str, Any]]], list[dict[str, Any]]]]
    options: tuple[str, ...]


FORMS = {
    "class_head": Form(
        predictions.write,
        ("base", "tokenizer", "weak_base", "weak_tokenizer"),
        predictions.Asker,
        ("base", "tokenizer"),
    ),
    "completion": Form(
        written.write,
        ("base", "tokenizer", "variations"),
        written.Asker,
        ("base", "tokenizer", "variations"),
    ),
}
