"""Texts that weak models read behind their questions: read from files, joined by example_id, cut to what fits."""

import json

import pytest

from selw2s_jax.data import contexts, lengths
from selw2s_jax.errors import UserError


class Words:
    """A tokenizer whose tokens are words."""

    bos_id = None

    def encode_batch(self, texts):
        return [list(range(len(text.split()))) for text in texts]


class Model:
    role, tokenizer = "weak", Words()

    def __init__(self, max_length):
        self.max_length = max_length


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_weak_model_reads_its_own_text_before_that_of_all(tmp_path):
    lines = [
        {"example_id": "a", "text": "for all"},
        {"example_id": "b", "text": ""},
        {"example_id": "a", "member": 1, "text": "for one"},
        {"example_id": "b", "member": "0", "text": "for the first"},
    ]
    found = contexts.read(write(tmp_path / "file.jsonl", lines), 3)
    assert found.of(0, ["b", "a"]) == {"b": "for the first", "a": "for all"}
    assert found.of(1, ["a", "b"]) == {"a": "for one", "b": ""}
    assert found.of(2, ["a"]) == {"a": "for all"}
    with pytest.raises(UserError, match=r"file.jsonl lacks 1 of 2 example_ids for weak model 1 \(first: c\)"):
        found.of(1, ["a", "c"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"example_id": "a", "text": "other"}, "line 2: 'a' has a text above"),
        ({"example_id": "b"}, "line 2: text must be text, found nothing"),
        ({"example_id": "b", "text": "  "}, "line 2: text is empty"),
        ({"example_id": 3, "text": "b"}, "line 2: example_id must be text, found 3"),
        ({"example_id": "b", "text": "b", "member": 2}, "the number of a weak model, 0 to 1, found 2"),
        ({"example_id": "b", "text": "b", "member": -1}, "0 to 1, found -1"),
        ({"example_id": "b", "text": "b", "member": "x"}, "0 to 1, found 'x'"),
        ([1], "line 2: not a JSON object"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, message):
    path = write(tmp_path / "file.jsonl", [{"example_id": "a", "text": "b"}, line])
    with pytest.raises(UserError, match=message):
        contexts.read(path, 2)


@pytest.mark.parametrize("max_length", range(1, 9))
def test_the_most_words_that_fit_are_read_and_the_text_is_whole(max_length):
    texts, ids = ["one two", "one two three", "one"], ["a", "b", "c"]
    behind = {"a": "four  five\nsix", "b": "four five", "c": ""}
    fitted, num_cut = contexts.cut(texts, behind, ids, Model(max_length))
    for text, name in zip(texts, ids, strict=True):
        room = max(max_length - len(text.split()), 0)
        assert fitted[name].split() == behind[name].split()[:room]
        assert behind[name].startswith(fitted[name])
    assert num_cut == sum(fitted[name] != behind[name] for name in ids)
    read = [contexts.behind(text, fitted[name]) for text, name in zip(texts, ids, strict=True)]
    alone = lengths.is_overlong(texts, Model(max_length))
    assert (lengths.is_overlong(read, Model(max_length)) == alone).all()


def test_nothing_stands_behind_a_text_without_a_context():
    assert contexts.behind("text", "") == "text"
    assert contexts.behind("text", "more") == "text\n\nmore"
