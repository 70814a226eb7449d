"""What a workdir holds, as tables, dicts and students: of one run, or of those of a sweep."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ml_collections
from etils import epath

from selw2s_jax import errors
from selw2s_jax.analysis import formats
from selw2s_jax.data import item_predictions
from selw2s_jax.errors import UserError
from selw2s_jax.library import student as student_lib
from selw2s_jax.report import document, numbers, stored, tables, warnings
from selw2s_jax.run import manifests, run_config, students
from selw2s_jax.runtime import places, storage

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

_OF_THE_PAPER = ("paper_accuracy", "printed_pgr")  # which reports show beside ours


class Results:
    """What a workdir holds, finished or not: of a run of its own, or of all runs of a sweep.

    Everything is read from files, without models and devices; only students load theirs, when they are asked. It is
    the workdir as it was when this was made. Shown by `print`, it is its main table. Rows are plain dicts, of which
    `pyarrow.Table.from_pylist(rows)` or `pandas.DataFrame(rows)` makes a table. Each begins with the run that it is of:
    task, weak, strong, and what a sweep varies besides. Accuracies, PGR and their intervals are fractions, not per
    cent; a value that is not defined or not there is None.

    Args:
        workdir: the folder of a run, also on gs://.

    Raises:
        UserError: no run is there, or what is there is damaged.
    """

    def __init__(self, workdir: str | os.PathLike[str]) -> None:
        places.check_workdir(workdir)
        self.workdir = epath.Path(workdir).expanduser()
        found = stored.read(self.workdir)
        self._contents = dataclasses.replace(found, runs=stored.with_distinct_models(found.runs))
        # Now, as another run may be started here before they are asked for.
        self._config = storage.read_bytes(self.workdir / manifests.CONFIG_FILE)
        self._manifests: dict[str, dict[str, Any]] | UserError
        try:
            self._manifests = manifests.read_all(self.workdir)
        except UserError as error:  # one of a sweep is damaged, whose others are there
            self._manifests = error

    @functools.cached_property
    def config(self) -> ml_collections.ConfigDict:
        """The config, of a sweep the whole one; `selw2s_jax.run` of it finds all that is finished again."""
        path = self.workdir / manifests.CONFIG_FILE
        try:
            kept = errors.parse_json(self._config or b"")
        except ValueError as error:
            raise UserError(f"{path} cannot be read; run the same config there again to mend it") from error
        return run_config.from_json(kept, self.workdir)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run was made of, as manifest.json has it: code, libraries, devices, models, students, stages.

        Raises:
            UserError: there are several runs.
        """
        if list(self.manifests) != [""]:
            raise UserError(f"{self.workdir} holds a sweep: take one of its runs by manifests[NAME]")
        return self.manifests[""]

    @property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """Those of the runs of a sweep that have begun, by name; of a run of its own, by "".

        Raises:
            UserError: one is damaged.
        """
        if isinstance(self._manifests, UserError):
            raise self._manifests
        return self._manifests

    @functools.cached_property
    def metrics(self) -> list[Row]:
        """Per method, over its seeds: accuracy, PGR and difference to `finetune`.

        `num_seeds`, `n` test items, `accuracy`, `pgr` (performance gap recovered, (student - weak) / (ceiling - weak)
        of the mean accuracies) and `difference`, each with the ends of its 95 % interval under `accuracy_low`,
        `accuracy_high` and so on. Intervals of accuracy are Wilson's over items, with the spread of the seeds added;
        the others are bootstrapped over items and seeds.
        """
        return self._rows(numbers.main_results)

    @functools.cached_property
    def by_seed(self) -> list[Row]:
        """Per method and seed: `n` test items, how many are `correct`, `accuracy` with its ends, `pgr`.

        Of models that answer by probabilities also `auroc` with its ends, `brier` and `calibration_error`.
        """
        return self._rows(numbers.by_seed)

    @functools.cached_property
    def comparisons(self) -> list[Row]:
        """Per pair of methods, `first` less `second`: `num_seeds`, `difference` with its ends and its `p_value`.

        Pairs are each student with `finetune`, and each method with its controls.
        """
        return self._rows(numbers.comparison_rows)

    @functools.cached_property
    def mcnemar(self) -> list[Row]:
        """Per pair of `comparisons` and seed, McNemar's exact test: items `only_first`, `only_second`; `p_value`."""
        return self._rows(numbers.mcnemar_rows)

    @functools.cached_property
    def p_ik(self) -> list[Row]:
        """Per test of P(IK), in and out of distribution: `auroc` with its ends, `brier`, `ece` and more.

        Empty until a run is finished.
        """
        return self._rows(lambda run: run.p_ik)

    @functools.cached_property
    def predictions(self) -> "pa.Table":
        """A row for each test item, method and seed, as predictions.parquet has them; of a sweep with `run`, its name.

        Columns are those of `data.item_predictions`: task, test, method, seed, example_id, label, probability (of class
        1), correct and text; of models that write `answer` too.

        Raises:
            UserError: a run is not finished, or the file is damaged.
        """
        import pyarrow as pa

        parts = []
        for name, manifest in self.manifests.items():
            folder = self.workdir / manifests.RUNS_FOLDER / name if name else self.workdir
            part = item_predictions.read(folder, manifests.identity(manifest))
            if part is None:
                raise UserError(
                    f"{folder} has no {item_predictions.FILE} of this run, which writes it when it ends, or one that "
                    f"another run wrote since: run the same config in {self.workdir} again, finished stages are kept"
                )
            parts.append(_led_by(part, {"run": name} if name else {}))
        return pa.concat_tables(parts, promote_options="default")

    @functools.cached_property
    def p_ik_items(self) -> "pa.Table":
        """A row for each question, method and seed that P(IK) was tested on; without rows where it was not.

        Columns: as of `p_ik`, then example_id, text, known (whether the few-shot answer is right), confidence
        (probability of that answer, NaN where it is written at length) and p_ik.
        """
        import pyarrow as pa

        parts = []
        for run in self._contents.runs:
            for key, questions in run.p_ik_items.items():
                columns = {"example_id": questions.ids, "text": questions.texts}
                columns |= {name: getattr(questions, name) for name in ("known", "confidence", "p_ik")}
                parts.append(_led_by(pa.table(columns), _of_run(run) | key._asdict()))
        return pa.concat_tables(parts, promote_options="default") if parts else pa.table({})

    @property
    def warnings(self) -> list[Row]:
        """What a reader has to know before the numbers: `method`, `seeds`, `observation` and `remedy` of each."""
        return self._rows(lambda run: [dataclasses.asdict(found) for found in warnings.find(run)])

    @property
    def notes(self) -> list[str]:
        """What was done to the data and the config, as the runs printed it."""
        return list(dict.fromkeys(note for run in self._contents.runs for note in run.notes))

    @property
    def missing(self) -> list[str]:
        """What is planned and not there: empty once all is finished."""
        of_runs = [f"{run.title}: {one}" for run in self._contents.runs for one in run.missing]
        return [*of_runs, *self._contents.waiting, *self._contents.damaged]

    @property
    def students(self) -> list[Row]:
        """The trained models by `run`, `task`, `method` and `seed`, also weak model and ceiling."""
        return [
            {"run": name, **{key: entry[key] for key in ("task", "method", "seed")}}
            for name, manifest in self.manifests.items()
            for entry in manifest["students"]
        ]

    def student(
        self,
        task: str | None = None,
        method: str | None = None,
        seed: int | None = None,
        *,
        run: str | None = None,
        **options: Any,
    ) -> student_lib.Student:
        """A trained model, to be asked.

        Args:
            task, method, seed: its name; "weak" and "ceiling" are methods too. What has one value may be left out.
            run: of a sweep, where several have such a model.
            options: of the `Student`.

        Raises:
            UserError: there is none of that name, it is not trained yet, or it is damaged.
        """
        found = students.find(self.workdir, task=task, method=method, seed=seed, run=run)
        return student_lib.Student(found, **options)

    def report(self, folder: str | os.PathLike[str] | None = None) -> epath.Path:
        """Writes the report, as `python -m selw2s_jax.report` does: a page, and its tables and pictures beside it.

        Args:
            folder: to write, made where it is missing; default `report` in the workdir.

        Returns:
            The page.

        Raises:
            UserError: no evaluation is finished, or the folder cannot be written.
        """
        contents = self._contents
        if not any(run.predictions or run.p_ik for run in contents.runs):
            unread = f"; {'; '.join(contents.damaged)}" if contents.damaged else ""
            raise UserError(
                f"no evaluation is finished in {self.workdir}; run the same config again, it continues{unread}"
            )
        output = self.workdir / "report" if folder is None else epath.Path(folder).expanduser()
        absent = [*contents.waiting, *contents.damaged]
        return document.write(contents.runs, output, absent=absent, called="the report's folder")

    def __repr__(self) -> str:
        return f"Results({str(self.workdir)!r})"

    def __str__(self) -> str:
        return "\n\n".join(f"{run.title}\n{_as_text(table)}" for run, table in self._main_tables()) or repr(
            self
        )

    def _repr_markdown_(self) -> str:
        """How a notebook shows it: the tables without the meanings of their columns."""
        texts = [formats.to_markdown(table, run.title) for run, table in self._main_tables()]
        return "\n\n".join("\n\n".join(text.split("\n\n")[:2]) for text in texts) or repr(self)

    def _main_tables(self) -> list[tuple[stored.Run, formats.Table]]:
        return [(run, tables.main_table(run)) for run in self._contents.runs if run.predictions]

    def _rows(self, make: Callable[[stored.Run], list[dict[str, Any]]]) -> list[Row]:
        """The rows of all runs, each with what its run is."""
        return [_of_run(run) | _flat(row) for run in self._contents.runs for row in make(run)]


def _of_run(run: stored.Run) -> Row:
    """What each of its rows begins with."""
    return {"task": run.task, "weak": run.weak, "strong": run.strong, **run.settings}


def _led_by(table: "pa.Table", values: Mapping[str, Any]) -> "pa.Table":
    """A table with further columns before its own, of one value each."""
    import pyarrow as pa

    for name, value in reversed(list(values.items())):
        table = table.add_column(0, name, pa.repeat(pa.scalar(value), table.num_rows))
    return table


def _flat(row: Mapping[str, Any]) -> Row:
    """A row of a report with the ends of each interval under names of their own, without the paper's numbers."""
    flat: Row = {}
    for key, value in row.items():
        if key.endswith("_interval"):
            stem = key.removesuffix("_interval")
            flat[f"{stem}_low"], flat[f"{stem}_high"] = (None, None) if value is None else map(float, value)
        elif key not in _OF_THE_PAPER:
            flat[key] = value
    return flat


def _as_text(table: formats.Table) -> str:
    rows = [[column.text(row) for column in table.columns] for row in table.rows]
    return formats.aligned([[column.heading for column in table.columns], *rows])
