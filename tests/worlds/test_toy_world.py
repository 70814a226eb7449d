"""The generated world: facts disjoint by split, labels right, nothing but knowledge gives an answer away."""

import dataclasses
import hashlib
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support import paths

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import metrics
from selw2s_jax.data import sources, tasks
from selw2s_jax.worlds import toy_world


def world_config(**changes) -> toy_world.WorldConfig:
    return toy_world.WorldConfig(**config_lib.default_config().world.to_dict() | changes)


CONFIG = world_config(seed=3, num_entities=701)
ENTITY_TASKS = tuple(toy_world.PROPERTIES)
# All that CONFIG leaves out.
SHORTCUT = {"told_as": "digits", "tail": 0.02, "shortcut": 0.75, "shortcut_in_text": 0.6}


@pytest.fixture(scope="module", params=[{}, SHORTCUT], ids=["plain", "shortcut"])
def world(request):
    return toy_world.World(dataclasses.replace(CONFIG, **request.param))


@pytest.fixture(scope="module")
def documents(world):
    return list(itertools.islice(world.documents(stream=0), 6000))


def without_style(text: str) -> str:
    return re.sub(r"\b(so|truly) ", "", text)


def asked_facts(world, task: str, split: str):
    """(property, entity rank, whether the answer says that the entity has it) of each question's choices."""
    for item in world.questions(task)[split]:
        (name,) = [word for word in item.text.split() if word in world.properties]
        if item.choices is None:
            yield name, item.ranks[0], bool(item.answer)
        else:
            for choice, rank in enumerate(item.ranks):
                assert without_style(item.choices[choice]) == f"{world.names[rank]} is {name}"
                yield name, rank, choice == item.answer


def test_every_asked_fact_is_true_and_belongs_to_one_question(world):
    seen = set()
    for task, split in itertools.product(ENTITY_TASKS, ("train", "test")):
        for name, rank, has in asked_facts(world, task, split):
            column = world.properties.index(name)
            assert name in toy_world.PROPERTIES[task]
            assert world.facts[rank, column] == has
            assert not world.shown[rank, column]
            assert (name, rank) not in seen
            seen.add((name, rank))
    # Nearly all of the facts that the text does not judge are asked; a pair needs one of each answer.
    assert len(seen) > 0.9 * np.sum(~world.shown)


def test_sums_are_right_and_disjoint_from_those_of_the_text(world, documents):
    def parse(text):
        a, b, bound = map(int, re.search(r"is (\d+) \+ (\d+) more than (\d+) \?", text).groups())
        return tuple(sorted((a, b))), bound

    splits = world.questions("world_sums")
    asked_in = {}
    for split, items in splits.items():
        for item in items:
            pair, bound = parse(item.text)
            assert item.answer == (sum(pair) > bound)
            asked_in.setdefault(split, set()).add(pair)
    assert not asked_in["train"] & asked_in["test"]
    asked = asked_in["train"] | asked_in["test"]
    shown = set()
    for problem in re.findall(r"Q: is \d+ \+ \d+ more than \d+ \? R: \d", "\n".join(documents)):
        pair, bound = parse(problem)
        assert int(problem[-1]) == (sum(pair) > bound)
        shown.add(pair)
    assert shown and not shown & asked
    texts = [item.text for item in splits["train"] + splits["test"]]
    assert len(set(texts)) == len(texts)


def test_the_text_tells_the_truth_and_judges_no_asked_fact(world, documents):
    rank = {name: index for index, name in enumerate(world.names)}
    told = judged = 0
    no, yes = toy_world.TOLD_AS[world.config.told_as]

    def column(name):
        return world.properties.index(name)

    for text in documents:
        if match := re.fullmatch(r"(\w+) : (.*) \.", text):
            for fact in match[2].split(" , "):
                name, answer = fact.split()
                assert answer == (yes if world.facts[rank[match[1]], column(name)] else no)
                told += 1
        elif match := re.fullmatch(rf"(?:is )?(\w+)(?: is)? (\w+) \? ({yes}|{no}) \.", text):
            assert world.facts[rank[match[1]], column(match[2])] == (match[3] == yes)
        else:
            for problem in map(without_style, text.split("\n\n")[1:]):
                if match := re.fullmatch(r"Q: who is (\w+) .*\? A: (\w+) is \1 \. R: (\d)", problem):
                    name, entity, label = match.groups()
                elif match := re.fullmatch(
                    r"Passage: (\w+) visits \w+ \. Q: is the guest (\w+) \? R: (\d)", problem
                ):
                    entity, name, label = match.groups()
                else:
                    assert " + " in problem
                    continue
                assert world.facts[rank[entity], column(name)] == int(label)
                assert world.shown[rank[entity], column(name)]
                judged += 1
    assert told > 5000 and judged > 1000


