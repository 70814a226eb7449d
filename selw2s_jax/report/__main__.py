"""Reports runs, finished or not: tables, pictures and one page, from what their workdirs hold alone.

python -m selw2s_jax.report --workdir=DIR [--workdir=DIR ...] [--output=FOLDER] [--compare=METHOD:OTHER,...]
python -m selw2s_jax.report --workdir=DIR [--workdir=DIR ...] --predictions=FILE.csv
python -m selw2s_jax.report --workdir=DIR --where=TASK,METHOD,SEED
python -m selw2s_jax.report --diff DIR DIR
"""

import dataclasses

from absl import flags
from etils import epath

from selw2s_jax import cli
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import output


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

    flags.DEFINE_string(
        "predictions",
        None,
        "Writes what every model says of every test item to this .csv or .parquet, and no report.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "where",
        None,
        "Of a TASK,METHOD,SEED, says which artifacts its numbers are from, and writes no report.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "diff",
        [],
        "Of two workdirs, --diff A B, says which settings, versions and results differ, and writes no report.",
        flag_values=values,
    )


def _run(values: flags.FlagValues) -> None:
    # Each says another thing, and what goes with a report alone is of no use to them.
    instead = [name for name in ("diff", "where", "predictions") if values[name].value]
    given = [name for name in (*instead, "output", "compare") if values[name].value]
    if instead and len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} do not go together; leave one out")
    if values.diff:
        _show_differences(values)
        return
    if not values.workdir:
        raise UserError("--workdir is missing; give the folder of a run")
    if values.where:
        _show_origins(values)
    elif values.predictions:
        _write_predictions(values)
    else:
        _write_report(values)


def _show_differences(values: flags.FlagValues) -> None:
    from selw2s_jax.report import differences, kept

    if len(values.diff) != 2 or values.workdir:
        raise UserError("--diff takes two workdirs, as --diff A B, and no --workdir")
    output.end_with_reader()
    print(differences.text(*map(kept.read, values.diff)))


def _show_origins(values: flags.FlagValues) -> None:
    from selw2s_jax.report import kept, origins

    asked = origins.parse(values.where)
    if len(values.workdir) != 1:
        raise UserError("--where is of one --workdir")
    output.end_with_reader()
    print(origins.text(kept.read(values.workdir[0]), asked))


def _write_predictions(values: flags.FlagValues) -> None:
    from selw2s_jax.report import item_tables, kept
    from selw2s_jax.runtime import places, storage

    item_tables.check_name(values.predictions)
    places.check_output_file(values.predictions, "--predictions")
    workdirs = dict.fromkeys(values.workdir)
    runs = {}
    for workdir in workdirs:
        for name, run in kept.read(workdir).items():
            runs[name if len(workdirs) == 1 else "/".join(filter(None, (workdir, name)))] = run
    storage.write_bytes(
        epath.Path(values.predictions).expanduser(), item_tables.encode(runs, values.predictions)
    )
    print(f"what every model says of every test item is in {values.predictions}")


def _write_report(values: flags.FlagValues) -> None:
    from selw2s_jax.report import document, stored
    from selw2s_jax.run import registrations

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
    runs = [dataclasses.replace(run, asked=asked) for run in runs]
    folder = epath.Path(values.output).expanduser() if values.output else workdirs[0] / "report"
    page = document.write(runs, folder, absent=[*waiting, *damaged], called="--output")
    for run in runs:
        if run.missing:
            print(f"{run.workdir}: {len(run.missing)} outcomes are missing; the page lists them")
    for line in waiting:
        print(line)
    print(f"the report is {page}; tables and pictures are beside it")
    if damaged:
        raise UserError(f"the report is written, but {unread}")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv, starts_devices=False)


if __name__ == "__main__":
    main()
