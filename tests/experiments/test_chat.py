"""`fewshot.chat` in a run: which splits are asked so, what is noted, and that keys change where it is on alone."""

import dataclasses
import types

import pytest
from support import tiny_config

from selw2s_jax.data import chat, splits, tasks
from selw2s_jax.experiments import inputs
from selw2s_jax.hf import chat_files
from selw2s_jax.stages import answer

pytest.importorskip("jinja2", reason="install the chat extra")
TEMPLATE = chat.Template("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>", ())
STRONG = types.SimpleNamespace(name="models/x-instruct", title="x-instruct", tokenizer=None, fingerprint="f")


def split() -> splits.Split:
    rows = [tasks.Example(f"sciq/test/{i}", f"sciq/test/{i}", f"Q: {i}? A: {i}", i % 2) for i in range(3)]
    return splits.Split(rows[2:], tasks.TASKS["sciq"], "fewshot", rows[:2])


def stage(asked: splits.Split) -> answer.Answer:
    settings = types.SimpleNamespace(precision=types.SimpleNamespace(compute_dtype="float32"))
    return answer.Answer("answers", settings, STRONG, asked)


def test_splits_are_asked_by_the_template_of_the_strong_model(monkeypatch):
    monkeypatch.setattr(
        chat_files, "choose", lambda *given: TEMPLATE if given[:2] == ("auto", "x-instruct") else None
    )
    by_seed = {0: splits.SeedData(None, split(), split(), None, None)}
    off, no_notes = inputs._with_chat(tiny_config.make_config(), by_seed, STRONG)
    assert off is by_seed and not no_notes
    config = tiny_config.make_config(fewshot__chat="auto", strong__model="x-instruct")
    on, notes = inputs._with_chat(config, by_seed, STRONG)
    assert on[0].test.chat == on[0].student_half.chat == TEMPLATE and on[0].p_ik is None
    assert "chat template of x-instruct (fewshot.chat=auto)" in notes[0]
    assert on[0].test.texts == by_seed[0].test.texts  # what classifiers read is as it was
    (prompt,) = on[0].test.few_shot_prompts()
    instruction = tasks.TASKS["sciq"].instruction
    assert (
        prompt
        == f"<user>{instruction}\n\nQ: 0? A: 0<assistant>0<user>Q: 1? A: 1<assistant>1<user>Q: 2? A: 2<assistant>"
    )


def test_the_template_is_in_the_key_of_answers_where_it_is_used():
    plain, chatting = split(), dataclasses.replace(split(), chat=TEMPLATE)
    assert "chat" not in stage(plain).inputs and stage(plain).inputs == stage(split()).inputs
    assert (
        stage(chatting).inputs["chat"] and stage(chatting).inputs["prompts"] != stage(plain).inputs["prompts"]
    )
    # The same prompts by another template may have answers of another form.
    other = dataclasses.replace(chatting, chat=dataclasses.replace(TEMPLATE, text=TEMPLATE.text + "{# #}"))
    assert stage(other).inputs["prompts"] == stage(chatting).inputs["prompts"]
    assert stage(other).inputs["chat"] != stage(chatting).inputs["chat"]
