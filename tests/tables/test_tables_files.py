"""CSV, JSON-lines and parquet tables: text as written, null only where the file says so, faults by their line."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from saved_rows import items_of

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.tables import TableFile


def test_csv_columns_stay_text_and_only_empty_fields_without_quotes_are_null(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,title,price\n007,"a ""b"", c",1\n008,,NA\n010,"",\n009,"two\nlines",3.50\n')
    assert items_of(TableFile(tmp_path / "a.csv")) == [
        {"id": "007", "title": 'a "b", c', "price": "1"},
        {"id": "008", "title": None, "price": "NA"},
        {"id": "010", "title": "", "price": None},
        {"id": "009", "title": "two\nlines", "price": "3.50"},
    ]


def test_other_delimiters_encodings_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttitle\n1\ta, b\n")
    assert items_of(TableFile(tmp_path / "a.tsv")) == [{"id": "1", "title": "a, b"}]
    (tmp_path / "a.txt").write_bytes("id;title\n1;Größe\n".encode("latin-1"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,title\n1,a\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": "1", "title": "a"}'))
    for name in ("a.csv.gz", "a.jsonl.gz"):
        assert items_of(TableFile(tmp_path / name)) == [{"id": "1", "title": "a"}]
    reader = TableFile(tmp_path / "a.txt", format="csv", delimiter=";", encoding="latin-1")
    assert items_of(reader) == [{"id": "1", "title": "Größe"}]


def test_parquet_files_and_folders_of_them_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, ids in (("b", [3, 4]), ("a", [1, 2])):
        pq.write_table(pa.table({"id": ids}), tmp_path / f"{name}.parquet")
    assert items_of(TableFile(tmp_path)) == [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]
    assert items_of(TableFile(tmp_path / "b.parquet")) == [{"id": 3}, {"id": 4}]


def test_json_lines_may_show_a_column_or_its_type_late(tmp_path: Path) -> None:
    lines = [{"id": row, "price": None} for row in range(1500)] + [{"id": 1500, "price": 2.5, "title": "late"}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    table = items_of(TableFile(tmp_path / "a.jsonl"))
    assert [row["id"] for row in table] == list(range(1501))
    assert (table[0], table[-1]) == (
        {"id": 0, "price": None, "title": None},
        {"id": 1500, "price": 2.5, "title": "late"},
    )


def test_json_lines_hold_values_as_they_are_written(tmp_path: Path) -> None:
    """Dates stay text; a column of unlike values, or of numbers beyond 64 bits, is text as written."""
    lines = [
        '{"day": "2024-01-01", "mixed": 7, "long": 1180591620717411303424, "price": 1, "tags": ["a"], "on": true}',
        '{"day": "2024-01-02T10:00:00", "mixed": "007", "long": 1, "price": 2.5, "tags": [], "on": null}',
        '{"day": "", "mixed": 1.50, "price": null}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert items_of(TableFile(tmp_path / "a.jsonl")) == [
        {"day": "2024-01-01", "mixed": "7", "long": str(2**70), "price": 1.0, "tags": ["a"], "on": True},
        {"day": "2024-01-02T10:00:00", "mixed": "007", "long": "1", "price": 2.5, "tags": [], "on": None},
        {"day": "", "mixed": "1.50", "long": None, "price": None, "tags": None, "on": None},
    ]


def test_marks_of_byte_order_and_line_ends_of_any_system_are_no_content(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.csv").write_bytes(f"\ufeffid,title{end}1,ä{end}".encode())
        assert items_of(TableFile(tmp_path / "a.csv")) == [{"id": "1", "title": "ä"}]
    (tmp_path / "a.jsonl").write_bytes('\ufeff{"id": "1"}\r\n'.encode())
    assert items_of(TableFile(tmp_path / "a.jsonl")) == [{"id": "1"}]
    (tmp_path / "a.csv").write_text("id,title\n1,ä\n", encoding="utf-16")
    assert items_of(TableFile(tmp_path / "a.csv", encoding="utf-16")) == [{"id": "1", "title": "ä"}]


def test_parts_of_a_folder_that_differ_in_type_or_columns_are_one_table(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"id": pa.array(["a"]).dictionary_encode(), "n": pa.array([1], pa.int8())}), tmp_path / "1.parquet"
    )
    pq.write_table(pa.table({"more": [None, "x"], "n": [2.5, None], "id": ["b", "c"]}), tmp_path / "2.parquet")
    assert items_of(TableFile(tmp_path)) == [
        {"id": "a", "n": 1.0, "more": None},
        {"id": "b", "n": 2.5, "more": None},
        {"id": "c", "n": None, "more": "x"},
    ]
    pq.write_table(pa.table({"id": [7]}), tmp_path / "3.parquet")
    with pytest.raises(DataError, match=r"3\.parquet: its columns do not continue those of the files before it.*'?id"):
        items_of(TableFile(tmp_path))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_column_that_is_there_twice_is_refused_unless_it_is_dropped(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        pq.write_table(pa.table([["1"], ["x"], ["y"]], names=["id", "brand", "brand"]), tmp_path / name)
    else:
        text = "id,brand,brand\n1,x,y\n" if name == "a.csv" else '{"id": "1", "brand": "x", "brand": "y"}'
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}.*'brand' is there more than once"):
        items_of(TableFile(tmp_path / name))
    assert items_of(TableFile(tmp_path / name, drop=["brand"])) == [{"id": "1"}]
    with pytest.raises(ConfigError, match="no column 'brnd'; did you mean 'brand'"):
        items_of(TableFile(tmp_path / name, drop=["brnd", "brand"]))


NOISE = random.Random(0).randbytes(1 << 20).hex()
WHOLE = gzip.compress(f"id,title\n1,{NOISE}\n".encode())
DAMAGED = WHOLE[: len(WHOLE) // 2] + bytes(50) + WHOLE[len(WHOLE) // 2 + 50 :]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,title\n1,a\n2,b,c\n", r"a\.csv, line 3: expected 2 fields, got 3"),
        ("a.csv", b'id,title\n1,"two\nlines"\n2\n', r"a\.csv, line 4: expected 2 fields, got 1"),
        ("a.csv", b"id,title\n1,Gr\xf6\xdfe\n", r"a\.csv, line 2: not text in utf-8\..* set encoding"),
        ("a.csv", b"id,Gr\xf6\xdfe\n1,a\n", r"a\.csv, line 1: not text in utf-8\..* set encoding"),
        ("a.csv", "id,title\n1,a\n".encode("utf-16"), r"a\.csv, line 1: not text in utf-8\..* set encoding"),
        ("a.csv", b'id,title\n1,"a\n2,b\n3,c\n', r"a\.csv: its last row has a field without an end; .* quotation mark"),
        ("a.csv", b'id,title\n"1,a\n2,b\n', r"a\.csv, line 2: expected 2 fields, got 1"),
        ("a.csv", b'id,title\n1,"' + b"a\n" * (10 << 20), r"a\.csv, line 2: a field without an end; .* quotation mark"),
        ("a.csv", b"", r"a\.csv: cannot be read as csv in utf-8 \(Empty CSV file\)"),
        ("a.csv.gz", WHOLE[:-9], r"a\.csv\.gz: damaged or cut off .* Copy or export"),
        ("a.csv.gz", DAMAGED, r"a\.csv\.gz: damaged or cut off|a\.csv\.gz, line \d+: expected 2 fields"),
        ("a.csv.gz", b"id,title\n", r"a\.csv\.gz: damaged or cut off \(Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}\n' * 5000)[:-9], r"a\.jsonl\.gz: damaged or cut off"),
        ("a.jsonl", b'{"id": 1}\n{"id": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"id": ' + b"[" * 100_000, r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", b'{"id": 1}\n[2]\n', r"a\.jsonl, line 2: expected an object \{\.\.\.\} in each line, got list"),
        ("a.jsonl", b'{"id": "\xf6"}\n', r"a\.jsonl, line 1: not text in utf-8\..* set encoding"),
        ("a.jsonl", b'{"id": "a"}\n{"id": "\\ud83d"}', r"a\.jsonl, line 2, column 'id': '\\ud83d' is half a character"),
        ("a.jsonl", b'{"a": 1}\n{"a": {"b": 1}}', r"a\.jsonl, line 2, column 'a': its value does not fit those of"),
        ("a.jsonl", b'{"a": 1}\n' * 1500 + b'{"a": [1]}', r"a\.jsonl, line 1501, column 'a': its value does not fit"),
        ("a.jsonl", b'{"a": [1]}\n{"a": ["b"]}', r"a\.jsonl, line 2, column 'a': its value does not fit those of"),
        ("a.parquet", b"no parquet at all", r"a\.parquet: cannot be read as parquet"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){message}"):
        list(TableFile(tmp_path / name).batches())


def test_files_that_are_not_there_or_of_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file or folder"):
        TableFile(tmp_path / "gone.csv")
    (tmp_path / "a.xyz").touch()
    with pytest.raises(
        ConfigError, match=r"cannot tell the format of .*a\.xyz; set format to one of csv, parquet, jsonl"
    ):
        TableFile(tmp_path / "a.xyz")
    for arguments, message in (
        ({"encoding": "utf8x"}, "no encoding 'utf8x'"),
        ({"delimiter": "::"}, "of one character"),
    ):
        with pytest.raises(ConfigError, match=message):
            TableFile(tmp_path / "a.xyz", format="csv", **arguments)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"without any \.parquet file"):
        list(TableFile(tmp_path / "empty").batches())
