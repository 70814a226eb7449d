"""Worlds whose answers are written: facts disjoint by role, text that solves none that is asked, right sums."""

import collections
import fractions
import itertools
import re

import numpy as np
import pytest

from selw2s_jax import config as config_lib
from selw2s_jax.data import text_rows, variation_plans, written_splits, written_tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import tokenizers
from selw2s_jax.worlds import toy_world, world, written_world


def written_config(task: str, **changes):
    config = config_lib.default_config()
    written_world.settings(config, task)
    config.world.update({"seed": 3, "num_entities": 403} | changes)
    return config


def make(task: str, **changes) -> written_world.WrittenWorld:
    return world.make(world.world_config(written_config(task, **changes)))


@pytest.fixture(scope="module")
def choices():
    return make("world_choice")


@pytest.fixture(scope="module")
def sums():
    return make("world_addition")


def facts(made, questions):
    """The facts that questions depend on, (property, entity) -> whether it holds; and how often each is named."""
    found, counts = {}, collections.Counter()
    for question in questions:
        (name,) = set(question.text.split()) & set(made.properties)
        assert len(set(question.choices)) == 4
        for place, entity in enumerate(question.choices):
            found[name, entity] = place == question.answer
            counts[name, entity] += 1
    return found, counts


def solved(texts):
    """(question, its four choices, answer) of the solved problems among texts."""
    form = (
        r"### Instruction: Choose the right answer \. ### Question: (.*\?) A\. (\w+) B\. (\w+) C\. (\w+) D\. (\w+) "
        r"### Answer: ([A-D])\. (\w+) <\|endoftext\|>"
    )
    for text in texts:
        if match := re.fullmatch(form, text):
            question, *names, letter, answer = match.groups()
            assert names["ABCD".index(letter)] == answer
            yield question, names, answer


def test_one_of_four_of_like_rank_has_the_property(choices):
    rank = {name: i for i, name in enumerate(choices.names)}
    for role, questions in choices.questions("world_choice").items():
        found, counts = facts(choices, questions)
        assert len(questions) > 80
        for (name, entity), holds in found.items():
            assert choices.facts[rank[entity], choices.properties.index(name)] == holds
            assert counts[name, entity] == 1 or not holds  # one that holds is asked once
        spread = [np.ptp([rank[entity] for entity in question.choices]) for question in questions]
        assert np.median(spread) < 120, role  # among the nearest that lack it, of a few in a hundred
        assert [question.question_id for question in questions] == [
            f"world_choice/{role}/{row}" for row in range(len(questions))
        ]


def test_facts_are_of_one_role_and_the_text_solves_none_of_them(choices):
    by_role = [set(facts(choices, one)[0]) for one in choices.questions("world_choice").values()]
    texts = list(itertools.islice(choices.documents(0), 4000))
    shown = {
        (name, entity)
        for question, names, _ in solved(texts)
        for name in [question.split()[2]]
        for entity in names
    }
    assert len(shown) > 300
    for one, other in itertools.combinations([*by_role, shown], 2):
        assert not one & other
    # Asked facts are told as plain statements.
    told = {(name, entity) for name, entity, _ in told_facts(texts)}
    assert all(len(one & told) > 0.5 * len(one) for one in by_role)


def told_facts(texts):
    for text in texts:
        if match := re.fullmatch(r"who is (\w+) \? (.*) \.", text):
            yield from ((match[1], *fact.split()) for fact in match[2].split(" , "))
        elif match := re.fullmatch(r"([A-Z]\w+) : (.*) \.", text):
            for fact in match[2].split(" , "):
                name, answer = fact.split()
                yield name, match[1], answer


