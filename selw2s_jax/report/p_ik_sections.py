"""What a report says of P(IK): a section of its page for each strong model, with tables and pictures."""

from collections.abc import Sequence

import numpy as np

from selw2s_jax.analysis import result_figures
from selw2s_jax.report import p_ik_figures, p_ik_numbers, p_ik_tables, section, stored
from selw2s_jax.run import manifests

_IN = "in distribution"
_MAX_ROWS = 36  # of a table that the page shows open
_CAPTIONS = {
    "p_ik_distributions": "P(IK) on questions whose few-shot answer is right (known) and wrong (unknown), each as a "
    "share of its kind, with the questions of all seeds. AUROC is the mean over seeds.",
    "few_shot": "Few-shot answers of the strong model that are right, with 95 % intervals.",
    "p_ik_reliability": "Share of known questions against P(IK), in the 15 bins of the calibration error, with "
    "Wilson's 95 % intervals and the number of questions in each bin below. The questions of all seeds are taken "
    "together.",
    "p_ik_risk_coverage": "Share of wrong answers (risk) where only the questions of highest P(IK) are answered "
    "(coverage), mean over seeds.",
    "p_ik_selection": "What exceeds gamma (IK rate) and how much of it the strong model answers right (IK precision), "
    "as gamma moves; precision is drawn where it is of ten questions or more.",
}
_ABOVE = {  # the table that a picture stands above
    "p_ik_distributions": "p_ik_auroc",
    "few_shot": "few_shot",
    "p_ik_reliability": "p_ik_tests",
    "p_ik_risk_coverage": "p_ik_tests",
    "p_ik_selection": "p_ik_tests",
}


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each strong model and choice of settings that P(IK) is tested of."""
    groups = p_ik_numbers.make_groups(runs)
    return [_section(group, number) for number, group in enumerate(groups, start=1)]


def _section(group: p_ik_numbers.Group, number: int) -> section.Section:
    method = group.methods[0]
    tests, trainings, left_out = _tests(group, method)
    of_method = f", of {method}" if len(group.methods) > 1 else ""
    shared = {"title": f"{group.title}{of_method}", "trainings": trainings}
    drawn = {
        "few_shot": p_ik_figures.draw_few_shot(
            p_ik_numbers.few_shot_rows(group), title=f"Few-shot accuracy of {group.strong}"
        )
    }
    if tests:
        drawn |= {
            "p_ik_distributions": result_figures.draw_p_ik(
                {
                    f"{test}, {training}": seeds
                    for test, by_training in tests.items()
                    for training, seeds in by_training.items()
                },
                title=shared["title"],
                gamma=group.gamma,
            ),
            "p_ik_reliability": p_ik_figures.draw_reliability(tests, **shared),
            "p_ik_risk_coverage": p_ik_figures.draw_risk_coverage(tests, **shared),
            "p_ik_selection": p_ik_figures.draw_selection(tests, gamma=group.gamma, **shared),
        }
    settings = {key: stored.setting_text(value) for key, value in group.settings.items()}
    labels = {"strong": group.strong} | ({} if group.weak is None else {"weak": group.weak}) | settings
    if group.workdir:
        labels["workdir"] = group.workdir
    return section.Section(
        f"Does the model know? {group.title}",
        labels,
        p_ik_tables.of_group(group),
        {f"{kind}-{number}": (picture, _CAPTIONS[kind]) for kind, picture in drawn.items()},
        above={f"{kind}-{number}": table for kind, table in _ABOVE.items()},
        notes=[*_missing(group), *left_out],
        max_rows=_MAX_ROWS,
    )


def _tests(
    group: p_ik_numbers.Group, method: str
) -> tuple[dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]], list[str], list[str]]:
    """`tests` and `trainings` of pictures, and a line on what they leave out."""
    by_test = group.by_test(method)
    seeds_of: dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for test_name, by_train in by_test.items():
        for pair in by_train.values():
            if pair.questions:
                training = _IN if pair.is_in_distribution else f"trained on {pair.train_task}"
                seeds = [(one.p_ik, one.known) for one in pair.questions.values()]
                seeds_of.setdefault(test_name, {})[training] = seeds
    present = {training for by_training in seeds_of.values() for training in by_training}
    ordered = [one for one in (_IN, *(f"trained on {task}" for task in group.train_tasks)) if one in present]
    shown, hidden = ordered[: p_ik_figures.MAX_TRAINED], ordered[p_ik_figures.MAX_TRAINED :]
    tests = {
        test_name: {training: by_training[training] for training in shown if training in by_training}
        for test_name, by_training in seeds_of.items()
    }
    note = f"The pictures have no room for P(IK) {', '.join(hidden)}; the tables have it."
    tests = {name: by_training for name, by_training in tests.items() if by_training}
    return tests, shown, [note] * bool(hidden)


def _missing(group: p_ik_numbers.Group) -> list[str]:
    """A line on tests whose questions are not stored."""
    without = [
        f"{pair.test_task} (trained on {pair.train_task})"
        for pair in group.pairs
        if len(pair.questions) < len(pair.tests)
    ]
    if not without:
        return []
    return [
        f"{manifests.P_IK_ITEMS_FILE} is missing in runs on {', '.join(dict.fromkeys(without))}: pictures, "
        "questions and AURC are without them. Run the same config again to have it written; finished stages are kept."
    ]
