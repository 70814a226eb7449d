"""What the card of an exported classifier says."""

from selw2s_jax.export import model_card
from selw2s_jax.run import students

_PAPER = "Selective Weak-to-Strong Generalization ([arXiv 2511.14166](https://arxiv.org/abs/2511.14166))"
_CLASSES = " Its two classes are the labels of the task: 1 where the answer shown is right."
_ROLES = {
    "weak": "It is the weak model: {base}, fine-tuned on ground truth." + _CLASSES,
    "ceiling": "It is the strong ceiling: {base}, fine-tuned on ground truth." + _CLASSES,
}
_OF_ANOTHER_TASK = " The ground truth is that of another task, {learnt}, and {task} is what it labelled."
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


def parts(facts: students.Facts, card: model_card.CardOf) -> model_card.Parts:
    """Those of a classifier."""
    named = model_card.names(facts)
    role = "weak" if facts.role == "weak" else facts.method  # several weak models have names of their own
    about = (_ROLES.get(role, _STUDENT) if facts.has_class_head else _P_IK_ALONE).format(**named)
    if facts.is_plain_text:  # texts with labels, of which no answer is shown
        about = about.replace(_CLASSES, " Its two classes are the labels of the task.")
    if facts.learnt:
        about += _OF_ANOTHER_TASK.format(**named)
    head = "class head" if facts.has_class_head else "P(IK) head, (IDK, IK)"
    base = ', base="BASE"' if card.is_apart else ""
    ids = model_card.token_ids("tokenizer.encode(TEXT)", facts, facts.max_length)
    loading = [_WITH_THIS_PROJECT.format(ids=ids, base=base)]
    if card.transformers_class is not None:
        encoded = 'tokenizer(TEXT, add_special_tokens=False)["input_ids"]'
        ids = model_card.token_ids(encoded, facts, facts.max_length)
        with_others = _WITH_PEFT if card.is_apart else _WITH_TRANSFORMERS
        loading.insert(0, with_others.format(ids=ids, head=head, pad_token_id=card.pad_token_id))
    rows = {
        "trained": _trained(facts),
        "heads": "class head" * facts.has_class_head
        + " and " * (facts.has_class_head and facts.has_p_ik_head)
        + "P(IK) head" * facts.has_p_ik_head,
    }
    return model_card.Parts("text-classification", _PAPER, about, rows, loading, [_input_form(facts)])


def _trained(facts: students.Facts) -> str:
    if facts.lora is None:
        return {"all": "everything", "heads": "the heads alone"}[facts.trained]
    return f"heads, and {model_card.adapters(facts.lora)}"


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
