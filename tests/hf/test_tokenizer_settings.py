"""What stands beside a tokenizer: honoured as transformers does, or refused in one line."""

import json
import pathlib

import pytest
from fixtures import make_token_corpus
from support.tokenizer_folders import (
    byte_level_json,
    write_json,
    write_llama,
    write_settings,
    write_vocab_and_merges,
)

from selw2s_jax.errors import UserError
from selw2s_jax.hf import bos, rank_files, tokenizer_settings, tokenizers

STRINGS = make_token_corpus.make_strings()
TEXTS = [make_token_corpus.replace_surrogates(text) for text in STRINGS]


def load(folder: pathlib.Path, **options) -> tokenizers.Tokenizer:
    return tokenizers.load_tokenizer(folder, **options)


def expect_error(folder: pathlib.Path, pattern: str) -> None:
    with pytest.raises(UserError, match=pattern) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


# Settings that change ids.


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "GPT2Tokenizer"},
        {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True},
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"},
        {"tokenizer_class": "Qwen2TokenizerFast", "add_prefix_space": True},
        {"tokenizer_class": "GPTNeoXTokenizer"},
        {"tokenizer_class": "GPT2Tokenizer", "split_special_tokens": True},
        {"tokenizer_class": "GPT2Tokenizer", "additional_special_tokens": ["the"]},
        {
            "tokenizer_class": "GPT2Tokenizer",
            "added_tokens_decoder": {"301": {"content": "[PAD]", "special": True, "lstrip": True, "rstrip": True}},
        },
    ],
)  # fmt: skip
def test_vocab_and_merges_as_transformers_reads_them(tmp_path, settings):
    transformers = pytest.importorskip("transformers")
    write_vocab_and_merges(tmp_path, **settings)
    reference = getattr(transformers, settings["tokenizer_class"].removesuffix("Fast"))
    reference = reference.from_pretrained(str(tmp_path), local_files_only=True)
    texts = [*TEXTS, " the  the[PAD] x", "a <|endoftext|> the"]
    assert load(tmp_path).encode_batch(texts) == reference(texts, add_special_tokens=False)["input_ids"]


def listed(token_id: str, content: str, **options) -> dict:
    defaults = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False) | {"special": True}
    return {token_id: {"content": content} | defaults | options}


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, {"added_tokens_decoder": listed("1", "<|end|>", lstrip=True)}),
        ({}, {"added_tokens_decoder": listed("1", "<|end|>", single_word=True, rstrip=True)}),
        (
            {"normalizer": {"type": "Lowercase"}},
            {"added_tokens_decoder": listed("1", "<|end|>", normalized=True)},
        ),
        ({}, {"added_tokens_decoder": listed("1", "<|end|>", special=False), "eos_token": "<|end|>"}),
        ({}, {"added_tokens_decoder": {"301": {"content": "zz"}}}),
        (
            {},
            {
                "added_tokens_decoder": listed("301", "zz") | listed("302", "Zz", lstrip=True),
                "eos_token": "zz",
            },
        ),
        ({}, {"additional_special_tokens": ["at", "the"]}),
        ({}, {"split_special_tokens": True, "eos_token": "at"}),
    ],
)
def test_a_tokenizer_json_with_settings_as_transformers_reads_it(tmp_path, changes, settings):
    transformers = pytest.importorskip("transformers")
    write_json(tmp_path, changes, tokenizer_class="PreTrainedTokenizerFast", **settings)
    reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    texts = [
        *TEXTS[:40],
        "a  <|end|>  b",
        "the<|end|>hat",
        "<|END|> the at",
        "hat  at ",
        "zz zzz  Zz",
        "the  zz  hat",
    ]
    assert load(tmp_path).encode_batch(texts) == reference(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("changes", "settings", "same_as"),
    [
        ({}, {"add_prefix_space": True}, lambda text: text if text.startswith(" ") or not text else " " + text),
        ({}, {"add_prefix_space": False}, lambda text: text),
        ({"normalizer": {"type": "Lowercase"}}, {"do_lower_case": True}, str.lower),
    ],
)  # fmt: skip
def test_prefix_and_case_of_a_tokenizer_json(tmp_path, changes, settings, same_as):
    bare = load(write_json(tmp_path))
    expected = [bare.encode(same_as(text)) for text in ("the Hat", " the", "", "1 1")]
    asked = load(write_json(tmp_path, changes, **settings))
    assert [asked.encode(text) for text in ("the Hat", " the", "", "1 1")] == expected


