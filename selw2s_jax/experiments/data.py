"""Questions of a run, found and read before any device work: its task's, P(IK)'s, divided by seed."""

import dataclasses
import functools
from collections.abc import Sequence

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax import errors
from selw2s_jax.data import doubts, giveaways, members, overlap, sources, splits, task_files, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.method import objectives
from selw2s_jax.method import registry as method_registry
from selw2s_jax.runtime import remote
from selw2s_jax.worlds import smoke, world


class DataReader:
    """Reads the data of a run.

    Args:
        config: the validated config.
        workdir: in which generated questions are made.

    Attributes:
        found: what a reader of the results has to know of the data; whole after `read`, as the next.
        is_papers_data: whether data and conversion are those of the paper's tables.
    """

    def __init__(self, config: ml_collections.ConfigDict, workdir):
        self._config = config
        self.found = doubts.Found()
        self.is_papers_data = False
        self._source = config.data.source
        self._trained_on: dict[int, int] = {}  # test questions that either half has, by base seed
        if self._source == smoke.GENERATED:
            self._source = str(smoke.data_folder(workdir / "inputs"))
        elif self._source == world.NAME:
            self._source = str(world.data_folder(world.world_config(config), workdir / "inputs"))

    def read(self) -> dict[int, splits.SeedData]:
        """The splits of each base seed, of all lengths.

        Raises:
            UserError: the first thing that is wrong.
        """
        task, train_questions, test_questions = self._read_task()
        if task.is_generated and not method_registry.is_p_ik_alone(self._config.methods):
            raise UserError(
                f"config.task={task.name} has answers to write, not to judge: only P(IK) can be "
                "trained and tested on it; "
                "set config.methods=p_ik_only or choose another task"
            )
        test = self._convert(task, test_questions, self._config.seed.test_conversion)
        test = splits.sample_examples(
            test, self._config.data.num_test, seed=self._config.seed.test_conversion
        )
        self._note_generated(task)
        if self._config.data.train_file is not None:
            self.found.doubts.extend(giveaways.find(train_questions, self._config.data.train_file))
        elif not self._is_generated:
            self.found.doubts.extend(giveaways.find(train_questions, task.name))
        others = self._read_weak_tasks()
        by_seed = {
            base: self._seed_data(task, train_questions, test, others, base) for base in self._config.seeds
        }
        self._doubt_overlap(test)
        self.is_papers_data = self._has_papers_data(task)
        return by_seed

    @property
    def notes(self) -> list[str]:
        """One sentence each of everything that was found."""
        return [*self.found.notes, *map(str, self.found.doubts)]

    @property
    def _is_generated(self) -> bool:
        """Whether what no file of the user's has is made on the spot."""
        return self._config.data.source in (smoke.GENERATED, world.NAME)

    def _note_generated(self, task: tasks.Task) -> None:
        """Whose numbers mean nothing, in a smoke run; in a world they do."""
        has_own_file = self._config.data.train_file is not None
        names = [one.name for one in self._tasks(task)][has_own_file:]
        roles = ("strong",) if method_registry.is_p_ik_alone(self._config.methods) else ("weak", "strong")
        random = [role for role in roles if {*members.names(self._config, role)} & smoke.RANDOM_MODELS.keys()]
        parts = []
        if self._config.data.source == smoke.GENERATED and names:
            if has_own_file and not random:
                self.found.notes.append(
                    f"P(IK) is trained on generated questions ({names[0]}): what it says means nothing"
                )
                return
            of_files = has_own_file or self._config.p_ik.file is not None
            which = f"questions of {' and '.join(names)}" if of_files else "questions"
            parts.append(f"the {which} are generated")
        if random:
            all_are, one_is = "checkpoints are", f"checkpoint of the {random[0]} model is"
            parts.append(f"the {all_are if len(random) == len(roles) else one_is} random")
        if parts:
            self.found.notes.append(f"{' and '.join(parts)}: the numbers mean nothing")

    def _doubt_overlap(self, test: Sequence[tasks.Example]) -> None:
        """That test questions are trained on, where they are neither dropped nor refused."""
        counts = sorted(set(self._trained_on.values()))
        if not counts or not counts[-1]:
            return
        many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]} (by seed)"
        total = len({example.group for example in test})
        self.found.doubts.append(
            doubts.Doubt(
                f"{many} of {total} test questions are in the training halves too",
                "models are tested on what they were trained on: set data.overlap=drop, or give other test questions",
            )
        )

    def _has_papers_data(self, task: tasks.Task) -> bool:
        """Whether data and conversion are those of the paper's tables."""
        return (
            self._config.data.train_file is None
            and self._config.data.source not in (smoke.GENERATED, world.NAME)
            and (self._config.data.num_train, self._config.data.num_test) == (20_000, None)
            and self._config.data.conversion == "coin"
            and self._config.data.overlap != "drop"
            and not self._config.weak.label_noise
            and not self._config.evaluation.held_out
            and len(members.of(self._config)) == 1
            and not members.other_tasks(self._config)
            and not any(sources.is_divided(one, source=self._source) for one in self._tasks(task))
        )

    def _tasks(self, task: tasks.Task) -> list[tasks.Task]:
        """The tasks whose questions a run reads: its own, those of weak models, and P(IK)'s unless a file has these."""
        reads_another = (
            objectives.needs_p_ik_data(self._config)
            and self._config.p_ik.file is None
            and not objectives.is_own_task(self._config)
        )
        is_alone = method_registry.is_p_ik_alone(self._config.methods)
        of_weak = () if is_alone else members.other_tasks(self._config)
        read = [task, *(tasks.get_task(name) for name in of_weak)]
        p_ik = [tasks.get_task(self._config.p_ik.task, role="config.p_ik.task")] if reads_another else []
        return read + [one for one in p_ik if one not in read]

    def _read_task(self) -> tuple[tasks.Task, list[tasks.Question], list[tasks.Question]]:
        """The run's own task, and its questions of training and test."""
        if self._config.data.train_file is not None:
            _check_name("task", self._config.task)
            if self._config.task in tasks.TASKS:
                self.found.notes.append(
                    f"task {self._config.task} is {self._config.data.train_file} here, not the data "
                    "set of that name: "
                    "call it otherwise by config.task=NAME"
                )
            train, test = task_files.load_user_splits(
                self._config.task,
                self._config.data.train_file,
                self._config.data.test_file,
                found=self.found,
            )
            return (
                task_files.user_task(self._config.task, train, instruction=self._config.data.instruction),
                train,
                test,
            )
        task = tasks.get_task(self._config.task, role="config.task")
        if self._config.data.instruction is not None:
            task = dataclasses.replace(task, instruction=self._config.data.instruction)
        self.found.notes += sources.notes(task, source=self._source)
        train = sources.load_questions(task, "train", source=self._source)
        return task, train, sources.load_questions(task, "test", source=self._source)

    def _convert(self, task: tasks.Task, questions, seed: int) -> list[tasks.Example]:
        return tasks.convert(task, questions, mode=self._config.data.conversion, seed=seed)

    def _read_weak_tasks(self) -> list[tuple[tasks.Task, list[tasks.Question]]]:
        """The other tasks that weak models learn, each with the questions of its train split."""
        if method_registry.is_p_ik_alone(self._config.methods):
            return []
        read = []
        for name in members.other_tasks(self._config):
            task = tasks.get_task(name, role="task of a weak model")
            self.found.notes += sources.notes(task, source=self._source)
            questions = sources.load_questions(task, "train", source=self._source)
            if not self._is_generated:
                self.found.doubts.extend(giveaways.find(questions, name))
            read.append((task, questions))
        return read

    def _weak_half_of(
        self, task: tasks.Task, questions: list[tasks.Question], read: Sequence[tasks.Example], base: int
    ) -> splits.Split:
        """The weak half of another task: that of a run on it, without the questions that are read elsewhere.

        Args:
            read: the examples of the student and of the test.
        """
        examples = self._convert(task, questions, config_lib.seed_for(self._config, base, "conversion"))
        half, _ = self._halve(examples, base)
        elsewhere = overlap.questions_of(read)
        left = [example for example in half if not example.is_of_any(elsewhere)]
        if len(left) < len(half):
            self.found.notes.append(
                f"weak model on {task.name}: {len(half) - len(left)} of {len(half)} examples dropped, as the student "
                "or the test has them"
            )
        if not left:
            raise UserError(
                f"every {task.name} example of the weak model is one of the student's or the test's; choose another "
                "weak.task"
            )
        return splits.Split(left, task, self._config.p_ik.prompt, self._pick_shots(left, base))

    def _halve(
        self, examples: list[tasks.Example], base: int
    ) -> tuple[list[tasks.Example], list[tasks.Example]]:
        return splits.sample_and_halve(
            examples,
            num_train=self._config.data.num_train,
            seed=config_lib.seed_for(self._config, base, "split"),
            sample=self._config.data.sample,
        )

    def _pick_shots(self, source: Sequence[tasks.Example], base: int) -> Sequence[tasks.Example]:
        """The solved problems of a few-shot prompt, where any model reads some."""
        if not self._uses_shots():
            return ()
        num_shots, seed = self._config.self_label.num_shots, config_lib.seed_for(self._config, base, "shots")
        return splits.pick_shots(source, num_shots=num_shots, seed=seed)

    def _seed_data(
        self, task: tasks.Task, train_questions, test: list[tasks.Example], others, base: int
    ) -> splits.SeedData:
        """The splits of a base seed; `others` as `_read_weak_tasks` has them."""
        examples = self._convert(task, train_questions, config_lib.seed_for(self._config, base, "conversion"))
        if method_registry.is_p_ik_alone(self._config.methods):
            halves, read = (None, None), test
            tested = overlap.questions_of(test)
            shot_source = [example for example in examples if not example.is_of_any(tested)]
        else:
            examples, dropped = overlap.settle(examples, test, self._config.data.overlap)
            if dropped:
                self.found.notes.append(dropped)
            halves = self._halve(examples, base)
            shot_source, read = halves[0], [*halves[1], *test]
            self._trained_on[base] = len(overlap.shared(test, [*halves[0], *halves[1]]))
        held_out = None
        if halves[1] is not None and self._config.evaluation.held_out:
            split_seed = config_lib.seed_for(self._config, base, "split")
            student, held_out = splits.hold_out(halves[1], self._config.evaluation.held_out, seed=split_seed)
            halves = halves[0], student
        shots = self._pick_shots(shot_source, base)
        p_ik = p_ik_test = None
        if objectives.needs_p_ik_data(self._config):
            p_ik = self._p_ik_split((task, examples), read, base)
            p_ik_test = self._p_ik_test_split(p_ik)
        make = functools.partial(splits.Split, task=task, prompt=self._config.p_ik.prompt, shots=shots)
        weak_half, student_half, held_out = (part and make(part) for part in (*halves, held_out))
        of_weak = {other.name: self._weak_half_of(other, asked, read, base) for other, asked in others}
        return splits.SeedData(weak_half, student_half, make(test), p_ik, p_ik_test, held_out, of_weak)

    def _uses_shots(self) -> bool:
        """Whether any model reads solved problems of the task: only few-shot answers and fewshot inputs do."""
        methods = [method_registry.METHODS[name] for name in self._config.methods]
        answers_half = self._config.self_label.source == "fewshot" and any(
            m.uses_self_labels for m in methods
        )
        answers_test = self._config.p_ik.num_test > 0 or method_registry.is_p_ik_alone(self._config.methods)
        reads_shots = "fewshot" in (self._config.p_ik.prompt, self._config.weak.prompt)
        return answers_half or answers_test or reads_shots

    def _p_ik_split(
        self, own: tuple[tasks.Task, list[tasks.Example]], read: Sequence[tasks.Example], base: int
    ) -> splits.Split:
        """The examples that P(IK) is trained on, with ground truth: none is of a question that is read elsewhere.

        Args:
            own: the run's own task and the examples of its train split.
            read: the examples of the student and of the test.
        """
        section = self._config.p_ik
        if objectives.is_own_task(self._config) and section.data is None:
            task, examples = own
        else:
            task, questions = self._p_ik_questions()
            examples = self._convert(task, questions, config_lib.seed_for(self._config, base, "conversion"))
        elsewhere = overlap.questions_of(read)
        left = [example for example in examples if not example.is_of_any(elsewhere)]
        if len(left) < len(examples):
            dropped = len(examples) - len(left)
            self.found.notes.append(
                f"p_ik: {dropped} of {len(examples)} examples dropped, as the student or the test has them"
            )
        if not left:
            raise UserError(
                "every P(IK) example is one of the student's or the test's; choose another p_ik.task or file"
            )
        num_shots, shot_seed = (
            self._config.self_label.num_shots,
            config_lib.seed_for(self._config, base, "shots"),
        )
        shots = splits.pick_shots(left, num_shots=num_shots, seed=shot_seed)
        shown = {shot.group for shot in shots}
        rest = [example for example in left if example.group not in shown]
        if not rest:
            raise UserError(
                f"config.self_label.num_shots={num_shots} takes every question of {task.name} that "
                "P(IK) could be trained "
                "on: lower it"
            )
        split_seed = config_lib.seed_for(self._config, base, "split")
        rest = splits.sample_examples(
            rest, section.num_train, seed=split_seed, sample=self._config.data.sample
        )
        return splits.Split(rest, task, section.prompt, shots)

    def _p_ik_questions(self) -> tuple[tasks.Task, list[tasks.Question]]:
        """The task that P(IK) is trained on, where it is not the run's own, and its questions."""
        section = self._config.p_ik
        if section.file is None:
            task = tasks.get_task(section.task, role="config.p_ik.task")
            self.found.notes += sources.notes(task, source=self._source)
            return task, self._load_p_ik_questions(task)
        _check_name("p_ik.task", section.task)
        questions = task_files.load_user_questions(section.file, section.task, "train", found=self.found)
        is_alone = method_registry.is_p_ik_alone(self._config.methods)
        students = [] if is_alone else [self._config.data.train_file, self._config.data.test_file]
        own = [remote.local_copy(path) for path in students if path]
        if any(path.exists() and path.samefile(remote.local_copy(section.file)) for path in own):
            raise UserError(
                f"config.p_ik.file={section.file} is the student's own file, whose ground truth it must not see; "
                "choose another file"
            )
        if section.task in tasks.TASKS:
            self.found.notes.append(
                f"p_ik.task={section.task} is {section.file} here, not the data set of that name: "
                "call it otherwise by "
                "config.p_ik.task=NAME"
            )
        return task_files.user_task(section.task, questions), questions

    def _load_p_ik_questions(self, task: tasks.Task) -> list[tasks.Question]:
        try:
            return sources.load_questions(task, "train", source=self._source, subsets=self._config.p_ik.data)
        except UserError as error:
            if self._config.p_ik.data is not None and "does not name parts" in str(error):
                raise
            without = [
                name
                for name in method_registry.students()
                if not method_registry.METHODS[name].uses_p_ik
                and method_registry.METHODS[name].task_weight > 0
            ]
            raise UserError(
                f"{error} - or give questions of your own for P(IK) by config.p_ik.file, or choose methods that need "
                f"none by config.methods ({', '.join(without[:3])}, ...)"
            ) from error

    def _p_ik_test_split(self, p_ik: splits.Split) -> splits.Split | None:
        """Questions of the P(IK) task's test split, the same for every seed, with the prompt of the P(IK) examples.

        None in a run of P(IK) alone: what it is tested on is the run's own test set.
        """
        section = self._config.p_ik
        if not section.num_test:
            return None
        if method_registry.is_p_ik_alone(self._config.methods):
            self.found.notes.append(
                f"p_ik.num_test={section.num_test} is not used: P(IK) alone is tested on "
                f"config.task={self._config.task}"
            )
            return None
        task = tasks.get_task(section.task)
        questions = sources.load_questions(task, "test", source=self._source, subsets=section.data)
        examples = self._convert(task, questions, self._config.seed.test_conversion)
        examples = splits.sample_examples(examples, section.num_test, seed=self._config.seed.test_conversion)
        trained = overlap.questions_of((*p_ik.examples, *p_ik.shots))
        held_out = [example for example in examples if not example.is_of_any(trained)]
        if len(held_out) < len(examples):
            self.found.notes.append(
                f"p_ik test: {len(examples) - len(held_out)} of {len(examples)} examples dropped, as "
                "P(IK) trains on them"
            )
        if not held_out:
            raise UserError(
                f"config.p_ik.num_test={section.num_test}: P(IK) trains on every question of "
                f"{task.name}'s test split; "
                "set it to 0 or choose another p_ik.task"
            )
        return dataclasses.replace(p_ik, examples=held_out)


def _check_name(key: str, name: str) -> None:
    """That a name of the user's own can stand in labels, tables and ids."""
    if not name.strip() or errors.printable(name) != name or "\n" in name:
        raise UserError(f"config.{key}={name!a} is no name: give letters, digits and the like")
