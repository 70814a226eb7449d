"""A student of a finished run, asked by a script: found by name, told what it cannot do."""

import pytest
from support import small_run

import selw2s_jax
from selw2s_jax.run import students
from selw2s_jax.runtime import compilation_cache


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> selw2s_jax.Results:
    return selw2s_jax.load_run(small_run.workdir(tmp_path_factory.getbasetemp()))


def test_a_student_is_found_and_asked(results):
    student = results.student(method="selective")  # of the one task and seed
    assert repr(student) == "Student(task='sciq', method='selective', seed=0)"
    questions = [
        "Q: what? A: this",
        {"question": "what?", "answer": "this"},
        {"question": "a", "choices": ["b", "c"]},
    ]
    first, second, *of_choices = student.predict(questions)
    assert first["text"] == second["text"] and first["prob_1"] == second["prob_1"]
    assert [one["example_id"] for one in of_choices] == ["sciq/input/2:0", "sciq/input/2:1"]
    for one in (first, *of_choices):
        assert one["class"] == (one["prob_1"] > 0.5) and 0 < one["p_ik"] < 1
        assert one["prob_0"] + one["prob_1"] == pytest.approx(1, abs=1e-6)
    assert student.predict([]) == []
    (of_weak,) = results.student("sciq", "weak", 0).predict(questions[:1])
    assert of_weak["p_ik"] is None and of_weak["text"] == first["text"]


def test_questions_that_are_none_are_refused(results, monkeypatch):
    monkeypatch.setattr(compilation_cache, "enable", lambda: pytest.fail("device work"))
    student = results.student(method="ceiling")
    for questions, message in (
        ("Q: what? A: this", "give a list"),
        ([{"answer": "this"}], "question 0: has no text"),
        (["Q", 3], "question 1: is of type int"),
        ([{"text": "a", "example_id": "x"}, {"text": "b", "example_id": "x"}], "also that of question 0"),
    ):
        with pytest.raises(selw2s_jax.UserError, match=message):
            student.predict(questions)
    with pytest.raises(selw2s_jax.UserError, match="variations is not for models of class_head"):
        results.student(method="ceiling", variations=3)


def test_folders_that_are_gone_are_named_as_arguments(results, tmp_path):
    student = selw2s_jax.Student(
        students.find(results.workdir, task="sciq", method="selective", seed=0), tokenizer=tmp_path / "gone"
    )
    with pytest.raises(selw2s_jax.UserError, match="files with tokenizer="):
        student.predict(["a"])
