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
from selw2s_jax.plan import compiled, forms, jobs, programs, report, search, targets, total, workload
from selw2s_jax.run import forms as run_forms
from selw2s_jax.run import sweep


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
        form = forms.get(config)
        work = workload.find(config, workdir, made.train_batches, form.source)
        self._say(report.workload_text(work, name))
        self._found["workloads"].append({"name": name} | report.workload_json(work))
        sizes, all_steps = self._sizes(config, work), self._options.all_steps
        listed = [job for one in sizes for job in form.jobs(config, work, one, all_steps=all_steps)]
        config = self._lay_out(config, work, [job for job in listed if job.is_main][-1])
        outcomes = [
            self._compile(config, job, f"{number} of {len(listed)}")
            for number, job in enumerate(listed, start=1)
        ]
        self._say(f"\nper device, in GiB\n{report.memory_table(outcomes)}")
        self._say(f"\n{report.cost_table(outcomes)}")
        for job, outcome in zip(listed, outcomes, strict=True):
            if job.is_main and outcome.limits is not None:
                self._say(f"\n{report.limits_table(outcome)}")
        for job, outcome in zip(listed, outcomes, strict=True):
            if job.is_main and not outcome.fits:
                self._remedy(config, job, outcome)
        self._sum_up(config, work, name, sizes, outcomes)

    def _sum_up(self, config, work: workload.Workload, name: str, sizes, outcomes) -> None:
        """Says how long the whole run takes, as far as its stages are known."""
        if not work.ordered:
            self._say("\nthe whole run: its hours are not known without the data")
            return
        subject, made = forms.get(config).subject(config), self._programs(config)
        works = total.of_stages(work.ordered, subject)
        if self._counted(work) is not None:
            works, sizes = total.as_counted(works, work.trainings), (None,)
        for one in sizes:
            found = total.estimated(config, works, work.models, one, outcomes, made, self._target)
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

    def _sizes(
        self, config: ml_collections.ConfigDict, work: workload.Workload
    ) -> tuple[workload.Sizes, ...]:
        """Of examples, with the shapes of micro-batches where they are known."""
        if (measured := self._counted(work)) is not None:
            self._say(f"shapes of micro-batches: those of {measured.label}, in the data at hand")
            return tuple(map(measured.sizes, measured.shapes))
        sizes, lengths = forms.get(config).default_sizes(config), self._options.lengths
        answers = f"as is usual for {config.task}"
        if lengths is not None:
            sizes = tuple(sizes[0]._replace(length=length) for length in lengths)
            if work.trainings and work.trainings[-1].mean_answer:
                answers, num_answer = "as in the data at hand", work.trainings[-1].largest.num_answer
                sizes = tuple(one._replace(num_answer=num_answer) for one in sizes)
        else:
            self._say(
                f"lengths of examples: {', '.join(str(one.length) for one in sizes)} tokens, every one of a batch; a "
                f"default for {config.task} (--lengths sets others)"
            )
        if sizes[0].num_answer:
            of_answer = dict.fromkeys(str(one.of_completion["num_answer"]) for one in sizes)
            self._say(f"of these {', '.join(of_answer)} of the answer, {answers}")
        limit = min(model.max_length for model in work.models.values())
        if longest := [one.length for one in sizes if one.length > limit]:
            raise UserError(
                f"--lengths={longest[0]} is more than the {limit} tokens that the models are given: raise "
                "config.data.max_length, or take a model with a longer context"
            )
        return sizes

    def _compile(self, config: ml_collections.ConfigDict, job: jobs.Job, place: str) -> compiled.Compiled:
        program = job.make(self._programs(config))
        key = (program.name, program.model.config, program.mesh, *program[3:8], str(program.costs))
        if key not in self._outcomes:
            self._say(f"compiling {place}: {program.name}, {program.model.title}, {job.length} tokens")
            self._outcomes[key] = compiled.compile_program(program, self._target)
        return self._outcomes[key]

    def _lay_out(
        self, config: ml_collections.ConfigDict, work: workload.Workload, job: jobs.Job
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
        job: jobs.Job,
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
        for section in (cell.config, cell.config.p_ik):
            section.task = tasks.canonical_name(section.task)
        cell.config.continual.tasks = tuple(map(tasks.canonical_name, cell.config.continual.tasks))
        form = run_forms.get(cell.config)
        checks.validate(cell.config, models=form.roles(cell.config))
        form.check_methods(cell.config)
    unread.check([cell.config for cell in expanded])
    return expanded
