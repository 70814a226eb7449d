"""Who gets which questions of a written task: the weak model, the student and the test, by seed."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.data import (
    answers,
    by_id,
    doubts,
    lengths,
    overlap,
    splits,
    tasks,
    written_rows,
    written_tasks,
)
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts

_CALLED = {"weak": "the weak model's", "student": "the student's", "test": "test"}


@dataclasses.dataclass(frozen=True)
class WrittenSplit:
    """Questions that are asked in one task's form; ground truth apart."""

    task: written_tasks.WrittenTask
    questions: Sequence[tasks.Question]

    def __len__(self) -> int:
        return len(self.questions)

    @functools.cached_property
    def ids(self) -> list[str]:
        return [question.question_id for question in self.questions]

    @functools.cached_property
    def truths(self) -> list[answers.Answer]:
        return [self.task.truth(question) for question in self.questions]

    @functools.cached_property
    def prompts(self) -> list[str]:
        """The original ones."""
        return [self.task.prompt(question) for question in self.questions]

    @property
    def texts(self) -> list[str]:
        """What class and P(IK) heads read, as of a `splits.Split`: the original prompts."""
        return self.prompts

    @functools.cached_property
    def texts_hash(self) -> str:
        """Of ids, original prompts and choices, without ground truth."""
        choices = [list(question.choices or ()) for question in self.questions]
        return artifacts.content_hash([self.task.kind, self.ids, self.prompts, choices])

    @functools.cached_property
    def truth_hash(self) -> str:
        """Of ids, right answers and what is trained on as such."""
        right = [answers.to_text(truth) for truth in self.truths]
        return artifacts.content_hash([self.ids, right, list(map(self.task.reference, self.questions))])

    def tokens(self, reader: lengths.Reader) -> list[np.ndarray]:
        """`lengths.encode` of the original prompts, as class and P(IK) heads read them."""
        return lengths.encode(self.prompts, reader)

    def is_overlong(self, reader: lengths.Reader) -> np.ndarray:
        """`lengths.is_overlong` of these, `[N]` bool."""
        return lengths.is_overlong(self.prompts, reader)

    def only(self, keep: Sequence[bool]) -> "WrittenSplit":
        """The questions whose place in `keep` is true."""
        kept = [question for question, wanted in zip(self.questions, keep, strict=True) if wanted]
        return dataclasses.replace(self, questions=kept)


@dataclasses.dataclass(frozen=True)
class WrittenData:
    """The splits of one seed. Every seed tests on the same questions."""

    weak: WrittenSplit
    student: WrittenSplit
    test: WrittenSplit


def read(
    task: written_tasks.WrittenTask,
    *,
    source: str,
    seed: int,
    found: doubts.Found | None = None,
    **division: Any,
) -> WrittenData:
    """Reads a task's questions and divides them for one seed: `written_rows.load`, `divide`, `look_for_overlap`.

    Args:
        source: as of `written_rows.load`.
        division: further arguments of `divide`.
    """
    found = doubts.Found() if found is None else found
    task, questions = written_rows.load(task, source=source, found=found)
    data = divide(task, questions, seed=seed, found=found, **division)
    look_for_overlap([data], found)
    return data


def divide(
    task: written_tasks.WrittenTask,
    questions: written_rows.Questions,
    *,
    seed: int,
    found: doubts.Found | None = None,
    test_seed: int = 0,
    num_train: int | None = None,
    num_test: int | None = None,
    overlap_action: str = "note",
    sample: str = "random",
) -> WrittenData:
    """The questions of each role.

    Every draw is keyed by (seed, question_id): the order of the rows changes nothing, and a smaller number of questions
    is part of a larger one.

    Args:
        task: whose `rows` say what each role gets; a task without them gets the questions by role.
        questions: by the names of the splits that the roles read, such as `written_rows.load` gives; or by role.
        seed: decides the parts and samples of training questions.
        found: is given what a reader of the results has to know.
        test_seed: decides which are the test questions; the same for all seeds.
        num_train: most questions of the weak model and of the student each, besides the task's own limits.
        num_test: likewise of the test.
        overlap_action: what becomes of training questions that the test has, and of the weak model's that the student
            has: one of `overlap.OVERLAPS`.
        sample: "random", or "first", in the order of the rows.

    Raises:
        UserError: a role has no questions, an argument is wrong, or as `overlap.settle`.
    """
    _check_arguments(num_train, num_test, overlap_action, sample)
    found = doubts.Found() if found is None else found
    if not task.rows:
        task = dataclasses.replace(
            task, rows={role: written_tasks.Rows(role) for role in written_tasks.ROLES}
        )
    for of_split in questions.values():
        written_rows.check(task, of_split)
    pools = _pools(task, questions, seed, test_seed)
    if sample == "first":
        pools = {role: _as_they_come(pool, questions[task.rows[role].split]) for role, pool in pools.items()}
    take = functools.partial(_take, task)
    test = take("test", pools["test"], num_test)
    kept = _without_tests(task, pools["weak"] + pools["student"], test, overlap_action, found)
    student = take("student", [q for q in pools["student"] if q.question_id in kept], num_train)
    weak = [q for q in pools["weak"] if q.question_id in kept]
    weak = take("weak", _without_students(task, weak, student, overlap_action, found), num_train)
    test = _as_they_come(test, questions[task.rows["test"].split])
    return WrittenData(*(WrittenSplit(task, one) for one in (weak, student, test)))


