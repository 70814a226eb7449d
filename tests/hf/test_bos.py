"""The BOS token: which tokenizers put one in front of texts, and that everything that reads texts has it."""

import dataclasses
import json

import pytest
from support import refusals
from support.tokenizer_folders import template, write_json, write_llama

from selw2s_jax.data import lengths
from selw2s_jax.data import prompts as prompts_lib
from selw2s_jax.errors import UserError
from selw2s_jax.hf import tokenizers
from selw2s_jax.inference import candidates, fewshot
from selw2s_jax.run import pipeline

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
LLAMA_3_STYLE = {"type": "Sequence", "processors": [BYTE_LEVEL, template()]}


@dataclasses.dataclass(frozen=True)
class Reader:
    tokenizer: tokenizers.Tokenizer
    max_length: int
    role: str = "strong"


@pytest.mark.parametrize(
    ("post_processor", "settings", "bos_id"),
    [
        (None, {}, None),
        (None, {"bos_token": "<|begin|>"}, None),  # as SmolLM2 and GPT-2: a token by name alone
        (BYTE_LEVEL, {"bos_token": "<|begin|>"}, None),
        (template(), {}, 0),
        (LLAMA_3_STYLE, {}, 0),
        (LLAMA_3_STYLE, {"bos_token": "<|end|>", "add_bos_token": None}, 0),
        (template(), {"add_bos_token": False}, None),
        (None, {"add_bos_token": True, "bos_token": "<|end|>"}, 1),
        (template(), {"add_bos_token": True, "bos_token": {"content": "<|end|>"}}, 1),
        (template(), {"add_bos_token": True, "add_eos_token": False}, 0),
        (template(back=("<|end|>",)), {"add_eos_token": False}, 0),
        (template(front=()), {"bos_token": "<|begin|>"}, None),
    ],
)
def test_the_files_decide(tmp_path, post_processor, settings, bos_id):
    write_json(tmp_path, {"post_processor": post_processor}, **settings)
    tokenizer, bare = tokenizers.load_tokenizer(tmp_path), tokenizers.load_tokenizer(tmp_path, bos="off")
    assert (tokenizer.bos_id, bare.bos_id) == (bos_id, None)
    front = [] if bos_id is None else [bos_id]
    for text in ("the hat", " the hat", ""):
        assert tokenizer.encode(text) == front + bare.encode(text)
    assert tokenizer.encode_batch(["a", "b c"]) == [front + bare.encode("a"), front + bare.encode("b c")]
    assert (tokenizer.fingerprint == bare.fingerprint) == (bos_id is None)


def test_transformers_puts_it_where_we_do(tmp_path):
    """Version 5 reads the post-processor alone, where there is a tokenizer.json; version 4 read `add_bos_token` too."""
    transformers = pytest.importorskip("transformers")
    for changes, settings in (
        ({"post_processor": template()}, {}),
        ({"post_processor": LLAMA_3_STYLE}, {"bos_token": "<|begin|>", "add_bos_token": True}),
        ({"post_processor": template()}, {"bos_token": "<|end|>"}),
        ({}, {"add_bos_token": False, "bos_token": "<|end|>"}),
        ({}, {"bos_token": "<|begin|>"}),
    ):
        write_json(tmp_path, changes, tokenizer_class="PreTrainedTokenizerFast", **settings)
        reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
        for text in ("the hat", " 1", ""):
            assert tokenizers.load_tokenizer(tmp_path).encode(text) == reference(text)["input_ids"], settings


def test_the_config_decides_against_the_files(tmp_path):
    write_json(tmp_path, bos_token="<|begin|>")
    assert tokenizers.load_tokenizer(tmp_path, bos="on").encode("")[0] == 0
    write_json(tmp_path, {"post_processor": template()})
    assert tokenizers.load_tokenizer(tmp_path, bos="off").encode("") == []
    on, auto = (tokenizers.load_tokenizer(tmp_path, bos=policy) for policy in ("on", "auto"))
    assert on.fingerprint == auto.fingerprint
    with pytest.raises(UserError, match="bos='yes' is not one of: auto, on, off"):
        tokenizers.load_tokenizer(tmp_path, bos="yes")


