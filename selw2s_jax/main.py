"""Runs Selective Weak-to-Strong Generalization from a config.

python -m selw2s_jax.main --config=configs/qwen.py[:arguments] [--workdir=DIR] [--dry_run] [--config.key=value ...]
"""

import pathlib

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of artifacts and results; default runs/<config>-<arguments>."
)
_SHARD = flags.DEFINE_string(
    "shard", "0/1", "i/n, from 0: this is the i-th of n processes that share out the work in one workdir."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Only read and check everything, and show the plan and what the models are given to read.",
)
cli.define_config_flag()
cli.define_process_flags()


def _default_workdir() -> pathlib.Path:
    path, _, arguments = flags.FLAGS["config"].config_filename.partition(":")
    parts = [pathlib.Path(path).stem, *filter(None, arguments.split(","))]
    return pathlib.Path("runs") / "-".join(parts)


def main() -> None:
    shard = _parse_shard(_SHARD.value)
    cli.start_processes()
    from selw2s_jax.run import pipeline

    workdir = _WORKDIR.value or _default_workdir()
    start = pipeline.show if _DRY_RUN.value else pipeline.run
    start(flags.FLAGS.config, workdir, shard=shard)


def _parse_shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        number, count = map(int, parts)
        if number < count:
            return number, count
    raise UserError(f"--shard={text} must be i/n with 0 <= i < n, such as 0/4 for the first of four")


if __name__ == "__main__":
    cli.run(main)
