"""The tables of a report on written weak labels and on the methods that learn from those that agree."""

from selw2s_jax.analysis import formats, paper_reliability
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import numbers, reliability_numbers, stored

_SEEDS = Column("num_seeds", "seeds", "number of seeds", "count")
_METHOD = Column("method", "method", "the model; what each name stands for is listed under Methods")
_SPREAD = "with the spread of the seeds (Student's t) added in squares"
_WILSON = f"The 95 % interval is Wilson's, for as many independent answers as those to a question are worth, {_SPREAD}"


def of_run(run: stored.Run) -> list[formats.Table]:
    """Every table of a run that has rows."""
    makers = (
        comparison_table,
        step_table,
        label_table,
        filter_table,
        entropy_table,
        score_table,
        auroc_table,
        letter_table,
    )
    return [table for maker in makers if (table := maker(run)).rows]


def comparison_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("first", "method", "the first of two methods"),
        Column("second", "less", "the second"),
        Column("question", "question", "that the difference answers"),
        Column("difference", "difference", "accuracy of the first less that of the second, points", "points"),
        Column(
            "difference_interval",
            "95 % interval",
            "of the difference, bootstrapped over items and seeds, the same ones drawn for all models",
            "points interval",
        ),
        Column("p_value", "p", "two-sided, of the same draws, for a difference of zero", "p"),
        Column("p_holm", "p (Holm)", "the same, corrected for the number of these comparisons", "p"),
        _SEEDS,
    ]
    rows = reliability_numbers.comparison_rows(run)
    return formats.Table("reliability_comparisons", "Each method and its controls", columns, rows)


def step_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        Column("steps", "steps", "of training, mean over seeds", "count"),
        Column("ratio", f"times {numbers.BASELINE}'s", "steps over those of the strong model there", "ratio"),
        _SEEDS,
    ]
    notes = []
    if run.config["training"].get("match_steps"):
        notes = ["training.match_steps is on: all students take as many steps."]
    rows = reliability_numbers.step_rows(run)
    return formats.Table("reliability_steps", "Steps that each method takes", columns, rows, notes)


def label_table(run: stored.Run) -> formats.Table:
    rows = reliability_numbers.label_rows(run)
    columns = [
        Column("labels", "labels", "of the weak model, on the student's questions"),
        Column(
            "before",
            "right",
            f"labels that are right, per cent; those without an answer are wrong. {_WILSON}",
            "percent",
            "before_interval",
        ),
        Column(
            "after",
            "right where kept",
            "the same on questions that the entropy filter keeps",
            "percent",
            "after_interval",
        ),
        Column(
            "weighted",
            "right by weight",
            "labels that are right where each counts by its S_prob, as re-weighting has it, of those with an answer, "
            f"per cent; the 95 % interval is that of a ratio over questions, {_SPREAD}",
            "percent",
            "weighted_interval",
        ),
    ]
    columns += [
        Column(
            f"paper_{when}", f"paper's {heading}", f"Figures 3 and 5 {paper_reliability.PUBLISHED}", "percent"
        )
        for when, heading in (("before", "right"), ("after", "right where kept"))
        if any(row[f"paper_{when}"] is not None for row in rows)
    ]
    title = "Weak labels before and after the filter"
    return formats.Table("reliability_labels", title, [*columns, _SEEDS], rows)


def filter_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("seed", "seed", "base seed", "count"),
        Column("questions", "questions", "number of the student's questions", "count"),
        Column("variations", "variations", "the most prompts to a question, the original one not counted", "count"),
        Column("tau", "tau", "the entropy up to which questions are kept, in nats", "ratio"),
        Column("kept", "kept", "number of questions that the filter keeps", "count"),
        Column("kept_share", "share kept", "of the questions that take part, per cent", "percent"),
        Column("left_out", "left out", "questions that do not take part, as answers.unparsed has it", "count"),
        Column("unparsed", "unparsed", "answers to the variations in which none was found, per cent", "percent"),
        Column(
            "conflicts",
            "conflicts",
            "answers whose letter is not that of the choice behind it, per cent; the letter counts",
            "percent",
        ),
    ]  # fmt: skip
    papers = reliability_numbers.papers_filter(run)
    notes = (
        []
        if papers is None
        else [
            f"The paper's (worked out from Figure 3 or 5, {paper_reliability.PUBLISHED}): tau {papers.tau:.3f}, share "
            f"kept {100 * papers.kept:.1f} per cent."
        ]
    )
    rows = reliability_numbers.filter_rows(run)
    return formats.Table("reliability_filter", "What the entropy filter keeps", columns, rows, notes)


