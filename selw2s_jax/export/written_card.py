"""What the card of an exported model that writes says."""

import textwrap

from selw2s_jax.data import answers, tasks, variations
from selw2s_jax.export import model_card
from selw2s_jax.run import students

_PAPER = "Reliability-Aware Alignment ([arXiv 2406.19032](https://arxiv.org/abs/2406.19032))"
_ROLES = {
    "weak": "It is the weak model: {base}, trained to write the right answers to its questions.",
    "ceiling": "It is the strong ceiling: {base}, trained to write the right answers to the student's questions.",
}
_STUDENT = "It is a student: {strong}, trained to write answers that {weak} gave, with the method {method}."

_GENERATE = """\
    ids = torch.tensor([{ids}])
    written = model.generate(ids, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
    text = tokenizer.decode(written, skip_special_tokens=True)
"""
_WITH_TRANSFORMERS = """\
With transformers (no remote code; `generation_config.json` has how answers are written):

    import torch, transformers

    model = transformers.AutoModelForCausalLM.from_pretrained("FOLDER")
    tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")
{generate}"""
_WITH_PEFT = """\
The weights are low-rank adapters, in PEFT's layout; the pretrained model is read from where it is. With PEFT:

    import peft, torch, transformers

    base = transformers.AutoModelForCausalLM.from_pretrained("BASE")
    model = peft.PeftModel.from_pretrained(base, "FOLDER").eval()
    model.generation_config = transformers.GenerationConfig.from_pretrained("FOLDER")
    tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")
{generate}"""
_WITH_THIS_PROJECT = """\
With selw2s_jax, from the question to what the answer says:

    import numpy as np
    import selw2s_jax
    from selw2s_jax import exports
    from selw2s_jax.data import tasks
    from selw2s_jax.inference import generate

    model, facts = exports.load("FOLDER"{base}), exports.read_facts("FOLDER")
    tokenizer = selw2s_jax.load_tokenizer("FOLDER", bos=facts.bos)
    task = facts.written.task
    question = tasks.Question("mine", {question})
    settings = generate.Settings(facts.written.max_new_tokens, temperature=0.0, eos_ids=tokenizer.eos_ids)
    ids = np.array(tokenizer.encode(task.prompt(question)), np.int32)
    ((found,),) = generate.generate(model, tokenizer, [ids], ["mine"], settings, batch_tokens=4096, label="answers")
    task.parse(question, found.text).answer              # {answer}
"""
_READING = {
    answers.RULES: {
        "choice": 'The letter that a text begins with counts; else one behind such words as "answer is"; else the '
        "choice whose text it begins with.",
        "words": 'The word that a text begins with counts, with a "not" before it the other one; else the only one of '
        "the two in the first line.",
        "number": "The number behind the last `####` counts; else that of the first line.",
    },
    answers.FIRST: {
        "choice": "The first character counts, as a letter of either case.",
        "words": "The first word counts, in either case and without punctuation, if it is one of the two.",
        "number": "The first line counts, if it is a whole number in digits and no more.",
    },
}
_NONE = {
    answers.RULES: "Where it says nothing, or two things, it is none.",
    answers.FIRST: "Else it is none.",
}
_ANSWERS = {
    "choice": "the place of a choice from 0, or None",
    "words": "0 or 1, which of the two words, or None",
    "number": "an exact number, or None",
}
_CHOICES, _CONTEXT = ("FIRST", "SECOND", "THIRD"), "CONTEXT"


def parts(facts: students.Facts, card: model_card.CardOf) -> model_card.Parts:
    """Those of a model that writes."""
    about = _ROLES.get(facts.method, _STUDENT).format(**model_card.names(facts))
    written, kind = facts.written, facts.written.task.kind
    first = _examples(facts)[0]
    loading = [
        _WITH_THIS_PROJECT.format(
            base=', base="BASE"' if card.is_apart else "",
            question=f'"QUESTION", {first.choices}, 0' + f', "{_CONTEXT}"' * written.task.needs_context,
            answer=_ANSWERS[kind],
        )
    ]
    if card.transformers_class is not None:
        ids = model_card.token_ids('tokenizer(TEXT, add_special_tokens=False)["input_ids"]', facts, None)
        with_others = _WITH_PEFT if card.is_apart else _WITH_TRANSFORMERS
        loading.insert(0, with_others.format(generate=_GENERATE.format(ids=ids)))
    trained = "everything" if facts.lora is None else model_card.adapters(facts.lora)
    ways = {
        "generate": f"written, greedily, up to {written.max_new_tokens} tokens",
        "score": "the candidate of highest log-probability, with the end of text",
    }
    rows = {
        "longest input": f"{facts.max_length} tokens of prompt and answer in training",
        "trained": trained,
        "answers when it was tested": ways[written.by],
    }
    return model_card.Parts("text-generation", _PAPER, about, rows, loading, _prompts(facts))


def _examples(facts: students.Facts) -> list[tasks.Question]:
    """A question of each form that the task has, with words in place of its texts."""
    task = facts.written.task
    pairs = list(task.instructions_by_words) or [_CHOICES[:2]]
    choices = {"choice": [_CHOICES], "words": pairs, "number": [None]}[task.kind]
    return [tasks.Question("", "QUESTION", one, 0, _CONTEXT, "") for one in choices]


def _prompts(facts: students.Facts) -> list[str]:
    """What it reads, and how what it writes is read."""
    task = facts.written.task
    prompts = [task.prompt(question, variations.Variation()) for question in _examples(facts)]
    shown = "\n\n".join(textwrap.indent(prompt, "    ") for prompt in prompts)
    first = _examples(facts)[0]
    answer = task.completion(first, 18 if task.kind == "number" else 0)
    found = [
        "## Prompts and answers",
        f"`TEXT` is a prompt as below, {'in one of these forms, ' * (len(prompts) > 1)}without a space or a line's end "
        "behind it; words in capital letters stand for the question's own:",
        shown,
        f'The answer follows with a space in front, as `"{answer}"`, and ends with the end of text. It is read up to '
        f"the next `###` (none of `####`). {_READING[task.reading][task.kind]} {_NONE[task.reading]}",
    ]
    if facts.written.has_own_code:
        found.append(
            "The task was of a class of its user's: prompts and answers may have been made and read otherwise than is "
            "said here, which that code alone knows."
        )
    return found
