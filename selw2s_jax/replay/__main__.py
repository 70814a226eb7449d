"""The training labels of a finished run under other settings, without training.

python -m selw2s_jax.replay --workdir=DIR [--methods=selective,posterior] [--gamma=0.5,0.7,0.9] [--alpha=0.5,1]
                            [--tau=0.05,0.5] [--temperature=1,2] [--weak_temperature=1,2] [--output=FOLDER]

Each student's own label rule is run again on what the run has kept of every step. Several settings are combined.
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError

_DEFAULT_GAMMA = tuple(number / 20 for number in range(20))
_SETTINGS = {
    "gamma": "Thresholds on P(IK), as 0.5,0.7; without any setting, 0 to 0.95.",
    "alpha": "Weights of a row's own label in smoothing.",
    "tau": "Temperatures of the graph that smooths labels.",
    "temperature": "What the calibrated log-odds that self labels are right are divided by.",
    "weak_temperature": "What the calibrated log-odds of weak labels are divided by.",
}


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_string("run", None, "Of a sweep, the run; default all.", flag_values=values)
    flags.DEFINE_list(
        "methods", None, "Methods, as selective,posterior; default all whose labels depend on a setting.",
        flag_values=values,
    )  # fmt: skip
    for name, what in _SETTINGS.items():
        flags.DEFINE_string(name, None, what, flag_values=values)
    flags.DEFINE_string(
        "output", None, "Folder for the table as CSV and JSON, and pictures.", flag_values=values
    )


def _run(values: flags.FlagValues) -> None:
    if not values.workdir:
        raise UserError("--workdir is missing; give the folder of a run")
    from etils import epath

    from selw2s_jax.replay import finished, results, settings, tables
    from selw2s_jax.runtime import places, storage

    given = {name: settings.parse(name, values[name].value) for name in _SETTINGS}
    if not any(given.values()):
        given["gamma"] = _DEFAULT_GAMMA
    if values.output:
        places.check_output_folder(values.output, "--output")
    found = results.Found()
    for run in finished.read(values.workdir, run=values.run):
        chosen = settings.grid(settings.Setting.of_run(run.config), given)
        of_run = results.find(run, chosen, methods=values.methods)
        found.rows += of_run.rows
        found.notes += [f"{run.name}: {note}" if run.name else note for note in of_run.notes]
    if not found.rows:
        reasons = (
            "; ".join(found.notes) or "none of its students' labels depends on a setting that can be replayed"
        )
        raise UserError(f"nothing of the run in {values.workdir} can be replayed: {reasons}")
    print(tables.to_text(tables.table(found.means())))
    for note in found.notes:
        print(f"note: {note}")
    if values.output:
        folder = epath.Path(values.output).expanduser()
        storage.make_folder(folder)
        made = tables.files(found)
        for name, content in made.items():
            storage.write_bytes(folder / name, content)
        print(f"{', '.join(made)} are in {folder}")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
