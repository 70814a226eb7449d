"""Damaged files of questions: read well, or refused in one line."""

import collections

import pytest
from support import fuzz, fuzz_rows


@pytest.mark.parametrize(
    ("kind", "count"),
    [("rows", 500), ("questions to be asked", 150), ("numbers by example_id", 100), ("data sets", 100)],
)
def test_damaged_files_are_read_or_refused(kind, count):
    assert kind in fuzz.KINDS
    assert not (found := fuzz.faults(kind, range(count))), "\n\n".join(found)


def test_the_fuzzer_reads_some_refuses_some_and_repeats_itself(tmp_path):
    first, second = (list(fuzz.run("rows", range(40))) for _ in range(2))
    assert [one.ending for one in first] == [one.ending for one in second]
    assert min(collections.Counter(one.ending for one in first).values()) > 5
    assert fuzz_rows.own_questions in fuzz.KINDS.values()


def test_the_fuzzer_sees_faults(monkeypatch):
    def several_lines():
        raise fuzz.UserError("a\nb")

    def unsound(found):
        assert found == 2, found

    cases = [
        fuzz.Case("breaks", lambda: 1 / 0),
        fuzz.Case("lines", several_lines),
        fuzz.Case("silence", lambda: 1, unsound),
        fuzz.Case("hangs", lambda: [None for _ in iter(int, 1)]),
    ]
    monkeypatch.setattr(fuzz, "_SECONDS", 0.1)
    monkeypatch.setitem(fuzz.KINDS, "faults", lambda generator, folder: cases.pop(0))
    found = fuzz.faults("faults", range(4))
    for fault, words in zip(
        found, ("ZeroDivisionError", "several lines", "in silence", "no end in"), strict=True
    ):
        assert words in fault
