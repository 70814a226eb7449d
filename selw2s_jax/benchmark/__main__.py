"""Measures how fast the programs of a run are on the devices at hand: training, scoring, answering, writing, loading.

python -m selw2s_jax.benchmark --config=configs/gpt2.py [--programs=train,score,answer,write,load]
                               [--method=selective] [--num_steps=20] [--warmup=3] [--data=auto|real|synthetic]
                               [--lengths=23] [--json] [--output=FILE] [--profile=5:10 --profile_dir=DIR]
                               [--config.key=value ...]

Weights are random, so none are needed; without data and tokenizer at hand examples are synthetic. An axis of
config.sweep.settings, as "execution.remat=full,none" or "mesh.shape=1x8x1,2x4x1", makes a row of each value.
"""

import os
import re

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import output


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "programs", ["train"], "What is measured: train, score, answer, write, load.", flag_values=values
    )
    flags.DEFINE_list(
        "method",
        [],
        "Methods whose train step is; default the config's, selective where it has several.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_steps", 20, "Steps or batches that are timed.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("warmup", 3, "Steps before them.", lower_bound=1, flag_values=values)
    flags.DEFINE_enum(
        "data",
        "auto",
        ("auto", "real", "synthetic"),
        "The config's task, or random tokens; auto: what is at hand.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "lengths", None, "Tokens of a synthetic example on average; default the task's.", flag_values=values
    )
    flags.DEFINE_bool(
        "json", False, "Print one JSON object on standard output, and nothing else there.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "File that the JSON object is written to besides.", flag_values=values
    )
    flags.DEFINE_string(
        "profile",
        None,
        "FIRST:LAST, timed steps from 0 to trace, LAST not included, in a run of their own.",
        flag_values=values,
    )
    flags.DEFINE_string("profile_dir", "profile", "Folder of the traces.", flag_values=values)
    flags.DEFINE_float(
        "peak_tflops",
        None,
        "Peak of one device that utilisation is measured against.",
        lower_bound=1e-6,
        flag_values=values,
    )
    cli.define_config_flag(values)


def _parse_lengths(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isdecimal() and int(text) > 0):
        raise UserError(f"--lengths={text} must be a number of tokens, as 23")
    return int(text)


def _parse_range(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"(\d+):(\d+)", text)):
        raise UserError(f"--profile={text} must be FIRST:LAST, as 5:10, for the timed steps 5 to 9")
    return int(found[1]), int(found[2])


def _run(values: flags.FlagValues) -> None:
    mean_length = _parse_lengths(values.lengths)
    window = None if values.profile is None else _parse_range(values.profile)
    if values.output is None:
        output.end_with_reader()
    # What a cache holds would be read in no time.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    from selw2s_jax.benchmark import measure, runner

    options = runner.Options(
        programs=tuple(values.programs),
        methods=tuple(values.method),
        num_steps=values.num_steps,
        warmup=values.warmup,
        data=values.data,
        mean_length=mean_length,
        profile=None if window is None else measure.Profile(*window, values.profile_dir),
        peak_flops=None if values.peak_tflops is None else values.peak_tflops * 1e12,
    )
    runner.run(values.config, options, as_json=values.json, output=values.output)


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
