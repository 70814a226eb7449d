"""Labels that form gives away, and labels that it does not; test questions that are trained on."""

import numpy as np
import pytest

from selw2s_jax.data import giveaways, overlap, sources, tasks
from selw2s_jax.errors import UserError

WORDS = ["stone", "river", "cloud", "the", "a", "of", "runs", "sleeps", "green", "slowly", "under"]


def text(rng, size: int) -> str:
    return " ".join(rng.choice(WORDS, size))


def questions(form, num: int = 120, seed: int = 0) -> list[tasks.Question]:
    """Yes/no questions whose text is a function of generator and label."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num) % 2)
    return [tasks.Question(f"t/{i}", form(rng, label), None, int(label)) for i, label in enumerate(labels)]


def texts_of(found) -> str:
    return " | ".join(map(str, found))


@pytest.mark.parametrize(
    ("form", "words"),
    {
        "longer where true": (lambda rng, y: text(rng, rng.integers(4, 8) + 5 * y), "number of characters alone"),
        "longer where false": (lambda rng, y: text(rng, rng.integers(4, 8) + 5 * (1 - y)), "less where the label"),
        "a length with noise": (lambda rng, y: text(rng, rng.integers(4, 12) + 4 * y), "number of characters alone"),
        "a first word": (lambda rng, y: ("Indeed " if y else "Hardly ") + text(rng, 6), "first word alone"),
        "a last word": (lambda rng, y: text(rng, 6) + (" yes" if y else " no"), "last word alone"),
        "a full stop": (lambda rng, y: text(rng, 6) + "." * y, "last character alone"),
        "a capital": (lambda rng, y: text(rng, 6).capitalize() if y else text(rng, 6), "first letter"),
    }.values(),
)  # fmt: skip
def test_a_form_that_tells_the_label_is_named_with_its_figure(form, words):
    found = texts_of(giveaways.find(questions(form), "mine.csv"))
    assert words in found and "mine.csv: the " in found and "of 120 texts" in found


@pytest.mark.parametrize("num", [24, 60, 400])
def test_chance_gives_no_alarm(num):
    for seed in range(30):
        assert not giveaways.find(questions(lambda rng, y: text(rng, rng.integers(2, 12)), num, seed), "m")


def test_few_rows_say_nothing_and_one_label_says_so():
    assert not giveaways.find(questions(lambda rng, y: "x" * (1 + y), 12), "m")
    (found,) = giveaways.find([tasks.Question("t/0", "a", None, 1)] * 5, "m")
    assert "every label is 1" in found.observation
    assert not giveaways.find([tasks.Question("t/0", "a", None, 0, solution="4")], "m")


def test_choices_that_are_told_by_their_length_or_place():
    rng = np.random.default_rng(0)
    some = []
    for i in range(80):
        choices = [text(rng, 3) for _ in range(4)]
        answer = int(rng.integers(4))
        choices[answer] += " " + text(rng, 4)
        some.append(tasks.Question(f"t/{i}", "why", tuple(choices), answer))
    assert "of 320 choices: AUROC" in texts_of(giveaways.find(some, "m")) and not giveaways.of_places(
        some, "m"
    )
    first = [tasks.Question(f"t/{i}", "why", (text(rng, 3), text(rng, 4)), 0) for i in range(80)]
    assert "index 0 in 80 of 80 questions" in texts_of(giveaways.of_places(first, "m"))


def test_kinds_are_judged_on_the_other_half():
    labels = np.arange(40) % 2
    assert giveaways.accuracy_of_kind([str(label) for label in labels], labels) == 1.0
    assert (
        giveaways.accuracy_of_kind([str(i) for i in range(40)], labels) <= 0.5
    )  # each kind once: nothing is learned
    assert giveaways.accuracy_of_kind(["a"] * 40, np.ones(40, int)) == 1.0


@pytest.mark.parametrize("name", ["sciq", "boolq", "cosmos_qa", "arc", "winogrande"])
def test_real_data_sets_give_no_alarm(real_data, name):
    task = tasks.get_task(name)
    if not (real_data / task.subsets[0].folder).is_dir():
        pytest.skip(f"{name} not found in {real_data}")
    for split in ("train", "test"):
        assert not giveaways.find(sources.load_questions(task, split, source=str(real_data)), name)


# Overlap.

CHOICES = tasks.Task("mine", "", tasks.format_question_answer)


def examples(numbers, *, seed=0, change=lambda text: text, mode="coin") -> list[tasks.Example]:
    asked = [
        tasks.Question(f"t/{seed}/{i}", change(f"Which {i}?"), (f"a{i}", f"b{i}", f"c{i}"), 1)
        for i in numbers
    ]
    return tasks.convert(CHOICES, asked, mode=mode, seed=seed)


@pytest.mark.parametrize("mode", tasks.CONVERSIONS)
@pytest.mark.parametrize("change", [str.upper, lambda text: f" {text}\n", lambda text: text])
def test_questions_are_known_by_question_and_right_answer(mode, change):
    train, test = examples(range(60), mode=mode), examples(range(40, 80), seed=1, change=change)
    assert len(overlap.shared(test, train)) == 20
    kept, note = overlap.settle(train, test, "drop")
    assert len({one.group for one in kept}) == 40 and not overlap.shared(test, kept)
    assert note == "20 of 60 training questions dropped, as the test has them"
    assert overlap.settle(train, test, "note") == (train, None)
    with pytest.raises(
        UserError, match=r"^20 of 40 test questions are among the training questions too: set data"
    ):
        overlap.settle(train, test, "refuse")


def test_a_test_within_the_training_questions_is_refused_unless_it_is_dropped():
    train, test = examples(range(60)), examples(range(10))
    for action in ("note", "refuse"):
        with pytest.raises(UserError, match=r"^10 of 10 test questions"):
            overlap.settle(train, test, action)
    assert len(overlap.settle(train, test, "drop")[0]) == 50
    with pytest.raises(UserError, match="every training question is one of the test's"):
        overlap.settle(train, train, "drop")


@pytest.mark.parametrize("action", overlap.OVERLAPS)
def test_without_overlap_nothing_changes(action):
    train = examples(range(9))
    assert overlap.settle(train, examples(range(9, 20)), action) == (train, None)
    other_answer = [tasks.Question("u/0", "Which 1?", ("a0", "b0"), 0)]
    assert not overlap.shared(tasks.convert(CHOICES, other_answer, mode="coin", seed=3), train)