def test_the_text_tells_the_truth_in_the_form_of_the_task(choices):
    rank = {name: i for i, name in enumerate(choices.names)}
    texts = list(itertools.islice(choices.documents(1), 3000))
    told, problems = list(told_facts(texts)), list(solved(texts))
    for name, entity, answer in told:
        assert choices.facts[rank[entity], choices.properties.index(name)] == (answer == "1")
    for question, names, answer in problems:
        column = choices.properties.index(question.split()[2])
        assert [bool(choices.facts[rank[name], column]) for name in names] == [
            name == answer for name in names
        ]
    assert len(told) > 5000 and len(problems) > 500
    statements = [text for text in texts if not text.startswith("###")]
    assert len(statements) + len(problems) == len(texts)
    assert max(len(text.split()) for text in texts) <= toy_world.LONGEST_DOCUMENT
    task = written_tasks.get("world_choice")
    question = choices.questions("world_choice")["test"][0]
    ((text, names, answer),) = solved([f"{task.prompt(question)}{task.reference(question)} <|endoftext|>"])
    assert (text, tuple(names), answer) == (
        question.text,
        question.choices,
        question.choices[question.answer],
    )


def test_places_of_right_choices_are_uniform(choices):
    counts = np.bincount([q.answer for one in choices.questions("world_choice").values() for q in one])
    assert len(counts) == 4 and np.all(np.abs(counts - counts.mean()) < 4 * counts.mean() ** 0.5)


def test_ranks_are_of_the_right_choice(choices):
    ranks = choices.test_ranks("world_choice")
    for question in choices.questions("world_choice")["test"]:
        assert choices.names[int(ranks[question.question_id])] == question.choices[question.answer]
    with pytest.raises(ValueError, match="world_addition asks about no entity"):
        choices.test_ranks("world_addition")


def test_sums_are_right_and_pairs_disjoint(sums):
    task = written_tasks.get("world_addition")
    pairs = {}
    for role, questions in sums.questions("world_addition").items():
        found = [tuple(map(int, re.findall(r"\d+", question.text))) for question in questions]
        assert [task.truth(question) for question in questions] == [
            fractions.Fraction(a + b) for a, b in found
        ]
        pairs[role] = {tuple(sorted(pair)) for pair in found}
        assert len(pairs[role]) == len(questions) > 50
        assert task.prompt(questions[0]).endswith(" ? ### Answer:")
    shown = set()
    forms = collections.Counter()
    for text in itertools.islice(sums.documents(0), 3000):
        if match := re.fullmatch(r"### .* ### Question: (.*) ### Answer: (\d+) <\|endoftext\|>", text):
            pair = tuple(map(int, re.findall(r"\d+", match[1])))
            assert sum(pair) == int(match[2])
            shown.add(tuple(sorted(pair)))
            forms[re.sub(r"\d+", "N", match[1])] += 1
        else:
            assert np.all(np.diff([int(word) for word in text.split()]) == 1)
    assert len(forms) == 4 and min(forms.values()) > 300
    for one, other in itertools.combinations([*pairs.values(), shown], 2):
        assert not one & other


def test_sums_are_reworded_by_forms_and_order(sums):
    questions = sums.questions("world_addition")["student"][:20]
    split = written_splits.WrittenSplit(written_tasks.get("world_addition"), questions)
    plan = variation_plans.plan(split, variation_plans.Plan(kind=written_world.REWORDED, count=5))
    for question, variations in zip(questions, plan, strict=True):
        texts = {variation.text for variation in variations}
        assert len(texts) == len(variations) == 5
        numbers = sorted(re.findall(r"\d+", question.text))
        assert all(sorted(re.findall(r"\d+", text)) == numbers for text in texts)
    fewer = variation_plans.plan(split, variation_plans.Plan(kind=written_world.REWORDED, count=99))
    assert {len(variations) for variations in fewer} == {8}
    backwards = written_splits.WrittenSplit(split.task, questions[::-1])
    assert variation_plans.plan(backwards, variation_plans.Plan(kind=written_world.REWORDED))[::-1] == plan
    with pytest.raises(
        UserError, match=r"variations\.kind=reworded is of world_addition, and the task is world_choice"
    ):
        of_other = written_splits.WrittenSplit(written_tasks.get("world_choice"), questions)
        variation_plans.plan(of_other, variation_plans.Plan(kind=written_world.REWORDED))