def test_a_prefix_of_marks_can_be_switched_off(tmp_path):
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    vocab = {piece: i for i, piece in enumerate(["u", "▁", "a", "b"])}
    model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "u"}
    changes = {"model": model, "pre_tokenizer": metaspace, "added_tokens": []}
    assert load(write_json(tmp_path, changes)).encode("a b") == [1, 2, 1, 3]
    assert load(write_json(tmp_path, changes, add_prefix_space=False)).encode("a b") == [2, 1, 3]
    never = changes | {"pre_tokenizer": metaspace | {"prepend_scheme": "never"}}
    assert load(write_json(tmp_path, never, add_prefix_space=True)).encode("a b") == [1, 2, 1, 3]


def test_llama_without_its_mark_in_front(tmp_path):
    marked = load(write_llama(tmp_path), bos="off")
    bare = load(write_llama(tmp_path, add_prefix_space=False), bos="off")
    for text in ("the hat", " the hat", "", "  two"):
        assert bare.encode(" " + text)[:9] == marked.encode(text)[:9] or not text
        assert bare.decode(bare.encode(text)) == marked.decode(marked.encode(text)) == text


def test_every_text_is_as_sentencepiece_reads_it(tmp_path):
    tokenizer = load(write_llama(tmp_path), bos="off")
    reference = make_token_corpus.llama_reference(tmp_path)
    for text in (*STRINGS, *(" " + text for text in STRINGS)):
        assert tokenizer.encode(text) == reference(text), repr(text)


def test_options_of_bert_are_those_of_its_normalizer(tmp_path):
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": False,
            "lowercase": True}  # fmt: skip
    bare = load(write_json(tmp_path))

    def read(text, **settings):
        return load(write_json(tmp_path, {"normalizer": bert}, **settings)).encode(text)

    assert read("The é") == bare.encode("the é") and read("The é", do_lower_case=False) == bare.encode(
        "The é"
    )
    assert read("é", strip_accents=True) == bare.encode("e")
    assert read("a日") == bare.encode("a 日 ") and read("a日", tokenize_chinese_chars=False) == bare.encode(
        "a日"
    )


def test_qwen2_is_read_in_nfc_whatever_its_tokenizer_json_says(tmp_path):
    bare = load(write_json(tmp_path))
    composed, apart = "\u00e9", "e\u0301"
    assert bare.encode(apart) != bare.encode(composed)
    for name in ("Qwen2Tokenizer", "Qwen2TokenizerFast"):
        assert load(write_json(tmp_path, tokenizer_class=name)).encode(apart) == bare.encode(composed)
    nothing = {"normalizer": {"type": "Sequence", "normalizers": []}}
    assert load(write_json(tmp_path, nothing, tokenizer_class="Qwen2Tokenizer")).encode(apart) == bare.encode(
        apart
    )


def test_what_training_left_in_a_tokenizer_json_is_off(tmp_path):
    model = byte_level_json()["model"] | {"dropout": 0.5}
    saved = {
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 1,
                    "pad_type_id": 0, "pad_token": "<|end|>"},
    }  # fmt: skip
    bare = load(write_json(tmp_path))
    odd = load(write_json(tmp_path, saved | {"model": model}))
    texts = ["the cat, the hat; 10 or 11", "a", ""] * 20
    assert odd.encode_batch(texts) == bare.encode_batch(texts)


