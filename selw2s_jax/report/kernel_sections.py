"""What a report says of representation kernels: gaps that pretrained embeddings predict, beside the realised ones."""

from collections.abc import Sequence

from selw2s_jax.analysis import formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.method import registry
from selw2s_jax.report import kernel_figures, kernel_numbers, section, stored, sweep_numbers

_TITLE = "Representation kernels"
_NOTE = (
    "A gap is the mean squared difference of what the student and the ceiling say of a question. The predicted one is "
    "that of ridge heads on embeddings of both pretrained models on rows of the student's half: how much of the labels "
    "is principal for the strong model and not for the weak one (arXiv:2502.00620). No model of the run is trained to "
    "compute it, so it knows nothing of fine-tuning; take it for an order of pairs, not for a size."
)
_NOT_THE_SAME_ROWS = (
    "The ceiling of {names} is trained on other rows than the student (ceiling.split), which the prediction does not "
    "think of."
)
_CAPTION = (
    "Realised against predicted gap, a large mark for each pair of models, the mean over seeds, and a small one for "
    "each seed; Spearman's rank correlation is over pairs. The second and third predictor take no truth."
)
_PAIR = (
    Column("weak", "weak model", "whose labels the student learns"),
    Column("strong", "strong model", "student and ceiling"),
)
_MEASURES = (
    (
        "gap",
        "predicted gap",
        "mean (P_s (I - P_w) y)^2 with the truth y of the student's half, P what a ridge head on a model's embeddings "
        "makes of labels; at most 0.25",
    ),
    ("weak_label_gap", "with weak labels", "the same with the weak labels for y: it takes no truth"),
    (
        "operator_norm",
        "operator norm",
        "||P_s (I - P_w)||, the largest for any y, 0 to 1: it takes no labels",
    ),
    ("effective_dimension_weak", "dimension, weak", "trace of P_w: how many directions a ridge head can use"),
    ("effective_dimension_strong", "dimension, strong", "trace of P_s"),
    (
        kernel_numbers.REALISED,
        "realised gap",
        f"mean (g - f)^2 on the test set, g the ceiling and f {registry.BASELINE}; - where one is not there",
    ),
)


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each task and setting with several pairs of models, and one for every other run with kernels."""
    having = {name: run for name, run in stored.names(runs).items() if run.kernels}
    sets = sweep_numbers.transfer_sets(list(having.values()))
    compared = [run for of_set in sets.values() for run in of_set]
    alone = {name: run for name, run in having.items() if run not in compared}
    return [
        *(
            _section(f"{_TITLE}: {title}", of_set, number)
            for number, (title, of_set) in enumerate(sets.items(), 1)
        ),
        *(
            _section(f"{_TITLE}: {name}", [run], None, is_folded=len(alone) > 1)
            for name, run in alone.items()
        ),
    ]


def _section(
    title: str, runs: Sequence[stored.Run], number: int | None, *, is_folded: bool = False
) -> section.Section:
    """That of runs of several pairs; of one without a number, without a picture."""
    first = runs[0]
    labels = {"task": first.task} | {key: stored.setting_text(value) for key, value in first.settings.items()}
    pairs = [kernel_numbers.pair_row(run) for run in runs]
    seeds = [row for run in runs for row in kernel_numbers.seed_rows(run)]
    notes, tables, pictures = [_NOTE], [_pair_table(pairs), _seed_table(seeds)], {}
    other = [run for run in runs if run.config.get("ceiling", {}).get("split", "student") != "student"]
    if other:
        names = ", ".join(f"{run.weak} and {run.strong}" for run in other)
        notes.append(_NOT_THE_SAME_ROWS.format(names=names))
    if number is not None:
        tables.insert(1, _rank_table(pairs))
        if any(row[kernel_numbers.REALISED] is not None for row in seeds):
            picture = kernel_figures.draw_gaps(pairs, seeds, kernel_numbers.rank_rows(pairs), title=title)
            pictures[f"kernels-{number}"] = picture, _CAPTION
    return section.Section(title, labels, tables, pictures, is_folded=is_folded, notes=notes, max_rows=30)


def _pair_table(rows) -> formats.Table:
    columns = [
        *_PAIR,
        *(
            Column(name, heading, meaning, "significant", interval=f"{name}_interval")
            for name, heading, meaning in _MEASURES
        ),
        Column("n", "rows", "rows of the student's half that are compared, the fewest of a seed", "count"),
        Column("num_seeds", "seeds", "number of seeds", "count"),
    ]
    notes = ["Means over seeds; in brackets Student's 95 % interval over them, cut where a value cannot be."]
    return formats.Table("kernels", "Predicted and realised gap", columns, rows, notes)


def _rank_table(pairs) -> formats.Table:
    columns = [
        Column("predictor", "predictor", "what pairs are ordered by"),
        Column(
            "rho", "Spearman's rho", "rank correlation with the realised gap over pairs of models", "ratio"
        ),
        Column("p_value", "p", "two-sided, by permutation of pairs; never below 1/3 for three", "p"),
        Column("num_pairs", "pairs", "number of pairs", "count"),
    ]
    notes = [
        "- for fewer than three pairs. Pairs that share a model are not independent, though the test takes them so."
    ]
    rows = kernel_numbers.rank_rows(pairs)
    return formats.Table("kernel_ranks", "Whether they order pairs alike", columns, rows, notes)


def _seed_table(rows) -> formats.Table:
    columns = [
        *_PAIR,
        Column("seed", "seed", "base seed", "count"),
        *(Column(name, heading, meaning, "significant") for name, heading, meaning in _MEASURES),
        Column("n", "rows", "rows of the student's half that are compared", "count"),
    ]
    return formats.Table("kernel_seeds", "Each seed", columns, rows)
