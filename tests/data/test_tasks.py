"""Questions to binary examples: formats, conversions, registry."""

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st

from selw2s_jax import errors
from selw2s_jax.data import by_id as by_id_lib
from selw2s_jax.data import tasks

NONE_OF_THE_ABOVE = "None of the above choices ."


def make_questions(num_questions: int, num_choices: int = 4) -> list[tasks.Question]:
    choices = tuple(f"choice {index}" for index in range(num_choices))
    return [
        tasks.Question(f"sciq/train/{row}", f"question {row}?", choices, row % num_choices)
        for row in range(num_questions)
    ]


question_lists = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a", "A", "b", "c", "d e"]), min_size=2, max_size=5), st.integers(0, 4)
    ),
    max_size=7,
).map(
    lambda rows: [
        tasks.Question(f"t/train/{row}", f"q{row}", tuple(choices), answer % len(choices))
        for row, (choices, answer) in enumerate(rows)
    ]
)


@pytest.mark.parametrize(
    ("name", "question", "choice", "expected"),
    [
        ("sciq", tasks.Question("i", "Why?", ("x", "y"), 0), "x", "Q: Why? A: x"),
        ("arc", tasks.Question("i", "Why?", ("x", "y"), 0), "y", "Q: Why? A: y"),
        (
            "boolq",
            tasks.Question("i", "is it so", None, 1, "It is."),
            "",
            "Passage: It is.\nQuestion: is it so",
        ),
        (
            "cosmos_qa",
            tasks.Question("i", "Why ?", ("x", "y"), 0, "A b ."),
            "x",
            "Context: A b .\nQuestion: Why ?\nAnswer: x",
        ),
        (
            "winogrande",
            tasks.Question("i", "Ian ran as _ was late.", ("Ian", "Al"), 0),
            "Al",
            "Ian ran as Al was late.",
        ),
        ("gsm8k", tasks.Question("i", "How many?", None, 0, solution="#### 3"), "", "How many?"),
    ],
)
def test_format(name, question, choice, expected):
    assert tasks.get_task(name).format(question, choice) == expected


def test_instructions_are_the_papers():
    assert tasks.get_task("sciq").instruction == (
        "There is a science knowledge question, followed by an answer. "
        "Respond with 1 if the answer is correct, and with 0 otherwise."
    )
    assert tasks.get_task("boolq").instruction == (
        "There is a passage and a question. Respond with 1 if the answer is yes, and with 0 otherwise."
    )


def test_get_task_offers_the_nearest_name():
    assert tasks.get_task("cosmosqa") is tasks.get_task("cosmos_qa")
    with pytest.raises(errors.UserError, match="did you mean 'sciq'"):
        tasks.get_task("sciqq")
    with pytest.raises(errors.UserError, match=r"unknown task 'zzz' \(known: "):
        tasks.get_task("zzz")


def test_register_refuses_a_taken_name():
    with pytest.raises(ValueError, match="registered already"):
        tasks.register(dataclasses.replace(tasks.get_task("sciq")))


def test_unknown_conversion():
    with pytest.raises(errors.UserError, match="coin, balanced_pair, all"):
        tasks.convert(tasks.get_task("sciq"), [], mode="toss", seed=0)


@hypothesis.given(question_lists, st.sampled_from(tasks.CONVERSIONS), st.integers(0, 2**32))
def test_labels_are_true(questions, mode, seed):
    """A point of label 1 shows the right answer, one of label 0 shows none that equals it ignoring case."""
    by_id = {question.question_id: question for question in questions}
    examples = tasks.convert(tasks.get_task("sciq"), questions, mode=mode, seed=seed)
    assert len({example.example_id for example in examples}) == len(examples)
    for example in examples:
        question = by_id[example.group]
        right = question.choices[question.answer]
        shown = example.text.removeprefix(f"Q: {question.text} A: ")
        assert shown in question.choices
        assert shown == right if example.label else shown.casefold() != right.casefold()


@hypothesis.given(question_lists, st.integers(0, 99))
def test_number_of_points(questions, seed):
    task = tasks.get_task("sciq")
    with_wrong = [question for question in questions if tasks.wrong_choices(question)]
    assert len(tasks.convert(task, questions, mode="coin", seed=seed)) == len(questions)
    pairs = tasks.convert(task, questions, mode="balanced_pair", seed=seed)
    assert len(pairs) == 2 * len(with_wrong)
    assert sum(example.label for example in pairs) == len(with_wrong)
    every = tasks.convert(task, questions, mode="all", seed=seed)
    assert len(every) == sum(1 + len(tasks.wrong_choices(question)) for question in questions)
    assert every == tasks.convert(task, questions, mode="all", seed=seed + 1)


@hypothesis.given(st.data(), st.sampled_from(tasks.CONVERSIONS))
def test_conversion_of_a_question_ignores_the_others(data, mode):
    questions = make_questions(9)
    task = tasks.get_task("sciq")
    full = {example.example_id: example for example in tasks.convert(task, questions, mode=mode, seed=3)}
    some = data.draw(st.permutations(questions))[: data.draw(st.integers(0, 9))]
    for example in tasks.convert(task, some, mode=mode, seed=3):
        assert full[example.example_id] == example