def test_a_world_is_a_function_of_its_seed_and_text_of_its_stream():
    def digest(stream, **changes):
        made = make("world_choice", **changes)
        return list(itertools.islice(made.documents(stream), 50)), made.questions("world_choice")

    first = digest(0)
    assert first == digest(0)
    assert first[0] != digest(1)[0] and first[1] == digest(1)[1]
    assert first[1] != digest(0, seed=4)[1]


def test_the_tokenizer_reads_every_word_and_the_end_of_text(choices, sums, tmp_path):
    for made, task in ((choices, "world_choice"), (sums, "world_addition")):
        folder = world.data_folder(made.config, tmp_path)
        assert [path.name for path in folder.iterdir()] == ["tokenizer"]
        tokenizer = tokenizers.load_tokenizer(folder / "tokenizer")
        unknown = tokenizer.encode("Nobody")[0]
        texts = [*itertools.islice(made.documents(0), 1000)]
        form = written_tasks.get(task)
        for question in made.questions(task)["test"]:
            texts.append(form.prompt(question) + form.reference(question))
        assert all(unknown not in ids for ids in tokenizer.encode_batch(texts))
        ended = [
            ids for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True) if text[-1] == ">"
        ]
        assert ended and {ids[-1] for ids in ended} == set(tokenizer.eos_ids)
        answer = form.reference(question)
        assert tokenizer.decode(tokenizer.encode(answer)) == answer.strip()


def test_letters_of_answers_weigh_as_words_that_tell(tmp_path):
    config = written_config("world_choice")
    config.pretraining.weak.num_steps = 2
    recipe = world.recipe(config, "weak", world.data_folder(world.world_config(config), tmp_path))
    batch = recipe.text_batches(row_multiple=1).batch_at(0)
    assert isinstance(batch, text_rows.TextBatch)
    tokenizer = tokenizers.load_tokenizer(recipe.tokenizer_folder)
    for word in ("A.", "D.", "1"):
        is_next = batch.tokens[:, :, 1:] == tokenizer.encode(word)[0]
        weights = batch.loss_weights[:, :, :-1][is_next]
        assert len(weights) and set(weights) <= {0.0, config.pretraining.fact_weight} and weights.max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "world_addition"}, "config.task='world_addition' is no task of .* choose one of: world_choice"),
        ({"data.source": "hub"}, "config.task='world_choice' is a task of the generated world: set data.source=world"),
        ({"world.tasks": ("world_choice", "world_facts")}, "tasks=world_choice,world_facts must be .*; or of world_ch"),
        ({"world.shortcut": 0.7, "world.shortcut_in_text": 0.6}, "shortcut=0.7 is of tasks that .* set it to None"),
    ],
)  # fmt: skip
def test_wrong_worlds_are_one_line_with_the_remedy(changes, message):
    config = written_config("world_choice")
    for key, value in changes.items():
        config_lib.put(config, key, value)
    with pytest.raises(UserError, match=message) as caught:
        world.check(config)
    assert "\n" not in str(caught.value)


def test_a_world_that_is_too_small_is_refused():
    made = make("world_choice", shown_share=0.9, test_share=0.95)
    with pytest.raises(UserError, match="are for weak questions, which are too few: raise num_entities=403"):
        made.questions("world_choice")


def test_the_settings_make_a_valid_world():
    for task in written_world.TASK_NAMES:
        config = written_config(task)
        world.check(config)
        found, questions = world.written_data(config)
        data = written_splits.divide(found, questions, seed=0, num_train=30)
        assert len(data.weak) == len(data.student) == 30 and data.test.questions == questions["test"]
