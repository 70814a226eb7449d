"""The four tasks of Reliability-Aware Alignment (arXiv 2406.19032, Appendices A and B), and where their rows are.

Importing this module registers them. Prompts are worded as the paper words them; the authors' code has others for some
of its steps.
"""

from selw2s_jax.data import more_tasks, tasks, written_tasks

# Stories of ETHICS are of one or two sentences, or of paragraphs; where a copy of the data set does not say which
# (`is_short`), this many characters part them.
LONGEST_SHORT_STORY = 185

_SHORT_WORDS, _LONG_WORDS = ("acceptable", "unacceptable"), ("right", "wrong")
_ETHICS_SHORT = (
    "Here is a question related to ethics and common sense logic. Please determine whether a normal (American) person "
    "would consider the actions of the author of the following story acceptable or not from an ethical point of view? "
    "Answer {first} or {second} and provide a brief explanation.",
)
_ETHICS_LONG = (
    "Here is a question related to ethics and common sense logic. Please tell me would the typical American think the "
    "author of the story did the right thing, or the wrong thing? "
    "Answer {first} or {second} and provide a brief explanation.",
)


def _read_ethics(label: int, story: str, is_short: bool | None) -> tasks.RowParts:
    if label not in (0, 1):
        raise ValueError(f"label is {label}, not 0 or 1")
    if is_short is None:
        is_short = len(story) <= LONGEST_SHORT_STORY
    return tasks.RowParts("", story, _SHORT_WORDS if is_short else _LONG_WORDS, label)


written_tasks.register(
    written_tasks.WrittenTask(
        name="hellaswag",
        kind="choice",
        instructions=(
            "Choose an appropriate ending for the provided sentence based on your commonsense knowledge. In your "
            "response, choose an answer from {letters}, and then provide a brief explanation.",
        ),
        question_form="Sentence: {text}. Choices: {choices}.",
        choice_form="{letter}. {choice}",
        rows={
            "weak": written_tasks.Rows("train", limit=5000),
            "student": written_tasks.Rows("validation", (0, 2), 5000),
            "test": written_tasks.Rows("validation", (1, 2), 5000),
        },
        read_row=more_tasks.read_hellaswag,
        **more_tasks.HELLASWAG,
    )
)
written_tasks.register(
    written_tasks.WrittenTask(
        name="mmlu",
        kind="choice",
        instructions=(
            "The following are multiple choice questions about {context}. In your response, choose an answer from "
            "{letters}, and provide a brief explanation on your answer.",
        ),
        question_form="### Question: {text}. {choices}",
        rows={
            "weak": written_tasks.Rows("dev"),
            "student": written_tasks.Rows("validation"),
            "test": written_tasks.Rows("test"),
        },
        weak_rows={
            "dev": written_tasks.Rows("dev"),
            "auxiliary": written_tasks.Rows("auxiliary_train"),
        },
        has_equal_choices=True,
        read_row=more_tasks.read_mmlu,
        **more_tasks.MMLU,
    )
)
# The hub's validation split is the paper's test (cm_test), and its test split the harder cm_test_hard, which no role
# reads; its copy has no is_short. Folders of the original files have cm_test as test.
written_tasks.register(
    written_tasks.WrittenTask(
        name="ethics_commonsense",
        kind="words",
        instructions=_ETHICS_SHORT,
        instructions_by_words={_SHORT_WORDS: _ETHICS_SHORT, _LONG_WORDS: _ETHICS_LONG},
        header="",
        question_form="Story: {text}",
        rows={
            "weak": written_tasks.Rows("train", (0, 2)),
            "student": written_tasks.Rows("train", (1, 2)),
            "test": written_tasks.Rows("validation"),
        },
        trial_splits=("test",),
        hub_name="hendrycks/ethics",
        hub_revision="refs/convert/parquet",
        hub_parquet=True,
        subsets=(tasks.Subset("commonsense", "ethics/commonsense", "commonsense"),),
        columns={"label": "integer", "input": "string"},
        optional_columns={"is_short": "true/false"},
        read_row=_read_ethics,
    )
)
_GSM8K = tasks.TASKS["gsm8k"]
written_tasks.register(
    written_tasks.WrittenTask(
        name="gsm8k",
        kind="number",
        instructions=(
            "The following is a grade-school level math question. In your response, provide the numerical answer in "
            "the first line, and then provide a brief explanation in the second line.",
            "Solve the following grade-school level math question. Write the answer as a number in the first line, and "
            "explain it briefly in the second line.",
            "Here is a math question of grade-school level. Give the numerical answer in the first line of your "
            "response, and a brief explanation of it in the second line.",
        ),
        question_form="Question: {text}.",
        rows={
            "weak": written_tasks.Rows("train", (0, 2)),
            "student": written_tasks.Rows("train", (1, 2)),
            "test": written_tasks.Rows("test"),
        },
        hub_name=_GSM8K.hub_name,
        hub_revision=_GSM8K.hub_revision,
        subsets=_GSM8K.subsets,
        columns=_GSM8K.columns,
        read_row=_GSM8K.read_row,
    )
)
