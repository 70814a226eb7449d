"""The stage in which a model rewords questions, and who asks and learns its words."""

import dataclasses
import types

import pytest
from support import written_questions, written_stages

from selw2s_jax.data import answer_tables, paraphrasing, variations, written_tasks
from selw2s_jax.errors import UserError
from selw2s_jax.inference import writing
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import reword, rows, stage, workbench, written

HOW = writing.Answering(max_new_tokens=9, temperature=1.0, seed=5)
SHORT = written_tasks.WrittenTask("rewording", "number", ("Say",), question_form="{text}", header="")
# Of the four questions' variations; the second's first text leaves no room for an answer.
TEXTS = (("What?", "Which?", ""), ("w " * 130, "Who?", "Whose?"), ("", "", ""), ("Why?", "", "How?"))


@pytest.fixture(autouse=True)
def short_prompts(monkeypatch):
    """The models' context has no room for the examples."""
    monkeypatch.setattr(paraphrasing, "TASK", SHORT)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    return written_stages.answered(tmp_path_factory.mktemp("answers"))


def make(asking: written.Write, split=None, count: int = 3, how=HOW) -> reword.Reword:
    reader = written.Untouched(asking.model)
    return reword.make("rewordings", asking.settings, reader, split or asking.split, count, how)


def reworded(asking: written.Write, store: artifacts.Store) -> written.Write:
    """The same questions in the words of `TEXTS`, with the answers of `written_stages.ANSWERS`."""
    rewording = make(asking)
    table = {"example_id": [], "variation": [], "text": []}
    for name, own in zip(asking.split.ids, TEXTS, strict=True):
        for number, text in enumerate(own, 1):
            for values, value in zip(table.values(), (name, number, text), strict=True):
                values.append(value)
    with store.filling(rewording.name, rewording.inputs) as folder:
        if folder is not None:
            artifacts.write_table(folder / paraphrasing.FILE, table)
    plan = [(variations.Variation(),) * 3] * len(asking.split)
    asking = dataclasses.replace(asking, plan=plan, rewording=rewording)
    written_stages.write(store, asking)
    return asking


def test_a_models_words_are_asked_and_learnt(answered, tmp_path, monkeypatch):
    """In the place of each that was not taken, and of all to a question where one leaves no room, is the original."""
    store = artifacts.Store(tmp_path)
    asking = reworded(answered[0], store)
    asked = [[one.text for one in own] for own in asking.read_asked(store).plan]
    assert asked == [["What?", "Which?", None], [None] * 3, [None] * 3, ["Why?", None, "How?"]]
    assert asking.needs == (asking.rewording,) and len(asking.asked) == len(asking.read_asked(store))
    weighted = rows.Weighted(asking.split, asking, "all_variations", {}, "raw", seed=3)
    prompts = dict(zip(*weighted.texts(store)[:2], strict=True))
    assert prompts["tiny_choice/test/0#1"] == "What? A. moon B. iron C. bird ### Answer:"
    assert prompts["tiny_choice/test/0#3"] == asking.split.prompts[0]
    assert prompts["tiny_choice/test/1#1"] == asking.split.prompts[1]
    seen = []
    monkeypatch.setattr(
        writing, "answer_split", lambda folder, held, model, asked, how, **_: seen.append(asked)
    )
    monkeypatch.setattr(written.Write, "hold", lambda *_: None)
    asking.write(tmp_path, types.SimpleNamespace(store=store, partial=lambda stage: None))
    assert seen[0].prompts == asking.read_asked(store).prompts != asking.asked.prompts


def test_keys_name_the_words(answered):
    plain = answered[0]
    plan = [(variations.Variation(),) * 3] * 4
    same = dataclasses.replace(plain, plan=plan)
    other = dataclasses.replace(HOW, seed=6)
    made = [make(plain), make(plain, how=other), make(plain, count=2)]
    asking = [dataclasses.replace(same, rewording=one) for one in (None, *made)]
    assert len({one.key for one in made}) == 3 and len({one.key for one in asking}) == 4
    assert "rewording" not in same.inputs and "code of prompt" not in asking[1].inputs
    truth = [dataclasses.replace(one, answer=2) for one in plain.split.questions]
    assert make(plain, dataclasses.replace(plain.split, questions=truth)).key == made[0].key


def test_questions_without_room_stay_as_they_are(answered):
    split = answered[0].split
    long = dataclasses.replace(split.questions[2], text="word " * 99)
    some = dataclasses.replace(split, questions=[*split.questions[:2], long])
    found = make(answered[0], some)
    found.check()
    assert (found.split.ids, found.left_out, found.detail) == (split.ids[:2], 1, "2 questions, 3 times")
    with pytest.raises(UserError, match=r"none of 1 questions leaves room .* 128 tokens of tiny; lower var"):
        make(answered[0], dataclasses.replace(split, questions=[long]))


@pytest.mark.slow
@pytest.mark.ci
def test_samples_are_the_same_whatever_is_asked_beside_them(answered, tmp_path):
    number = written_questions.make_split(3, written_questions.NUMBER)
    asking = dataclasses.replace(answered[0], split=number, plan=[()] * 3)
    rewording, alone = make(asking), make(asking, number.only([False, True, False]))
    bench = workbench.Workbench(artifacts.Store(tmp_path), tmp_path)
    tables = []
    for one in (rewording, alone):
        bench.make(one)
        tables.append(stage.find(bench.store, one).read_table(paraphrasing.FILE))
    assert tables[0]["variation"].tolist() == [1, 2, 3] * 3 and len({*tables[0]["written"]}) > 6
    assert tables[1]["written"].tolist() == tables[0]["written"][3:6].tolist()
    assert sum(stage.find(bench.store, rewording).read_json("summary.json").values()) == 9
    answers = dataclasses.replace(asking, plan=[(variations.Variation(),) * 3] * 3, rewording=rewording)
    bench.make(answers)
    assert len(stage.find(bench.store, answers).read_table(answer_tables.FILE)["text"]) == 12
