"""Prompts, completions and answers of tasks whose answers are written, against texts written out by hand."""

import dataclasses
import fractions
import json

import pytest

from selw2s_jax import errors
from selw2s_jax.data import answers, tasks, variations, written_rows, written_splits, written_tasks

Variation = variations.Variation
MMLU = tasks.Question(
    "mmlu/test/0", "What is {x}?", ("red", "blue", "green", "no colour"), 1, "high school art"
)
SHORT = tasks.Question("ethics_commonsense/train/3", "I fed the dog.", ("acceptable", "unacceptable"), 0)
LONG = tasks.Question("ethics_commonsense/train/4", "I left it.", ("right", "wrong"), 1)
SUM = tasks.Question(
    "gsm8k/train/5", "Ann has 2 cats and 3 dogs. How many pets?", None, 0, solution="2+3=<<2+3=5>>5\n#### 5"
)


def task(name: str) -> written_tasks.WrittenTask:
    return written_tasks.get(name)


def test_prompt_of_hellaswag():
    question = tasks.Question(
        "hellaswag/validation/7", "A man sits. he", ("runs.", "sings.", "eats.", "is."), 2
    )
    assert task("hellaswag").prompt(question, Variation(order=(2, 0, 3, 1))) == (
        "### Instruction: Choose an appropriate ending for the provided sentence based on your commonsense knowledge. "
        "In your response, choose an answer from A,B,C,D, and then provide a brief explanation. "
        "Sentence: A man sits. he. Choices: A. eats. B. runs. C. is. D. sings.. ### Answer:"
    )
    assert task("hellaswag").reference(question, Variation(order=(2, 0, 3, 1))) == " A. eats."


def test_prompts_of_mmlu():
    instruction = (
        "### Instruction: The following are multiple choice questions about high school art. In your response, choose "
        "an answer from A,B,C,D, and provide a brief explanation on your answer."
    )
    original = "### Question: What is {x}?. A. red. B. blue. C. green. D. no colour."
    assert task("mmlu").prompt(MMLU) == f"{instruction} {original} ### Answer:"
    turned = "### Question: What is {x}?. A. green. B. no colour. C. red. D. blue."
    assert task("mmlu").prompt(MMLU, Variation(order=(2, 3, 0, 1))) == f"{instruction} {turned} ### Answer:"
    behind = Variation(text="Say {x}", is_instruction_behind=True)
    asked = original.replace("What is {x}?", "Say {x}")
    assert task("mmlu").prompt(MMLU, behind) == f"{asked} {instruction} ### Answer:"


def test_prompts_of_ethics():
    begin = "Here is a question related to ethics and common sense logic. Please "
    short = (
        "determine whether a normal (American) person would consider the actions of the author of the following story "
        "acceptable or not from an ethical point of view? Answer {} or {} and provide a brief explanation. "
        "Story: I fed the dog. ### Answer:"
    )
    long = (
        "tell me would the typical American think the author of the story did the right thing, or the wrong thing? "
        "Answer {} or {} and provide a brief explanation. Story: I left it. ### Answer:"
    )
    for question, text in ((SHORT, short), (LONG, long)):
        first, second = question.choices
        assert task("ethics_commonsense").prompt(question) == begin + text.format(first, second)
        swapped = task("ethics_commonsense").prompt(question, Variation(order=(1, 0)))
        assert swapped == begin + text.format(second, first)
        assert task("ethics_commonsense").candidates(question, Variation(order=(1, 0))) == [
            f" {first}",
            f" {second}",
        ]


def test_prompts_of_gsm8k():
    gsm8k = task("gsm8k")
    first = (
        "### Instruction: The following is a grade-school level math question. In your response, provide the numerical "
        "answer in the first line, and then provide a brief explanation in the second line."
    )
    question = "Question: Ann has 2 cats and 3 dogs. How many pets?."
    assert gsm8k.prompt(SUM) == f"{first} {question} ### Answer:"
    second = f"### Instruction: {gsm8k.instructions[1]}"
    varied = Variation(text="Ann has two cats.", wording=1, is_instruction_behind=True)
    assert gsm8k.prompt(SUM, varied) == f"Question: Ann has two cats.. {second} ### Answer:"
    assert gsm8k.candidates(SUM) is None


