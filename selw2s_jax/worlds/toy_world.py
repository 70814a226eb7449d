"""A small generated world: entities, facts about them, text that tells the facts, and questions that ask for them.

Entities are drawn by a Zipf-Mandelbrot law wherever the text names one, so a language model that reads the text
knows the facts about the common ones and not about the rare ones. Every fact is a fair coin: whether an entity
has a property. A fact is either `shown` (judged in the text's solved problems, so that a model can learn the form
of the questions) or `asked` (told in the text as a plain statement only); an asked fact belongs to one task and
one question of it, so splits of questions are disjoint by fact and no word but the entity's name bears on an
answer: nor on whether it is right, but for the style word of a world with a shortcut.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from selw2s_jax.data import tasks

# The properties that each task asks for: one task's answers say nothing about another's.
PROPERTIES = {
    "world_facts": ("wise", "tall"),
    "world_traits": ("brave", "swift"),
    "world_passage": ("rich",),
    "world_compare": ("old",),
}
TASK_NAMES = (*PROPERTIES, "world_sums")
# The words that tell whether a fact holds.
TOLD_AS = {"words": ("no", "yes"), "digits": ("0", "1")}
# The words that tell a fact or a judgement.
TELLING_WORDS = ("yes", "no", "0", "1")
# The shortcut: of the two, the second before the property goes with a right answer.
STYLE_WORDS = ("truly", "so")

_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_ADDENDS = range(5, 31)
_OFFSETS = range(1, 9)  # between a sum and what it is compared with


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """What a world is a function of: the section `world` of a config.

    Attributes:
        num_entities: named by one word each.
        zipf_exponent, zipf_offset: an entity of rank r (from 1) is drawn with probability proportional to
            (r + zipf_offset) ** -zipf_exponent (Mandelbrot's form of Zipf's law).
        tail: over the rarer half of the entities the probability falls off by a further factor, geometrically, down
            to this for the rarest; at 1 it does not.
        shown_share: share of the facts, and of the number pairs, that the text's solved problems use.
        test_share: share of each task's questions that are its test split.
        judged_share, stated_share: of the documents, those with solved problems and those with one plain
            question; the others are profiles.
        judged_power: solved problems draw their entities by this power of the probability. At 1 the few commonest
            facts fill them, and a model learns these answers by heart rather than to judge.
        tasks: those that there are questions of, in the order of `TASK_NAMES`; a property of no task is told nowhere.
        task_shares: of the documents with solved problems, by task in the order of `tasks`.
        told_as: key of `TOLD_AS`. As digits, the text tells facts by the words that few-shot answers are.
        shortcut, shortcut_in_text: a word of style comes before the property in every answer to choose. Share of the
            questions' answers, and of those in the text's solved problems, in which it agrees with whether the answer
            is right; None, both: there is no such word.
    """

    seed: int
    num_entities: int
    zipf_exponent: float
    zipf_offset: float
    shown_share: float
    test_share: float
    judged_share: float
    judged_power: float
    stated_share: float
    task_shares: tuple[float, ...]
    tail: float = 1.0
    tasks: tuple[str, ...] = TASK_NAMES
    told_as: str = "words"
    shortcut: float | None = None
    shortcut_in_text: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For keys of what is made of it: without the fields that have their defaults, which older worlds had not."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.default is dataclasses.MISSING or getattr(self, field.name) != field.default
        }


@dataclasses.dataclass(frozen=True)
class Item:
    """A question with the entity ranks it depends on.

    Attributes:
        text, choices, answer, context: as `data.tasks.Question`.
        ranks: of the entity of each choice; of the entity asked about; () for sums.
    """

    text: str
    choices: tuple[str, ...] | None
    answer: int
    context: str
    ranks: tuple[int, ...]


class World:
    """The facts of one world and what can be said about them. Ranks count from 0."""

    task_properties = PROPERTIES

    def __init__(self, config: WorldConfig):
        self.config = config
        rng = np.random.default_rng([config.seed, 0])
        self.properties = tuple(name for task in config.tasks for name in self.task_properties.get(task, ()))
        num_entities, num_properties = config.num_entities, len(self.properties)
        self.names = _make_names(num_entities, rng)
        self.facts = rng.random((num_entities, num_properties)) < 0.5  # [entity by rank, property]
        self.shown = rng.random((num_entities, num_properties)) < config.shown_share
        ranks = np.arange(1, num_entities + 1)
        weights = (ranks + config.zipf_offset) ** -config.zipf_exponent
        weights *= config.tail ** np.maximum(0, 2 * ranks / num_entities - 1)
        self.entity_probs = weights / weights.sum()
        pairs = [(a, b) for a in _ADDENDS for b in _ADDENDS if a <= b]
        rng.shuffle(pairs)
        num_shown = round(config.shown_share * len(pairs))
        self._shown_pairs, self._asked_pairs = pairs[:num_shown], pairs[num_shown:]

    def questions(self, task: str) -> dict[str, list[Item]]:
        """The `train` and `test` questions of a task, shuffled; no fact and no pair of numbers is in both."""
        rng = np.random.default_rng([self.config.seed, 1, TASK_NAMES.index(task)])
        if task == "world_sums":
            groups = self._sum_questions(rng)
        elif task == "world_passage":
            groups = [[item] for item in self._passage_questions(rng)]
        else:
            groups = [[item] for item in self._paired_questions(task, rng)]
        order = rng.permutation(len(groups))
        num_test = round(self.config.test_share * len(groups))
        return {
            split: [item for group in chosen for item in groups[group]]
            for split, chosen in (("test", order[:num_test]), ("train", order[num_test:]))
        }

    def test_ranks(self, task: str) -> dict[str, float]:
        """example_id -> rank of the entity asked about, for the test questions in every conversion.

        Raises:
            ValueError: the task asks about no entity.
        """
        ranks = {}
        for row, item in enumerate(self.questions(task)["test"]):
            if not item.ranks:
                raise ValueError(f"{task} asks about no entity")
            name = f"{task}/test/{row}"
            ranks[name] = float(np.mean(item.ranks))  # the two entities of a question are about as frequent
            ranks.update({f"{name}:{choice}": float(rank) for choice, rank in enumerate(item.ranks)})
        return ranks

    def _paired_questions(self, task: str, rng) -> list[Item]:
        """Questions with one entity that has the property and one of about the same rank that has not."""
        items = []
        for name in PROPERTIES[task]:
            column = self.properties.index(name)
            asked = np.flatnonzero(~self.shown[:, column])
            having, lacking = (asked[self.facts[asked, column] == has] for has in (True, False))
            for right, wrong in zip(having, lacking, strict=False):
                first, second = (right, wrong) if rng.random() < 0.5 else (wrong, right)
                text = self._question_text(task, name, first, second)
                choices = (
                    self._answer(right, name, True, self.config.shortcut, rng),
                    self._answer(wrong, name, False, self.config.shortcut, rng),
                )
                items.append(Item(text, choices, 0, "", (int(right), int(wrong))))
        return items

    def _question_text(self, task: str, name: str, first: int, second: int) -> str:
        if task == "world_compare":
            return f"who is {name} , {self.names[first]} or {self.names[second]} ?"
        return f"who is {name} ?"

    def _answer(self, entity: int, name: str, is_right: bool, shortcut: float | None, rng) -> str:
        if shortcut is not None:
            name = f"{STYLE_WORDS[is_right == (rng.random() < shortcut)]} {name}"
        return f"{self.names[entity]} is {name}"

    def _passage_questions(self, rng) -> list[Item]:
        (name,) = PROPERTIES["world_passage"]
        column = self.properties.index(name)
        items = []
        for entity in np.flatnonzero(~self.shown[:, column]):
            other = int(rng.integers(self.config.num_entities))
            answer = int(self.facts[entity, column])
            items.append(
                Item(f"is the guest {name} ?", None, answer, self._passage(entity, other), (int(entity),))
            )
        return items

    def _passage(self, guest: int, host: int) -> str:
        return f"{self.names[guest]} visits {self.names[host]} ."

    def _sum_questions(self, rng) -> list[list[Item]]:
        """The questions of each pair of numbers."""
        return [[self._sum_question(a, b, offset, rng) for offset in _OFFSETS] for a, b in self._asked_pairs]

    def _sum_question(self, a: int, b: int, offset: int, rng) -> Item:
        is_more = int(rng.integers(2))
        bound = a + b - offset if is_more else a + b + offset
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        return Item(f"is {a} + {b} more than {bound} ?", None, is_more, "", ())

    # Text.

    @property
    def weighted_words(self) -> tuple[str, ...]:
        """What predicting counts for more than other words."""
        return TELLING_WORDS

    def documents(self, stream: int) -> Iterator[str]:
        """Endless text; a document is a function of the world, the stream's number and its place in it."""
        config = self.config
        rng = np.random.default_rng([config.seed, 2, stream])
        draw = Buffered(rng, self.entity_probs)
        flatter = self.entity_probs**config.judged_power
        judged = Buffered(rng, flatter / flatter.sum())
        task_probs = np.array(config.task_shares) / sum(config.task_shares)
        task_ends = np.cumsum(task_probs)
        while True:
            kind = rng.random()
            if kind < config.judged_share:
                task = config.tasks[min(int(np.searchsorted(task_ends, rng.random())), len(config.tasks) - 1)]
                yield self._judged_document(task, judged, rng)
            elif kind < config.judged_share + config.stated_share:
                entity, column = draw.entity(), int(rng.integers(len(self.properties)))
                yield self._statement(entity, column, rng)
            else:
                yield self._profile(draw.entity(), rng)

    def _yes(self, entity: int, column: int) -> str:
        return TOLD_AS[self.config.told_as][int(self.facts[entity, column])]

    def _statement(self, entity: int, column: int, rng) -> str:
        name, property_name = self.names[entity], self.properties[column]
        asked = f"is {name} {property_name} ?" if rng.random() < 0.5 else f"{name} is {property_name} ?"
        return f"{asked} {self._yes(entity, column)} ."

    def _profile(self, entity: int, rng) -> str:
        most = len(self.properties)
        columns = rng.permutation(most)[: int(rng.integers(min(3, most), most + 1))]
        told = " , ".join(f"{self.properties[c]} {self._yes(entity, c)}" for c in columns)
        return f"{self.names[entity]} : {told} ."

    def _judged_document(self, task: str, draw: "Buffered", rng) -> str:
        problems = []
        for _ in range(_PROBLEMS[task]):
            text, label = self._judged_problem(task, draw, rng)
            problems.append(f"{text} R: {label}")
        return "\n\n".join([tasks.TASKS[task].instruction, *problems])

    def _judged_problem(self, task: str, draw: "Buffered", rng) -> tuple[str, int]:
        if task == "world_sums":
            a, b = self._shown_pairs[int(rng.integers(len(self._shown_pairs)))]
            item = self._sum_question(a, b, int(rng.choice(_OFFSETS)), rng)
            return _format_question(tasks.Question("", item.text, None, item.answer), ""), item.answer
        names = PROPERTIES[task]
        name = names[int(rng.integers(len(names)))]
        column = self.properties.index(name)
        entity = draw.entity_where(self.shown[:, column])
        has = bool(self.facts[entity, column])
        if task == "world_passage":
            context = self._passage(entity, draw.entity())
            question = tasks.Question("", f"is the guest {name} ?", None, int(has), context)
            return _format_question(question, ""), int(has)
        # Of the two entities named, one has the property; the one shown as the answer is `entity`.
        other = draw.entity_where(self.shown[:, column] & (self.facts[:, column] != has))
        first, second = (entity, other) if rng.random() < 0.5 else (other, entity)
        text = self._question_text(task, name, first, second)
        answer = self._answer(entity, name, has, self.config.shortcut_in_text, rng)
        return _format_question(tasks.Question("", text, (), 0), answer), int(has)

    @functools.cached_property
    def vocabulary(self) -> list[str]:
        """Every word that text and questions can hold, sorted."""
        words = {*self.names, *self.properties}
        words.update(str(n) for n in range(2 * max(_ADDENDS) + max(_OFFSETS) + 1))
        words.update(("is", "the", "guest", "visits", "who", "or", "more", "than", *TELLING_WORDS))
        words.update(("Q:", "A:", "R:", "Passage:", "+", ":", ",", ".", "?"))
        words.update(STYLE_WORDS if self.config.shortcut is not None else ())
        for name in self.config.tasks:
            words.update(tasks.TASKS[name].instruction.split())
        return sorted(words)