def test_no_document_is_longer_than_said(documents):
    assert max(len(text.split()) for text in documents) <= toy_world.LONGEST_DOCUMENT


def test_judged_problems_have_the_form_of_the_few_shot_prompt(world, documents):
    for task in toy_world.TASK_NAMES:
        judged = [text for text in documents if text.startswith(tasks.TASKS[task].instruction)]
        assert judged
        example = converted(world, task, "test")[0]
        pattern = re.sub(r"\d+", "N", re.sub(r"[A-Z][a-z]+(?= [.,?vio])", "NAME", example.text))
        problem = judged[0].split("\n\n")[1].rpartition(" R:")[0]
        shape = re.sub(r"\d+", "N", re.sub(r"[A-Z][a-z]+(?= [.,?vio])", "NAME", problem))
        words = "|".join(toy_world.PROPERTIES.get(task, ("-",)))
        style = "so|truly" if world.config.shortcut else "-"
        assert len({re.sub(style, "S", re.sub(words, "P", text)) for text in (shape, pattern)}) == 1


def test_entities_follow_the_law_in_the_text(world):
    counts = np.zeros(CONFIG.num_entities)
    rank = {name: index for index, name in enumerate(world.names)}
    for text in itertools.islice(world.documents(stream=5), 20_000):
        if match := re.fullmatch(r"(\w+) : .*", text):
            counts[rank[match[1]]] += 1
    ends = np.array([1, 5, 25, 125, 701])
    expected = np.add.reduceat(world.entity_probs, [0, *ends[:-1]]) * counts.sum()
    found = np.add.reduceat(counts, [0, *ends[:-1]])
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected))


def converted(world, task: str, split: str) -> list[tasks.Example]:
    questions = [
        tasks.Question(f"{task}/{split}/{row}", item.text, item.choices, item.answer, item.context)
        for row, item in enumerate(world.questions(task)[split])
    ]
    return tasks.convert(tasks.TASKS[task], questions, mode="balanced_pair", seed=0)


def within_chance(correct, total: int) -> bool:
    return abs(correct / total - 0.5) < 4 * 0.5 / total**0.5


def test_the_rarer_half_falls_off_by_the_tails_factor(world):
    law = (np.arange(1, 702) + CONFIG.zipf_offset) ** -CONFIG.zipf_exponent
    ratio = world.entity_probs / law * law[0] / world.entity_probs[0]
    np.testing.assert_allclose(ratio[:350], 1.0)
    np.testing.assert_allclose(ratio[[525, 700]], [world.config.tail**0.5, world.config.tail], rtol=0.01)


def agrees_with_style(text: str, label: int) -> bool:
    (style,) = re.findall(r" is (so|truly) ", text)
    return (style == "so") == bool(label)


def test_the_style_word_agrees_as_often_as_told_whatever_is_asked():
    """By count: in every task and split, whoever is asked about and whichever answer comes first; and in the text."""
    world = toy_world.World(world_config(seed=1, num_entities=2003, **SHORTCUT))
    found, property_of, ranks = [], [], []
    for task, split in itertools.product(("world_facts", "world_traits", "world_compare"), ("train", "test")):
        for item in world.questions(task)[split]:
            found.append([agrees_with_style(item.choices[choice], choice == 0) for choice in (0, 1)])
            property_of.append((item.choices[0].split()[-1], split))
            ranks.append(item.ranks)
    found = np.array(found)
    for group in set(property_of):
        assert near_share(found[[one == group for one in property_of]], 0.75)
    assert near_share(found[:, 0], 0.75) and near_share(
        found[:, 1], 0.75
    )  # of right answers and of wrong ones
    assert abs(np.corrcoef(found.T)[0, 1]) < 4 / len(found) ** 0.5
    assert abs(metrics.auroc(np.ravel(ranks), np.ravel(found)) - 0.5) < 4 / (3 * found.size) ** 0.5
    text = "\n".join(itertools.islice(world.documents(stream=0), 6000))
    problems = re.findall(r"(A: .*) R: (\d)", text)
    assert near_share(np.array([agrees_with_style(problem, int(label)) for problem, label in problems]), 0.6)
    assert len(problems) == len(re.findall(r"\b(?:so|truly)\b", text))  # and in no other document


def near_share(values: np.ndarray, share: float) -> bool:
    return abs(values.mean() - share) < 4 * (share * (1 - share) / values.size) ** 0.5


