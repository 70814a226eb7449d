"""Which variations are asked, by the kind of answers and the settings."""

import dataclasses
import json

import pytest

from selw2s_jax import errors
from selw2s_jax.data import tasks, variation_plans, variations, written_splits, written_tasks

Plan, Variation = variation_plans.Plan, variations.Variation


def split_of(name: str) -> written_splits.WrittenSplit:
    task = written_tasks.get(name)
    choices = {"choice": ("p", "q", "r", "s"), "words": ("right", "wrong"), "number": None}[task.kind]
    questions = [
        tasks.Question(f"{name}/test/{i}", f"Is it {i + 2} apples?", choices, 0, solution="#### 3")
        for i in range(7)
    ]
    return written_splits.WrittenSplit(task, questions)


def test_auto_is_what_suits_the_answers():
    for name, kind in (("mmlu", "permutation"), ("ethics_commonsense", "words"), ("gsm8k", "rules")):
        split = split_of(name)
        found = variation_plans.plan(split, Plan(seed=3))
        assert found == variation_plans.plan(split, Plan(kind=kind, seed=3))
        assert len(found) == 7
        assert all(len(set(of_one)) == len(of_one) == (2 if kind == "words" else 5) for of_one in found)
        assert found != variation_plans.plan(split, Plan(seed=4))
    wordings = {one.wording for of_one in found for one in of_one}
    assert wordings == {0, 1, 2}


def test_plans_do_not_depend_on_other_questions():
    split = split_of("gsm8k")
    part = dataclasses.replace(split, questions=split.questions[::-2])
    assert variation_plans.plan(part, Plan()) == variation_plans.plan(split, Plan())[::-2]


def test_cyclic_orders_show_each_choice_once_at_each_place():
    for of_one in variation_plans.plan(split_of("mmlu"), Plan(count=4, cyclic=True)):
        assert all(sorted(at) == [0, 1, 2, 3] for at in zip(*(one.order for one in of_one), strict=True))


def test_samples_are_the_same_prompt():
    found = variation_plans.plan(split_of("mmlu"), Plan(kind="sampling", count=3))
    assert found == [(Variation(),) * 3] * 7
    assert (
        variation_plans.plan(split_of("gsm8k"), Plan(kind="model", count=3)) == found
    )  # till it is reworded


def test_a_file_of_paraphrases(tmp_path):
    split, path = split_of("gsm8k"), tmp_path / "said.jsonl"
    rows = [{"example_id": name, "paraphrases": [f"{name} a", f"{name} b"]} for name in reversed(split.ids)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = variation_plans.plan(split, Plan(count=2, file=str(path)))
    assert found[3] == (Variation(text="gsm8k/test/3 a"), Variation(text="gsm8k/test/3 b"))
    with pytest.raises(errors.UserError, match=r"variations\.count is 3"):
        variation_plans.plan(split, Plan(kind="file", count=3, file=str(path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Plan(kind="permute"), "choose one of auto, permutation, words, rules, file, model, sampling"),
        (Plan(kind="permutation"), "varies answers of kind choice, and the task's are of kind number"),
        (Plan(kind="file"), "needs variations.file"),
        (Plan(kind="rules", file="x.jsonl"), "reads no variations.file"),
        (Plan(kind="model", file="x.jsonl"), "reads no variations.file"),
        (Plan(cyclic=True), "variations.cyclic is of permutations"),
        (Plan(count=0), "variations.count is 0"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(errors.UserError, match=message):
        variation_plans.plan(split_of("gsm8k"), settings)