def look_for_overlap(data: Iterable[WrittenData], found: doubts.Found) -> None:
    """Finds questions that are in two roles, where they were neither dropped nor refused.

    Args:
        data: of each seed.
        found: is given what a reader of the results has to know.
    """
    tested, taught = set(), set()
    for one in data:
        weak, student, test = (
            _as_examples(split.task, split.questions) for split in (one.weak, one.student, one.test)
        )
        tested.add(len(overlap.shared(test, weak + student)))
        taught.add(len(overlap.shared(student, weak)))
    if max(tested, default=0):
        found.doubts.append(
            doubts.Doubt(
                f"{_by_seed(tested)} of {len(test)} test questions are among the training questions too",
                "models are tested on what they were trained on: set data.overlap=drop, or give other test questions",
            )
        )
    if max(taught, default=0):
        found.note(
            f"{_by_seed(taught)} of {len(student)} of the student's questions are among the weak model's too"
        )


def _check_arguments(num_train: int | None, num_test: int | None, action: str, sample: str) -> None:
    for name, number in (("num_train", num_train), ("num_test", num_test)):
        if number is not None and number < 1:
            raise UserError(f"data.{name} is {number}; it must be 1 or more")
    for name, value, known in (("overlap", action, overlap.OVERLAPS), ("sample", sample, splits.SAMPLES)):
        if value not in known:
            raise UserError(f"data.{name} is {value!r}; choose one of {', '.join(known)}")


def _pools(
    task: written_tasks.WrittenTask, questions: written_rows.Questions, seed: int, test_seed: int
) -> dict[str, list[tasks.Question]]:
    """All questions that a role may get, in the order in which it takes them."""
    pools: dict[str, list[tasks.Question]] = {}
    for split in dict.fromkeys(one.split for one in task.rows.values()):
        of_split = questions[split]
        parts = {role: one.part for role, one in task.rows.items() if one.split == split}
        shared = {role: part for role, part in parts.items() if part is not None}
        for role in parts.keys() - shared.keys():
            pools[role] = _ordered(of_split, test_seed if role == "test" else seed, "written/rows")
        pools |= _in_parts(of_split, shared, seed, test_seed)
    return pools


def _take(
    task: written_tasks.WrittenTask,
    role: str,
    pool: list[tasks.Question],
    most: int | None,
) -> list[tasks.Question]:
    """The first questions of a pool: at most so many, and as the task itself says."""
    rows = task.rows[role]
    if not pool:
        raise UserError(
            f"task {task.name} has too few rows in split '{rows.split}': none are {_CALLED[role]}; add questions"
        )
    return pool[: min((one for one in (rows.limit, most) if one is not None), default=None)]


def _as_they_come(
    chosen: Sequence[tasks.Question], questions: Sequence[tasks.Question]
) -> list[tasks.Question]:
    ids = {question.question_id for question in chosen}
    return [question for question in questions if question.question_id in ids]


def _in_parts(
    questions: Sequence[tasks.Question], parts: Mapping[str, tuple[int, int]], seed: int, test_seed: int
) -> dict[str, list[tasks.Question]]:
    """The parts of one split: the test's is drawn first, the same for all seeds, the others from what it leaves."""
    found = {}
    left = list(questions)
    if "test" in parts:
        number, count = parts["test"]
        found["test"] = _ordered(left, test_seed, "written/test part")[_bounds(len(left), number, count)]
        chosen = {question.question_id for question in found["test"]}
        left = [question for question in left if question.question_id not in chosen]
    order = _ordered(left, seed, "written/parts")
    used = {number for role, (number, _) in parts.items() if role == "test"}
    for role, (number, count) in parts.items():
        if role != "test":
            before = sum(_size(len(questions), i, count) for i in range(number) if i not in used)
            found[role] = order[before : before + _size(len(questions), number, count)]
    return found


def _bounds(total: int, number: int, count: int) -> slice:
    return slice(number * total // count, (number + 1) * total // count)


def _size(total: int, number: int, count: int) -> int:
    bounds = _bounds(total, number, count)
    return bounds.stop - bounds.start


def _ordered(questions: Sequence[tasks.Question], seed: int, purpose: str) -> list[tasks.Question]:
    draws = {q.question_id: by_id.keyed_uniform(seed, purpose, q.question_id) for q in questions}
    return sorted(questions, key=lambda question: (draws[question.question_id], question.question_id))


def _as_examples(task: written_tasks.WrittenTask, questions: Sequence[tasks.Question]) -> list[tasks.Example]:
    """As `overlap` compares them: by context, question and right answer."""
    examples = []
    for question in questions:
        truth = task.truth(question)
        right = question.choices[truth] if question.choices else answers.to_text(truth)
        text = "\n".join((question.context, question.text, right))
        examples.append(tasks.Example(question.question_id, question.question_id, text, 0))
    return examples


def _without_tests(
    task: written_tasks.WrittenTask,
    training: Sequence[tasks.Question],
    test: Sequence[tasks.Question],
    action: str,
    found: doubts.Found,
) -> set[str]:
    """Ids of the training questions that stay."""
    kept, note = overlap.settle(_as_examples(task, training), _as_examples(task, test), action)
    if note:
        found.note(note)
    return {example.group for example in kept}


def _without_students(
    task: written_tasks.WrittenTask,
    weak: Sequence[tasks.Question],
    student: Sequence[tasks.Question],
    action: str,
    found: doubts.Found,
) -> list[tasks.Question]:
    """The weak model's questions; none of the student's among them where these are to be dropped."""
    both = overlap.shared(_as_examples(task, weak), _as_examples(task, student))
    if not both or action == "note":
        return list(weak)
    if action == "refuse":
        raise UserError(
            f"{len(both)} of {len(weak)} questions of the weak model are among the student's too: set "
            "data.overlap=drop to leave them out, or give other questions"
        )
    found.note("the weak model's questions that the student has too are dropped")
    return [question for question in weak if question.question_id not in both]


def _by_seed(counts: set[int]) -> str:
    return str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)} (by seed)"
