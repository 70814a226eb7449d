"""Plans a run without the hardware that it is for: what it is made of, whether it fits, and about how long it takes.

python -m selw2s_jax.plan --config=configs/qwen.py --target=a100-80gb:8 [--lengths=128,512] [--steps=all] [--mesh=auto]
                          [--json] [--config.key=value ...]

The programs of the run are compiled for the target on this machine. It needs no accelerator, weights, data, tokenizer
or network.
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError
from selw2s_jax.plan import targets

_TARGET = flags.DEFINE_string(
    "target",
    None,
    "What the run is planned for: a100-80gb:8, tpu-v5p:2x2x1, cpu:8; an unknown one lists them.",
)
_LENGTHS = flags.DEFINE_string(
    "lengths", None, "Tokens of an example, as 128,512; default measured from data at hand, else the task's."
)
_STEPS = flags.DEFINE_enum(
    "steps", "train", ("train", "all"), "Compile the student's train step, or all programs of the run."
)
_MESH = flags.DEFINE_enum(
    "mesh", "config", ("config", "auto"), "The mesh of the config, or the best of all shapes by estimate."
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object on standard output, and nothing else there.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, to see which of its stages are done.")
cli.define_config_flag()


def _parse_lengths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--lengths={text} must be numbers of tokens, as 128,512,1024")
    return tuple(dict.fromkeys(map(int, parts)))


def main() -> None:
    lengths, target = _parse_lengths(_LENGTHS.value), targets.parse(_TARGET.value)
    targets.set_environment(target)
    from selw2s_jax.plan import planner

    options = planner.Options(lengths, _STEPS.value == "all", _MESH.value == "auto")
    planner.run(flags.FLAGS.config, target, options, as_json=_JSON.value, workdir=_WORKDIR.value)


if __name__ == "__main__":
    cli.run(main)