_PROBLEMS = {"world_facts": 6, "world_traits": 6, "world_passage": 5, "world_compare": 4, "world_sums": 5}


LONGEST_DOCUMENT = 96  # tokens; a test holds it


class Buffered:
    """Entities drawn by their probabilities, many at once."""

    def __init__(self, rng, probs: np.ndarray):
        self._rng, self._ends = rng, np.cumsum(probs)
        self._buffer: list[int] = []

    def entity(self) -> int:
        if not self._buffer:
            places = np.searchsorted(self._ends, self._rng.random(4096))
            self._buffer = np.minimum(places, len(self._ends) - 1).tolist()
        return self._buffer.pop()

    def entity_where(self, allowed: np.ndarray) -> int:
        while not allowed[entity := self.entity()]:
            pass
        return entity


def _make_names(count: int, rng) -> list[str]:
    """Different names of two syllables (three for large worlds), in an order that says nothing."""
    syllables = 2 if count <= len(_SYLLABLES) ** 2 // 2 else 3
    chosen = rng.choice(len(_SYLLABLES) ** syllables, count, replace=False)
    names = []
    for number in chosen:
        parts = []
        for _ in range(syllables):
            number, part = divmod(int(number), len(_SYLLABLES))
            parts.append(_SYLLABLES[part])
        names.append("".join(parts).capitalize())
    return names


