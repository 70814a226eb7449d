"""Plans a run without the hardware that it is for: what it is made of, whether it fits, and about how long it takes.

python -m selw2s_jax.plan --config=configs/qwen.py --target=a100-80gb:8 [--lengths=128,512] [--steps=all]
                          [--layout=auto] [--json] [--config.key=value ...]

The programs of the run are compiled for the target on this machine. It needs no accelerator, weights, data, tokenizer
or network.
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError
from selw2s_jax.plan import targets
from selw2s_jax.runtime import output


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "target",
        None,
        "What the run is planned for: a100-80gb:8, tpu-v5p:2x2x1, cpu:8; an unknown one lists them. A card like a "
        "listed one: h100:8,memory=94,tflops=835,bandwidth=3900,link=300 (GiB reported, bfloat16 TFLOP/s, GB/s).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "lengths",
        None,
        "Tokens of an example, as 128,512; default measured from data at hand, else the task's.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "steps",
        "train",
        ("train", "all"),
        "Compile the student's train step, or all programs of the run.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "layout",
        "config",
        ("config", "auto"),
        "Remat, mesh and micro-batches of the config, what it leaves open as a run chooses it; or the best of all that "
        "are worth compiling, with their memory and time.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "json", False, "Print one JSON object on standard output, and nothing else there.", flag_values=values
    )
    flags.DEFINE_string(
        "workdir", None, "Folder of the run, to see which of its stages are done.", flag_values=values
    )
    cli.define_config_flag(values)


def _parse_lengths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--lengths={text} must be numbers of tokens, as 128,512,1024")
    return tuple(dict.fromkeys(map(int, parts)))


def _run(values: flags.FlagValues) -> None:
    output.end_with_reader()
    lengths, target = _parse_lengths(values.lengths), targets.parse(values.target)
    targets.set_environment(target)
    from selw2s_jax.plan import planner

    options = planner.Options(lengths, values.steps == "all", values.layout == "auto")
    planner.run(values.config, target, options, as_json=values.json, workdir=values.workdir)


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
