"""A model that writes as a Hugging Face folder: read back, as PEFT has it, and by transformers, token for token."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from support import families, marks, student_facts, written_questions, written_students

from selw2s_jax.data import tasks, written_catalogue, written_tasks
from selw2s_jax.export import exports, written_card
from selw2s_jax.hf import loader, peft, tokenizers
from selw2s_jax.inference import generate
from selw2s_jax.models import lora
from selw2s_jax.run import students, written_facts

assert written_catalogue  # registers the paper's tasks


def assert_equal_params(actual, expected) -> None:
    ours, theirs = nnx.state(actual, nnx.Param), nnx.state(expected, nnx.Param)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_merged_folder(tmp_path):
    """What is in it, and that it is the model: its facts, its weights, its head that is tied."""
    student, model = written_students.make(tmp_path)
    out = tmp_path / "out"
    exports.save(student, out)
    assert {path.name for path in out.iterdir()} == {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
        "student.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    facts = exports.read_facts(out)
    assert facts.written.task.to_json() == student.facts.written.task.to_json()
    assert dataclasses.replace(facts, written=None) == dataclasses.replace(student.facts, written=None)
    lora.merge(model)
    assert_equal_params(exports.load(out), model)
    assert json.loads((out / "generation_config.json").read_text()) == {
        "bos_token_id": None, "do_sample": False, "eos_token_id": 1, "max_new_tokens": 9, "pad_token_id": 1,
    }  # fmt: skip
    fields = json.loads((out / "config.json").read_text())
    assert fields["architectures"] == ["GPT2LMHeadModel"] and fields["eos_token_id"] == 1
    card = (out / "README.md").read_text()
    for part in (
        "2406.19032",
        "AutoModelForCausalLM",
        "A. FIRST",
        "### Answer:",
        "`little` gave",
    ):
        assert part in card, part


def test_a_folder_of_adapters(tmp_path):
    """As PEFT names them: every module's A and B beside a causal language model, no head, and no other weight."""
    student, model = written_students.make(tmp_path)
    out = tmp_path / "out"
    exports.save(student, out, adapters="apart")
    fields = json.loads((out / peft.CONFIG_NAME).read_text())
    assert (fields["task_type"], fields["modules_to_save"]) == ("CAUSAL_LM", None)
    assert (fields["r"], fields["lora_alpha"], fields["fan_in_fan_out"]) == (3, 6.0, True)
    assert fields["target_modules"] == ["attn.c_attn", "attn.c_proj"]
    prefixes = [f"base_model.model.transformer.h.0.{name}" for name in fields["target_modules"]]
    arrays = load_file(out / peft.WEIGHTS_NAME)
    assert set(arrays) == {f"{prefix}.lora_{part}.weight" for prefix in prefixes for part in "AB"}
    assert not (out / "model.safetensors").exists() and (out / "generation_config.json").is_file()
    assert_equal_params(exports.load(out), model)
    assert 'exports.load("FOLDER", base="BASE")' in (out / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(written_tasks.WRITTEN_TASKS))
def test_cards_of_all_tasks_show_their_prompts(name):
    task = written_tasks.get(name)
    facts = _facts(task)
    found = "\n\n".join(written_card._prompts(facts))
    for question in written_card._examples(facts):
        assert f"    {task.prompt(question)}" in found
    assert ("right or wrong and" in found) == (name == "ethics_commonsense")
    assert ("18" in found) == (task.kind == "number")


@pytest.mark.parametrize(
    ("name", "said"),
    [("mmlu", "first character"), ("gsm8k", "The first line"), ("ethics_commonsense", "The first word")],
)
def test_a_card_says_how_answers_are_read(name, said):
    task = written_tasks.get(name)
    by_rules, by_first = (
        written_card._prompts(_facts(dataclasses.replace(task, reading=reading)))[-1]
        for reading in ("rules", "first")
    )
    assert said in by_first and said not in by_rules
    assert "or two things" in by_rules and "or two things" not in by_first


def _facts(task) -> students.Facts:
    return dataclasses.replace(
        student_facts.FACTS, written=written_facts.Written(task, False, "generate", 50)
    )


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "trained"),
    [
        marks.in_ci("gpt2", "lora"),
        ("mistral", "all"),
        marks.in_ci("qwen2", "lora"),
        marks.in_ci("llama", "lora"),
    ],
)
def test_transformers_writes_the_same_token_for_token(tmp_path, name, trained):
    """In float32, of tied heads and others; a tokenizer with a BOS in front too."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import transformers

    config, tokenizer = written_students.TINY, None
    if name != "gpt2":
        config = dataclasses.replace(families.CONFIGS[name], vocab_size=301, max_seq_len=128)
    if name == "llama":
        tokenizer = {"eos_token": "<|end|>", "bos_token": "<|begin|>", "add_bos_token": True}
    student, _ = written_students.make(tmp_path, config=config, trained=trained, tokenizer=tokenizer)
    exports.save(student, tmp_path / "out")
    model, facts = exports.load(tmp_path / "out"), exports.read_facts(tmp_path / "out")
    assert (facts.bos_id is not None) == (name == "llama")
    own = tokenizers.load_tokenizer(tmp_path / "out", bos=facts.bos)
    settings = generate.Settings(facts.written.max_new_tokens, temperature=0.0, eos_ids=own.eos_ids)
    questions = [*written_questions.make_split(3).questions, tasks.Question("q", "Who?", ("a", "b"), 0)]
    prompts = [facts.written.task.prompt(question) for question in questions]
    ids = [np.array(own.encode(prompt), np.int32) for prompt in prompts]
    found = generate.generate(model, own, ids, prompts, settings, batch_tokens=512, label="")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32")
    assert theirs.generation_config.max_new_tokens == facts.written.max_new_tokens
    encode = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for prompt, read, (ours,) in zip(prompts, ids, found, strict=True):
        encoded = encode(prompt, add_special_tokens=False)["input_ids"]
        assert [*([] if facts.bos_id is None else [facts.bos_id]), *encoded] == read.tolist()
        given = torch.from_numpy(read[None]).long()
        written = theirs.generate(given, attention_mask=torch.ones_like(given))[0, len(read) :]
        assert written.tolist() == ours.tokens.tolist()
        assert encode.decode(written, skip_special_tokens=True) == ours.text
    assert loader.check_checkpoint(tmp_path / "out", lm_head=True) == config