def test_coin_is_fair_and_wrong_choices_are_uniform():
    examples = tasks.convert(tasks.get_task("sciq"), make_questions(4000), mode="coin", seed=11)
    assert abs(sum(example.label for example in examples) / 4000 - 0.5) < 0.04
    wrong = [example.text[-1] for example in examples if not example.label]
    for choice in "0123":
        assert abs(wrong.count(choice) / len(wrong) - 0.25) < 0.05


def test_seeds_differ_and_example_ids_do_not():
    task, questions = tasks.get_task("sciq"), make_questions(64)
    first, second = (tasks.convert(task, questions, mode="coin", seed=seed) for seed in (0, 1))
    assert [example.label for example in first] != [example.label for example in second]
    assert [example.example_id for example in first] == [question.question_id for question in questions]
    assert [example.example_id for example in second] == [question.question_id for question in questions]


def test_true_none_of_the_above_is_never_label_one():
    task = tasks.get_task("cosmos_qa")
    choices = ("a", "b", "c", NONE_OF_THE_ABOVE)
    hidden = [tasks.Question(f"cosmos_qa/train/{row}", "q", choices, 3, "c") for row in range(40)]
    for example in tasks.convert(task, hidden, mode="coin", seed=0):
        assert example.label == 0
        assert NONE_OF_THE_ABOVE not in example.text
    assert tasks.convert(task, hidden, mode="balanced_pair", seed=0) == []
    assert [example.label for example in tasks.convert(task, hidden[:1], mode="all", seed=0)] == [0, 0, 0]

    plain = [tasks.Question(f"cosmos_qa/train/{row}", "q", choices, 0, "c") for row in range(40)]
    shown = [example for example in tasks.convert(task, plain, mode="coin", seed=0) if "None" in example.text]
    assert shown
    assert all(example.label == 0 for example in shown)


@pytest.mark.parametrize("mode", tasks.CONVERSIONS)
def test_yes_no_questions_keep_their_label(mode):
    questions = [tasks.Question(f"boolq/train/{row}", "q", None, row % 2, "p") for row in range(5)]
    examples = tasks.convert(tasks.get_task("boolq"), questions, mode=mode, seed=0)
    assert [example.label for example in examples] == [0, 1, 0, 1, 0]
    assert [example.example_id for example in examples] == [question.question_id for question in questions]


@hypothesis.given(
    st.lists(st.integers(0, 99), max_size=7, unique=True),
    st.sampled_from(tasks.CONVERSIONS),
    st.integers(0, 2**32),
)
def test_a_question_with_a_solution_is_one_example_in_every_mode(rows, mode, seed):
    questions = [
        tasks.Question(f"gsm8k/train/{row}", f"q{row}", None, 0, solution=f"#### {row}") for row in rows
    ]
    assert tasks.convert(tasks.get_task("gsm8k"), questions, mode=mode, seed=seed) == [
        tasks.Example(q.question_id, q.question_id, q.text, 0, q.solution) for q in questions
    ]


@pytest.mark.parametrize("name", ["boolq", "cosmos_qa", "sciq", "gsm8k"])
def test_passages_are_found_in_the_text(name):
    choices = ("A", "text") if name in ("cosmos_qa", "sciq") else None
    context = "A text: of two\nlines." if name in ("boolq", "cosmos_qa") else ""
    questions = [tasks.Question("t/train/0", "A text?", choices, 0, context)]
    for example in tasks.convert(tasks.get_task(name), questions, mode="all", seed=0):
        start, end = example.passage
        assert example.text[start:end] == context
        assert bool(context) == (start > 0)


def test_generated_answers():
    task = tasks.get_task("gsm8k")
    assert task.is_generated and task.stop == ("\n\n",)
    assert task.is_correct("3+4 = 7 apples, so $1,007.00", "1,000+7\n#### 1007")
    assert not task.is_correct("", "#### 0")
    assert [name for name in tasks.TASKS if tasks.get_task(name).is_generated] == ["gsm8k"]


@hypothesis.given(st.text(alphabet="a1# \n\t\r", max_size=30))
def test_no_stop_string_cuts_a_solution_short(text):
    kept = tasks.without_blank_lines(text)
    assert not any(stop in kept for stop in tasks.SOLUTION_STOP)
    assert kept == tasks.without_blank_lines(kept)
    assert kept.split() == text.split()


def test_keyed_uniform():
    # Fixed values: ids, splits and cached answers of earlier runs depend on them.
    assert by_id_lib.keyed_uniform(0, "coin", "sciq/train/0") == 0.5429952895327145
    draws = [by_id_lib.keyed_uniform(7, "p", str(index)) for index in range(3000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(sum(draws) / 3000 - 0.5) < 0.03
    assert by_id_lib.keyed_uniform(1, "a:b", "c") != by_id_lib.keyed_uniform(1, "a", "b:c")
