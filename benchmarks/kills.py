"""A run killed anywhere, any number of times, ends with the result it would have had.

    python benchmarks/kills.py --kills=50 --seed=0 --output=benchmarks/results/kills.json
    python benchmarks/kills.py --kills=10 --layout=1,1,1 --resume-layout=2,2,1
    python benchmarks/kills.py --run=completion --kills=20
    python benchmarks/kills.py --run=two_stage --kills=20

One run of `tests/support/kill_config.py` goes through untouched: pretraining, few-shot scoring, students, evaluation;
with `--run=completion` models that write, their answers, students, evaluation; with `--run=two_stage` students that an
earlier one teaches, on rows that labels choose. A state is saved every 5 steps. Then,
trial by trial, the same command is started in a fresh workdir, gets SIGKILL or SIGTERM at a random moment, is started
again, and so on up to four times, until it ends by itself. Moments are chosen by what the run is doing, so that
training, saving, scoring and evaluation all get their share; the process is frozen first and its workdir looked at, so
that each record says what was really hit. A SIGTERM must end in exit status 75. At the end everything that the run made
must equal the untouched run bit for bit: names of artifacts, weights, tables, summaries and results (without times),
and the metrics of each step, each once. Results name the commit, so the checkout must not change meanwhile.

With `--resume-layout` every second start is on that mesh. Sums then come in another order, and only final weights
are compared: every array to 1e-5 of its own largest value. Adam divides a gradient by its own size, so that where
a gradient is next to nothing but rounding, so is the update. The config's `gentle` form therefore has learning
rates of 1e-7: between 1,1,1 and 2,2,1 no array then differs by more than 5e-6 without any kill. One step lost or
done twice still shows, as heads and biases start at zero and consist of a run's steps alone.
"""

import argparse
import collections
import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import run_differences

REPO = pathlib.Path(__file__).resolve().parent.parent
SAVED_AND_STOPPED = 75
LAYOUT_TOLERANCE = 1e-5
_TICK = 0.002  # seconds between two looks at a run
_TIME_LIMIT = 600.0  # seconds of one run
_MAX_KILLS = 4  # of one trial
# How often a moment is drawn in each phase; the numbers are shares.
_SHARES = {"training": 7, "saving": 6, "scoring": 4, "evaluation": 6, "starting": 1, "results": 1}


@dataclasses.dataclass(frozen=True)
class Look:
    """What a run was doing at one moment, from its output and its workdir.

    Attributes:
        phase: starting, training, saving, scoring, evaluation, between stages, or results.
        stage: label of the open stage, or of the last one.
        step: the last whose metrics are logged, where the stage trains.
        stages_left: after this one, once the stages have begun.
    """

    phase: str
    stage: str
    step: int | None = None
    stages_left: int | None = None


@dataclasses.dataclass(frozen=True)
class Moment:
    """When to kill.

    Attributes:
        phase: what the run should be doing.
        stage: label of the stage; "" for starting and results.
        at: step to be reached (training, saving), or seconds since the phase began.
        delay: seconds to wait then.
    """

    phase: str
    stage: str
    at: float
    delay: float = 0.0