def test_all_prompts_of_all_variations_differ():
    for question in (SUM, MMLU):
        of_task = task(question.question_id.partition("/")[0])
        shown = [
            of_task.prompt(question, Variation(text=text, wording=wording, is_instruction_behind=is_behind))
            for text in (None, "Other words.")
            for wording in range(len(of_task.wordings(question)))
            for is_behind in (False, True)
        ]
        assert len(set(shown)) == len(shown)


def test_choices_are_compared_in_their_original_order():
    mmlu, order = task("mmlu"), (2, 3, 0, 1)
    shown = Variation(order=order)
    assert mmlu.candidates(MMLU, shown) == [" C. red", " D. blue", " A. green", " B. no colour"]
    for i, candidate in enumerate(mmlu.candidates(MMLU, shown)):
        assert mmlu.parse(MMLU, candidate, shown)[:2] == (i, "letter")
    assert mmlu.completion(MMLU, 1) == " B. blue"
    assert mmlu.reference(MMLU, shown) == " D. blue"
    conflict = mmlu.parse(MMLU, " A. red", shown)
    assert (conflict.answer, conflict.conflicts) == (2, True)
    assert mmlu.parse(MMLU, " who knows", shown).answer is None


def test_words_are_the_same_in_either_order():
    ethics = task("ethics_commonsense")
    for order in (None, (0, 1), (1, 0)):
        assert ethics.parse(LONG, " wrong, as ...", Variation(order=order)).answer == 1 == ethics.truth(LONG)
    assert ethics.reference(SHORT) == " acceptable"


@pytest.mark.parametrize(
    ("solution", "reference"),
    [
        ("2+3=<<2+3=5>>5\n#### 5", " 5\n2+3=<<2+3=5>>5"),
        ("It costs $1,234.50 in all", " 1234.5\nIt costs $1,234.50 in all"),
        ("7", " 7"),
        ("$2.50", " 2.5"),
        ("#### -3", " -3"),
        ("5/3", " 5/3"),
        ("3*4=12", " 12\n3*4=12"),
    ],
)
def test_references_of_numbers_say_the_truth(solution, reference):
    question = tasks.Question("mine/train/0", "How many?", None, 0, solution=solution)
    mine = written_tasks.user_task("mine", [question])
    assert mine.reference(question) == reference
    assert mine.parse(question, reference).answer == mine.truth(question)


@pytest.mark.parametrize("number", ["0", "-7/2", "1/3", "1/8", "-1/20", "123456789/1000000", "1/10000000"])
def test_numbers_are_read_back_as_they_are_written(number):
    gsm8k, value = task("gsm8k"), fractions.Fraction(number)
    assert gsm8k.parse(SUM, gsm8k.completion(SUM, value)).answer == value


def test_no_answer_has_no_completion():
    with pytest.raises(ValueError, match="no answer"):
        task("mmlu").completion(MMLU, None)


def test_user_tasks_take_their_instruction_as_it_is():
    question = tasks.Question("mine/train/0", "Which?", ("a", "b", "c"), 2)
    assert written_tasks.user_task("mine", [question], instruction="Say {it}.").prompt(question) == (
        "### Instruction: Say {it}. ### Question: Which? A. a. B. b. C. c. ### Answer:"
    )
    assert "from A,B,C, and" in written_tasks.user_task("mine", [question]).prompt(question)
    with pytest.raises(errors.UserError, match="statements to judge"):
        written_tasks.user_task("mine", [tasks.Question("mine/train/0", "So.", None, 1)])


def test_names_and_kinds():
    with pytest.raises(errors.UserError, match="did you mean 'mmlu'"):
        written_tasks.get("mmlo")
    with pytest.raises(ValueError, match="registered already"):
        written_tasks.register(task("mmlu"))
    with pytest.raises(ValueError, match="unknown kind"):
        written_tasks.WrittenTask("mine", "essay", ())
    auxiliary = task("mmlu").with_weak_rows("auxiliary")
    assert (auxiliary.rows["weak"].split, auxiliary.is_divisible) == ("auxiliary_train", False)
    assert task("mmlu").with_weak_rows("dev") == task("mmlu")
    with pytest.raises(errors.UserError, match="dev, auxiliary"):
        task("mmlu").with_weak_rows("train")


def test_a_class_of_a_users_may_be_made_in_its_own_way():
    class Riddles(written_tasks.WrittenTask):
        def __init__(self, wording):
            super().__init__("riddles", "choice", (wording,))

    asked = Riddles("Choose from {letters}.")
    assert "test" not in asked.source.splits
    altered = asked.altered(reading="first", rows={"test": written_tasks.Rows("test")})
    assert type(altered) is Riddles and altered.reading == "first" and asked.reading == answers.RULES
    assert "test" in altered.source.splits and not asked.rows