def test_special_tokens_are_read_as_text_where_settings_say_so(tmp_path):
    tokenizer = load(write_json(tmp_path, split_special_tokens=True))
    ids = tokenizer.encode("the<|end|>")
    assert 1 not in ids and tokenizer.decode(ids) == "the<|end|>"


def test_a_word_that_settings_make_special_is_one_token(tmp_path):
    bare, settings = (
        load(write_json(tmp_path)),
        {"eos_token": "at", "additional_special_tokens": ["Q", "absent"]},
    )
    made = load(write_json(tmp_path, **settings))
    assert bare.encode("hat") != made.encode("hat") == [*bare.encode("h"), *made.eos_ids]
    assert made.encode("absent") != [301] and made.vocab_size == 301
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["at"]}))
    assert load(write_settings(tmp_path)).encode("hat") == made.encode("hat")


def test_options_in_tokenizer_config_win(tmp_path):
    listed = {
        "1": {"content": "<|end|>", "lstrip": True, "rstrip": False, "normalized": False, "special": True}
    }
    assert 1 in load(write_json(tmp_path)).encode("a  <|end|>")
    assert load(write_json(tmp_path, added_tokens_decoder=listed)).encode("a  <|end|>")[-2:] == [
        *load(write_json(tmp_path)).encode("a"), 1,
    ]  # fmt: skip


