"""Makes a plan: finds the models and lengths of a run, compiles its programs, and prints what came of it."""

import functools
import json
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, plugins, precision, unread
from selw2s_jax.method import objectives, registry
from selw2s_jax.plan import compiled, programs, report, search, targets, total, workload
from selw2s_jax.run import forms, sweep
from selw2s_jax.stages import settings as settings_lib


class Options(NamedTuple):
    """What is planned.

    Attributes:
        lengths: tokens of an example; None for those of data at hand, else the task's default.
        all_steps: whether scoring, evaluation and the other models' training are compiled too.
        search_layouts: whether remat, mesh and micro-batches are chosen by compiling those that may be the best.
    """

    lengths: tuple[int, ...] | None = None
    all_steps: bool = False
    search_layouts: bool = False


class _Job(NamedTuple):
    """A program of the run, whose config a search may change: `make` takes the devices' programs.

    `is_main`: whether it decides the layout, and what would help is looked for where it does not fit.
    """

    role: str
    length: int
    is_main: bool
    make: Callable[[programs.Programs], programs.Program]


class Planner:
    """Plans the runs of a config for a target.

    Args:
        target: that this process was prepared for (`targets.set_environment`).
        say: prints a line about what is under way, or a part of the plan.
    """

    def __init__(self, target: targets.Target, options: Options, say: Callable[[str], None]):
        self._target, self._options, self._say = target, options, say
        self._devices = targets.make_devices(target)
        self._outcomes: dict[tuple, compiled.Compiled] = {}  # what is the same in two runs is compiled once
        self._found: dict[str, list] = {"layouts": [], "remedies": [], "workloads": [], "totals": []}

    def plan(self, config: ml_collections.ConfigDict, workdir: epath.Path, name: str = "") -> None:
        """Plans one run: prints, and keeps for `to_json`.

        Args:
            workdir: of the run; inputs that are generated are put there.
            name: of the run, in a sweep.

        Raises:
            UserError: config, target and models do not go together.
        """
        made = self._programs(config)
        work = workload.find(config, workdir, made.train_batches)
        self._say(report.workload_text(work, name))
        self._found["workloads"].append({"name": name} | report.workload_json(work))
        shapes = self._shapes(config, work)
        jobs = [job for length, shape in shapes for job in self._jobs(config, work, length, shape)]
        config = self._lay_out(config, work, [job for job in jobs if job.is_main][-1])
        outcomes = [
            self._compile(config, job, f"{number} of {len(jobs)}") for number, job in enumerate(jobs, start=1)
        ]
        self._say(f"\nper device, in GiB\n{report.memory_table(outcomes)}")
        self._say(f"\n{report.cost_table(outcomes)}")
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.is_main and outcome.limits is not None:
                self._say(f"\n{report.limits_table(outcome)}")
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.is_main and not outcome.fits:
                self._remedy(config, job, outcome)
        self._sum_up(config, work, name, dict.fromkeys(length for length, _ in shapes), outcomes)

    def _sum_up(self, config, work: workload.Workload, name: str, lengths, outcomes) -> None:
        """Says how long the whole run takes, as far as its stages are known."""
        if not work.ordered:
            self._say("\nthe whole run: its hours are not known without the data")
            return
        works, made = total.of_stages(work.ordered, largest_method(config)), self._programs(config)
        if self._counted(work) is not None:
            works, lengths = total.as_counted(works, work.trainings), (None,)
        for length in lengths:
            found = total.estimated(config, works, work.models, length, outcomes, made, self._target)
            if found is None:
                self._say(f"\nthe whole run: no peaks of {self._target.chip.name} to estimate its hours by")
                return
            self._say(f"\n{report.total_table(found)}")
            self._found["totals"].append({"name": name} | report.total_json(found))

    def _counted(self, work: workload.Workload) -> workload.Training | None:
        """The training whose batches were packed of data at hand, where no lengths are given."""
        measured = work.trainings[-1] if work.trainings else None
        return (
            measured if self._options.lengths is None and measured is not None and measured.shapes else None
        )

    def _programs(self, config: ml_collections.ConfigDict) -> programs.Programs:
        return programs.Programs(config, self._devices)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        steps = [report.step_json(outcome) for outcome in self._outcomes.values()]
        strong = [step["mesh"] for step in steps if step["role"] == "strong"]
        return (
            {"target": self._target.name, "mesh": strong[-1], "steps": steps}
            | self._found
            | {"chip": report.target_json(self._target)}
        )

    def _shapes(
        self, config: ml_collections.ConfigDict, work: workload.Workload
    ) -> list[tuple[int, tuple[int, int] | None]]:
        """Tokens of an example, with the (rows, tokens) of a micro-batch where they are known."""
        if (measured := self._counted(work)) is not None:
            shapes = measured.shapes
            self._say(f"shapes of micro-batches: those of {measured.label}, in the data at hand")
            return [(row_length, (num_rows, row_length)) for num_rows, row_length in shapes]
        lengths = self._options.lengths
        if lengths is None:
            lengths = workload.default_lengths(config)
            self._say(
                f"lengths of examples: {', '.join(map(str, lengths))} tokens, every one of a batch; a default for "
                f"{config.task} (--lengths sets others)"
            )
        limit = min(model.max_length for model in work.models.values())
        if longest := [length for length in lengths if length > limit]:
            raise UserError(
                f"--lengths={longest[0]} is more than the {limit} tokens that the models are given: raise "
                "config.data.max_length, or take a model with a longer context"
            )
        return [(length, None) for length in lengths]

    def _jobs(
        self, config, work: workload.Workload, length: int, shape: tuple[int, int] | None
    ) -> list[_Job]:
        settings = settings_lib.Settings.of(config)

        # Of a probe, it is the pass that makes its embeddings which needs the devices.
        def train(role: str, method: str, shape: tuple[int, int] | None = None) -> _Job:
            model = work.models[role]
            make = lambda made: made.train_step(model, method, length, shape=shape)  # noqa: E731
            return _Job(role, length, not settings.is_probe(model), make)

        def score(role: str, p_ik_head: bool) -> _Job:
            model = work.models[role]
            make = lambda made: made.scores(model, length, p_ik_head=p_ik_head)  # noqa: E731
            return _Job(role, length, settings.is_probe(model), make)

        student = largest_method(config)
        if not self._options.all_steps:
            trained = train("strong", student, shape)
            return [trained] if trained.is_main else [score("strong", False), trained]
        jobs = [_Job("strong", length, False, lambda made: made.answers(work.models["strong"], length))]
        # Weak models of one name have the same programs.
        weak = {model.name: slot for slot, model in work.models.items() if model.role == "weak"}
        for slot in weak.values():
            jobs += [train(slot, "supervised"), score(slot, False)]
        if weak:
            jobs.append(train("strong", "supervised"))
        for slot in (slot for slot, model in work.models.items() if model.role == "chain"):
            jobs += [train(slot, registry.BASELINE), score(slot, False)]
        has_p_ik_head = objectives.trains_p_ik(config, registry.METHODS[student])
        return [*jobs, score("strong", has_p_ik_head), train("strong", student, shape)]

    def _compile(self, config: ml_collections.ConfigDict, job: _Job, place: str) -> compiled.Compiled:
        program = job.make(self._programs(config))
        key = (program.name, program.model.config, program.mesh, *program[3:8], str(program.costs))
        if key not in self._outcomes:
            self._say(f"compiling {place}: {program.name}, {program.model.title}, {job.length} tokens")
            self._outcomes[key] = compiled.compile_program(program, self._target)
        return self._outcomes[key]

    def _lay_out(
        self, config: ml_collections.ConfigDict, work: workload.Workload, job: _Job
    ) -> ml_collections.ConfigDict:
        """The config with the layout that is best for a program, or that a run would choose."""
        make = lambda config: job.make(self._programs(config))  # noqa: E731
        if not self._options.search_layouts:
            overrides = search.resolve(config, make, self._target)
            if overrides:
                self._say(f"layout as a run chooses it: {report.flags(overrides)}")
            return search.with_overrides(config, overrides)
        self._say(f"trying layouts at {job.length} tokens")
        trials = search.explore(config, make, self._target)
        if not trials:
            raise UserError(
                f"the state of {work.models['strong'].name} fits in no layout of {self._target.name}: take more devices"
            )
        on_frontier = search.frontier(trials)
        self._say(report.trials_table(trials, on_frontier))
        self._found["layouts"] += [
            {"is_on_frontier": trial in on_frontier} | report.trial_json(trial) for trial in trials
        ]
        return search.with_overrides(config, trials[0].overrides)

    def _remedy(
        self,
        config: ml_collections.ConfigDict,
        job: _Job,
        outcome: compiled.Compiled,
    ) -> None:
        program = outcome.program
        self._say(f"\n{program.name} at {job.length} tokens does not fit; trying what would help")
        make = lambda config: job.make(self._programs(config))  # noqa: E731
        trial = search.find_remedy(config, make, self._target, program.model)
        if trial is None:
            least = search.fewest_devices(program, self._target.usable_bytes)
            self._say(
                f"nothing that was tried does; the state alone, {report.gib(program.state_bytes * program.mesh.size)} "
                f"GiB over all devices, needs {least} or more of them"
            )
            self._found["remedies"].append({"length": job.length, "fewest_devices": least})
            return
        self._say(f"{trial.outcome.verdict} with {report.flags(trial.overrides)}")
        self._say(report.memory_table([trial.outcome]))
        self._found["remedies"].append({"name": program.name} | report.trial_json(trial))


