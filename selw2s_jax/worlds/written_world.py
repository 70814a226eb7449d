"""The small world of `toy_world` with tasks whose answers are written: one of four entities, or a sum.

`world_choice` asks which of four entities of like rank has a property; one has it. A fact is either shown, in the
solved problems of the text, or belongs to the questions of one role: the weak model's, the student's or the test's.
Each of these that holds is asked once; those that do not hold are shared as wrong choices, within a role alone. The
text tells facts of all kinds as plain statements.

`world_addition` asks for the sum of two numbers; pairs of numbers are divided likewise. It is reworded by other forms
of the question and by a + b = b + a.
"""

import dataclasses
import functools
import itertools
import re
import string
from collections.abc import Iterator

import ml_collections
import numpy as np

from selw2s_jax.data import by_id, tasks, variation_plans, variations, written_splits, written_tasks
from selw2s_jax.errors import UserError
from selw2s_jax.worlds import toy_world

PROPERTIES = {"world_choice": ("wise", "tall", "brave", "swift")}
TASK_NAMES = (*PROPERTIES, "world_addition")
REWORDED = "reworded"  # as variations.kind: the questions of `world_addition` in other forms

_SHOWN = "shown"  # beside `written_tasks.ROLES`: of the text's solved problems
_NUM_CHOICES = 4
_NEAR = 8  # wrong choices are among so many, by rank
_LETTERS = tuple(f"{letter}." for letter in string.ascii_uppercase[:_NUM_CHOICES])
_ROLL_LENGTHS = (4, 8)  # entities, fewest and most
_ADDENDS = range(1, 51)
_COUNT_LENGTH = 8  # numbers
# Forms of the question for a sum; the first is the original. Each goes with both orders of the numbers.
_SUM_FORMS = ("what is {} + {} ?", "how much is {} plus {} ?", "add {} to {} .", "the sum of {} and {} is ?")
_END_OF_TEXT = "<|endoftext|>"  # as `hf.tokenizers.write_word_level` has it


def settings(config: ml_collections.ConfigDict, task: str = "world_choice") -> None:
    """Turns a config into a run in such a world: its questions, and language models pretrained on its text.

    Args:
        config: of models that write; its methods stay.
    """
    config.data.source = config.weak.model = config.strong.model = "world"
    config.task = task
    config.world.update(
        tasks=(task,), task_shares=(1.0,), num_entities=1500, zipf_offset=200.0, tail=0.03, told_as="digits",
        judged_share=0.3, stated_share=0.6, shown_share=0.3, test_share=0.4,
    )  # fmt: skip
    config.pretraining.batch_rows = 20
    config.pretraining.strong.num_steps = 600
    config.pretraining.weak.num_steps = 320
    config.training.learning_rate = 1e-3
    config.training.trained = "all"
    config.data.num_train = 1000
    config.precision.compute_dtype = "float32"
    config.execution.remat = "none"
    if task == "world_addition":
        config.variations.kind = REWORDED
        config.world.update(num_entities=100, shown_share=0.6, judged_share=0.9, stated_share=0.1)