def test_added_tokens_json(tmp_path):
    write_json(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[B]": 302, "[A]": 301}))
    tokenizer = load(tmp_path)
    assert tokenizer.encode("[A]x[B]")[::2] == [301, 302] and tokenizer.vocab_size == 303
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[B]": 305}))
    expect_error(tmp_path, r"'\[B\]' has id 305 in .*added_tokens\.json and 301 by .*tokenizer\.json")


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"do_lower_case": True}, "do_lower_case=true, which the tokenizer beside it does not do"),
        ({"strip_accents": True}, "strip_accents=true"),
        ({"tokenize_chinese_chars": True}, "tokenize_chinese_chars=true"),
        ({"do_lower_case": "no"}, r'do_lower_case is "no", not true or false'),
        ({"add_prefix_space": 1}, "add_prefix_space is 1, not true or false"),
        ({"split_special_tokens": []}, r"split_special_tokens is \[\]"),
        ({"tokenizer_class": ["a"]}, r"tokenizer_class is \[\"a\"\], not a name"),
        ({"eos_token": 3}, "eos_token is 3, not a token"),
        ({"eos_token": {"text": "a"}}, "eos_token is .*, not a token"),
        ({"unk_token": ["a"]}, "unk_token is .*, not a token"),
        ({"bos_token": "\ud800"}, r"bos_token is \"\\ud800\", not a token"),
        ({"additional_special_tokens": "a"}, "additional_special_tokens is \"a\", not a list"),
        ({"additional_special_tokens": [5]}, "additional_special_tokens is 5, not a token"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_honoured(tmp_path, settings, pattern):
    write_json(tmp_path, **settings)
    expect_error(tmp_path, r"tokenizer_config\.json.*" + pattern)


@pytest.mark.parametrize("settings", [{"add_prefix_space": True}, {"do_lower_case": True}])
def test_a_tokenizer_without_a_place_for_a_setting(tmp_path, settings):
    word_level = {"type": "WordLevel", "vocab": {"a": 0, "u": 1}, "unk_token": "u"}
    pieces = {"model": word_level, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}
    expect_error(write_json(tmp_path, pieces, **settings), next(iter(settings)))


# Tokens that are no tokens.


@pytest.mark.parametrize(
    "listed",
    [
        {"5": {}},
        {"x": {"content": "a"}},
        {"1.5": {"content": "a"}},
        {"-1": {"content": "a"}},
        {"٣": {"content": "a"}},
        {"9" * 5000: {"content": "a"}},
        {"5": "a"},
        {"5": None},
        {"5": {"content": 3}},
        {"301": {"content": ""}},
        {"301": {"content": "\udc00"}},
        {"301": {"content": "zz", "single_word": "yes"}},
        {"301": {"content": "zz", "special": None}},
        [{"content": "a"}],
        "a",
    ],
)
def test_odd_fields_of_added_tokens(tmp_path, listed):
    expect_error(write_json(tmp_path, added_tokens_decoder=listed), r"tokenizer_config\.json")


@pytest.mark.parametrize("content", [{"[A]": "x"}, {"[A]": 1.5}, {"[A]": True}, {"": 301}, {"[A]": [301]}])
def test_odd_added_tokens_json(tmp_path, content):
    write_json(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps(content))
    expect_error(tmp_path, r"added_tokens\.json")


# Ids without a row.


def pad(*names: str, special: bool = True) -> dict:
    tokens = byte_level_json()["added_tokens"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": special}
    return {"added_tokens": [*tokens, *({"id": 301 + i, "content": n} | flags for i, n in enumerate(names))]}


@pytest.mark.parametrize("names", [("[PAD]",), ("[PAD]", "<mask>"), ("<|extra_0|>", "[PAD]", "[SEP]")])
def test_a_special_token_without_a_row_is_left_out(tmp_path, names):
    bare = load(write_json(tmp_path))
    tokenizer = load(write_json(tmp_path, pad(*names), pad_token=names[0], eos_token=names[-1]))
    text = "the " + " the".join(names)
    assert max(tokenizer.encode(text)) >= 301 and tokenizer.pad_id == 301
    fingerprint = tokenizer.fingerprint
    tokenizers.check_tokenizer(tokenizer, 301, "toy")
    assert tokenizer.encode_batch([text, "<|begin|>x"]) == bare.encode_batch([text, "<|begin|>x"])
    assert (tokenizer.vocab_size, tokenizer.eos_ids, tokenizer.pad_id) == (301, (), 0)
    assert tokenizer.fingerprint == fingerprint
    tokenizers.check_tokenizer(tokenizer, 301, "toy")


@pytest.mark.parametrize(
    ("changes", "settings", "rows", "named"),
    [
        (pad("[PAD]", special=False), {}, 301, r"'\[PAD\]' has the id 301"),
        (pad("[PAD]"), {}, 300, "' 11' has the id 300"),
        ({}, {}, 299, "has the id 299"),
        (
            pad("<s>"),
            {"add_bos_token": True, "bos_token": "<s>"},
            301,
            "'<s>', which is put in front of every text, has the id 301",
        ),
    ],
)
def test_other_tokens_without_a_row_are_named(tmp_path, changes, settings, rows, named):
    last = byte_level_json()["model"]["vocab"]
    named = named.replace(" 11", max(last, key=last.get).replace("Ġ", " "))
    tokenizer = load(write_json(tmp_path, changes, **settings))
    with pytest.raises(
        UserError, match=f"vocabulary of toy too small.* and .*{named}; use the tokenizer files"
    ):
        tokenizers.check_tokenizer(tokenizer, rows, "toy")


# No code of a folder is run, and none is asked about.


@pytest.mark.parametrize(
    "name", ["AutoTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "EvilTokenizer", "os"]
)
def test_no_code_of_a_folder_is_run(tmp_path, name, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    write_vocab_and_merges(tmp_path, tokenizer_class=name)
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / 'was_run')!r}, 'w')\nclass EvilTokenizer: pass\n"
    )
    auto_map = {
        "AutoConfig": "evil.EvilConfig",
        "AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"],
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto_map}))
    expect_error(tmp_path, r"cannot be read as a.*add the model's tokenizer\.json")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("gpt2", "GPT2Tokenizer"),
        ("qwen2", "Qwen2Tokenizer"),
        ("qwen3", "Qwen2Tokenizer"),
        ("gpt_neox", "GPTNeoXTokenizer"),
    ],
)
def test_without_a_class_the_model_says_how_text_is_split(tmp_path, model_type, name):
    named = load(write_vocab_and_merges(tmp_path, tokenizer_class=name))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert load(write_settings(tmp_path)).encode_batch(TEXTS) == named.encode_batch(TEXTS)
    assert load(write_settings(tmp_path, tokenizer_class="AutoTokenizer")).encode_batch(
        TEXTS
    ) == named.encode_batch(TEXTS)