def entropy_table(run: stored.Run) -> formats.Table:
    rows = reliability_numbers.entropy_rows(run)
    columns = [
        Column("entropy", "S_ent", "entropy of the answers to the variations, in nats", "ratio"),
        Column("counts", "answers", "how they divide: 4 1 is four of one and one of another"),
        Column("share", "share", "of the questions, mean over seeds, per cent", "percent"),
        Column("questions", "n", "number of questions of all seeds", "count"),
        *(
            Column(
                kind,
                f"{heading} right",
                f"{reliability_numbers.LABEL_NAMES[kind]} that are right, per cent. {_WILSON}",
                "percent",
                f"{kind}_interval",
            )
            for kind, heading in (
                ("varied", "variations"),
                ("original", "original"),
                ("majority", "commonest"),
            )
        ),
    ]
    columns += [
        Column(key, heading, f"{meaning} Figures 3 and 5 {paper_reliability.PUBLISHED}", "percent")
        for key, heading, meaning in (
            ("paper_share", "paper's share", "share of the answers,"),
            ("paper_right", "paper's variations right", "answers that are right,"),
        )
        if any(row[key] is not None for row in rows)
    ]
    title = "Weak labels by entropy"
    notes = [
        "The paper's shares are of answers, ours of questions; those of ETHICS leave out what could not be read."
    ]
    has_papers = bool(reliability_numbers.papers_bars(run))
    return formats.Table(
        "reliability_entropies", title, [*columns, _SEEDS], rows, notes if has_papers else ()
    )


def score_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("weak", "weak label", "an answer to a variation: of choices its letter as they were shown"),
        Column("truth", "right answer", "likewise"),
        Column(
            "mean",
            "mean S_prob",
            f"of these answers; the 95 % interval is Student's t over questions, {_SPREAD}",
            "ratio",
            "mean_interval",
        ),
        Column("n", "n", "number of answers of all seeds", "count"),
    ]
    papers = None
    if run.is_papers_data and run.weak is not None:
        papers = paper_reliability.scores(run.task, run.weak_model)
    notes = [] if papers is None else [_papers_scores(papers)]
    rows = reliability_numbers.score_rows(run)
    title = "Reliability by weak label and right answer"
    return formats.Table("reliability_scores", title, columns, rows, notes)


def _papers_scores(papers: paper_reliability.Scores) -> str:
    agreeing = ", ".join(f"{value:.3f}" for value in papers.agreeing)
    low, high = papers.others
    others = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
    return (
        f"The paper's means (Figures 4 and 6, {paper_reliability.PUBLISHED}): {agreeing} where label and right answer "
        f"agree, {others} elsewhere."
    )


def auroc_table(run: stored.Run) -> formats.Table:
    columns = [
        Column(
            "score",
            "score",
            "that may tell wrong labels, by a high entropy, or a low S_prob, log-probability, share or P(IK); S_prob "
            "of an answer to the original prompt is that of the same answer to a variation, 0 where there is none. Own "
            "answers are the strong model's before any training, and P(IK) that of these, where a method asks for them",
        ),
        Column("label", "labels", "that are right or wrong, those with an answer"),
        Column(
            "auroc",
            "AUROC",
            "of the score for a wrong label; 0.5 is chance. The 95 % interval is DeLong's, for several answers to one "
            f"question Obuchowski's, {_SPREAD}",
            "ratio",
            "auroc_interval",
        ),
        Column("n", "n", "number of labels of all seeds", "count"),
        Column("wrong", "wrong", "labels that are wrong, of these, per cent", "percent"),
        _SEEDS,
    ]  # fmt: skip
    rows = reliability_numbers.auroc_rows(run)
    return formats.Table("reliability_auroc", "Does reliability tell wrong labels?", columns, rows)


def letter_table(run: stored.Run) -> formats.Table:
    columns = [Column("letter", "letter", "of a choice as it was shown")]
    for name, heading in (("varied", "variations"), ("original", "original")):
        label = reliability_numbers.LABEL_NAMES[name]
        columns += [
            Column(
                f"{name}_chosen",
                f"{heading}: chosen",
                f"share of the {label} that have this letter, per cent. {_WILSON}",
                "percent",
                f"{name}_chosen_interval",
            ),
            Column(
                f"{name}_expected", f"{heading}: uniform", "the same if all places were as likely", "percent"
            ),
            Column(f"{name}_right", f"{heading}: right", "how often the right choice stood there", "percent"),
        ]
    tested = reliability_numbers.uniformity(run)
    notes = [
        "Where the orders of the choices are drawn at random, a model that reads what they say chooses every letter as "
        f"often. Pearson's test of it: {'; '.join(tested)}."
    ]
    rows = reliability_numbers.letter_rows(run)
    return formats.Table(
        "reliability_letters", "Letters chosen", [*columns, _SEEDS], rows, notes if tested else ()
    )