def run(
    config: ml_collections.ConfigDict,
    target: targets.Target,
    options: Options,
    *,
    as_json: bool = False,
    workdir: str | None = None,
) -> dict[str, Any]:
    """Plans a config for a target, and prints the plan.

    Args:
        as_json: print one JSON object on standard output; what is under way then goes to standard error.
        workdir: of the run, where there is one.

    Returns:
        The plan as JSON values.

    Raises:
        UserError: config, target and models do not go together.
    """
    say = functools.partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    runs = cells(config, target.chip.kind)
    say(report.header(target))
    planner = Planner(target, options, say)
    with tempfile.TemporaryDirectory() as scratch:
        for cell in runs:
            planner.plan(cell.config, epath.Path(workdir or scratch), cell.name)
    found = planner.to_json()
    if as_json:
        print(json.dumps(found, indent=1))
    return found


def cells(config: ml_collections.ConfigDict, platform: str | None = None) -> list[sweep.Cell]:
    """The runs of a config, each checked.

    Args:
        platform: of the devices that they are for, default that of those at hand.
    """
    config = config_lib.normalize(config)
    plugins.load(config)
    expanded = sweep.expand(config)
    for cell in expanded:
        precision.resolve(cell.config, platform or jax.default_backend())
        if cell.config.supervision != "class_head":
            raise UserError(
                f"config.supervision={cell.config.supervision}: plan and benchmark know the programs of class heads "
                "alone, and not those of models that write answers; run a few steps of the config itself instead"
            )
        for section in (cell.config, cell.config.p_ik):
            section.task = tasks.canonical_name(section.task)
        cell.config.continual.tasks = tuple(map(tasks.canonical_name, cell.config.continual.tasks))
        checks.validate(cell.config, models=forms.get(cell.config).roles(cell.config))
        plugins.check_methods(cell.config)
    unread.check([cell.config for cell in expanded])
    return expanded


def largest_method(config: ml_collections.ConfigDict) -> str:
    """The method with the most in a batch: the subject of the experiment where it is among several."""
    by_size = [name for name in config.methods if objectives.trains_p_ik(config, registry.METHODS[name])]
    subjects = [name for name in by_size if registry.METHODS[name].role == "subject"]
    return (subjects or by_size or list(config.methods))[0]
