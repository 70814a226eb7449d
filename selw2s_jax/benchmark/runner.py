"""Runs a benchmark: every program of every run of a sweep, one after the other, as a table or as JSON."""

import functools
import gc
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections
from etils import epath

from selw2s_jax.benchmark import forms, loading, measure, peaks, report, workloads
from selw2s_jax.errors import UserError
from selw2s_jax.method import registry
from selw2s_jax.plan import forms as plan_forms
from selw2s_jax.plan import planner, workload
from selw2s_jax.run import sweep
from selw2s_jax.runtime import places, storage

PROGRAMS = ("train", "score", "answer", "write", "load")


class Options(NamedTuple):
    """What is measured.

    Attributes:
        programs: of `PROGRAMS`.
        methods: whose train step is; none for the config's, `selective` where it is among several.
        num_steps: steps or batches that are timed; warmup: those before them.
        data: of `example_texts.SOURCES`.
        mean_length: tokens of a synthetic example; None for the task's.
        profile: steps of each program to trace, and the folder, or None.
        peak_flops: of one device, per second; None to find it.
    """

    programs: tuple[str, ...] = ("train",)
    methods: tuple[str, ...] = ()
    num_steps: int = 20
    warmup: int = 3
    data: str = "auto"
    mean_length: int | None = None
    profile: measure.Profile | None = None
    peak_flops: float | None = None


class Benchmark:
    """Measures the runs of a sweep.

    Args:
        say: prints a line about what is under way.
    """

    def __init__(self, options: Options, say: Callable[[str], None]):
        self._options, self._say = options, say
        self._peaks: dict[str, peaks.Peak] = {}
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def measure(self, cell: sweep.Cell, workdir: epath.Path) -> None:
        """Adds a row for each program of a run.

        Args:
            workdir: where inputs that are generated are put.

        Raises:
            UserError: config, devices and models do not go together.
        """
        options, config = self._options, cell.config
        model = workload.find_model(config, "strong", workdir)
        form = forms.get(config)
        found = form.find(config, model, workdir, source=options.data, mean_length=options.mean_length)
        made = form.workloads(config, model, found, options.warmup + options.num_steps)
        name = f"{cell.name}: " if cell.name else ""
        self._say(f"{name}{model.title}; examples: {found.described}")
        methods = options.methods or (plan_forms.get(config).subject(config),)
        common = {"model": model.name, "axes": cell.axes, "data": found.described}
        makers = [(one, functools.partial(made.train, one)) for one in methods]
        for program in options.programs:
            if program == "train":
                for method, make in makers:
                    self._add(common | {"program": "train", "method": method}, config, make)
            elif program == "score":
                make = functools.partial(
                    made.score, p_ik_head=any(registry.METHODS[m].uses_p_ik for m in methods)
                )
                self._add(common | {"program": "score", "method": None}, config, make)
            elif program == "answer":
                self._add(common | {"program": "answer", "method": None}, config, made.answer)
            elif program == "write":
                head = common | {"program": "write", "method": None}
                self._add_row(head, lambda: report.write_row(made.write()))
            else:
                self._load(common, made, model)

    def _add(self, head: dict[str, Any], config, make: Callable[[], workloads.Workload]) -> None:
        """Measures one program that is called step by step."""
        options = self._options
        profile = options.profile
        if profile is not None:
            parts = [head["program"], head["method"] or "", *(f"{k}={v}" for k, v in head["axes"].items())]
            name = re.sub(r"[^\w.,=+-]+", "-", "-".join(filter(None, parts)))
            profile = profile._replace(folder=str(pathlib.Path(profile.folder) / name))

        def measured() -> dict[str, Any]:
            work = make()
            found = measure.measure(work, warmup=options.warmup, profile=profile)
            return report.row(
                work, found, self._peak(work.program.mesh.devices, config.precision.compute_dtype)
            )

        if self._add_row(head, measured) and profile is not None:
            self._say(f"    trace of steps {profile.first} to {profile.stop - 1} in {profile.folder}")

    def _add_row(self, head: dict[str, Any], measured: Callable[[], dict[str, Any]]) -> bool:
        """Adds what is measured; False, and a row that says so, where it needs more memory than there is."""
        self._say(f"  {head['program']} {head['method'] or ''}".rstrip())
        try:
            self.rows.append(head | measured())
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            self._say("    out of memory")
            self.rows.append(head | {"error": report.OUT_OF_MEMORY})
            gc.collect()  # what was on the devices
            return False
        gc.collect()  # nnx.merge leaves reference cycles, which would keep arrays on the devices
        return True

    def _load(self, head: dict[str, Any], made: workloads.Workloads, model) -> None:
        head = head | {"program": "load", "method": None}
        if reason := loading.why_not(model):
            note = f"load of {model.name} is left out: {reason}"
            if note not in self.notes:
                self.notes.append(note)
                self._say(f"  {note}")
            return
        self._say("  load")
        self.rows.append(head | report.load_row(loading.measure(model, made.trained_settings())))
        gc.collect()

    def _peak(self, devices, dtype: str) -> peaks.Peak:
        if self._options.peak_flops is not None:
            return peaks.Peak(self._options.peak_flops * devices.size, "--peak_tflops")
        key = f"{dtype} {devices.size}"
        if key not in self._peaks:
            self._peaks[key] = peaks.find(devices, dtype)
        return self._peaks[key]


