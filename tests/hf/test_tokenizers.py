"""Tokenizers: token for token what tiktoken and transformers give, on strings from all over Unicode."""

import base64
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import unicodedata

import hypothesis
import pytest
from fixtures import make_token_corpus
from hypothesis import strategies as st

from selw2s_jax import errors
from selw2s_jax.hf import tokenizers

CORPUS = json.loads(make_token_corpus.OUTPUT.read_text(encoding="ascii"))
STRINGS = CORPUS["strings"]
TRAINING_TEXTS = [
    "Q: What gas do plants take in? A: carbon dioxide\nR: 1",
    "the cat, the hat; 10 or 11",
    "naïve 日本",
] * 3
# Folders of real models, which are not needed.
REAL_MODELS = pathlib.Path(
    os.environ.get("SELW2S_TEST_MODELS", pathlib.Path.home() / ".cache" / "selw2s_real_models")
)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PROPERTY = hypothesis.settings(max_examples=150, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def load_real(real_data):
    loaded = {}

    def load(name: str) -> tokenizers.Tokenizer:
        if make_token_corpus.REFERENCES[name][0] is make_token_corpus.llama_reference:
            pytest.importorskip(
                "sentencepiece", reason="install the llama extra to test SentencePiece models"
            )
        if name not in loaded:
            loaded[name] = tokenizers.load_tokenizer(real_data / "tokenizers" / name, bos="off")
        return loaded[name]

    return load


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tokenizers.Tokenizer:
    return tokenizers.train_byte_level_bpe(TRAINING_TEXTS, 301, tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def rank_lines() -> list[bytes]:
    """A rank file of Qwen's size: all strings of one and two bytes, then of three."""
    tokens = itertools.chain.from_iterable(itertools.product(range(256), repeat=n) for n in (1, 2, 3))
    ranked = enumerate(itertools.islice(tokens, 151_643))
    return [base64.b64encode(bytes(token)) + b" %d\n" % rank for rank, token in ranked]


@pytest.fixture(scope="module")
def made_up_qwen(rank_lines, tmp_path_factory) -> tokenizers.Tokenizer:
    folder = tmp_path_factory.mktemp("qwen")
    (folder / "qwen.tiktoken").write_bytes(b"".join(rank_lines))
    return tokenizers.load_tokenizer(folder)


@pytest.fixture
def gpt2_folder(trained, tmp_path) -> pathlib.Path:
    model = json.loads(trained.files[0].read_text(encoding="utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return tmp_path


def expect_error(folder: pathlib.Path, pattern: str) -> None:
    with pytest.raises(errors.UserError, match=pattern) as caught:
        tokenizers.load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_corpus_is_what_the_script_makes():
    assert make_token_corpus.make_strings() == STRINGS


@pytest.mark.parametrize("name", CORPUS["golden"])
def test_real_tokenizer_gives_the_golden_ids(name, load_real, real_data):
    golden = CORPUS["golden"][name]
    assert (
        make_token_corpus.folder_digest(real_data / "tokenizers" / name, golden["files"]) == golden["sha256"]
    )
    batch = load_real(name).encode_batch(STRINGS)
    wrong = [
        text
        for text, ids, digest in zip(STRINGS, batch, golden["digests"], strict=True)
        if make_token_corpus.digest(ids) != digest
    ]
    assert wrong == []


@pytest.mark.parametrize("name", make_token_corpus.REFERENCES)
def test_real_tokenizer_equals_the_reference_library(name, load_real, real_data):
    tokenizer = load_real(name)
    reference = make_token_corpus.REFERENCES[name][0](real_data / "tokenizers" / name)
    for text in STRINGS:
        assert tokenizer.encode(text) == reference(text), repr(text)


def test_gpt2_equals_a_tiktoken_encoder_of_its_merges(load_real, real_data):
    reference = make_token_corpus.gpt2_tiktoken_reference(real_data / "tokenizers" / "gpt2")
    for text in STRINGS:
        assert load_real("gpt2").encode(text) == reference(text), repr(text)


def is_marked_alike(text: str) -> bool:
    """Whether Metaspace and Prepend, the two ways of tokenizer.json files, put the mark in the same places."""
    return not text.startswith((" ", "▁")) and not re.search(r"<s>|</s>|<unk>|\[/?[A-Z]+\]", text)


def test_sentencepiece_conversion_equals_the_published_tokenizer_json(load_real, real_data, tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").symlink_to(real_data / "tokenizers" / "mistral-v3" / "tokenizer.model")
    converted = tokenizers.load_tokenizer(tmp_path, bos="off")
    assert converted.vocab_size == 32768
    texts = [text for text in STRINGS if is_marked_alike(text)]
    assert len(texts) > 500
    assert converted.encode_batch(texts) == load_real("mistral-v3").encode_batch(texts)


@pytest.mark.parametrize("name", ["llama2", "mistral-v1"])
def test_a_space_at_the_beginning_is_a_mark_of_its_own(name, load_real):
    tokenizer = load_real(name)
    mark, bang = tokenizer.encode(" !")
    assert tokenizer.encode("!") == [bang] and tokenizer.decode([mark, bang]) == " !"
    assert len({tuple(tokenizer.encode(" " * n + "!")) for n in range(8)}) == 8
    for text in STRINGS:
        assert tokenizer.decode(tokenizer.encode(" " + text)).lstrip(" ") or not text.strip(" ▁"), repr(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-1.5b"])
def test_real_models_folders_equal_transformers(name):
    transformers = pytest.importorskip("transformers")
    folder = REAL_MODELS / name
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(f"no model in {folder}; set SELW2S_TEST_MODELS to run this test")
    tokenizer = tokenizers.load_tokenizer(folder)
    reference = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    texts = [make_token_corpus.replace_surrogates(text) for text in STRINGS]
    assert tokenizer.encode_batch(texts) == reference(texts)["input_ids"]  # neither has a BOS token in front
    assert tokenizer.bos_id is None and len(reference) == tokenizer.vocab_size


@pytest.mark.parametrize("name", ["qwen1", "gpt2", "olmo-gpt-neox"])
def test_question_texts_equal_the_reference_library(name, load_real, real_data):
    parquet = pytest.importorskip("pyarrow.parquet")
    sciq = parquet.read_table(real_data / "sciq" / "test.parquet").to_pylist()
    boolq = parquet.read_table(real_data / "boolq" / "validation.parquet").to_pylist()[:300]
    texts = [f"Q: {row['question']} A: {row['correct_answer']}" for row in sciq]
    texts += [f"Passage: {row['passage']}\nQuestion: {row['question']}" for row in boolq]
    reference = make_token_corpus.REFERENCES[name][0](real_data / "tokenizers" / name)
    assert load_real(name).encode_batch(texts) == [reference(text) for text in texts]


def test_sizes_and_special_ids_of_real_tokenizers(load_real):
    sizes = {
        "qwen1": 151_851,
        "gpt2": 50_257,
        "mistral-v3": 32_768,
        "olmo-gpt-neox": 50_280,
        "llama3": 128_256,
    }
    assert {name: load_real(name).vocab_size for name in sizes} == sizes
    qwen = load_real("qwen1")
    assert qwen.pad_id == 151_643
    assert qwen.encode("<|im_start|>0<|extra_204|>") == [151_644, 15, 151_850]
    assert load_real("llama3").encode("<|eot_id|><|reserved_special_token_250|>") == [128_009, 128_255]


@pytest.mark.parametrize(
    ("name", "eos_ids"),
    [
        ("gpt2", (50_256,)),
        ("qwen1", (151_643, 151_645)),
        ("llama2", (2,)),
        ("llama3", (128_001, 128_009)),
        ("mistral-v1", (2,)),
        ("mistral-v3", (2,)),
        ("olmo-gpt-neox", (0,)),
    ],
)
def test_eos_ids_of_real_tokenizers(name, eos_ids, load_real):
    assert load_real(name).eos_ids == eos_ids
    texts = ("<|endoftext|>", "<|im_end|>", "</s>", "<|end_of_text|>", "<|eot_id|>")
    assert all(load_real(name).decode([token_id]) in texts for token_id in eos_ids)


def test_saved_padding_and_truncation_are_off(load_real):
    assert load_real("mistral-v3").encode("") == []
    assert len(load_real("mistral-v3").encode("word " * 2_000)) > 1_999
    assert [len(ids) for ids in load_real("mistral-v3").encode_batch(["a", "a b c d"])] == [1, 4]


@PROPERTY
@hypothesis.given(text=UNICODE)
def test_real_qwen_decodes_to_nfc(load_real, text):
    assert load_real("qwen1").decode(load_real("qwen1").encode(text)) == unicodedata.normalize("NFC", text)


@PROPERTY
@hypothesis.given(text=UNICODE)
def test_real_gpt2_decodes_to_the_text(load_real, text):
    assert load_real("gpt2").decode(load_real("gpt2").encode(text)) == text


@PROPERTY
@hypothesis.given(text=UNICODE)
def test_made_up_qwen_equals_tiktoken_and_decodes_to_nfc(made_up_qwen, text):
    ids = made_up_qwen.encode(text)
    assert ids == made_up_qwen_reference(made_up_qwen.files[0].parent)(text)
    assert made_up_qwen.decode(ids) == unicodedata.normalize("NFC", text)


_REFERENCE_CACHE = {}


def made_up_qwen_reference(folder: pathlib.Path):
    if folder not in _REFERENCE_CACHE:
        _REFERENCE_CACHE[folder] = make_token_corpus.qwen_reference(folder)
    return _REFERENCE_CACHE[folder]


def test_made_up_qwen_on_the_corpus(made_up_qwen):
    reference = made_up_qwen_reference(made_up_qwen.files[0].parent)
    assert made_up_qwen.encode_batch(STRINGS) == [reference(text) for text in STRINGS]
    assert made_up_qwen.vocab_size == 151_851
    # digits one at a time, and never with the space before them
    assert made_up_qwen.encode("R: 10")[-3:] == [ord(" "), ord("1"), ord("0")]


def test_qwen_files_come_first(made_up_qwen, trained):
    folder = made_up_qwen.files[0].parent
    (folder / "tokenizer.json").write_bytes(trained.files[0].read_bytes())
    assert tokenizers.load_tokenizer(folder).files == (folder / "qwen.tiktoken",)


@pytest.mark.parametrize(
    ("number", "line", "pattern"),
    [
        (7, b"@@@ 6\n", "line 7 is not"),
        (9, b"YWJj\n", "line 9 is not"),
        (11, b"YWJjZA== ten\n", "line 11 is not"),
        (13, b"", "line 13 repeats a token or is out of order"),
        (600, b"AA== 599\n", "line 600 repeats a token"),
    ],
)
def test_damaged_rank_file_is_named_by_line(rank_lines, tmp_path, number, line, pattern):
    lines = [*rank_lines[: number - 1], line, *rank_lines[number:]]
    (tmp_path / "qwen.tiktoken").write_bytes(b"".join(lines))
    expect_error(tmp_path, pattern)


def test_truncated_rank_files(rank_lines, tmp_path):
    path = tmp_path / "qwen.tiktoken"
    path.write_bytes(b"".join(rank_lines[:1_000]))
    expect_error(tmp_path, r"ends at line 1000 with 1,000 tokens, not 151,643.*download")
    path.write_bytes(b"".join(rank_lines[:2_000]) + b"AAA")
    expect_error(tmp_path, "line 2001 is not")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    expect_error(tmp_path, "line 1 is not")
    path.write_bytes(b"")
    expect_error(tmp_path, "with 0 tokens")


def test_a_million_spaces_are_a_user_error(made_up_qwen):
    with pytest.raises(errors.UserError, match="white space"):
        made_up_qwen.encode("x" + " " * 1_000_001)


@pytest.mark.parametrize("fixture", ["trained", "made_up_qwen"])
def test_batches_equal_single_texts(fixture, request):
    tokenizer = request.getfixturevalue(fixture)
    assert tokenizer.encode_batch(STRINGS) == [tokenizer.encode(text) for text in STRINGS]
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode("") == []
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")
    assert tokenizer.encode("a\ud800") == tokenizer.encode("a\ufffd")


@PROPERTY
@hypothesis.given(text=UNICODE)
def test_trained_tokenizer_keeps_every_text(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert all(0 <= token < trained.vocab_size for token in ids)


def test_trained_tokenizer_on_the_corpus(trained):
    for text in STRINGS:
        assert trained.decode(trained.encode(text)) == make_token_corpus.replace_surrogates(text)


@pytest.mark.parametrize("vocab_size", [257, 290, 2_000])
def test_trained_answers_differ_in_their_last_token_only(tmp_path, vocab_size):
    tokenizer = tokenizers.train_byte_level_bpe([*TRAINING_TEXTS, *["R: 1 1 1 1"] * 50], vocab_size, tmp_path)
    zero, one = tokenizer.encode("R: 0"), tokenizer.encode("R: 1")
    assert zero[:-1] == one[:-1] and zero[-1] != one[-1]
    assert zero == tokenizer.encode("R:") + tokenizer.encode(" 0")
    assert tokenizer.vocab_size <= vocab_size


def test_trained_folder_is_a_hugging_face_folder(trained):
    transformers = pytest.importorskip("transformers")
    folder = trained.files[0].parent
    reference = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    assert reference.eos_token_id == trained.pad_id == 0
    assert len(reference) == trained.vocab_size == 301
    for text in STRINGS:
        text = make_token_corpus.replace_surrogates(text)
        assert trained.encode(text) == reference(text, add_special_tokens=False)["input_ids"], repr(text)


def test_training_is_deterministic_across_processes(trained, tmp_path):
    code = (
        "import json, sys; from selw2s_jax.hf import tokenizers; "
        "print(tokenizers.train_byte_level_bpe(json.loads(sys.argv[1]), 301, sys.argv[2]).fingerprint)"
    )
    command = [sys.executable, "-c", code, json.dumps(TRAINING_TEXTS), str(tmp_path)]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == trained.fingerprint


def test_training_refuses_a_vocabulary_without_the_bytes(tmp_path):
    with pytest.raises(errors.UserError, match="257"):
        tokenizers.train_byte_level_bpe(["a"], 256, tmp_path)


def test_fingerprint_follows_contents_not_place(trained, tmp_path):
    for path in trained.files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert tokenizers.load_tokenizer(tmp_path).fingerprint == trained.fingerprint
    other = tokenizers.train_byte_level_bpe(TRAINING_TEXTS, 300, tmp_path)
    assert other.fingerprint != trained.fingerprint


def test_vocab_and_merges_equal_transformers(gpt2_folder):
    reference = make_token_corpus.gpt2_reference(gpt2_folder)
    tokenizer = tokenizers.load_tokenizer(gpt2_folder)
    assert tokenizer.encode_batch(STRINGS) == [reference(text) for text in STRINGS]
    assert [path.name for path in tokenizer.files] == ["vocab.json", "merges.txt"]
    assert tokenizer.pad_id == tokenizer.encode("<|endoftext|>")[0]


def test_tokens_listed_in_tokenizer_config_are_added(trained, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_bytes(trained.files[0].read_bytes())
    listed = {"301": {"content": "<|new|>", "special": True, "normalized": False, "lstrip": False}}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": listed,
        "eos_token": "<|new|>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = tokenizers.load_tokenizer(tmp_path)
    assert tokenizer.encode("a<|new|>")[-1] == tokenizer.pad_id == 301
    assert tokenizer.vocab_size == 302
    reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert tokenizer.encode("a <|new|> b") == reference("a <|new|> b", add_special_tokens=False)["input_ids"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings).replace("301", "399"))
    expect_error(tmp_path, "399.*301")


def test_eos_ids_are_those_that_the_files_name(trained, tmp_path):
    def eos_ids(**files):
        for path in tmp_path.glob("*.json"):
            path.unlink()
        (tmp_path / "tokenizer.json").write_bytes(trained.files[0].read_bytes())
        for name, settings in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(settings))
        return tokenizers.load_tokenizer(tmp_path).eos_ids

    assert trained.eos_ids == eos_ids() == (0,)
    assert eos_ids(tokenizer_config={"eos_token": "a"}) == (trained.encode("a")[0],)
    assert eos_ids(tokenizer_config={"eos_token": {"content": "a"}}) == (trained.encode("a")[0],)
    assert eos_ids(special_tokens_map={"eos_token": {"content": "a"}}) == (trained.encode("a")[0],)
    assert eos_ids(tokenizer_config={"eos_token": "<|absent|>"}) == ()
    assert eos_ids(tokenizer_config={"eos_token": None}, special_tokens_map={}) == (0,)
    # Of the whole model: ids that its tokenizer lacks are left out.
    assert eos_ids(generation_config={"eos_token_id": [5, 3, 301]}) == (0, 3, 5)
    assert eos_ids(generation_config={"eos_token_id": 7}, tokenizer_config={"eos_token": "<|absent|>"}) == (
        7,
    )
    assert eos_ids(generation_config={"eos_token_id": None}) == (0,)
    without = tokenizers.load_tokenizer(tmp_path).fingerprint
    assert eos_ids(generation_config={"eos_token_id": 9}) == (0, 9)
    assert tokenizers.load_tokenizer(tmp_path).fingerprint == without
    (tmp_path / "generation_config.json").write_text("{")
    expect_error(tmp_path, r"generation_config\.json cannot be read")


def test_a_tokenizer_without_an_end_of_text(tmp_path):
    library = pytest.importorskip("tokenizers")
    library.Tokenizer(library.models.WordLevel({"a": 0, "b": 1}, unk_token="a")).save(
        str(tmp_path / "tokenizer.json")
    )
    assert tokenizers.load_tokenizer(tmp_path).eos_ids == ()


def test_missing_files_are_named(tmp_path, gpt2_folder):
    expect_error(gpt2_folder / "absent", "no tokenizer folder")
    (gpt2_folder / "merges.txt").rename(gpt2_folder / "merges.old")
    expect_error(gpt2_folder, r"merges\.txt is missing")
    (gpt2_folder / "vocab.json").unlink()
    expect_error(
        gpt2_folder, r"qwen\.tiktoken, tokenizer\.json, vocab\.json with merges\.txt, or tokenizer\.model"
    )
    (gpt2_folder / "merges.old").rename(gpt2_folder / "merges.txt")
    expect_error(gpt2_folder, r"vocab\.json is missing")


def test_custom_code_is_never_run(gpt2_folder, trained):
    settings = {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["code.MyTokenizer", None]}}
    (gpt2_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (gpt2_folder / "code.py").write_text("raise SystemExit('was run')")
    expect_error(gpt2_folder, r"MyTokenizer.*never run.*tokenizer\.json")
    (gpt2_folder / "tokenizer.json").write_bytes(trained.files[0].read_bytes())
    assert tokenizers.load_tokenizer(gpt2_folder).encode("the") == trained.encode("the")


def test_damaged_json_files(gpt2_folder, trained):
    vocab = (gpt2_folder / "vocab.json").read_text(encoding="utf-8")
    (gpt2_folder / "vocab.json").write_text(vocab[:100], encoding="utf-8")
    expect_error(gpt2_folder, "cannot be read as a GPT2Tokenizer.*line 1 column 100")
    (gpt2_folder / "vocab.json").write_text(vocab, encoding="utf-8")
    (gpt2_folder / "merges.txt").write_text("#version: 0.2\nqq zz\n", encoding="utf-8")
    expect_error(gpt2_folder, "out of vocabulary.*download")
    (gpt2_folder / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    expect_error(gpt2_folder, "NoSuchTokenizer")
    (gpt2_folder / "tokenizer.json").write_bytes(trained.files[0].read_bytes()[:500])
    expect_error(gpt2_folder, r"tokenizer\.json cannot be read.*download")
    (gpt2_folder / "tokenizer_config.json").write_text("{")
    expect_error(gpt2_folder, r"tokenizer_config\.json cannot be read.*line 1 column 2")
    (gpt2_folder / "tokenizer_config.json").write_text("[]")
    expect_error(gpt2_folder, "not a JSON object")


def test_tokenizer_model_that_is_not_llama_style(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"garbage")
    expect_error(tmp_path, "line 1 is not")
    model = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    path.write_bytes(b"\n\xff garbage")
    expect_error(tmp_path, r"tokenizer\.model cannot be read")
    proto = model.ModelProto()
    proto.pieces.add(piece="a", score=-1.0)
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    path.write_bytes(proto.SerializeToString())
    expect_error(tmp_path, r"not Llama-style.*tokenizer\.json")


def test_missing_sentencepiece_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x05")
    expect_error(tmp_path, r"pip install 'selw2s-jax\[llama\]'")


def test_check_tokenizer(trained):
    for model_vocab_size in (301, 320, 301 + 1024):
        tokenizers.check_tokenizer(trained, model_vocab_size, "toy")
    with pytest.raises(errors.UserError, match="vocabulary of toy too small for the ids"):
        tokenizers.check_tokenizer(trained, 300, "toy")
    with pytest.raises(errors.UserError, match="wrong tokenizer for toy: 301 ids for 1,326 embedding rows"):
        tokenizers.check_tokenizer(trained, 301 + 1025, "toy")