@pytest.mark.parametrize(
    ("post_processor", "settings", "policy", "pattern"),
    [
        (None, {}, "on", r"model\.bos=on, and .*tokenizer\.json has no beginning-of-text token"),
        (None, {"bos_token": "<|absent|>"}, "on", r"has no beginning-of-text token"),
        (None, {"add_bos_token": True}, "auto", r"add_bos_token=true, and .* no such token"),
        (None, {"add_bos_token": True, "bos_token": "<|absent|>"}, "auto", r"no such token \(<\|absent\|>\)"),
        (None, {"add_bos_token": "yes"}, "auto", r"add_bos_token is \"yes\", not true or false"),
        (None, {"add_eos_token": True}, "auto", r"\(add_eos_token\) wants a token behind every text"),
        (template(back=("<|end|>",)), {}, "auto", r"\(post_processor\) wants a token behind every text"),
        (
            {"type": "RobertaProcessing", "sep": ["<|end|>", 1], "cls": ["<|begin|>", 0],
             "trim_offsets": True, "add_prefix_space": False},
            {}, "auto", "wants a token behind every text",
        ),
        (template(front=("<|begin|>", "<|end|>")), {}, "auto", "puts 2 tokens in front of every text"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, post_processor, settings, policy, pattern):
    write_json(tmp_path, {"post_processor": post_processor}, **settings)
    with pytest.raises(UserError, match=pattern) as caught:
        tokenizers.load_tokenizer(tmp_path, bos=policy)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_model_has_it_by_its_kind(tmp_path):
    assert tokenizers.load_tokenizer(write_llama(tmp_path)).bos_id == 1
    assert tokenizers.load_tokenizer(write_llama(tmp_path, add_bos_token=False)).bos_id is None
    assert tokenizers.load_tokenizer(write_llama(tmp_path, bos_token="</s>")).bos_id == 2
    note = "<s> (id 1) is put in front of every text (tokenizer.model, by its kind)"
    assert tokenizers.load_tokenizer(write_llama(tmp_path)).bos_note == note
    assert "model.bos=off" in tokenizers.load_tokenizer(tmp_path, bos="off").bos_note


@pytest.mark.parametrize(
    ("name", "bos_id"),
    [
        ("gpt2", None),
        ("qwen1", None),
        ("olmo-gpt-neox", None),
        ("llama2", 1),
        ("llama3", 128_000),
        ("mistral-v1", 1),
        ("mistral-v3", 1),
    ],
)
def test_real_tokenizers(name, bos_id, real_data):
    if name in ("llama2", "mistral-v1"):
        pytest.importorskip("sentencepiece", reason="install the llama extra")
    tokenizer = tokenizers.load_tokenizer(real_data / "tokenizers" / name)
    assert tokenizer.bos_id == bos_id and (tokenizer.bos_note is None) == (bos_id is None)


def test_bos_on_gpt2_is_its_end_of_text_and_qwen_has_none(real_data):
    folder = real_data / "tokenizers"
    assert tokenizers.load_tokenizer(folder / "gpt2", bos="on").encode("a")[0] == 50_256
    with pytest.raises(UserError, match="no beginning-of-text token"):
        tokenizers.load_tokenizer(folder / "qwen1", bos="on")


# What reads texts.


def test_truncation_from_the_left_keeps_it(tmp_path):
    tokenizer = tokenizers.load_tokenizer(write_json(tmp_path, {"post_processor": template()}))
    text = "the cat, the hat; 10 or 11"
    ids = tokenizer.encode(text)
    assert ids[0] == 0 and len(ids) > 6
    for max_length in range(2, len(ids) + 2):
        (kept,) = lengths.encode([text], Reader(tokenizer, max_length))
        expected = ids if max_length >= len(ids) else [0, *ids[len(ids) - max_length + 1 :]]
        assert kept.tolist() == expected and len(kept) == min(max_length, len(ids))
        assert lengths.is_overlong([text], Reader(tokenizer, max_length)) == [max_length < len(ids)]
    with pytest.raises(UserError, match=r"raise data\.max_length"):
        lengths.encode([text], Reader(tokenizer, 1))
    with pytest.raises(UserError, match="'' has no token"):
        lengths.encode(["a", ""], Reader(tokenizer, 9))


@pytest.mark.parametrize("max_length", [1, 5, 1000])
def test_without_it_truncation_is_as_it_was(tmp_path, max_length):
    tokenizer = tokenizers.load_tokenizer(write_json(tmp_path))
    texts = ["the cat, the hat; 10 or 11", "a"]
    kept = lengths.encode(texts, Reader(tokenizer, max_length))
    assert [ids.tolist() for ids in kept] == [tokenizer.encode(text)[-max_length:] for text in texts]


def test_no_text_has_more_tokens_than_is_counted_on(tmp_path):
    for tokenizer in (
        tokenizers.load_tokenizer(write_llama(tmp_path)),
        tokenizers.load_tokenizer(write_json(tmp_path, {"post_processor": template()})),
    ):
        for text in ("", "a", "é", "日", "\U0010fffd", "Z" * 9, "   ", " \t\n\r\v\f", "a b c"):
            assert len(tokenizer.encode(text)) <= lengths.most_tokens(text)


def test_no_mark_comes_between_a_prompt_and_what_goes_on_behind_it(tmp_path):
    """What a model reads of a candidate is what the whole text has behind the prompt: one BOS, one mark, in front."""
    tokenizer = tokenizers.load_tokenizer(write_llama(tmp_path))
    prompt, choices = "Q: What gas?\nA:", [" carbon dioxide", " the cat", "x", "\n two  spaces"]
    own, found = candidates.encode(tokenizer, prompt, choices)
    assert own[0] == tokenizer.bos_id
    for choice, ids in zip(choices, found, strict=True):
        whole = tokenizer.encode(prompt + choice)
        assert [*own, *ids] == whole and whole.count(tokenizer.bos_id) == 1
        assert tokenizer.decode(whole[1:]) == prompt + choice
    tokens, (zero, one) = fewshot.encode_prompts(tokenizer, ["the cat R:", " the cat R:"])
    assert [tokenizer.decode([i]) for i in (zero, one)] == ["0", "1"]
    assert [*tokens[0], one] == tokenizer.encode("the cat R:" + prompts_lib.ANSWERS[1])
    assert len(tokens[1]) == len(tokens[0]) + 1  # the space in front is a token


def test_prompts_that_lose_shots_keep_it(tmp_path):
    tokenizer = tokenizers.load_tokenizer(write_json(tmp_path, {"post_processor": template()}))

    def build(num_shots, questions):
        return ["the cat " * num_shots + question for question in questions]

    full = len(tokenizer.encode(build(4, ["the hat"])[0]))
    tokens, cut = fewshot.fit_prompts(
        tokenizer.encode_batch, build, ["the hat"], num_shots=4, max_length=full - 1
    )
    assert tokens[0].tolist() == tokenizer.encode("the cat the cat the cat the hat")
    assert tokens[0][0] == 0 and cut["fewer_shots"] == 1


# A run. `prepared` makes a model, whose tokenizer is given a BOS token here.


@pytest.fixture
def with_bos(model):
    path = model / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    single = [
        {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return model


def plan_of(config, folder, capsys) -> tuple[dict[str, str], list[str]]:
    """Key by label of the stages of a dry run, and its notes."""
    pipeline.show(config, folder)
    lines = capsys.readouterr().out.splitlines()
    fields = [line.split("  ") for line in lines if line.startswith("  to run  ")]
    stages = {parts[2]: next(p for p in parts[3:] if p.strip()).strip() for parts in fields}
    return stages, [line for line in lines if line.startswith("note: ")]


def test_a_run_says_so_and_its_stages_depend_on_it(prepared, with_bos, tmp_path, capsys):
    def plan(**overrides):
        config = refusals.make_config(prepared, strong__model=str(with_bos), **overrides)
        return plan_of(config, tmp_path / "run", capsys)

    auto, notes = plan()
    said = "<|endoftext|> (id 0) is put in front of every text (post_processor of tokenizer.json)"
    assert f"note: strong.model={with_bos}: {said}" in notes
    assert not any("weak.model" in note for note in notes)
    off, notes = plan(model__bos="off")
    assert any("no beginning-of-text token is put" in note and "model.bos=off" in note for note in notes)
    assert auto.keys() == off.keys()
    strong = {"ceiling, seed 0", "finetune, seed 0", "selective, seed 0", "evaluation of ceiling, seed 0"}
    assert strong <= auto.keys()
    for label, key in auto.items():
        assert (key != off[label]) == ("weak" not in label), label
