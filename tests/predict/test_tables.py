"""What is written of questions, by the end of the file's name."""

import csv
import io
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selw2s_jax.errors import UserError
from selw2s_jax.predict import predictions, tables

FULL = {
    "example_id": "a", "text": '=1+1, "x"\nß', "p_ik": 0.1, "class": 1, "prob_1": 0.84,
    "few_shot": {"prob_1": 0.77, "answer": 1}, "weak": {"prob_1": 0.58}, "smoothed": {"prob_1": 0.94},
    "used": "self", "target": 1.0,
}  # fmt: skip
BARE = dict.fromkeys(FULL) | {"example_id": "b", "text": "-3"}
WRITTEN = FULL | {"few_shot": {"prob_1": None, "answer": "#### 2"}}
COLUMNS = [
    "example_id", "text", "p_ik", "class", "prob_1", "few_shot_prob_1", "few_shot_answer", "weak_prob_1",
    "smoothed_prob_1", "used", "target",
]  # fmt: skip


def encode(records, name: str) -> bytes:
    return tables.encode(records, tables.check_name(name, "--output"), predictions.columns_of(records))


@pytest.mark.parametrize("name", ["out", "out.jsonl", "out.JSON", "/dev/stdout", "gs://bucket/out.jsonl"])
def test_lines_are_the_records(name):
    lines = encode([FULL, BARE], name).decode()
    assert [json.loads(line) for line in lines.splitlines()] == [FULL, BARE]
    assert "ß" in lines


def test_csv_has_a_column_for_every_value_and_no_formula():
    content = encode([FULL, BARE, WRITTEN], "out.CSV").decode()
    header, *rows = csv.reader(io.StringIO(content, newline=""))
    assert header == COLUMNS
    assert rows[0] == [
        "a",
        "'" + FULL["text"],
        *["0.1", "1", "0.84", "0.77", "1", "0.58", "0.94", "self", "1.0"],
    ]
    assert rows[1] == ["b", "-3"] + [""] * 9  # a number, not a formula
    assert rows[2][5:7] == ["", "#### 2"]
    assert pd.read_csv(io.StringIO(content))["p_ik"].tolist()[::2] == [0.1, 0.1]


@pytest.mark.parametrize("records", [[FULL, BARE], [WRITTEN, BARE], [BARE]])
def test_parquet_has_the_values_in_types_of_their_own(records):
    content = encode(records, "out.parquet")
    table = pq.read_table(pa.BufferReader(content))
    assert table.column_names == COLUMNS
    kinds = dict(zip(COLUMNS, map(str, table.schema.types), strict=True))
    answer = kinds.pop("few_shot_answer")
    assert answer == ("string" if records[0] is WRITTEN else "int64")
    assert kinds == {
        name: "string" if name in ("example_id", "text", "used") else "int64" if name == "class" else "double"
        for name in kinds
    }
    for record, row in zip(records, table.to_pylist(), strict=True):
        assert [row[name] for name in record if name in row] == [
            record[name] for name in record if name in row
        ]
        assert row["weak_prob_1"] == (record["weak"] or {}).get("prob_1")


@pytest.mark.parametrize("name", ["out.tsv", "out.xlsx", "out.csv.gz", "folder.csv/out.yaml"])
def test_other_formats_are_refused(name):
    with pytest.raises(UserError, match=r"--output=\S+: files of \.\w+ are not written; give a .jsonl, .csv"):
        tables.check_name(name, "--output")
