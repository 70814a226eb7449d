"""The part of a page that a single run has: its tables and the pictures of its results, labels and training."""

from collections.abc import Mapping, Sequence

from selw2s_jax.analysis import formats, method_looks, plotting, result_figures
from selw2s_jax.report import figures, glossary, numbers, page, stored

_CAPTIONS = {
    "results": "Test accuracy and PGR of each method, with 95 % intervals; the values stand to the right, colour and "
    "form say what a method is. Intervals of PGR that leave the panel are cut at its edge.",
    "labels": "How many training labels are right before selection, after it and after smoothing, and how many test "
    "questions the trained student gets right. Thin lines are seeds, thick ones their mean.",
    "training": "What was logged in training, as running means over a twenty-fifth of the steps. Thin lines are seeds, "
    "thick ones their mean.",
}
_OPEN = ("main", "auroc", "comparisons")  # tables of a run that are shown, however long
_FOLDED = ("mcnemar", "seeds")  # that say by seed what others say of all
_MAX_ROWS = 24
_ABOVE = {"main": "results", "labels": "labels"}  # the picture that stands above a table
Pictures = Mapping[str, tuple[plotting.Picture, str]]


def draw(run: stored.Run, number: int) -> dict[str, tuple[plotting.Picture, str]]:
    """The pictures of a run by name of their files, each with its caption.

    Args:
        number: of the run among those of the report.
    """
    facts = {method: run.facts(method) for method in (*run.predictions, *run.logs)}
    styles = method_looks.styles(facts)
    results = None
    if run.predictions:
        results = result_figures.draw_results(
            numbers.main_results(run),
            title=run.title,
            facts=facts,
            # Of written answers to questions with answers of their own, none is the commonest.
            chance=numbers.majority_class_accuracy(run) if run.has_probabilities else None,
        )
    pictures = {
        "results": results,
        "labels": figures.draw_labels(
            _label_stages(run), title="Labels of the second half of training", styles=styles
        ),
        "training": figures.draw_training(run.logs, title=run.title, styles=styles),
    }
    return {f"{kind}-{number}": (one, _CAPTIONS[kind]) for kind, one in pictures.items() if one is not None}


def _label_stages(run: stored.Run) -> dict[str, list[list[float]]]:
    """By method and seed, the shares right of weak, selected and smoothed labels, and of the student's answers."""
    stages: dict[str, list[list[float]]] = {}
    for entry in run.diagnostics:
        method, seed = entry["method"], entry["seed"]
        if seed in run.common_seeds(method):
            labels = [entry[key] for key in ("weak_accuracy", "prior_accuracy", "target_accuracy")]
            trained = float(run.correct(method, [seed]).mean())
            stages.setdefault(method, []).append([*labels, trained])
    return stages


class RunPage:
    """A run in the page.

    Attributes:
        links: by anchor, the titles of what was made.

    Args:
        number: of the run among those of the report.
        of_run: its tables.
        pictures: of `draw`.
        level: of its headings.
        terms: of the page.
    """

    def __init__(
        self,
        number: int,
        of_run: Sequence[formats.Table],
        pictures: Pictures,
        *,
        level: int,
        terms: glossary.Glossary,
    ):
        self._number, self._tables, self._pictures = number, of_run, pictures
        self._level, self._terms = level, terms
        self.links: dict[str, str] = {}

    def summary(self, names: Sequence[str]) -> list[str]:
        """The tables of these names, below headings of the third level."""
        parts = [part for one in self._tables if one.name in names for part in self._table(one, 3)]
        self.links.clear()  # the summary has one of its own
        return parts

    def tables(self, *, but: Sequence[str] = ()) -> list[str]:
        """Every table but those of these names, and what was logged in training."""
        parts = [
            part for one in self._tables if one.name not in but for part in self._table(one, self._level)
        ]
        if training := self._picture("training"):
            parts += [page.heading(self._level, "Training", self._link("training", "Training")), *training]
        return parts

    def _table(self, table: formats.Table, level: int) -> list[str]:
        """A table below its heading and its picture."""
        parts = [page.heading(level, table.title, self._link(table.name, table.title))]
        parts += self._picture(_ABOVE.get(table.name, ""))
        max_rows = 0 if table.name in _FOLDED else None if table.name in _OPEN else _MAX_ROWS
        return [*parts, page.table(table, self._terms, max_rows=max_rows)]

    def _link(self, kind: str, title: str) -> str:
        anchor = f"run-{self._number}-{kind}"
        self.links[anchor] = title
        return anchor

    def _picture(self, kind: str) -> list[str]:
        name = f"{kind}-{self._number}"
        return [page.picture(*self._pictures[name], name)] if name in self._pictures else []