# Rank files, as Llama 3's.

FORM = rank_files.Format("Toy", 3, "", ("<b>", "<e>", "<r0>"), ("<e>", "<r0>"), "<b>", False)
RANKS = {b"a": 0, b"b": 1, b"ab": 2}


def special_tokens(folder: pathlib.Path, **settings) -> tuple[str, ...]:
    found = tokenizer_settings.read(write_settings(folder, **settings))
    return rank_files.special_tokens(FORM, RANKS, found, folder / "tokenizer.model")


def test_settings_name_the_reserved_tokens_of_a_rank_file(tmp_path):
    assert special_tokens(tmp_path) == FORM.special_tokens
    assert special_tokens(tmp_path, added_tokens_decoder=listed("5", "<pad>")) == ("<b>", "<e>", "<pad>")
    assert special_tokens(tmp_path, added_tokens_decoder=listed("2", "ab")) == FORM.special_tokens


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"added_tokens_decoder": listed("6", "<pad>")}, "'<pad>' has id 6 in .*, which it has not in"),
        ({"added_tokens_decoder": listed("1", "ab")}, "'ab' has id 1 in .*, which it has not in"),
        ({"added_tokens_decoder": listed("5", "<pad>", lstrip=True)}, "cannot read '<pad>' with lstrip"),
        ({"added_tokens_decoder": listed("5", "<b>")}, "gives two tokens of .* one name"),
        ({"add_prefix_space": True}, "add_prefix_space=true"),
        ({"add_eos_token": True}, "add_eos_token=true"),
        ({"do_lower_case": True}, "do_lower_case=true"),
    ],
)
def test_settings_that_a_rank_file_has_no_place_for(tmp_path, settings, pattern):
    with pytest.raises(UserError, match=pattern):
        special_tokens(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "bos_id", "is_put"),
    [({}, 3, True), ({"add_bos_token": False}, 3, False), ({"bos_token": "<e>"}, 4, True)],
)
def test_bos_of_a_rank_file(tmp_path, settings, bos_id, is_put):
    found, ids = tokenizer_settings.read(write_settings(tmp_path, **settings)), {"<b>": 3, "<e>": 4}
    own = bos.find_of_ranks("<b>", ids, found, tmp_path / "tokenizer.model")
    assert (own.token_id, own.is_put) == (bos_id, is_put)
    assert bos.find_of_ranks(None, ids, None, tmp_path / "qwen.tiktoken") == bos.NONE._replace(
        said_by="qwen.tiktoken, by its kind"
    )
    absent = tokenizer_settings.read(write_settings(tmp_path, bos_token="<absent>"))
    with pytest.raises(
        UserError, match=r"names the bos_token <absent>, which .*tokenizer\.model does not have"
    ):
        bos.find_of_ranks("<b>", ids, absent, tmp_path / "tokenizer.model")


def test_real_llama3_with_the_names_of_a_later_model(tmp_path, real_data):
    (tmp_path / "tokenizer.model").symlink_to(real_data / "tokenizers" / "llama3" / "tokenizer.model")
    write_settings(tmp_path, added_tokens_decoder=listed("128004", "<|pad|>"), add_bos_token=False)
    assert load(tmp_path).encode("a<|pad|><|eot_id|>")[1:] == [128_004, 128_009]
    apart = load(write_settings(tmp_path, split_special_tokens=True, add_bos_token=False))
    assert max(apart.encode("<|eot_id|>")) < 128_000
    assert apart.limit_to(128_200) is None and apart.vocab_size == 128_200
