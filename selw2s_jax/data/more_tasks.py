"""Tasks by name beside those of the paper: sets that weak-to-strong researchers use, as answers to judge.

Importing this module, which all do that read rows, registers them. Amazon polarity and Anthropic HH have the texts of
openai/weak-to-strong (`weak_to_strong/datasets.py`). The readers of MMLU and HellaSwag are those of the tasks with
written answers too.
"""

from collections.abc import Sequence

from selw2s_jax.data import by_id, tasks

HELLASWAG = {
    "hub_name": "Rowan/hellaswag",
    "hub_revision": "218ec52e09a7e7462a5400043bb9a69a41d06b76",
    "subsets": (tasks.Subset("hellaswag", "hellaswag"),),
    "columns": {"ctx": "string", "endings": "list of strings", "label": "string"},
}
MMLU = {
    "hub_name": "cais/mmlu",
    "hub_revision": "c30699e8356da336a370243923dbaf21066bb9fe",
    "subsets": (tasks.Subset("all", "mmlu/all", "all"),),
    "columns": {
        "question": "string",
        "subject": "string",
        "choices": "list of strings",
        "answer": "integer",
    },
}
_UNKNOWN_SUBJECT = "various subjects"  # of MMLU's auxiliary questions, which are of none


def _choice_parts(context: str, text: str, choices: Sequence[str], answer: int) -> tasks.RowParts:
    if None in choices:
        raise ValueError("a choice is missing")
    if not 0 <= answer < len(choices):
        raise ValueError(f"the answer is {answer}, not one of 0 to {len(choices) - 1}")
    return tasks.RowParts(context, text, tuple(choices), answer)


def read_hellaswag(ctx: str, endings: Sequence[str], label: str) -> tasks.RowParts:
    """A row of HellaSwag: the beginning as the text, without a context."""
    if not label.isdecimal():
        raise ValueError(f"label is {label!r}, no answer (the data set's test split has none)")
    return _choice_parts("", ctx, endings, int(label))


def read_mmlu(question: str, subject: str, choices: Sequence[str], answer: int) -> tasks.RowParts:
    """A row of MMLU, its subject in words as the context."""
    return _choice_parts(subject.replace("_", " ") or _UNKNOWN_SUBJECT, question, choices, answer)


def _read_mmlu_without_subject(
    question: str, subject: str, choices: Sequence[str], answer: int
) -> tasks.RowParts:
    """Questions that are judged do not show it."""
    return read_mmlu(question, subject, choices, answer)._replace(context="")


def _read_polarity(title: str, content: str, label: int) -> tasks.RowParts:
    if label not in (0, 1):
        raise ValueError(f"label is {label}, not 0 or 1")
    return tasks.RowParts("", f"{title} {content}", None, label)


def _read_hh(chosen: str, rejected: str) -> tasks.RowParts:
    """The dialogues as the choices of a question without a text."""
    return tasks.RowParts("", "", (chosen.strip(), rejected.strip()), 0)


def _read_hh_pair(chosen: str, rejected: str) -> tasks.RowParts:
    """Both dialogues in an order that is a function of them alone; the label says whether the first was preferred."""
    pair = (chosen.strip(), rejected.strip())
    is_first = by_id.keyed_uniform(0, "order of a pair", "\n".join(sorted(pair))) < 0.5
    if pair[0] > pair[1]:  # so that the draw says nothing of which was chosen
        is_first = not is_first
    first, second = pair if is_first else pair[::-1]
    return tasks.RowParts("", f"First dialogue:\n{first}\n\nSecond dialogue:\n{second}", None, int(is_first))


def _format_choice(question: tasks.Question, choice: str) -> str:
    del question  # all of it is in the choice
    return choice


def _format_ending(question: tasks.Question, choice: str) -> str:
    return f"{question.text} {choice}"


def _strings(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "string")


_HH = {
    "hub_name": "Anthropic/hh-rlhf",
    "hub_revision": "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
    "subsets": (tasks.Subset("hh-rlhf", "hh-rlhf"),),
    "splits": {"train": "train", "test": "test"},
    "columns": _strings("chosen", "rejected"),
}

tasks.register(
    tasks.Task(
        name="amazon_polarity",
        hub_name="fancyzhx/amazon_polarity",
        subsets=(tasks.Subset("amazon_polarity", "amazon_polarity"),),
        splits={"train": "train", "test": "test"},
        columns=_strings("title", "content") | {"label": "integer"},
        read_row=_read_polarity,
        instruction=tasks.judging_instruction("a review of a product", "it is positive"),
        format=tasks.format_text,
    )
)
tasks.register(
    tasks.Task(
        name="anthropic_hh",
        read_row=_read_hh,
        instruction=tasks.judging_instruction(
            "a dialogue of a human with an assistant", "people preferred it to another one"
        ),
        format=_format_choice,
        **_HH,
    )
)
tasks.register(
    tasks.Task(
        name="anthropic_hh_pairs",
        read_row=_read_hh_pair,
        instruction=tasks.judging_instruction(
            "a pair of dialogues of a human with an assistant", "people preferred the first"
        ),
        format=tasks.format_text,
        **_HH,
    )
)
tasks.register(
    tasks.Task(
        name="mmlu",
        read_row=_read_mmlu_without_subject,
        splits={"train": "auxiliary_train", "test": "test"},
        split_by_context=True,
        instruction=tasks.judging_instruction(
            "a question of an examination, followed by an answer", "the answer is correct"
        ),
        format=tasks.format_question_answer,
        **MMLU,
    )
)
tasks.register(
    tasks.Task(
        name="hellaswag",
        read_row=read_hellaswag,
        splits={"train": "train", "test": "validation"},
        split_by_context=True,
        instruction=tasks.judging_instruction(
            "a description of a scene, followed by how it goes on", "it goes on so"
        ),
        format=_format_ending,
        **HELLASWAG,
    )
)
