"""How a trained model is asked, by the form of supervision that it is of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.predict import classifiers, predictions, summary, tables, written


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        prepare: (student, input, options) -> what is asked, with `notes`, before any device work.
        answer: (what is asked, what models around earlier students said) -> a record of each question.
        columns: records -> those of a table.
        summarize: (what is asked, records) -> lines for people.
        flags: of the command that are its options, all of which may be None.
        asker: (student, options) -> questions of a script -> a record of each.
        options: of the asker.
    """

    prepare: Callable[..., Any]
    answer: Callable[[Any, dict], list[dict[str, Any]]]
    columns: Callable[[list[dict[str, Any]]], tables.Columns]
    summarize: Callable[[Any, list[dict[str, Any]]], list[str]]
    flags: tuple[str, ...]
    asker: Callable[..., Callable[[Sequence[str | Mapping[str, Any]]], list[dict[str, Any]]]]
    options: tuple[str, ...]


FORMS = {
    "class_head": Form(
        predictions.prepare,
        predictions.answer,
        predictions.columns_of,
        lambda asked, records: summary.of_classes(records, asked.labels, gamma=asked.config.p_ik.gamma),
        ("base", "tokenizer", "weak_base", "weak_tokenizer"),
        classifiers.Asker,
        ("base", "tokenizer"),
    ),
    "completion": Form(
        written.prepare,
        written.answer,
        written.columns_of,
        lambda asked, records: summary.of_written(records),
        ("base", "tokenizer", "variations"),
        written.asker,
        ("base", "tokenizer", "variations"),
    ),
}
