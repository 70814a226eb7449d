"""The model card of an exported student: README.md of its folder."""

import dataclasses
import json
import pathlib
import re
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.run import students

_PAPER = "[arXiv 2511.14166](https://arxiv.org/abs/2511.14166)"
_CLASSES = " Its two classes are the labels of the task: 1 where the answer shown is right."
_ROLES = {
    "weak": "It is the weak model: {base}, fine-tuned on ground truth." + _CLASSES,
    "ceiling": "It is the strong ceiling: {base}, fine-tuned on ground truth." + _CLASSES,
}
_STUDENT = "It is a student: {strong}, taught by {weak} with the method {method}." + _CLASSES
_P_IK_ALONE = (
    "It is {strong} with a head for P(IK) alone, which no weak model taught: whether {strong} knows the answer to a "
    "question (IK) or not (IDK)."
)

_WITH_TRANSFORMERS = """\
With transformers (no remote code; the classes of `model` are those of its {head}):

    import torch, transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained("FOLDER")
    tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")
    ids = {ids}
    with torch.no_grad():
        probs = torch.softmax(model(torch.tensor([ids])).logits.float(), dim=-1)     # [1, 2]
"""
_WITH_PEFT = """\
The weights are low-rank adapters and heads, in PEFT's layout; the pretrained model is read from where it is. With PEFT
(the classes of `model` are those of its {head}):

    import peft, torch, transformers

    base = transformers.AutoModelForSequenceClassification.from_pretrained("BASE", num_labels=2)
    base.config.pad_token_id = {pad_token_id}
    model = peft.PeftModel.from_pretrained(base, "FOLDER").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")
    ids = {ids}
    with torch.no_grad():
        probs = torch.softmax(model(torch.tensor([ids])).logits.float(), dim=-1)     # [1, 2]
"""
_WITH_THIS_PROJECT = """\
With selw2s_jax:

    import jax
    import numpy as np
    import selw2s_jax
    from selw2s_jax import exports

    model = exports.load("FOLDER"{base})
    tokenizer = selw2s_jax.load_tokenizer("FOLDER", bos="off")
    ids = {ids}
    first = np.zeros(1, np.int32)
    outputs = model(np.array([ids], np.int32), None, None, first, first + len(ids) - 1)
    probs = jax.nn.softmax(outputs.class_logits)         # [1, 2]; outputs.p_ik_logits are of (IDK, IK), or None
"""


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
    """

    records: dict[str, dict[str, Any]]
    p_ik: list[dict[str, Any]]


def format_card(
    facts: students.Facts,
    *,
    numbers: Numbers | None,
    dtype: str,
    transformers_class: str | None,
    is_apart: bool = False,
    origin: Origin = _UNKNOWN,
    pad_token_id: int = 0,
) -> str:
    """The card of a student.

    Args:
        numbers: None where the run has no results of this student.
        dtype: of the weights.
        transformers_class: the class of transformers that reads the folder, or None.
        is_apart: whether the folder has the adapters alone, without the model that they adapt.
        origin: of the pretrained model.
        pad_token_id: what transformers takes for padding.
    """
    names = {key: _code(getattr(facts, key)) for key in ("method", "task")}
    names |= {key: _model_name(getattr(facts, key)) for key in ("base", "weak", "strong")}
    about = (_ROLES.get(facts.method, _STUDENT) if facts.has_class_head else _P_IK_ALONE).format(**names)
    head = "class head" if facts.has_class_head else "P(IK) head, (IDK, IK)"
    base = ', base="BASE"' if is_apart else ""
    loading = [_WITH_THIS_PROJECT.format(ids=_ids("tokenizer.encode(TEXT)", facts), base=base)]
    if transformers_class is not None:
        form = _WITH_PEFT if is_apart else _WITH_TRANSFORMERS
        ids = _ids('tokenizer(TEXT, add_special_tokens=False)["input_ids"]', facts)
        loading.insert(0, form.format(ids=ids, head=head, pad_token_id=pad_token_id))
    paragraphs = [
        _front_matter(origin, "peft" if is_apart else "transformers" if transformers_class else "selw2s_jax"),
        f"# {_plain(facts.method)} on {_plain(facts.task)}, seed {facts.seed}",
        f"Made by selw2s_jax, an independent implementation of Selective Weak-to-Strong Generalization ({_PAPER}). "
        f"{about}",
        _facts_table(names, facts, origin, dtype),
        *_numbers(facts, numbers),
        "## Loading",
        *loading,
        _input_form(facts),
        "## Licence",
        f"The weights are derived from {names['base']}: its licence applies to them, and that of the data they were "
        "trained on.",
    ]
    return "\n\n".join(paragraph.strip("\n") for paragraph in paragraphs) + "\n"


def _ids(encoded: str, facts: students.Facts) -> str:
    """Code for what the model reads: the ids of a text, truncated from the left behind a BOS token."""
    if facts.bos_id is None:
        return f"{encoded}[-{facts.max_length}:]"
    return f"[{facts.bos_id}, *{encoded}[-{facts.max_length - 1}:]]"


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


def _front_matter(origin: Origin, library: str) -> str:
    fields = {
        "library_name": library,
        "pipeline_tag": "text-classification",
        "tags": ["weak-to-strong-generalization"],
    }
    if origin.hub_name is not None:
        fields["base_model"] = origin.hub_name
    # JSON is YAML.
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---"])


def _describe_base(names: dict[str, str], facts: students.Facts, origin: Origin) -> str:
    """The pretrained model, so that it is known again wherever it is."""
    described = names["base"]
    if origin.hub_name is not None:
        described = f"{_code(origin.hub_name)} at {_code(origin.revision or 'its newest commit')}"
    elif origin.folder is not None:
        described += ", a folder where the student was trained"
    return f"{described}; fingerprint {_code(facts.base_fingerprint)}"


def _facts_table(names: dict[str, str], facts: students.Facts, origin: Origin, dtype: str) -> str:
    rows = {
        "task": names["task"],
        "method": names["method"],
        "weak model": names["weak"] if facts.weak else "none",
        "strong model": names["strong"],
        "made from": _describe_base(names, facts, origin),
        "seed": facts.seed,
        "longest input": f"{facts.max_length} tokens; longer ones are truncated from the left",
        "beginning-of-text token": "none"
        if facts.bos_id is None
        else f"id {facts.bos_id}, in front of every text",
        "weights": dtype,
        "computed in": facts.compute_dtype,
        "trained": _trained(facts),
        "heads": "class head" * facts.has_class_head
        + " and " * (facts.has_class_head and facts.has_p_ik_head)
        + "P(IK) head" * facts.has_p_ik_head,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _trained(facts: students.Facts) -> str:
    if facts.lora is None:
        return {"all": "everything", "heads": "the heads alone"}[facts.trained]
    settings = facts.lora
    return (
        f"heads, and low-rank adapters of {' and '.join(settings.targets)} (rank {settings.rank}, alpha "
        f"{settings.alpha:g}, dropout {settings.dropout:g})"
    )


def _numbers(facts: students.Facts, numbers: Numbers | None) -> list[str]:
    if numbers is None or not (numbers.records or numbers.p_ik):
        return ["## Results", "The run had no results of this model when it was exported."]
    paragraphs = ["## Results"]
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


def _input_form(facts: students.Facts) -> str:
    forms = {
        "bare": "`TEXT` is the text of an example as the task writes it.",
        "instruction": "`TEXT` is a prompt: the instruction, and the text of an example as the task writes it.",
        "fewshot": "`TEXT` is a prompt: the instruction, solved problems, and the text of an example as the task "
        "writes it.",
    }
    text = (
        f'{forms[facts.prompt]} `exports.read_facts("FOLDER").classifier_input(text)` makes it. The class head '
        "and the P(IK) head (`heads.safetensors`) read the last token."
    )
    if facts.openai_pooling:
        text += (
            " Trained with `compat.openai_pooling`: here the last token is the last one whose id is not 0."
        )
    return text