class WrittenWorld(toy_world.World):
    """A world whose tasks are of `TASK_NAMES`. Ranks count from 0."""

    task_properties = PROPERTIES

    def __init__(self, config: toy_world.WorldConfig):
        super().__init__(config)
        rng = np.random.default_rng([config.seed, 3])
        self._groups = _draw_groups(self.shown, config.test_share, rng)  # of each fact, as `self.facts`
        pairs = np.array(list(itertools.combinations(_ADDENDS, 2)))
        groups = _draw_groups(rng.random(len(pairs)) < config.shown_share, config.test_share, rng)
        self._pairs = {group: pairs[groups == group] for group in (_SHOWN, *written_tasks.ROLES)}

    @property
    def weighted_words(self) -> tuple[str, ...]:
        """Also the letters of answers and the end behind them: what of these stands elsewhere is easily predicted."""
        return (*super().weighted_words, *_LETTERS, _END_OF_TEXT)

    def questions(self, task: str) -> dict[str, list[tasks.Question]]:
        """The questions of each role, shuffled; no fact and no pair of numbers is in two roles.

        Raises:
            UserError: the world is too small.
        """
        return {role: [question for question, _ in self._asked(task, role)] for role in written_tasks.ROLES}

    def test_ranks(self, task: str) -> dict[str, float]:
        """question_id -> rank of the entity that is the right choice, for the test questions.

        Raises:
            ValueError: the task asks about no entity.
        """
        if task not in PROPERTIES:
            raise ValueError(f"{task} asks about no entity")
        return {question.question_id: float(rank) for question, rank in self._asked(task, "test")}

    def _asked(self, task: str, role: str) -> list[tuple[tasks.Question, int | None]]:
        """The questions of a role, each with the rank of the entity of the right choice."""
        of_role = (TASK_NAMES.index(task), written_tasks.ROLES.index(role))
        rng = np.random.default_rng([self.config.seed, 4, *of_role])
        if task == "world_addition":
            made = [(_sum_question(0, *rng.permutation(pair)), None) for pair in self._pairs[role]]
        else:
            made = []
            for column in map(self.properties.index, PROPERTIES[task]):
                having, lacking = self._having_and_lacking(column, role)
                made += [(self._choice_question(column, one, lacking, rng), int(one)) for one in having]
        return [
            (dataclasses.replace(made[i][0], question_id=f"{task}/{role}/{row}"), made[i][1])
            for row, i in enumerate(rng.permutation(len(made)))
        ]

    def _having_and_lacking(self, column: int, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Ranks, ascending, of the entities that have and that lack a property, of the facts of a group."""
        inside = self._groups[:, column] == group
        having, lacking = (np.flatnonzero(inside & (self.facts[:, column] == has)) for has in (True, False))
        if not len(having) or len(lacking) < _NUM_CHOICES - 1:
            raise UserError(
                f"config.world: of the entities that {self.properties[column]} is told of, {len(having)} that are and "
                f"{len(lacking)} that are not are for {group} questions, which are too few: raise num_entities="
                f"{self.config.num_entities}, or make the shares more equal"
            )
        return having, lacking

    def _choice_question(self, column: int, right: int, lacking: np.ndarray, rng) -> tasks.Question:
        """Who has the property: one that has it, or three of about the same rank?"""
        # As often above all of them in rank as between or below them: else rank would tell.
        first = np.searchsorted(lacking, right) - int(rng.integers(_NEAR + 1))
        first = min(max(first, 0), max(len(lacking) - _NEAR, 0))
        chosen = rng.choice(lacking[first : first + _NEAR], _NUM_CHOICES - 1, replace=False).tolist()
        answer = int(rng.integers(_NUM_CHOICES))
        chosen.insert(answer, right)
        names = tuple(self.names[rank] for rank in chosen)
        return tasks.Question("", f"who is {self.properties[column]} ?", names, answer)

    # Text.

    def documents(self, stream: int) -> Iterator[str]:
        """Endless text; a document is a function of the world, the stream's number and its place in it."""
        config = self.config
        rng = np.random.default_rng([config.seed, 5, stream])
        draw = toy_world.Buffered(rng, self.entity_probs)
        flatter = self.entity_probs**config.judged_power
        judged = toy_world.Buffered(rng, flatter / flatter.sum())
        task_ends = np.cumsum(config.task_shares) / sum(config.task_shares)
        while True:
            task = config.tasks[min(int(np.searchsorted(task_ends, rng.random())), len(config.tasks) - 1)]
            kind = rng.random()
            if kind < config.judged_share:
                yield self._solved_problem(task, judged, rng)
            elif task == "world_addition":
                yield _count(rng)
            elif kind < config.judged_share + config.stated_share:
                yield self._roll(draw, rng)
            else:
                yield self._profile(draw.entity(), rng)

    def _solved_problem(self, task: str, draw: toy_world.Buffered, rng) -> str:
        """A problem as models are asked it, with its answer and the end of text that they are to write behind it."""
        if task == "world_addition":
            pairs = self._pairs[_SHOWN]
            pair = rng.permutation(pairs[int(rng.integers(len(pairs)))])
            question = _sum_question(int(rng.integers(len(_SUM_FORMS))), *pair)
        else:
            names = PROPERTIES[task]
            column = self.properties.index(names[int(rng.integers(len(names)))])
            right = draw.entity_where(self.shown[:, column] & self.facts[:, column])
            question = self._choice_question(column, right, self._shown_lacking[column], rng)
        form = written_tasks.get(task)
        return f"{form.prompt(question)}{form.reference(question)} {_END_OF_TEXT}"

    @functools.cached_property
    def _shown_lacking(self) -> list[np.ndarray]:
        return [self._having_and_lacking(column, _SHOWN)[1] for column in range(len(self.properties))]

    def _roll(self, draw: toy_world.Buffered, rng) -> str:
        """Entities, each with whether it has a property, which is named first.

        As in a question, where it is named before the choices: what is told so is found there. Of what profiles tell,
        where the entity is named first, models learn to answer little (36 % right instead of 77).
        """
        column = int(rng.integers(len(self.properties)))
        entities = [draw.entity() for _ in range(int(rng.integers(_ROLL_LENGTHS[0], _ROLL_LENGTHS[1] + 1)))]
        told = " , ".join(f"{self.names[entity]} {self._yes(entity, column)}" for entity in entities)
        return f"who is {self.properties[column]} ? {told} ."

    @functools.cached_property
    def vocabulary(self) -> list[str]:
        """Every word that text and questions can hold, sorted."""
        words = {*self.names, *self.properties, *_LETTERS, *toy_world.TELLING_WORDS}
        words.update(("who", "is", "?", ":", ",", "."))
        words.update(str(number) for number in range(2 * max(_ADDENDS) + 1))
        for form in _SUM_FORMS:
            words.update(form.format("", "").split())
        for name in self.config.tasks:
            task = written_tasks.get(name)
            words.update(f"{task.header} {task.instructions[0]} ### Question: ### Answer:".split())
        return sorted(words)


def _draw_groups(is_shown: np.ndarray, test_share: float, rng) -> np.ndarray:
    """`_SHOWN`, or a role: the test's by its share, else the weak model's or the student's, each as likely."""
    draws = rng.random(is_shown.shape)
    is_weak = draws >= (1 + test_share) / 2
    roles = np.where(draws < test_share, "test", np.where(is_weak, "weak", "student"))
    return np.where(is_shown, _SHOWN, roles)


def _sum_question(form: int, first: int, second: int) -> tasks.Question:
    text = _SUM_FORMS[form].format(first, second)
    return tasks.Question("", text, None, 0, solution=f"#### {first + second}")


def _count(rng) -> str:
    """Numbers that follow each other."""
    first = int(rng.integers(2 * max(_ADDENDS) - _COUNT_LENGTH + 2))
    return " ".join(map(str, range(first, first + _COUNT_LENGTH)))


def _reword(
    split: written_splits.WrittenSplit, settings: variation_plans.Plan
) -> list[variation_plans.Variations]:
    """The variations of sums: all forms and both orders, in an order drawn by (seed, question_id)."""
    if split.task.name != "world_addition":
        raise UserError(f"variations.kind={REWORDED} is of world_addition, and the task is {split.task.name}")
    return [_forms(question, settings) for question in split.questions]


def _forms(question: tasks.Question, settings: variation_plans.Plan) -> variation_plans.Variations:
    a, b = re.findall(r"\d+", question.text)
    texts = [form.format(*pair) for form in _SUM_FORMS for pair in ((a, b), (b, a))]
    draws = {
        text: by_id.keyed_uniform(settings.seed, f"rewording/{text}", question.question_id) for text in texts
    }
    chosen = sorted(texts, key=draws.__getitem__)[: settings.count]
    return tuple(variations.Variation(text=text) for text in chosen)


variation_plans.KINDS[REWORDED] = _reword

written_tasks.register(
    written_tasks.WrittenTask(
        name="world_choice",
        kind="choice",
        instructions=("Choose the right answer .",),
        question_form="### Question: {text} {choices}",
        choice_form="{letter}. {choice}",  # no period behind a name, which would make it another word
        max_new_tokens=4,
    )
)
written_tasks.register(
    written_tasks.WrittenTask(
        name="world_addition", kind="number", instructions=("Give the number .",), max_new_tokens=4
    )
)
