"""Registers a study before it is run: what it compares, how, and on which config, code and test items.

python -m selw2s_jax.preregister --config=configs/qwen.py[:arguments] --workdir=DIR [--compare=METHOD:OTHER,...]
                                 [--level=0.05] [--config.key=value ...]

The config is read and checked as a run would, and nothing is trained. The run of the same config in this workdir has
a report that opens with what was registered.
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Folder that the run will have.", flag_values=values)
    flags.DEFINE_string(
        "compare",
        None,
        "Models whose accuracies are compared, as METHOD:OTHER,...; default methods with their controls.",
        flag_values=values,
    )
    flags.DEFINE_float("level", 0.05, "Familywise error of all comparisons together.", flag_values=values)
    cli.define_config_flag(values)


def _run(values: flags.FlagValues) -> None:
    if not values.workdir:
        raise UserError("--workdir is missing; give the folder that the run will have")
    if not 0 < values.level < 1:
        raise UserError(f"--level={values.level:g} is no probability of an error: give one such as 0.05")
    from selw2s_jax.run import pipeline, registrations

    pairs = None if values.compare is None else registrations.parse_pairs(values.compare)
    found = pipeline.register(values.config, values.workdir, pairs=pairs, level=values.level)
    test = found.content["test"]
    print(f"registered at {found.content['time']}: config {found.content['config_hash']}")
    for first, second in found.pairs:
        print(f"  accuracy of {first} less that of {second}")
    print(f"{test['kind']}; {test['correction']} over {test['num_tests']}, level {test['level']:g}")
    for one in found.content["runs"]:
        name = f"{one['name']}: " if one["name"] else ""
        seeds = ", ".join(map(str, one["seeds"]))
        print(f"{name}{one['n']} test items of {one['task']}, hash {one['labels_hash'][:16]}; seeds {seeds}")
    print(f"{values.workdir}/{registrations.FILE}, sha256 {found.sha256}")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