class Run:
    """One process of the command, with its output in a file.

    Args:
        workdir: of the run.
        config: config file and arguments.
        cache: folder of JAX's compilation cache.
        layout: mesh shape; as many CPU devices are made.
        log: file that the output is added to.
    """

    def __init__(
        self, workdir, *, config: str, cache: pathlib.Path, layout: tuple[int, ...], log: pathlib.Path
    ):
        self.workdir, self._log = workdir, log
        self._offset = log.stat().st_size if log.exists() else 0
        self._opened: dict[str, float] = {}
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            # The second flag: with programs from the cache, collectives side by side on CPU block each other for good.
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={math.prod(layout)} "
            "--xla_cpu_enable_concurrency_optimized_scheduler=false",
            "PYTHONUNBUFFERED": "1",
        }
        shape = ",".join(map(str, layout))
        command = [
            sys.executable, "-m", "selw2s_jax.main", f"--config={config}", f"--workdir={workdir}",
            f"--config.mesh.shape=({shape})",
        ]  # fmt: skip
        self._began = time.time()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=REPO, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")

    def look(self) -> Look:
        """What the run is doing now."""
        number, total, stage, is_open = 0, 1, "", False
        for line in self.output.splitlines():
            if found := re.fullmatch(r"\[(\d+)/(\d+)\] (.*)", line):
                number, total, stage, is_open = int(found[1]), int(found[2]), found[3], True
            elif re.fullmatch(r"  [\d.]+ s", line):
                is_open = False
        if stage:
            self._opened.setdefault(stage if is_open or number < total else "results", time.time())
        if not stage:
            return Look("starting", "")
        left = total - number
        if not is_open:
            return Look("between stages" if left else "results", stage, stages_left=left)
        phase = phase_of(stage)
        step = self._last_step(stage) if phase == "training" else None
        return Look("saving" if self._is_saving() else phase, stage, step, left)

    def timeline(self) -> dict[str, float]:
        """Seconds of the start (""), of each stage in order, and of "results", once the run has ended by itself."""
        while self.process.poll() is None and time.time() - self._began < _TIME_LIMIT:
            self.look()
            time.sleep(_TICK)
        self.finish()
        times = [self._began, *self._opened.values(), time.time()]
        seconds = [end - begin for begin, end in itertools.pairwise(times)]
        return dict(zip(["", *self._opened], seconds, strict=True))

    def wait_for(self, moment: Moment) -> bool:
        """Waits for a moment, or the first one after it; False where the run ends before."""
        while self.process.poll() is None and time.time() - self._began < _TIME_LIMIT:
            if self._has_reached(moment, self.look()):
                time.sleep(moment.delay)
                return self.process.poll() is None
            time.sleep(_TICK)
        return False

    def _has_reached(self, moment: Moment, now: Look) -> bool:
        if moment.phase == "starting":
            return time.time() - self._began >= moment.at
        place = moment.stage or "results"
        if place not in self._opened:
            is_done = re.search(
                rf"^  done +{re.escape(place)}  ", self.output, re.MULTILINE
            )  # by an earlier process
            return now.phase == "results" or (is_done is not None and now.stage != "")
        if moment.phase in ("training", "saving") and now.stage == place:
            return now.phase == moment.phase and now.step is not None and now.step >= moment.at
        return now.stage != moment.stage or time.time() - self._opened[place] >= moment.at

    def kill(self, number: signal.Signals) -> tuple[Look, int]:
        """Sends a signal to the frozen process; what it was doing, and its exit status."""
        self.process.send_signal(signal.SIGSTOP)
        look = self.look()
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        return look, self.finish()

    def finish(self) -> int:
        """The exit status, once the process has ended; one that hangs is killed."""
        try:
            return self.process.wait(timeout=_TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _last_step(self, stage: str) -> int | None:
        name = stage.replace(", ", "-").replace(" ", "-")
        logs = [path for path in self.workdir.glob(f"logs/{name}-*.jsonl") if self._is_of_this_run(path)]
        lines = max(logs, key=lambda path: path.stat().st_mtime).read_text().splitlines() if logs else []
        whole = [line for line in lines if line.endswith("}")]
        return json.loads(whole[-1])["step"] if whole else None

    def _is_saving(self) -> bool:
        """Whether a checkpoint or an artifact is half written."""
        half_written = run_differences.unfinished_artifacts(self.workdir)
        unfinished = run_differences.unfinished_checkpoints(self.workdir)
        return any(map(self._is_of_this_run, (*half_written, *unfinished)))

    def _is_of_this_run(self, path: pathlib.Path) -> bool:
        try:
            return path.stat().st_mtime >= self._began
        except FileNotFoundError:
            return False


def phase_of(stage: str) -> str:
    """What a stage of that label does."""
    if stage.startswith(("few-shot answers", "weak labels", "labels of", "weak answers", "P(IK) scores")):
        return "scoring"
    return "evaluation" if stage.startswith(("evaluation", "P(IK) test")) else "training"


def draw_moments(
    rng: random.Random, timeline: dict[str, float], num_steps: dict[str, int], count: int
) -> list:
    """Moments in the order in which a run comes to them.

    Args:
        timeline: from `Run.timeline`.
        num_steps: of each stage that trains.
        count: how many.
    """
    stages = [name for name in timeline if name not in ("", "results")]
    moments = []
    for phase in rng.choices(list(_SHARES), weights=list(_SHARES.values()), k=count):
        if phase in ("training", "saving"):
            stage, delay = rng.choice(list(num_steps)), 0.002 if phase == "training" else 0.03
            moments.append(Moment(phase, stage, rng.randrange(num_steps[stage]), rng.uniform(0, delay)))
        elif phase in ("scoring", "evaluation"):
            stage = rng.choice([name for name in stages if phase_of(name) == phase])
            moments.append(Moment(phase, stage, rng.uniform(0, 0.7 * timeline[stage])))
        else:
            moments.append(Moment(phase, "", rng.uniform(0, timeline["" if phase == "starting" else phase])))
    place = {"starting": -1, "results": len(stages)}
    return sorted(moments, key=lambda m: (place.get(m.phase, stages.index(m.stage) if m.stage else 0), m.at))


def is_expected(number: signal.Signals, look: Look, status: int, output: str) -> bool:
    """Whether a run may answer a signal with this exit status."""
    if number == signal.SIGKILL:
        return status == -signal.SIGKILL
    if status == SAVED_AND_STOPPED:
        return True
    # A process that has not come to its first line has no handler yet; one in its last stage may end.
    return (status == -signal.SIGTERM and not output) or (status == 0 and look.stages_left == 0)


@dataclasses.dataclass
class Trial:
    """A run that was killed and started again until it ended.

    Attributes:
        kills: of each, the signal, what it hit, the exit status and whether that is right, and the step at which
            the stage went on where it trains.
        status: with which it ended at last.
        output: of all its processes.
    """

    kills: list[dict[str, Any]]
    status: int
    output: str


def run_trial(workdir: pathlib.Path, kills: list[tuple[Moment, signal.Signals]], starts: list[dict]) -> Trial:
    """Starts, kills and resumes a run.

    Args:
        workdir: fresh; the output goes to a file beside it.
        kills: one for each start but the last.
        starts: arguments of `Run` for each start, repeated from the beginning as needed.
    """
    trial = Trial([], 0, "")
    for number in range(len(kills) + 1):
        run = Run(workdir, **starts[number % len(starts)], log=workdir.with_suffix(".log"))
        moment, sent = kills[number] if number < len(kills) else (None, None)
        if moment is not None and run.wait_for(moment):
            look, trial.status = run.kill(sent)
            record = {"signal": sent.name, "aimed_at": moment.phase, **dataclasses.asdict(look)}
            expected = is_expected(sent, look, trial.status, run.output)
            record |= {"exit_status": trial.status, "expected": expected, "resumed_at_step": None}
        else:
            trial.status, record = run.finish(), None
        trial.output += run.output
        _note_resumption(trial.kills, run.output)
        trial.kills += [record] if record else []
        if record is None or trial.status == 0:
            break
    return trial


def _note_resumption(kills: list[dict[str, Any]], output: str) -> None:
    """Notes in the last kill at which step its stage went on."""
    if kills:
        stage = re.escape(f"] {kills[-1]['stage']}\n")
        # Up to the next stage: a state that was half written makes a library say so in between.
        if found := re.search(rf"{stage}(?:(?!\[\d).*\n)*?  going on from step (\d+)", output):
            kills[-1]["resumed_at_step"] = int(found[1])


@dataclasses.dataclass
class Study:
    """Untouched runs, and trials that are compared with them.

    Args:
        folder: of everything; holds the workdirs of trials that failed.
        layout, resume_layout: mesh shapes of odd and even starts; None: all on the first, compared bit for bit.
        run: argument of `kill_config.py`, None for none.
    """

    folder: pathlib.Path
    layout: tuple[int, ...] = (1, 1, 1)
    resume_layout: tuple[int, ...] | None = None
    run: str | None = None

    def __post_init__(self):
        arguments = [*([self.run] if self.run else []), *(["gentle"] if self.resume_layout else [])]
        config = ":".join(["tests/support/kill_config.py", *([",".join(arguments)] if arguments else [])])
        layouts = [self.layout, *([self.resume_layout] if self.resume_layout else [])]
        self._starts = [
            {"config": config, "cache": self.folder / "cache", "layout": layout} for layout in layouts
        ]
        self.reference = self.folder / "reference"

    def untouched(self, name: str, start: int = 0) -> dict[str, float]:
        """Runs through; returns its timeline."""
        log = self.folder / f"{name}.log"
        run = Run(self.folder / name, **self._starts[start], log=log)
        timeline = run.timeline()
        if run.process.returncode:
            raise SystemExit(
                f"error: a run that nobody killed ended with {run.process.returncode}; see {log}"
            )
        return timeline

    def start(self) -> None:
        """Fills the compilation cache and makes the reference, twice: runs that nobody killed must agree."""
        self.untouched("cold")
        self.timeline = self.untouched("reference")
        self.num_steps = {}
        for stage in filter(None, self.timeline):
            name = stage.replace(", ", "-").replace(" ", "-")
            for path in self.reference.glob(f"logs/{name}-*.jsonl"):
                self.num_steps[stage] = len(path.read_text().splitlines())
        if self.resume_layout:
            self.untouched("other-layout", start=1)
        others = ["cold", *(["other-layout"] if self.resume_layout else [])]
        for name in others:
            if faults := self.compare(self.folder / name):
                raise SystemExit(f"error: runs that nobody killed differ ({name}): {'; '.join(faults[:5])}")

    def compare(self, workdir: pathlib.Path) -> list[str]:
        """What is wrong with a finished run."""
        if self.resume_layout is None:
            return run_differences.differences(self.reference, workdir)
        deviation = run_differences.largest_deviation(self.reference, workdir)
        self.worst = max(getattr(self, "worst", 0.0), deviation)
        return [] if deviation <= LAYOUT_TOLERANCE else [f"weights differ by {deviation:.2g} of their scale"]

    def trial(self, name: str, kills: list[tuple[Moment, signal.Signals]]) -> dict[str, Any]:
        """One run, killed, resumed and compared; its workdir is kept only where something is wrong."""
        workdir = self.folder / name
        done = run_trial(workdir, kills, self._starts)
        faults = [
            f"{kill['signal']} in {kill['phase']} ended in {kill['exit_status']}"
            for kill in done.kills
            if not kill["expected"]
        ]
        # Half a state is never taken for a whole one, so that none is ever found to be damaged.
        faults += re.findall(r".*is damaged.*", done.output)
        faults += self.compare(workdir) if done.status == 0 else [f"the last start ended in {done.status}"]
        if not faults:
            shutil.rmtree(workdir)
            workdir.with_suffix(".log").unlink()
        kills = [kill | {"resumed_ok": not faults} for kill in done.kills]
        return {"trial": name, "kills": kills, "equal": not faults, "faults": faults}


def summarize(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Kills and those that ended well, by phase and by signal."""
    totals = {"all": [0, 0]}
    counts = collections.defaultdict(lambda: [0, 0], totals)
    for kill in (kill for trial in trials for kill in trial["kills"]):
        for name in ("all", kill["phase"], kill["signal"], f"{kill['signal']} in {kill['phase']}"):
            counts[name][0] += 1
            counts[name][1] += kill["resumed_ok"]
    return {name: {"kills": kills, "resumed_ok": good} for name, (kills, good) in sorted(counts.items())}


def run_study(study: Study, *, num_kills: int, seed: int) -> list[dict[str, Any]]:
    """Trials until so many kills have hit."""
    rng = random.Random(seed)
    trials, hit = [], 0
    while hit < num_kills:
        moments = draw_moments(rng, study.timeline, study.num_steps, rng.randint(1, _MAX_KILLS))
        kinds = [signal.SIGKILL, signal.SIGTERM]
        kills = [(moment, kinds[(hit + n + seed) % 2]) for n, moment in enumerate(moments[: num_kills - hit])]
        trial = study.trial(f"trial-{len(trials):02d}", kills)
        trials.append(trial)
        hit += len(trial["kills"])
        hits = ", ".join(f"{kill['signal']} in {kill['phase']}" for kill in trial["kills"]) or "no kill"
        print(
            f"{hit}/{num_kills}  {trial['trial']}: {hits}: {'; '.join(trial['faults']) or 'equal'}",
            flush=True,
        )
    return trials


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", default="1,1,1", help="data,fsdp,tensor")
    parser.add_argument("--resume-layout", help="of every second start")
    parser.add_argument(
        "--run", choices=["completion", "two_stage"], help="another run than that of models with class heads"
    )
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    start = time.monotonic()
    layouts = [
        tuple(map(int, text.split(","))) for text in (arguments.layout, arguments.resume_layout) if text
    ]
    if len(layouts) == 1:
        layouts.append(None)
    study = Study(pathlib.Path(tempfile.mkdtemp(prefix="kills-")), *layouts, arguments.run)
    study.start()
    trials = run_study(study, num_kills=arguments.kills, seed=arguments.seed)
    totals = summarize(trials)
    failed = [trial["trial"] for trial in trials if not trial["equal"]]
    summary = [
        f"{totals['all']['resumed_ok']} of {totals['all']['kills']} kills ended in the untouched result"
    ]
    summary += [f"{name}: {n['resumed_ok']} of {n['kills']}" for name, n in totals.items() if " in " in name]
    report = {
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {n: importlib.metadata.version(n) for n in ("jax", "flax", "orbax-checkpoint", "numpy")},
        "command": " ".join(["python benchmarks/kills.py", *sys.argv[1:]]),
        "compared": "final weights" if study.resume_layout else "everything, bit for bit",
        "seconds": round(time.monotonic() - start),
        "summary": summary,
        "totals": totals,
        "trials": trials,
    }
    if study.resume_layout:
        report |= {"tolerance": LAYOUT_TOLERANCE, "largest_deviation": study.worst}
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(summary))
    if failed:
        sys.exit(f"error: {', '.join(failed)} failed; workdirs and output in {study.folder}")
    shutil.rmtree(study.folder)


if __name__ == "__main__":
    main()