def run(
    config: ml_collections.ConfigDict,
    options: Options,
    *,
    as_json: bool = False,
    output: str | None = None,
) -> dict[str, Any]:
    """Measures the runs of a config, and prints what was found.

    Args:
        as_json: print one JSON object on standard output; what is under way then goes to standard error.
        output: file that the JSON object is written to besides.

    Returns:
        The benchmark as JSON values.

    Raises:
        UserError: options, config, devices and models do not go together; or nothing fitted into memory.
    """
    cells = _cells(config, options)
    # What cannot be written is known before anything is measured.
    if output is not None:
        output = os.path.expanduser(output)
        storage.make_folder(epath.Path(output).parent)
        places.check_output_file(output, "--output")
    if options.profile is not None:
        if not storage.is_local(options.profile.folder):
            raise UserError(f"--profile_dir={options.profile.folder} must be a folder of this machine")
        pathlib.Path(options.profile.folder).mkdir(parents=True, exist_ok=True)
    say = functools.partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    benchmark = Benchmark(options, say)
    with tempfile.TemporaryDirectory() as scratch:
        for cell in cells:
            benchmark.measure(cell, epath.Path(scratch))
    found = report.to_json(benchmark.rows, benchmark.notes, options.num_steps, options.warmup)
    text = json.dumps(found, indent=1)
    print(text if as_json else report.text(found), flush=True)
    if output is not None:
        storage.write_bytes(output, f"{text}\n".encode())
    if benchmark.rows and all("error" in row for row in benchmark.rows):
        raise UserError(
            "out of device memory, in every row: take a larger mesh, config.execution.remat=full or a smaller "
            "config.training.micro_batch_size (config.execution.score_tokens for score and answer)"
        )
    return found


def _cells(config: ml_collections.ConfigDict, options: Options) -> list[sweep.Cell]:
    """The runs to measure, each checked, with the methods that are asked for as its own."""
    _check_names("programs", options.programs, PROGRAMS)
    if unknown := [name for name in options.programs if name not in forms.get(config).programs]:
        raise UserError(
            f"--programs={unknown[0]} is of models with class heads, and config.supervision={config.supervision}: "
            f"choose from {', '.join(forms.get(config).programs)}"
        )
    if (
        options.profile is not None
        and not 0 <= options.profile.first < options.profile.stop <= options.num_steps
    ):
        raise UserError(
            f"--profile={options.profile.first}:{options.profile.stop} must be FIRST:LAST with "
            f"0 <= FIRST < LAST <= {options.num_steps}, the timed steps"
        )
    config = config.copy_and_resolve_references()
    cells = planner.cells(config)  # which loads plugins, whose methods are known from here on
    if options.methods:
        form = forms.get(config)
        _check_names("method", options.methods, form.methods())
        config.methods = tuple(name for name in options.methods if name in form.students()) or config.methods
        cells = planner.cells(config)
    return cells


def _check_names(flag: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """UserError that lists what a flag takes, where one of its names is not known, twice there, or there is none."""
    for name in names:
        if name not in known:
            raise UserError(f"--{flag}={name!r} is not known: choose from {', '.join(known)}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"--{flag}={','.join(names)} must name each once: choose from {', '.join(known)}")
