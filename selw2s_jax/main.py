"""Runs Selective Weak-to-Strong Generalization from a config.

python -m selw2s_jax.main --config=configs/qwen.py[:arguments] [--workdir=DIR] [--config.key=value ...]
                          [--dry_run | --prefetch]
"""

import pathlib

from absl import flags

from selw2s_jax import arguments, cli
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import output


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of artifacts and results; default runs/<config>-<arguments>.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "shard",
        "0/1",
        "i/n, from 0: this is the i-th of n processes that share out the work in one workdir.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Only read and check everything, and show the plan and what the models are given to read.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "prefetch",
        False,
        "Only download what the run reads from the Hugging Face hub, check it, and say how large it is.",
        flag_values=values,
    )
    cli.define_config_flag(values)
    cli.define_process_flags(values)


def _default_workdir(config_file: str) -> pathlib.Path:
    path, _, given = config_file.partition(":")
    name = pathlib.Path(path).stem
    if arguments.is_saved(path):  # not the folder of the run that it is of, where all is done
        name = f"{pathlib.Path(path).resolve().parent.name}-again"
    parts = [name, *filter(None, given.split(","))]
    return pathlib.Path("runs") / "-".join(parts).replace("/", "_")  # one folder, also for names on the hub


def _run(values: flags.FlagValues) -> None:
    shard = _parse_shard(values.shard)
    cli.start_processes(values)
    from selw2s_jax.run import pipeline

    start = arguments.start_of(values)
    workdir = values.workdir or _default_workdir(start.config_file)
    if values.prefetch and values.dry_run:
        raise UserError("--prefetch downloads and --dry_run shows what is run: give one of them")
    if values.prefetch:
        pipeline.prefetch(values.config, workdir)
        return
    if values.dry_run:
        output.end_with_reader()
        pipeline.show(values.config, workdir, shard=shard)
    else:
        pipeline.run(values.config, workdir, shard=shard, start=start)


def _parse_shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        number, count = map(int, parts)
        if number < count:
            return number, count
    raise UserError(f"--shard={text} must be i/n with 0 <= i < n, such as 0/4 for the first of four")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
