import concurrent.futures
import contextlib
import copy
import threading

import pytest

from selw2s_jax.hf import kept_tokens, tokenizers
from selw2s_jax.runtime import provenance, storage

TEXTS = [
    f"question {number * 7919 % 1009}: is it so? \ud800 ü" for number in range(kept_tokens.MIN_TEXTS + 3)
]
TEXTS += TEXTS[:5]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizers.train_byte_level_bpe(["a question: is it so?", "question 12"], 280, folder)
    return folder


def load(tokenizer_folder, cache, **options):
    """A tokenizer that keeps what it reads in a folder, and what it was asked to read anew."""
    tokenizer = tokenizers.load_tokenizer(tokenizer_folder, **options)
    tokenizer.keep_in(cache)
    asked, encode = [], tokenizer._encode_bare
    tokenizer._encode_bare = lambda texts: asked.extend(texts) or encode(texts)
    return tokenizer, asked


def test_what_is_kept_is_what_tokenising_anew_gives(tokenizer_folder, tmp_path):
    wanted = tokenizers.load_tokenizer(tokenizer_folder).encode_batch(TEXTS)
    first, asked = load(tokenizer_folder, tmp_path)
    assert first.encode_batch(TEXTS) == wanted
    assert sorted(asked) == sorted(set(TEXTS))  # each once
    asked.clear()
    assert first.encode_batch(TEXTS[::-1]) == wanted[::-1]
    assert not asked
    second, asked = load(tokenizer_folder, tmp_path)
    assert second.encode_batch(TEXTS) == wanted
    assert not asked
    assert copy.deepcopy(first).encode_batch(TEXTS) == wanted  # as for another process


def test_ids_that_are_handed_out_are_the_callers_own(tokenizer_folder, tmp_path):
    tokenizer, _ = load(tokenizer_folder, tmp_path)
    wanted = tokenizers.load_tokenizer(tokenizer_folder).encode_batch(TEXTS)
    for ids in tokenizer.encode_batch(TEXTS):
        ids.append(-1)
    assert tokenizer.encode_batch(TEXTS) == wanted


def test_texts_that_changed_are_tokenised_anew(tokenizer_folder, tmp_path):
    load(tokenizer_folder, tmp_path)[0].encode_batch(TEXTS)
    tokenizer, asked = load(tokenizer_folder, tmp_path)
    changed = [*TEXTS[1:], TEXTS[0] + " "]
    assert tokenizer.encode_batch(changed) == tokenizers.load_tokenizer(tokenizer_folder).encode_batch(
        changed
    )
    assert asked == [TEXTS[0] + " "]


def test_nothing_is_served_to_another_tokenizer(tokenizer_folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    kept = load(tokenizer_folder, cache)[0].encode_batch(TEXTS)
    other = tokenizers.train_byte_level_bpe(["so it is: an answer"], 270, tmp_path / "other")
    tokenizer, asked = load(tmp_path / "other", cache)
    assert tokenizer.encode_batch(TEXTS) == other.encode_batch(TEXTS) != kept
    assert asked
    monkeypatch.setattr(provenance, "source", lambda: "of another version")
    tokenizer, asked = load(tokenizer_folder, cache)
    assert tokenizer.encode_batch(TEXTS) == kept
    assert asked


def test_a_damaged_file_is_made_anew(tokenizer_folder, tmp_path):
    wanted = tokenizers.load_tokenizer(tokenizer_folder).encode_batch(TEXTS)
    load(tokenizer_folder, tmp_path)[0].encode_batch(TEXTS)
    (path,) = tmp_path.glob("*/*.npy")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-30] ^= 1
    for damaged in (bytes(flipped), whole[: len(whole) // 2], b""):
        path.write_bytes(damaged)
        tokenizer, asked = load(tokenizer_folder, tmp_path)
        assert tokenizer.encode_batch(TEXTS) == wanted
        assert sorted(asked) == sorted(set(TEXTS))
        assert path.read_bytes() == whole


def test_few_texts_and_what_is_beyond_the_limit_are_not_kept(tokenizer_folder, tmp_path, monkeypatch):
    wanted = tokenizers.load_tokenizer(tokenizer_folder).encode_batch(TEXTS)
    tokenizer, asked = load(tokenizer_folder, tmp_path)
    few = TEXTS[: kept_tokens.MIN_TEXTS - 1]
    assert [tokenizer.encode_batch(few), tokenizer.encode_batch(few)] == [wanted[: len(few)]] * 2
    assert asked == 2 * few
    monkeypatch.setattr(kept_tokens, "_MOST_TOKENS", -1)
    assert tokenizer.encode_batch(TEXTS) == wanted
    assert not list(tmp_path.iterdir())


def test_what_another_process_is_writing_stays(tokenizer_folder, tmp_path):
    load(tokenizer_folder, tmp_path)[0].encode_batch(TEXTS)
    (path,) = tmp_path.glob("*/*.npy")
    under_way = storage._new_name(path)
    under_way.write_bytes(b"half")
    load(tokenizer_folder, tmp_path)[0].encode_batch(TEXTS)
    assert under_way.exists()


def test_threads_may_begin_at_once(tokenizer_folder, tmp_path, monkeypatch):
    wanted = tokenizers.load_tokenizer(tokenizer_folder).encode_batch(TEXTS)
    tokenizer, _ = load(tokenizer_folder, tmp_path)
    together, names = threading.Barrier(2), storage.names

    def wait(folder):
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(timeout=0.05)
        return names(folder)

    monkeypatch.setattr(kept_tokens.storage, "names", wait)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(tokenizer.encode_batch, [TEXTS, TEXTS[::-1]]))
    assert found == [wanted, wanted[::-1]] and together.broken  # one loads, the other waits
