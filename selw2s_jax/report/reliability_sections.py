"""What a report says of written weak labels: are answers that agree right, and does it pay to learn from them?"""

from collections.abc import Sequence

from selw2s_jax.report import reliability_figures, reliability_numbers, reliability_tables, section, stored

_TITLE = "Reliability of the weak labels"
_NOTES = (
    "The weak model answers each of the student's questions several times, in varied prompts. S_ent is the entropy of "
    "these answers: the entropy filter trains on questions where it is low. S_prob weighs each answer by how many of "
    "the others agree with it. Both can help only as far as answers that agree are right more often; that a method "
    "gains over one answer to a question says little, as it also sees several prompts to each and takes more steps: "
    "what counts is the gain over its controls.",
    "All of it but the comparisons is of the student's questions, whose ground truth is used here alone.",
)
_CAPTIONS = {
    "entropies": "Weak labels that are right by the entropy of the answers to a question (above, with 95 % "
    "intervals), and the questions that have it (below; the bars are divided by the answers to the variations that "
    "are right). Mean over seeds; n is of all seeds.",
    "scores": "Mean reliability S_prob of the answers to the variations by what they say and what is right, with 95 % "
    "intervals and the number of answers of all seeds.",
    "letters": "Letters that the weak model chose, with 95 % intervals, beside those of the right choices.",
}
_ABOVE = {name: f"reliability_{name}" for name in _CAPTIONS}
_MAX_ROWS = 20  # of a table that the page shows open


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run whose answers are written; of several, behind a line that opens it."""
    names = {
        name: run
        for name, run in stored.names(runs).items()
        if run.reliability or (run.has_classifiers and not run.has_probabilities)
    }
    found = [
        _section(run, f"{_TITLE}: {name}", number, is_folded=len(names) > 1)
        for number, (name, run) in enumerate(names.items(), start=1)
    ]
    return [one for one in found if one.tables]


def _section(run: stored.Run, title: str, number: int, *, is_folded: bool) -> section.Section:
    labels = {"task": run.task, "weak": run.weak or "", "strong": run.strong}
    labels |= {key: stored.setting_text(value) for key, value in run.settings.items()}
    drawn = {
        "entropies": (reliability_numbers.entropy_rows, reliability_figures.draw_entropies),
        "scores": (reliability_numbers.score_rows, reliability_figures.draw_scores),
        "letters": (reliability_numbers.letter_rows, reliability_figures.draw_letters),
    }
    pictures = {}
    for name, (make_rows, draw) in drawn.items():
        if rows := make_rows(run):
            pictures[f"reliability_{name}-{number}"] = draw(rows, title=run.title), _CAPTIONS[name]
    return section.Section(
        title,
        labels,
        reliability_tables.of_run(run),
        pictures,
        is_folded=is_folded,
        above={f"reliability_{name}-{number}": table for name, table in _ABOVE.items()},
        notes=_NOTES,
        max_rows=_MAX_ROWS,
    )