@pytest.mark.parametrize(
    ("task", "changes"),
    [*((task, {}) for task in ENTITY_TASKS), ("world_facts", SHORTCUT), ("world_compare", SHORTCUT)],
)
def test_no_answer_leaks_through_words_length_or_frequency(task, changes):
    """But for the style word of a shortcut, which is left out here."""
    world = toy_world.World(world_config(seed=1, num_entities=2003, **changes))
    ranks = world.test_ranks(task)
    train, test = (
        [dataclasses.replace(one, text=without_style(one.text)) for one in converted(world, task, split)]
        for split in ("train", "test")
    )
    rare = [example for example in test if ranks[example.example_id] > 1000]
    labels = np.array([example.label for example in test])

    words = {word: i for i, word in enumerate(world.vocabulary)}

    def bag(examples):
        counts = np.zeros((len(examples), len(words) + 1))
        for row, example in enumerate(examples):
            for word in example.text.split():
                counts[row, words[word]] += 1
            counts[row, -1] = len(example.text)
        return counts

    signs = np.array([2 * example.label - 1 for example in train])
    features = bag(train)
    weights = features.T @ np.linalg.solve(features @ features.T + 1.0 * np.eye(len(train)), signs)
    predicted = bag(rare) @ weights > 0
    assert within_chance(np.sum(predicted == [example.label == 1 for example in rare]), len(rare))

    # Whatever the answer: all questions about a property have one length, in words and in letters.
    for name in toy_world.PROPERTIES[task]:
        assert len({(len(e.text), len(e.text.split())) for e in test if f" {name} " in e.text}) == 1
    auroc = metrics.auroc([-ranks[example.example_id] for example in test], labels)
    assert abs(auroc - 0.5) < 4 / (3 * len(test)) ** 0.5


def test_questions_round_trip_through_their_files(world, tmp_path):
    toy_world.write_questions(world, tmp_path)
    for task in toy_world.TASK_NAMES:
        for split, items in world.questions(task).items():
            read = sources.load_questions(tasks.TASKS[task], split, source=str(tmp_path))
            assert [(q.text, q.choices, q.answer, q.context) for q in read] == [
                (i.text, i.choices, i.answer, i.context) for i in items
            ]


def digest(config: toy_world.WorldConfig) -> str:
    world = toy_world.World(config)
    parts = [*itertools.islice(world.documents(stream=1), 300), *world.vocabulary]
    parts += [repr(world.questions(task)) for task in toy_world.TASK_NAMES]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@pytest.mark.slow
@pytest.mark.ci
def test_another_process_makes_the_same_world():
    code = "import sys; sys.path.insert(0, 'tests/worlds'); import test_toy_world as t; print(t.digest(t.CONFIG))"
    environment = dict(os.environ, PYTHONHASHSEED="12345", PYTHONPATH=paths.PYTHONPATH)
    other = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=paths.REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == digest(CONFIG)


def test_a_world_may_have_some_of_the_tasks_alone(tmp_path):
    """Its text tells and judges nothing else."""
    changes = {"tasks": ("world_facts", "world_sums"), "task_shares": (1.0, 2.0)}
    world = toy_world.World(dataclasses.replace(CONFIG, **changes))
    assert world.properties == toy_world.PROPERTIES["world_facts"]
    text = "\n".join(itertools.islice(world.documents(stream=0), 2000))
    others = [task for task in toy_world.TASK_NAMES if task not in world.config.tasks]
    names = [name for task in others for name in toy_world.PROPERTIES[task]]
    assert not re.search("|".join(names), text)
    assert not [task for task in others if tasks.TASKS[task].instruction in text]
    judged = [text.count(tasks.TASKS[task].instruction) for task in world.config.tasks]
    assert 1.5 < judged[1] / judged[0] < 2.7
    toy_world.write_questions(world, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(world.config.tasks)


def test_a_world_of_older_settings_is_what_it_was():
    """Models, stages and results that are kept are of these very texts and questions."""
    assert digest(CONFIG) == "5cd789a42e3f9c62ab105d39a1ee51a3ab001ddad33597be80dc55a28e4f68b1"
    assert "shortcut" not in CONFIG.as_json() and len(CONFIG.as_json()) == 10


def test_seed_and_stream_change_what_is_said(world):
    first = list(itertools.islice(world.documents(stream=0), 50))
    assert first == list(itertools.islice(toy_world.World(world.config).documents(stream=0), 50))
    assert first != list(itertools.islice(world.documents(stream=1), 50))
    assert digest(CONFIG) != digest(world_config(seed=4, num_entities=701))
