"""What a report says of tasks that are learnt one after the other."""

from collections.abc import Sequence

from selw2s_jax.analysis import formats, method_looks
from selw2s_jax.analysis.formats import Column
from selw2s_jax.method import registry
from selw2s_jax.report import continual_figures, continual_numbers, section, stored

_TITLE = "One task after the other"
_NOTES = (
    "Every student goes on learning from its weights of the last task, with weak labels of a weak model that learnt "
    "the new task alone; the ceiling does so on ground truth. What the ceiling forgets is what learning in this order "
    "costs, and what a student forgets beyond that comes from its labels.",
)
_CAPTION = (
    "Accuracy on the test of each task after each task was learnt, mean over seeds. Left of the dashed line a task was "
    "not learnt yet."
)
_SEEDS = Column("num_seeds", "seeds", "number of seeds finished", "count")
_METHOD = Column("method", "method", "the student, or the ceiling")
_OVER_SEEDS = "the 95 % interval is Student's t over seeds"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each sequence that is finished."""
    return [
        _of_sequence(members, number)
        for number, members in enumerate(continual_numbers.sequences(runs), start=1)
    ]


def _of_sequence(members: Sequence[stored.Run], number: int) -> section.Section:
    first, in_turn = members[0], continual_numbers.tasks(members[0])
    facts = {name: first.facts(name) for name in (*registry.REFERENCES, *first.config["methods"])}
    of_methods = continual_numbers.matrices(members)
    picture = continual_figures.draw(
        of_methods, in_turn, title=f"{first.weak} teaches {first.strong}", styles=method_looks.styles(facts)
    )
    tables = [_summary_table(members), _accuracy_table(members, in_turn), _selection_table(members)]
    settings = {key: stored.setting_text(value) for key, value in first.settings.items()}
    return section.Section(
        f"{_TITLE}: {', '.join(in_turn)}" + stored.describe_settings(first.settings),
        {"tasks": ",".join(in_turn), "weak": first.weak or "", "strong": first.strong, **settings},
        [table for table in tables if table.rows],
        {f"continual-{number}": (picture, _CAPTION)},
        notes=_NOTES,
    )


def _summary_table(members: Sequence[stored.Run]) -> formats.Table:
    columns = [
        _METHOD,
        Column(
            "average",
            "accuracy at the end",
            f"on all tasks after the last, per cent (ACC of Lopez-Paz & Ranzato 2017); {_OVER_SEEDS}",
            "percent",
            "average_interval",
        ),
        Column(
            "learning",
            "when learnt",
            "accuracy on each task right after it was learnt, mean over tasks",
            "percent",
            "learning_interval",
        ),
        Column(
            "forgetting",
            "forgotten",
            "points that the tasks before the last lost from their best before it to the end, mean over them "
            "(Chaudhry et al. 2018)",
            "points",
            "forgetting_interval",
        ),
        Column(
            "backward_transfer",
            "backward transfer",
            "points that learning later tasks added to those before, mean over them (Lopez-Paz & Ranzato 2017)",
            "points",
            "backward_transfer_interval",
        ),
        Column(
            "before_learning",
            "before it is learnt",
            "accuracy on each task but the first just before it is learnt, mean over them",
            "percent",
            "before_learning_interval",
        ),
        _SEEDS,
    ]
    rows = continual_numbers.summary_rows(members)
    return formats.Table("continual", "What was kept of all tasks", columns, rows)


def _accuracy_table(members: Sequence[stored.Run], in_turn: Sequence[str]) -> formats.Table:
    columns = [
        _METHOD,
        Column("learnt", "after", "the task that was learnt last"),
        *(
            Column(
                task,
                task,
                f"accuracy on the test of {task}, per cent; the 95 % interval is Wilson's with the spread of the seeds "
                "added in squares",
                "percent",
                f"{task} interval",
            )
            for task in in_turn
        ),
        _SEEDS,
    ]
    rows = continual_numbers.accuracy_rows(members)
    return formats.Table("continual_accuracy", "Accuracy on each task after each", columns, rows)


def _selection_table(members: Sequence[stored.Run]) -> formats.Table:
    columns = [
        _METHOD,
        Column("learnt", "task", "in the order of learning"),
        Column("ik_rate", "IK rate", "share of the task's labels that were own ones", "percent"),
        Column(
            "p_ik_auroc", "AUROC of P(IK)", "for own labels of the task's student half being right", "ratio"
        ),
        Column(
            "in_auroc",
            "AUROC in distribution",
            "on held-out questions of what P(IK) is trained on, where p_ik.num_test asks for it",
            "ratio",
        ),
        _SEEDS,
    ]
    rows = continual_numbers.selection_rows(members)
    return formats.Table("continual_p_ik", "Selection and P(IK) over the tasks", columns, rows)