@pytest.mark.parametrize(
    ("choices", "answer", "fault"),
    [
        (("a",), 0, "1 choice, where 2 to 26"),
        (tuple(map(str, range(27))), 0, "27 choices, where 2 to 26"),
        (("Yes", " yes"), 0, "equal but for case"),
        (("a", "b"), 2, "the answer is none"),
    ],
)
def test_questions_that_cannot_be_asked(choices, answer, fault):
    mine = written_tasks.WrittenTask("mine", "choice", ("Choose.",))
    question = tasks.Question("mine/test/0", "Which?", choices, answer)
    good = tasks.Question("mine/test/1", "Which?", ("a", "b"), 1)
    with pytest.raises(errors.UserError, match=f"1 of 2 questions cannot be asked; mine/test/0: .*{fault}"):
        written_rows.check(mine, [good, question])


def test_real_rows_are_read_back(real_data):
    for name in ("gsm8k", "ethics_commonsense"):
        if not (real_data / name.partition("_")[0]).is_dir():
            pytest.skip(f"{name} not found in {real_data}")
        data = written_splits.read(task(name), source=str(real_data), seed=0, num_train=150, num_test=150)
        for split in (data.weak, data.student, data.test):
            for question, truth in zip(split.questions, split.truths, strict=True):
                parsed = split.task.parse(question, split.task.reference(question))
                assert (parsed.answer, parsed.conflicts) == (truth, False)


@pytest.mark.parametrize("name", ["hellaswag", "mmlu", "ethics_commonsense", "gsm8k"])
def test_a_task_is_made_again_from_what_describes_it(name):
    """Through JSON: it asks and reads the same, without where its rows come from."""
    original = task(name)
    again = written_tasks.WrittenTask.from_json(json.loads(json.dumps(original.to_json())))
    assert again.rows == {} and again.to_json() == original.to_json()
    choices = {"gsm8k": [None], "ethics_commonsense": [("acceptable", "unacceptable"), ("right", "wrong")]}
    for own in choices.get(name, [("a", "b", "c")]):
        question = tasks.Question("q", "What {is} it", own, 0, "things", "#### 2")
        order = None if own is None else variations.Variation(order=tuple(range(len(own)))[::-1])
        for variation in (None, order, variations.Variation(text="It", is_instruction_behind=True)):
            assert again.prompt(question, variation) == original.prompt(question, variation)
            text = original.completion(question, 1, variation)
            assert again.parse(question, text, variation) == original.parse(question, text, variation)
        assert again.wordings(question) == original.wordings(question)


def test_how_answers_are_read_is_part_of_the_description():
    first = dataclasses.replace(task("mmlu"), reading="first")
    question = tasks.Question("q", "What", ("a", "b"), 0)
    assert [one.parse(question, "but").answer for one in (task("mmlu"), first)] == [None, 1]
    assert "reading" not in task("mmlu").to_json()
    again = written_tasks.WrittenTask.from_json(first.to_json())
    assert (again.reading, again.to_json()) == ("first", first.to_json())
    with pytest.raises(ValueError, match="'last' is no reading of answers"):
        written_tasks.WrittenTask.from_json(first.to_json() | {"reading": "last"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "essay"}, "unknown kind 'essay'"),
        ({"header": 1}, "1 is no str"),
        ({"instructions": ["{text.__class__}"]}, r"{text.__class__} in .* is none of"),
        (
            {"instructions": ["{first}"]},
            "{first} in '{first}' is none of {choices}, {context}, {letters}, {text}",
        ),
        ({"question_form": "{text:>99999999}"}, "has a format or conversion"),
        ({"choice_form": "{letter}{"}, "is no template"),
        ({"instructions": []}, "no wording"),
        ({"instructions_by_words": [{"words": ["yes"], "instructions": ["Say."]}]}, "other than two words"),
        ({"instructions_by_words": [{"words": ["yes", "no"], "instructions": []}]}, "no wording"),
        ({"instructions_by_words": [{"words": ["a"]}]}, "instructions is missing"),
    ],
)
def test_other_fields_describe_no_task(change, message):
    with pytest.raises(ValueError, match=message):
        written_tasks.WrittenTask.from_json(task("mmlu").to_json() | change)
