"""What is printed arrives on any terminal, is obeyed by none, and whoever reads may go away."""

import io
import os
import sys

import pytest

from selw2s_jax import errors
from selw2s_jax.runtime import output


def on_pipe(monkeypatch, **options) -> tuple[int, io.StringIO]:
    """Puts standard output on a pipe; the reading end of it, and what standard error gets."""
    reading, writing = os.pipe()
    file = os.fdopen(writing, "wb")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding="ascii", **options))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    return reading, sys.stderr


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egnp", "\x7f", "\u2028"]
)
def test_a_terminal_obeys_nothing_of_a_text(text):
    shown = errors.printable(f"before {text} after")
    assert shown.isprintable() and shown.startswith("before ") and shown.endswith(" after")
    assert errors.one_line(ValueError(text)).isprintable()


@pytest.mark.parametrize("text", ["plain", "two\nlines\t.", "ü ß 日本 😀", "a\u200db", "C:\\x1b"])
def test_texts_stay_as_they_are(text):
    assert errors.printable(text) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(monkeypatch, encoding):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    with output.standard_streams():
        print("ü 日本 \udcff\x1b[1m")
    shown = buffer.getvalue().decode(encoding)
    assert "\\udcff\\x1b[1m" in shown and ("ü" in shown or "\\xfc" in shown)


def test_bars_are_drawn_and_nothing_else_is_obeyed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", beside := io.StringIO())
    with output.standard_streams():
        sys.stderr.write("\r50%\x1b[A\r\x1b[2J")
    assert beside.getvalue() == "\r50%\x1b[A\r\\x1b[2J"


def test_a_work_goes_on_when_its_reader_has_gone(monkeypatch):
    reading, beside = on_pipe(monkeypatch, line_buffering=True)
    with output.standard_streams():
        print("one")
        assert os.read(reading, 99) == b"one\n"
        os.close(reading)
        for number in range(3):
            print("x" * 100_000, number, flush=True)
    assert beside.getvalue() == "note: nobody reads the output any more; the work goes on without it\n"


def test_what_only_shows_ends_with_its_reader(monkeypatch):
    reading, beside = on_pipe(monkeypatch, line_buffering=True)
    os.close(reading)
    with pytest.raises(output.ReaderGone), output.standard_streams():
        output.end_with_reader()
        print("one")
        pytest.fail("it went on")
    assert not beside.getvalue()


def test_what_is_held_back_is_lost_without_a_word(monkeypatch):
    reading, beside = on_pipe(monkeypatch)
    with output.standard_streams():
        output.end_with_reader()
        print("one")
        os.close(reading)
    assert not beside.getvalue()


def test_both_streams_may_lose_their_readers(monkeypatch):
    ends = [os.pipe() for _ in range(2)]
    for name, (reading, writing) in zip(("stdout", "stderr"), ends, strict=True):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(os.fdopen(writing, "wb"), write_through=True))
        os.close(reading)
    with output.standard_streams():
        print("one")
        print("two", file=sys.stderr)


def test_a_stream_that_is_closed_is_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with output.standard_streams():
        print("one", flush=True)
        sys.stdout.flush()


def test_a_full_disk_is_an_error(monkeypatch):
    file = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", os.fdopen(file, "w", buffering=1))
    with pytest.raises(OSError, match="No space left"), output.standard_streams():
        print("one", flush=True)
