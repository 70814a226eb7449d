"""The model card of an exported student: README.md of its folder. Here is what all forms of supervision have."""

import dataclasses
import pathlib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.analysis import formats
from selw2s_jax.export import card_data
from selw2s_jax.models import lora
from selw2s_jax.run import students


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the pretrained model of a student is from: the hub, at a commit, or a folder; neither where nobody knows.

    The folder is of the machine of the export, and stands in no card.
    """

    hub_name: str | None = None
    revision: str | None = None
    folder: str | None = None


_UNKNOWN = Origin()


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a run's results say of one trained model.

    Attributes:
        records: of `results.json` for this seed, by method: this one's and its references', where they were tested.
        p_ik: its tests of P(IK).
        is_generated: whether the questions were made to try the code on, whatever data set they are called by.
    """

    records: dict[str, dict[str, Any]]
    p_ik: list[dict[str, Any]]
    is_generated: bool = False


class CardOf(NamedTuple):
    """What a card is of.

    Attributes:
        transformers_class: the class of transformers that reads the folder, or None.
        is_apart: whether the folder has the adapters alone, without the model that they adapt.
        pad_token_id: what transformers takes for padding.
    """

    transformers_class: str | None
    is_apart: bool = False
    pad_token_id: int = 0

    @property
    def library(self) -> str:
        """That reads the folder."""
        return "peft" if self.is_apart else "transformers" if self.transformers_class else "selw2s_jax"


class Parts(NamedTuple):
    """What a form of supervision says on its card.

    Attributes:
        pipeline: of the hub.
        paper: that is implemented, with its link.
        about: what the model is.
        rows: of the table of facts: further ones, and others instead of those of the same name.
        loading: how it is loaded, a paragraph each.
        reads: what the model reads, and what is to be known of what it says.
    """

    pipeline: str
    paper: str
    about: str
    rows: Mapping[str, str]
    loading: Sequence[str]
    reads: Sequence[str]


def names(facts: students.Facts) -> dict[str, str]:
    """The names of a student's method, task and models, as code."""
    found = {key: _code(getattr(facts, key)) for key in ("method", "task", "learnt")}
    return found | {key: _model_name(getattr(facts, key)) for key in ("base", "weak", "strong")}


