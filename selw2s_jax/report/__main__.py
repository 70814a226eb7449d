"""Reports runs, finished or not: tables, pictures and one page, from what their workdirs hold alone.

python -m selw2s_jax.report --workdir=DIR [--workdir=DIR ...] [--output=FOLDER] [--compare=METHOD:OTHER,...]
"""

import dataclasses

from absl import flags
from etils import epath

from selw2s_jax import cli
from selw2s_jax.errors import UserError


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
        "workdir", [], "Folder of a run; may be given several times.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Folder to write; default `report` in the first workdir.", flag_values=values
    )
    flags.DEFINE_string(
        "compare",
        None,
        "Further pairs, as METHOD:OTHER,..., to say of what gain a run could have seen; default methods with their "
        "controls, or what was registered.",
        flag_values=values,
    )


def _run(values: flags.FlagValues) -> None:
    if not values.workdir:
        raise UserError("--workdir is missing; give the folder of a run")
    from selw2s_jax.report import document, stored
    from selw2s_jax.run import registrations
    from selw2s_jax.runtime import places, storage

    asked = registrations.parse_pairs(values.compare or "")
    workdirs = [epath.Path(workdir).expanduser() for workdir in dict.fromkeys(values.workdir)]
    contents = [stored.read(workdir) for workdir in workdirs]
    runs = [run for of_workdir in contents for run in of_workdir.runs]
    waiting = [line for of_workdir in contents for line in of_workdir.waiting]
    damaged = [line for of_workdir in contents for line in of_workdir.damaged]
    unread = f"{len(damaged)} of the sweep's runs cannot be read: {'; '.join(damaged)}"
    if not any(run.predictions or run.p_ik for run in runs):
        nothing = f"no evaluation is finished in {', '.join(map(str, workdirs))}"
        raise UserError(unread if damaged else f"{nothing}; run the same config again, it continues")
    for name in (name for pair in asked for name in pair):
        if not any(name in run.predictions for run in runs):
            tested = ", ".join(dict.fromkeys(name for run in runs for name in run.predictions))
            raise UserError(f"--compare: {name!r} is no model that is tested here: choose of {tested}")
    runs = stored.with_distinct_models([dataclasses.replace(run, asked=asked) for run in runs])
    output = epath.Path(values.output).expanduser() if values.output else workdirs[0] / "report"
    places.check_output_folder(output, "--output")
    files = document.files(runs, absent=[*waiting, *damaged])
    storage.make_folder(output)
    for name, content in files.items():
        storage.write_bytes(output / name, content)
    for run in runs:
        if run.missing:
            print(f"{run.workdir}: {len(run.missing)} outcomes are missing; the page lists them")
    for line in waiting:
        print(line)
    print(f"the report is {output / document.PAGE}; tables and pictures are beside it")
    if damaged:
        raise UserError(f"the report is written, but {unread}")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv, starts_devices=False)


if __name__ == "__main__":
    main()
