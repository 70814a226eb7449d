"""The card of an exported student: its numbers, and names that stay names."""

import dataclasses
import functools
import re
import types

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import student_facts

from selw2s_jax.export import card_data, classifier_card, exports, model_card
from selw2s_jax.run import students

NUMBERS = model_card.Numbers(
    records={
        "selective": {
            "accuracy": 0.75,
            "accuracy_low": 0.5,
            "accuracy_high": 0.9,
            "correct": 15,
            "n": 20,
            "pgr": 0.61234,
            "pgr_reason": None,
            "auroc": 0.8,
        }
    },
    p_ik=[
        {"n": 30, "known": 12, "test_task": "arc", "auroc": 0.7, "auroc_low": 0.6, "auroc_high": 0.8},
        {"n": 9, "known": 9, "test_task": "sciq", "auroc": None, "auroc_low": None, "auroc_high": None},
    ],
)


def make_card(facts=student_facts.FACTS, *, numbers=NUMBERS, dtype="float32", **options) -> str:
    """Of a model that transformers does not read."""
    of = model_card.CardOf(transformers_class=None)
    parts = classifier_card.parts(facts, of)
    return model_card.compose(facts, parts, numbers=numbers, dtype=dtype, library=of.library, **options)


def test_card_of_a_qwen_student():
    origin = model_card.Origin(hub_name="Qwen/Qwen-14B", revision="8be28542")
    card = make_card(dtype="bfloat16", origin=origin)
    assert "| made from | `Qwen/Qwen-14B` at `8be28542`; fingerprint `abc` |" in card
    assert "| `selective` | 75.00 | 50.00 to 90.00 | 15 of 20 | 0.612 |" in card
    assert "AUROC 0.700 (95 % interval 0.600 to 0.800)" in card and "AUROC -." in card
    assert "base_model: Qwen/Qwen-14B\n" in card and "transformers.Auto" not in card
    assert "taught by `gpt2` with the method `selective`" in card
    shown = "1 where the answer shown is right"
    assert shown in card
    assert shown not in make_card(dataclasses.replace(student_facts.FACTS, is_plain_text=True))


def test_a_card_of_p_ik_alone_speaks_of_no_teacher():
    facts = dataclasses.replace(student_facts.FACTS, method="p_ik_only", weak="", has_class_head=False)
    numbers = model_card.Numbers({}, [{"train_task": "arc", **NUMBERS.p_ik[1]}])
    card = make_card(facts, numbers=numbers)
    assert "`qwen-14b` with a head for P(IK) alone" in card and "taught by" not in card
    assert "P(IK), trained on questions of `arc`, on 9 questions of `sciq`" in card
    assert "| weak model | none |" in card and "base_model" not in card


def test_a_card_of_a_weak_model_says_whose_truth_it_learnt_where_it_is_another_task():
    facts = dataclasses.replace(student_facts.FACTS, method="weak-1", role="weak")
    assert "The ground truth is" not in make_card(facts) and "learnt" not in facts.to_json()
    other = dataclasses.replace(facts, learnt="arc")
    assert "ground truth is that of another task, `arc`, and `sciq` is what it labelled" in make_card(other)
    assert students.Facts.from_json(other.to_json()) == other


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["sciq", "arc", "boolq"]),
        ({"p_ik": {"task": "arc", "file": "mine.jsonl"}}, ["sciq", "boolq"]),
        ({"data": {"source": "hub", "train_file": "mine.jsonl"}}, []),
        ({"data": {"source": "generated"}}, []),
    ],
)
def test_data_sets_are_those_of_the_hub_that_it_was_trained_or_tested_on(changes, names):
    """P(IK)'s too, whether or not it is tested; none that a user's own file only shares its name with."""
    config = {"data": {"source": "hub"}, "p_ik": {"task": "arc"}} | changes
    student = types.SimpleNamespace(run_config=config, facts=student_facts.FACTS)
    found = exports._datasets(student, model_card.Numbers({}, [{"test_task": "boolq"}]))
    assert list(found) == names and all("/" in hub for hub in found.values())


def test_generated_questions_are_no_result_of_the_data_set_that_they_are_called_by():
    card = make_card(numbers=dataclasses.replace(NUMBERS, is_generated=True))
    assert "The questions were generated" in card and "| `selective` | 75.00 |" in card
    assert "model-index" in make_card() and "model-index" not in card and "generated" not in make_card()


def test_card_without_results():
    card = make_card(numbers=None)
    assert "had no results of this model" in card and "%" not in card


@functools.cache
def plain_card() -> huggingface_hub.ModelCard:
    return huggingface_hub.ModelCard(make_card(dataclasses.replace(student_facts.FACTS, strong="model")))


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text())
def test_names_stay_names_on_a_card(task, base):
    """Whatever a task or model is called, it adds no line to the card and no field to its head."""
    facts = dataclasses.replace(student_facts.FACTS, task=task, strong=base)
    whole = huggingface_hub.ModelCard(make_card(facts))
    head, of_plain = whole.data.to_dict(), plain_card().data.to_dict()
    assert head.keys() == of_plain.keys() and head["tags"] == of_plain["tags"]
    (index,) = head["model-index"]
    assert index["name"] == " ".join(f"selective on {task}, seed 3".split())
    assert index["results"][0]["dataset"]["name"] == (" ".join(task.split()) or "-")
    card, expected = whole.text, plain_card().text
    assert len(card.splitlines()) == len(expected.splitlines())
    # In the title alone a backtick may be escaped.
    untitled = (re.sub("^# .*$", "", text, flags=re.MULTILINE) for text in (card, expected))
    assert len({text.count("`") for text in untitled}) == 1


def test_the_head_of_a_card_is_what_the_hub_reads():
    origin = model_card.Origin(hub_name="Qwen/Qwen2.5-7B", revision="8be28542")
    datasets = {"sciq": "allenai/sciq", "arc": "allenai/ai2_arc"}
    data = huggingface_hub.ModelCard(make_card(origin=origin, datasets=datasets)).data
    assert (data.base_model, data.license) == ("Qwen/Qwen2.5-7B", "apache-2.0")
    assert data.datasets == ["allenai/sciq", "allenai/ai2_arc"] and data.model_name
    found = [
        (one.metric_type, one.metric_name, one.metric_value, one.dataset_type) for one in data.eval_results
    ]
    assert found == [
        ("accuracy", "accuracy", 0.75, "allenai/sciq"),
        ("roc_auc", "AUROC", 0.8, "allenai/sciq"),
        ("roc_auc", "AUROC of P(IK)", 0.7, "allenai/ai2_arc"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai-community/gpt2-xl", "mit"),
        ("Qwen/Qwen2.5-3B", None),
        ("Qwen/Qwen-14B", None),
        ("mine/Qwen2.5-7B", None),
        ("Qwen/Qwen2.5-7B-Instruct", None),  # not of the catalogue
        (None, None),
    ],
)
def test_a_licence_is_said_where_it_is_known(name, expected):
    assert card_data.license_of(name) == expected
