"""Which of a model's texts take a question's place, and the table that they are kept in."""

import pytest

from selw2s_jax.data import paraphrasing, tasks
from selw2s_jax.runtime import artifacts

ORIGINAL = "Ann has 12 figs and eats 3. How many are left?"
SAID = "After 3 of Ann's 12 figs are eaten, how many remain?"


@pytest.mark.parametrize(
    ("written", "finish", "outcome"),
    [
        (f" {SAID}", "eos", "kept"),
        (f" {SAID}\nAnswer: 9", "length", "kept"),  # what was cut off is behind it
        (f" {SAID} ### Text: Tom", "stop", "kept"),
        (f" {SAID}", "length", "unfinished"),
        (" \n", "eos", "empty"),
        (" ?!", "eos", "empty"),
        (" How many of Ann's dozen figs are left when she eats 3?", "eos", "numbers"),
        (" Of 12 figs Ann eats 3. How many of the 9 are left?", "eos", "numbers"),
        (" Ann eats 3 of her 12 figs.", "eos", "no_question"),
        (" 12 figs, 3 eaten?", "eos", "short"),
        (" ann has 12 figs, and eats 3 -- how many are left ?", "eos", "same"),
        (f" {SAID} {'Well, how many? ' * 9}", "eos", "long"),
    ],
)
def test_what_is_taken(written, finish, outcome):
    text = SAID if outcome == "kept" else ""
    assert paraphrasing.choose(ORIGINAL, [written], [finish]) == [(text, outcome)]


@pytest.mark.parametrize(
    ("original", "written", "outcome"),
    [
        ("Tom had twelve apples and ate three.", "Tom owned ten apples and ate five.", "numbers"),
        ("Tom had twelve apples and ate three.", "Tom owned 12 apples, of which he ate three.", "kept"),
        ("Has one of the two apples gone?", "Is an apple of the two gone?", "kept"),
        ("What is the capital of France?", "Paris?", "short"),
        ("Who wrote this book?", paraphrasing._SHOTS[1][1], "shown"),
        (paraphrasing._SHOTS[1][0], paraphrasing._SHOTS[1][0], "same"),
    ],
)
def test_what_is_taken_of_other_texts(original, written, outcome):
    assert paraphrasing.choose(original, [written], ["eos"])[0][1] == outcome


def test_each_text_is_taken_once():
    found = paraphrasing.choose(ORIGINAL, [SAID, SAID.upper(), ORIGINAL, ORIGINAL], ["eos"] * 4)
    assert [outcome for _, outcome in found] == ["kept", "repeated", "same", "same"]


def test_lines_stay_where_the_original_has_some():
    two = "I lied.\nShe knew."
    assert paraphrasing.choose(two, ["I told a lie.\nShe was aware."], ["eos"]) == [
        ("I told a lie.\nShe was aware.", "kept")
    ]
    assert paraphrasing.choose("I lied.", ["I told a lie.\nShe was aware."], ["eos"])[0][0] == "I told a lie."


def test_what_models_are_shown_would_be_taken():
    for original, said in paraphrasing._SHOTS:
        assert paraphrasing._fault(original, said, {}) == "kept"
    asked = paraphrasing.TASK.prompt(tasks.Question("q/1", "Is {this} it?", None, 0))
    assert asked.count("\n### Text: ") == len(paraphrasing._SHOTS) + 1
    assert asked.endswith("\n### Text: Is {this} it?\n### In other words:")


def test_a_table_is_read_by_question(tmp_path):
    written = [[SAID, "?"], [f"{SAID} Well?", SAID]]
    columns = paraphrasing.make_table(["b", "a"], [ORIGINAL] * 2, written, [["eos"] * 2] * 2)
    order = [2, 1, 0, 3]
    mixed = {name: [values[i] for i in order] for name, values in columns.items()}
    artifacts.write_table(tmp_path / paraphrasing.FILE, mixed)
    assert paraphrasing.by_question(mixed) == {"a": [f"{SAID} Well?", SAID], "b": [SAID, ""]}
    counts = paraphrasing.count(columns["outcome"])
    assert {name: n for name, n in counts.items() if n} == {"kept": 3, "empty": 1}
    assert paraphrasing.describe(counts) == "1 have no text"
