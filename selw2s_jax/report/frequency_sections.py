"""What a report says of accuracy by how often the text that models were pretrained on names an entity.

Of generated worlds alone, where that is known: common entities are those that the strong model knows best.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import formats, result_figures, results
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import section, stored

_TITLE = "Accuracy by frequency"
_CAPTION = (
    "Test accuracy by fifths of the test items, from the entities that the pretraining text names most often to those "
    "that it names least, with Wilson's 95 % intervals over items."
)
_NOTES = (
    "What a model can have learned of an entity depends on how often the text names it. A method that selects should "
    "gain where the strong model knows (its few-shot answers are right), and lose nothing where it does not.",
)


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run of a generated world that is finished; of several, behind a line that opens it."""
    found = {name: run for name, run in stored.names(runs).items() if run.by_frequency}
    return [
        _section(run, f"{_TITLE}: {name}", number, is_folded=len(found) > 1)
        for number, (name, run) in enumerate(found.items(), start=1)
    ]


def _section(run: stored.Run, title: str, number: int, *, is_folded: bool) -> section.Section:
    totals, correct = _mean(run.by_frequency)
    shown = methods_lib.compared(correct)
    picture = result_figures.draw_by_frequency(
        title=f"{run.task}: accuracy by frequency of the entity in the text",
        groups=results.FREQUENCY_GROUPS,
        correct={name: correct[name] for name in shown},
        totals=totals,
        facts={name: run.facts(name) for name in correct},
        **{key: run.by_frequency[0][key] for key in ("chance",) if key in run.by_frequency[0]},
    )
    return section.Section(
        title,
        {"task": run.task, "weak": run.weak or "", "strong": run.strong}
        | {key: stored.setting_text(value) for key, value in run.settings.items()},
        [_table(totals, correct)],
        {f"by_frequency-{number}": (picture, _CAPTION)},
        is_folded=is_folded,
        is_leading=True,
        notes=_NOTES,
    )


def _mean(entries: Sequence[dict[str, Any]]) -> tuple[list[int], dict[str, list[float]]]:
    """Questions of each group, and right answers by method, over the runs of a sweep over seeds: of the same items."""
    names = [name for name in entries[0]["correct"] if all(name in one["correct"] for one in entries)]
    means = {name: np.mean([one["correct"][name] for one in entries], axis=0).tolist() for name in names}
    return entries[0]["n"], means


def _table(totals: Sequence[int], correct: dict[str, list[float]]) -> formats.Table:
    meaning = "share of the items of that fifth answered right, per cent, mean over seeds, with Wilson's 95 % interval"
    columns = [Column("method", "method", "the model, or the few-shot answers of the untouched strong model")]
    columns += [
        Column(name, name, meaning, "percent", f"{name}_interval") for name in results.FREQUENCY_GROUPS
    ]
    rows = []
    for method, counts in correct.items():
        row: dict[str, Any] = {"method": method}
        for name, (accuracy, low, high) in zip(
            results.FREQUENCY_GROUPS,
            result_figures.accuracies_of_groups(counts, totals).T.tolist(),
            strict=True,
        ):
            is_there = not np.isnan(accuracy)
            row |= {
                name: accuracy if is_there else None,
                f"{name}_interval": (low, high) if is_there else None,
            }
        rows.append(row)
    notes = [f"Test items of each fifth, from common to rare: {', '.join(map(str, totals))}."]
    return formats.Table("by_frequency", "Accuracy by frequency of the entity", columns, rows, notes)