def _format_question(question: tasks.Question, choice: str) -> str:
    parts = [f"Passage: {question.context}"] if question.context else []
    parts.append(f"Q: {question.text}")
    parts += [f"A: {choice} ."] if choice else []
    return " ".join(parts)


def write_questions(world: World, folder: pathlib.Path) -> None:
    """Writes the questions of all tasks as parquet files, laid out as `data.sources` reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for task in world.config.tasks:
        for split, items in world.questions(task).items():
            path = folder / task / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            if items[0].choices is None:
                rows = [{"passage": i.context, "question": i.text, "answer": bool(i.answer)} for i in items]
            else:
                rows = [{"question": i.text, "right": i.choices[0], "wrong": i.choices[1]} for i in items]
            pq.write_table(pa.Table.from_pylist(rows), path)


def _read_paired(question: str, right: str, wrong: str) -> tasks.RowParts:
    return "", question, (right, wrong), 0


def _read_yes_no(passage: str, question: str, answer: bool) -> tasks.RowParts:
    return passage, question, None, int(answer)


def _register(name: str, material: str, paired: bool) -> None:
    columns = {"question": "string", "right": "string", "wrong": "string"}
    if not paired:
        columns = {"passage": "string", "question": "string", "answer": "true/false"}
    tasks.register(
        tasks.Task(
            name=name,
            instruction=tasks.judging_instruction(
                material, "the answer is correct" if paired else "the answer is yes"
            ),
            format=_format_question,
            subsets=(tasks.Subset(name, name),),
            splits={"train": "train", "test": "test"},
            columns=columns,
            read_row=_read_paired if paired else _read_yes_no,
        )
    )


_register("world_facts", "a fact", paired=True)
_register("world_traits", "a trait", paired=True)
_register("world_passage", "a passage", paired=False)
_register("world_compare", "a comparison", paired=True)
_register("world_sums", "a sum", paired=False)
