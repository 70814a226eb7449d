"""Where a run gives no ground to conclude from, or the method did not do what it is for: what was seen, what to try."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import disagreement, formats, results
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.method import registry
from selw2s_jax.report import (
    curve_sections,
    disagreement_numbers,
    numbers,
    prediction_warnings,
    reliability_numbers,
    stored,
)
from selw2s_jax.report.finding import Finding

_NEAR_NONE, _NEAR_ALL = 0.02, 0.98  # IK rates that select next to nothing, next to everything
_LONELY = 0.95  # mean self-weight above which smoothing does next to nothing
_WITHOUT_GAMMA = "look at the calibration of weak labels and of P(IK), which say what is selected"
_WITHOUT_P_IK = (
    "it selects by no P(IK): look at what it goes by, as how far weak.members disagree and "
    "selection.disagreement_above"
)
_OF_ONLINE = "lower p_ik.gamma, or train P(IK) first: p_ik.stage=pretrain_then_joint"
_OF_FROZEN = (
    "gamma is held against the scores of a P(IK) that was trained first and no longer changes, which may be too low as "
    "a whole: look at its calibration (p_ik.num_test) and lower p_ik.gamma, train it longer (p_ik.epochs), or take "
    "selective_by_confidence or posterior, which calibrate it"
)
_OF_FILE = "lower p_ik.gamma, or see whether the scores of p_ik.scores_file are too low as a whole"
_UNREADABLE = 0.1  # share of the answers without one, above which labels are few
_UNEVEN = 0.1  # of all answers, by which a letter is chosen more or less often than the others
_CROWDED = 0.9  # share of the batch that are effective neighbours, above which labels are one average


def find(run: stored.Run) -> list[Finding]:
    """Everything that the run has to be read with."""
    return [
        *_of_data(run),
        *_of_seeds(run),
        *_of_the_gap(run),
        *_of_references(run),
        *_of_students(run),
        *_of_training(run),
        *_of_selection(run),
        *_of_disagreement(run),
        *_of_calibration(run),
        *_of_reliability(run),
        *_of_smoothing(run),
        *_of_p_ik(run),
        *_of_controls(run),
        *prediction_warnings.find(run),
    ]


def _of_data(run: stored.Run) -> Iterator[Finding]:
    for observation, remedy in run.warnings:
        yield Finding("all", _join(run.config["seeds"]), observation, remedy)


def _of_seeds(run: stored.Run) -> Iterator[Finding]:
    seeds = run.config["seeds"]
    if len(seeds) == 1:
        yield Finding(
            "all",
            _join(seeds),
            "one seed only: no interval here holds the spread between seeds, which is often larger than the "
            "differences between methods",
            "run more seeds, five or more: --config.seeds=0,1,2,3,4",
        )


def _of_the_gap(run: stored.Run) -> Iterator[Finding]:
    seeds = run.common_seeds("weak", "ceiling")
    if not seeds:
        return
    gap = numbers.gap_recovered(run, "ceiling")
    described = (
        f"ceiling - weak is {_points(gap.gap)} points ({_points(gap.gap_low)} to {_points(gap.gap_high)})"
    )
    remedy = (
        "use a weaker weak model or a stronger strong one, train longer, or take more test items or seeds"
    )
    if gap.gap <= 0:
        yield Finding(
            "ceiling",
            _join(seeds),
            f"the ceiling is not above the weak model: {described}; PGR is undefined",
            remedy,
        )
    elif gap.gap_low <= 0:
        yield Finding(
            "ceiling",
            _join(seeds),
            f"the interval of PGR's denominator touches zero: {described}; PGR has no finite interval and its value "
            "means little",
            remedy,
        )
    below = [
        seed for seed in seeds if run.correct("ceiling", [seed]).mean() <= run.weak_performance([seed]).mean()
    ]
    if below and gap.gap > 0:
        yield Finding(
            "ceiling",
            _join(below),
            f"the ceiling is not above the weak model in {len(below)} of {len(seeds)} seeds; PGR of those seeds is "
            "undefined",
            remedy,
        )


def _of_references(run: stored.Run) -> Iterator[Finding]:
    if not run.predictions:
        return
    majority = numbers.majority_class_accuracy(run)
    for method in registry.REFERENCES:
        seeds = run.common_seeds(method)
        if seeds and (accuracy := run.correct(method, seeds).mean()) <= majority:
            yield Finding(
                method,
                _join(seeds),
                f"accuracy {_percent(accuracy)} is not above always giving the commonest answer "
                f"({_percent(majority)})",
                "train it on more data or for more steps, with another learning rate, or take a larger model",
            )


def _of_students(run: stored.Run) -> Iterator[Finding]:
    for method in run.predictions:
        seeds = run.common_seeds(method, "weak")
        if method in registry.REFERENCES or not seeds:
            continue
        if run.correct(method, seeds).sum() >= run.correct("weak", seeds).sum():  # no interval is needed
            continue
        change = numbers.difference(run, method, "weak")
        yield Finding(
            method,
            _join(seeds),
            f"the student is below its weak teacher: {_points(change.mean)} points ({_points(change.low)} to "
            f"{_points(change.high)})",
            "compare the ceiling: if that is low too, raise the strong model's learning rate or steps; if not, look "
            "at the labels it was trained on",
        )


def _of_selection(run: stored.Run) -> Iterator[Finding]:
    chosen = [entry for entry in _selecting(run) if not run.facts(entry["method"]).weighs]
    for method, entries in _by_method(chosen):
        facts, kind = run.facts(method), "smoothed " if run.facts(method).smooths else ""
        for rate, words, remedy in (
            (
                lambda r: r < _NEAR_NONE,
                f"next to nothing is selected: this is training on {kind}weak labels",
                _against_low_rate(run, facts),
            ),
            (
                lambda r: r > _NEAR_ALL,
                "nearly everything is selected: this is self-training",
                "raise p_ik.gamma, and look at the AUROC and calibration of P(IK)"
                if facts.has_gamma and facts.has_p_ik
                else _without_gamma(facts),
            ),
        ):
            if there := [entry for entry in entries if rate(entry["ik_rate"])]:
                yield _of_entries(method, there, f"IK rate {{}} late in training: {words}", "ik_rate", remedy)
        worse = [
            entry
            for entry in entries
            if entry["self_accuracy_on_ik"] is not None
            and entry["self_accuracy_on_ik"] < entry["weak_accuracy_on_ik"]
        ]
        if worse:
            pairs = ", ".join(
                f"{_percent(entry['self_accuracy_on_ik'])} against {_percent(entry['weak_accuracy_on_ik'])}"
                for entry in worse
            )
            yield Finding(
                method,
                _join(entry["seed"] for entry in worse),
                f"on the rows selected late in training the strong model's own labels are right less often than the "
                f"weak ones that they replace: {pairs}",
                f"{'raise p_ik.gamma, ' * facts.has_gamma}train P(IK) on a nearer task (p_ik.task) or on more "
                "questions, or give more shots (self_label.num_shots)"
                if facts.has_p_ik
                else _WITHOUT_P_IK,
            )


def _against_low_rate(run: stored.Run, facts: methods_lib.Facts) -> str:
    """What makes a method select more, by where its P(IK) is from."""
    if not (facts.has_gamma and facts.has_p_ik):
        return _without_gamma(facts)
    if facts.p_ik_from != "config":
        return _OF_FROZEN
    return {"frozen_scores": _OF_FROZEN, "file": _OF_FILE}.get(run.config["p_ik"].get("mask"), _OF_ONLINE)


def _without_gamma(facts: methods_lib.Facts) -> str:
    return _WITHOUT_GAMMA if facts.has_p_ik else _WITHOUT_P_IK


def _of_disagreement(run: stored.Run) -> Iterator[Finding]:
    """Whether P(IK) can gain anything where weak and self label differ, which is all that selection changes."""
    for whose, entries in disagreement_numbers.by_p_ik(run).items():
        methods = [
            name
            for name in dict.fromkeys(
                entry["method"] for entry in run.disagreement if entry["p_ik_of"] == whose
            )
            if run.facts(name).selects and not run.facts(name).weighs
        ]
        if whose is None or not methods:
            continue
        for can_gain, words, remedy in (
            (
                _cannot_gain,
                f"no selection can gain here, as far as the rows tell on which the two labels differ: the weak one is "
                f"right more often there, and P(IK) of {whose} does not tell where it is not",
                "take a weak model whose errors are its own, or train P(IK) on a nearer task (p_ik.task) or on more "
                "questions; the method posterior, which weighs both labels, does not need the self label to be the "
                "better one",
            ),
            (
                _gains_little,
                f"no gain of selection over as many random rows is to be expected: AUROC of P(IK) of {whose} is not "
                f"above {disagreement.ENOUGH_AUROC:g} where the two labels differ",
                "train P(IK) on a nearer task (p_ik.task) or on more questions, or take a weak model whose errors are "
                "its own",
            ),
        ):
            if there := [entry for entry in entries if can_gain(entry)]:
                yield Finding(
                    ", ".join(methods),
                    _join(entry["seed"] for entry in there),
                    f"{words}: {'; '.join(map(_of_differing_rows, there))}",
                    remedy,
                )


def _cannot_gain(entry: Mapping[str, Any]) -> bool:
    """Whether less than half of the self labels are right where the labels differ, and P(IK) finds none of them."""
    right = entry["disagreeing"]["self_right"]
    return right is not None and right < 0.5 and (entry["auroc"] is None or _is_chance(entry))


def _gains_little(entry: Mapping[str, Any]) -> bool:
    auroc = entry["auroc"]
    return auroc is not None and auroc <= disagreement.ENOUGH_AUROC and not _cannot_gain(entry)


def _of_differing_rows(entry: Mapping[str, Any]) -> str:
    rows, auroc = entry["disagreeing"], "AUROC undefined"
    if entry["auroc"] is not None:
        auroc = f"AUROC {entry['auroc']:.2f}"
        if entry["auroc_low"] is not None:
            auroc += f" ({entry['auroc_low']:.2f} to {entry['auroc_high']:.2f})"
    return f"{_percent(rows['self_right'])} of self labels right on {rows['n']} of {entry['all']['n']} rows, {auroc}"


def _of_calibration(run: stored.Run) -> Iterator[Finding]:
    for name, words, remedy in (
        (
            "p_ik_slope",
            "P(IK) says nothing of which self labels are right, or the opposite of what it should: the slope of its "
            "calibration is {}",
            "train P(IK) on more questions or for more steps, or on another task (p_ik.task)",
        ),
        (
            "weak_slope",
            "weak models are no better than chance on rows that they were not trained on: the slope of their log-odds "
            "is {}",
            "use a stronger weak model, or more data or steps",
        ),
    ):
        if there := [entry for entry in run.calibration if entry[name] <= 0]:
            values = ", ".join(f"{entry[name]:.2f}" for entry in there)
            yield Finding(
                "calibration", _join(entry["seed"] for entry in there), words.format(values), remedy
            )


def _of_reliability(run: stored.Run) -> Iterator[Finding]:
    """Whether the answers to several prompts give methods anything to filter or to weigh by, and can be read."""
    names = [name for name in run.methods if name.startswith(("entropy_filter", "reweighted"))]
    methods = ", ".join(names) or "weak"
    for method, measure, is_found, words, remedy in (
        (
            methods,
            lambda entry: entry["filter"] and entry["filter"]["kept_share"],
            lambda share: share > _NEAR_ALL,
            "the weak model gives nearly all prompts to a question one answer: the filter keeps {} of the questions, "
            "so it does nothing, and the weights are nearly equal",
            "vary the prompts more (variations.kind, variations.count), or sample answers (answers.temperature)",
        ),
        (
            "weak",
            reliability_numbers.share_unparsed,
            lambda share: share > _UNREADABLE,
            "no answer was found in {} of what the weak model wrote to the variations",
            "train it longer, allow longer answers (answers.max_new_tokens), read them by answers.reading=rules where "
            "that is first, or score the choices (answers.by=score)",
        ),
        (
            "weak",
            reliability_numbers.unevenness,
            lambda share: share > _UNEVEN,
            "the weak model prefers some letters whatever stands there: the share of one is off by {} of the answers",
            "train it longer, or show every choice at every place (variations.cyclic=True)",
        ),
    ):
        values = [(entry["seed"], measure(entry)) for entry in run.reliability]
        if there := [(seed, value) for seed, value in values if value is not None and is_found(value)]:
            shares = _join(_percent(value) for _, value in there)
            yield Finding(method, _join(seed for seed, _ in there), words.format(shares), remedy)
    areas = [
        area | {"seed": entry["seed"]}
        for entry in run.reliability
        for area in entry["auroc"]
        if (area["score"], area["label"]) == ("entropy", "varied")
    ]
    if there := [area for area in areas if _is_chance(area)]:
        yield _of_entries(
            methods,
            there,
            "answers that agree are not shown to be right more often than others: AUROC of S_ent for a wrong label is "
            "{}, no better than chance or with an interval that holds 0.5",
            "auroc",
            "take more questions or variations, or another weak model, before filtering by agreement",
        )


def _of_smoothing(run: stored.Run) -> Iterator[Finding]:
    batch_size = run.config["training"]["batch_size"]
    for method, entries in _by_method(_smoothing(run)):
        measured = ("self_weight", "effective_neighbours")
        smoothed = [entry for entry in entries if all(entry[name] is not None for name in measured)]
        if there := [entry for entry in smoothed if entry["self_weight"] > _LONELY]:
            yield _of_entries(
                method,
                there,
                "mean self-weight {}: a row is its own neighbour, so smoothing does next to nothing",
                "self_weight",
                "raise graph.tau, or set graph.normalize=True or graph.include_self=False",
            )
        if there := [entry for entry in smoothed if entry["effective_neighbours"] > _CROWDED * batch_size]:
            yield _of_entries(
                method,
                there,
                f"{{}} effective neighbours in batches of {batch_size}: every row gets the average label of the batch",
                "effective_neighbours",
                "lower graph.tau, or set graph.center=True",
            )


def _of_p_ik(run: stored.Run) -> Iterator[Finding]:
    for method, of_method in _by_method(run.p_ik):
        of_test: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for entry in of_method:
            key = entry["train_task"], entry["test_task"], entry["distribution"]
            of_test.setdefault(key, []).append(entry)
        for (train_task, test_task, distribution), entries in of_test.items():
            words = f"trained on {train_task}, tested on {test_task} ({results.DISTRIBUTIONS[distribution]})"
            yield from _of_one_test(method, entries, words)
            if _is_held_against_gamma(run, method):
                yield from _of_gamma(method, entries, words, run.config["p_ik"]["gamma"])


def _is_held_against_gamma(run: stored.Run, method: str) -> bool:
    """Whether gamma counts for P(IK) of a method; of P(IK) alone that is not listed, for a method that has it."""
    listed = run.config["methods"]
    is_read = method in listed or any(run.facts(one).has_gamma and run.facts(one).selects for one in listed)
    return run.facts(method).has_gamma and is_read


def _of_one_test(method: str, entries: list[dict[str, Any]], words: str) -> Iterator[Finding]:
    """Findings of one test of P(IK) in all seeds."""
    if there := [entry for entry in entries if entry["known"] in (0, entry["n"])]:
        shares = ", ".join(f"{entry['known']} of {entry['n']}" for entry in there)
        yield Finding(
            method,
            _join(entry["seed"] for entry in there),
            f"P(IK) {words}: {shares} few-shot answers are right, so nothing shows whether P(IK) tells known from "
            "unknown questions",
            "test it on more questions, or on a task that the strong model answers neither always nor never",
        )
    if there := [entry for entry in entries if _is_chance(entry)]:
        yield _of_entries(
            method,
            there,
            f"P(IK) {words} does not tell known from unknown questions: AUROC {{}}, no better than chance or with an "
            "interval that holds 0.5",
            "auroc",
            "train P(IK) on more questions or for more steps, or on a nearer task (p_ik.task)",
        )


def _of_gamma(method: str, entries: list[dict[str, Any]], words: str, gamma: float) -> Iterator[Finding]:
    """That the threshold picks no better answers than all are, in one test of P(IK)."""
    useless = [
        entry
        for entry in entries
        if 0 < entry["known"] < entry["n"]
        and entry["ik_precision"] is not None
        and entry["ik_precision"] <= entry["known"] / entry["n"]
    ]
    if useless:
        pairs = ", ".join(
            f"{_percent(entry['ik_precision'])} against {_percent(entry['known'] / entry['n'])}"
            for entry in useless
        )
        yield Finding(
            method,
            _join(entry["seed"] for entry in useless),
            f"P(IK) {words}: few-shot answers above gamma = {gamma:g} are right no more often than all are: {pairs}",
            "look at IK precision against gamma and choose another p_ik.gamma, or train P(IK) on a nearer task "
            "(p_ik.task)",
        )


def _is_chance(entry: Mapping[str, Any]) -> bool:
    lowest = entry["auroc"] if entry["auroc_low"] is None else entry["auroc_low"]
    return lowest is not None and lowest <= 0.5


def _of_controls(run: stored.Run) -> Iterator[Finding]:
    for method in run.predictions:
        changes = {
            control: numbers.difference(run, method, control) for control in numbers.controls(run, method)
        }
        level = {name: change for name, change in changes.items() if change is not None and change.low <= 0}
        if level:
            seeds = sorted({seed for control in level for seed in run.common_seeds(method, control)})
            described = ", ".join(
                f"the control {name}: {_points(change.mean)} points ({_points(change.low)} to {_points(change.high)})"
                for name, change in level.items()
            )
            yield Finding(
                method,
                _join(seeds),
                f"not shown to be above {described}; a gain over {numbers.BASELINE} is no evidence for "
                f"{_cause(run.facts(method))}",
                "run more seeds and test items before concluding",
            )


def _of_training(run: stored.Run) -> Iterator[Finding]:
    for method in run.curves:
        if found := curve_sections.warning(run, method):
            yield Finding(method, _join(sorted(run.curves[method])), *found)


def _cause(facts: methods_lib.Facts) -> str:
    """What a method is said to gain by."""
    if facts.weighs:
        return "weighing labels by P(IK)"
    return "selection" if facts.selects else "the choice of rows"


def _selecting(run: stored.Run) -> list[dict[str, Any]]:
    """The diagnoses of methods whose IK mask is that of their own P(IK)."""
    return [entry for entry in run.diagnostics if run.facts(entry["method"]).selects]


def _smoothing(run: stored.Run) -> list[dict[str, Any]]:
    """The diagnoses of methods that do not do without the graph."""
    return [entry for entry in run.diagnostics if run.facts(entry["method"]).smooths]


def _by_method(entries: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    methods = dict.fromkeys(entry["method"] for entry in entries)
    return [(method, [entry for entry in entries if entry["method"] == method]) for method in methods]


def _of_entries(
    method: str, entries: list[dict[str, Any]], observation: str, name: str, remedy: str
) -> Finding:
    """A finding of several seeds whose observation has their numbers in the place of `{}`."""
    rate = name == "ik_rate"
    numbers = ", ".join(_percent(entry[name]) if rate else f"{entry[name]:.3g}" for entry in entries)
    return Finding(method, _join(entry["seed"] for entry in entries), observation.format(numbers), remedy)


def _join(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def _percent(value: float) -> str:
    return f"{formats.percent(value, digits=1)} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
