"""Runs Selective Weak-to-Strong Generalization from a config.

python -m selw2s_jax.main --config=configs/qwen.py[:arguments] [--workdir=DIR] [--config.key=value ...]
"""

import pathlib

from absl import flags

from selw2s_jax import cli

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of artifacts and results; default runs/<config>-<arguments>."
)
cli.define_config_flag()
cli.define_process_flags()


def _default_workdir() -> pathlib.Path:
    path, _, arguments = flags.FLAGS["config"].config_filename.partition(":")
    parts = [pathlib.Path(path).stem, *filter(None, arguments.split(","))]
    return pathlib.Path("runs") / "-".join(parts)


def main() -> None:
    cli.start_processes()
    from selw2s_jax import pipeline

    workdir = _WORKDIR.value or _default_workdir()
    pipeline.run(flags.FLAGS.config, workdir)


if __name__ == "__main__":
    cli.run(main)