def compose(
    facts: students.Facts,
    parts: Parts,
    *,
    numbers: Numbers | None,
    dtype: str,
    library: str,
    origin: Origin = _UNKNOWN,
    datasets: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
    """The card of a student.

    Args:
        numbers: None where the run has no results of this student.
        dtype: of the weights.
        library: that reads the folder.
        origin: of the pretrained model.
        datasets: of the hub, by task, that it was trained or tested on.
    """
    paragraphs = [
        card_data.front_matter(
            name=f"{facts.method} on {facts.task}, seed {facts.seed}",
            base_model=origin.hub_name,
            library=library,
            pipeline=parts.pipeline,
            datasets=datasets,
            results=_results(facts, numbers),
        ),
        f"# {_plain(facts.method)} on {_plain(facts.task)}, seed {facts.seed}",
        f"Made by selw2s_jax, an independent implementation of {parts.paper}. {parts.about}",
        _facts_table(facts, origin, dtype, parts.rows),
        *_numbers(facts, numbers),
        "## Loading",
        *parts.loading,
        *parts.reads,
        "## Licence",
        f"The weights are derived from {names(facts)['base']}: its licence applies to them, and that of the data they "
        "were trained on.",
    ]
    return "\n\n".join(paragraph.strip("\n") for paragraph in paragraphs) + "\n"


def token_ids(encoded: str, facts: students.Facts, longest: int | None) -> str:
    """Code for what the model reads: the ids of a text behind a BOS token, truncated from the left where too long."""
    if facts.bos_id is None:
        return encoded if longest is None else f"{encoded}[-{longest}:]"
    return f"[{facts.bos_id}, *{encoded}{'' if longest is None else f'[-{longest - 1}:]'}]"


# Characters that Markdown or HTML would take for markup.
_PLAIN = {ord(character): f"\\{character}" for character in "\\`*_[]<>#|&$~"}


def _plain(text: str) -> str:
    """A name as text, on one line."""
    return " ".join(text.split()).translate(_PLAIN)


def _code(text: str) -> str:
    """A name as code: on one line, without what would end the code or a table's cell."""
    return f"`{re.sub('[`|]', ' ', ' '.join(text.split())) or ' '}`"


def _model_name(name: str) -> str:
    """A model as the config has it; of a folder of this machine only its own name."""
    return _code(_without_folder(name))


def _without_folder(name: str) -> str:
    is_folder = name.startswith(("/", "~", "."))
    return pathlib.PurePath(name).name if is_folder else name


def _results(facts: students.Facts, numbers: Numbers | None) -> list[card_data.Result]:
    """The numbers of the model itself, for the head of the card; they stand there as those of the data set."""
    if numbers is None or numbers.is_generated:
        return []
    found = []
    if own := numbers.records.get(facts.method):
        found.append(card_data.Result("accuracy", "accuracy", own["accuracy"], facts.task))
        if own.get("auroc") is not None:
            found.append(card_data.Result("roc_auc", "AUROC", own["auroc"], facts.task))
    for test in numbers.p_ik:
        if test.get("auroc") is not None:
            found.append(card_data.Result("roc_auc", "AUROC of P(IK)", test["auroc"], test["test_task"]))
    return found


def _describe_base(names: dict[str, str], facts: students.Facts, origin: Origin) -> str:
    """The pretrained model, so that it is known again wherever it is."""
    described = names["base"]
    if origin.hub_name is not None:
        described = f"{_code(origin.hub_name)} at {_code(origin.revision or 'its newest commit')}"
    elif origin.folder is not None:
        described += ", a folder where the student was trained"
    return f"{described}; fingerprint {_code(facts.base_fingerprint)}"


def _facts_table(facts: students.Facts, origin: Origin, dtype: str, others: Mapping[str, str]) -> str:
    named = names(facts)
    rows = {
        "task": named["task"],
        "method": named["method"],
        "weak model": named["weak"] if facts.weak else "none",
        "strong model": named["strong"],
        "made from": _describe_base(named, facts, origin),
        "seed": facts.seed,
        "longest input": f"{facts.max_length} tokens; longer ones are truncated from the left",
        "beginning-of-text token": "none"
        if facts.bos_id is None
        else f"id {facts.bos_id}, in front of every text",
        "weights": dtype,
        "computed in": facts.compute_dtype,
        **others,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def adapters(settings: lora.Settings) -> str:
    """Low-rank adapters in words."""
    return (
        f"low-rank adapters of {' and '.join(settings.targets)} (rank {settings.rank}, alpha {settings.alpha:g}, "
        f"dropout {settings.dropout:g})"
    )


def _numbers(facts: students.Facts, numbers: Numbers | None) -> list[str]:
    if numbers is None or not (numbers.records or numbers.p_ik):
        return ["## Results", "The run had no results of this model when it was exported."]
    paragraphs = ["## Results"]
    if numbers.is_generated:
        paragraphs.append(
            "The questions were generated, to try the code on: these numbers say nothing of the task."
        )
    if numbers.records:
        lines = [
            "| on the test split | accuracy | 95 % interval (Wilson) | right | PGR |",
            "|---|---|---|---|---|",
        ]
        for method, record in numbers.records.items():
            interval = (
                f"{formats.percent(record['accuracy_low'])} to {formats.percent(record['accuracy_high'])}"
            )
            pgr = "-" if record["pgr"] is None else f"{record['pgr']:.3f}"
            lines.append(
                f"| {_code(method)} | {formats.percent(record['accuracy'])} | {interval} | "
                f"{record['correct']} of {record['n']} | {pgr} |"
            )
        paragraphs.append("\n".join(lines))
        note = "PGR, performance gap recovered, is (student - weak) / (ceiling - weak)."
        own = numbers.records.get(facts.method)
        if own is not None and own["pgr"] is None:
            note += f" It is not given for this model: {own['pgr_reason']}."
        paragraphs.append(f"Accuracies are in per cent, of seed {facts.seed} alone. {note}")
    for test in numbers.p_ik:
        auroc = "-" if test.get("auroc") is None else f"{test['auroc']:.3f}"
        if test.get("auroc_low") is not None:
            auroc += f" (95 % interval {test['auroc_low']:.3f} to {test['auroc_high']:.3f})"
        trained = test.get("train_task")
        trained = f", trained on questions of {_code(trained)}," if trained else ""
        paragraphs.append(
            f"P(IK){trained} on {test['n']} questions of {_code(test['test_task'])}, of which the untouched "
            f"{_model_name(facts.strong)} answers {test['known']} right: AUROC {auroc}."
        )
    return paragraphs
