"""One reader for both commands: what `embed` stages and what `store create` stores are the same items."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estitchup_pl.cli.store import main
from estitchup_pl.embed.staging import StagedItems, stage_items
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import open_items

TYPES = {"id": pa.string(), "label": pa.string(), "split": pa.string(), "title": pa.string(), "tall": pa.string()}

Rows = list[dict[str, str | None]]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAMES = st.one_of(
    TEXT, st.sampled_from(["007", "7", "NA", "null", "1e3", "2024-01-01", "true", " ", "a,b", 'x"y', "\n"])
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": NAMES.filter(bool),
            "label": st.none() | NAMES,
            "split": st.none() | st.sampled_from(["train", "validation", "0"]),
            "title": st.none() | NAMES,
            "tall": st.none() | st.just("line\r\nand\nline"),
        }
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row["id"],
)


def _write(path: Path, rows: Rows) -> None:
    """Write rows as another program would: a null as an empty field of CSV, an empty text as a quoted one."""
    opened = gzip.open if path.suffix == ".gz" else open
    if path.name.startswith("items.parquet"):
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(TYPES)), path)
    elif path.name == "parts":
        path.mkdir()
        for at, row in enumerate(rows):
            pq.write_table(pa.Table.from_pylist([row], pa.schema(TYPES)), path / f"{at:03d}.parquet")
    elif ".jsonl" in path.name:
        with opened(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        delimiter = "\t" if ".tsv" in path.name else ","
        with opened(path, "wt", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerow(TYPES)
            for row in rows:
                cells = (row[name] for name in TYPES)
                fields = ["" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in cells]
                file.write(delimiter.join(fields) + "\r\n")


def _stored(source: Path, folder: Path, *options: str) -> list[dict[str, object]]:
    items = folder / "store"
    main(["create", "--items", str(source), *options, "--out", str(items), "--quiet"])
    return EmbeddingStore.open(items).items.drop_columns("has_e").to_pylist()


def _staged(source: Path, folder: Path, label: str | None = None) -> list[dict[str, object]]:
    stage_items(open_items(source), "id", label, {}, folder / "staged")
    return StagedItems(folder / "staged").table().to_pylist()


@pytest.mark.parametrize(
    "name",
    ["items.csv", "items.csv.gz", "items.tsv", "items.jsonl", "items.jsonl.gz", "items.parquet", "parts"],
)
@settings(max_examples=10, deadline=None)
@given(rows=ROWS)
def test_a_table_in_any_form_gives_the_same_items_in_both_commands(
    name: str, rows: list[dict[str, str | None]]
) -> None:
    expected = [{**row, "label": row["label"] or None, "split": row["split"] or None} for row in rows]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write(folder / name, rows)
        np.save(folder / "e.npy", np.ones((len(rows), 2), np.float32))
        assert _stored(folder / name, folder, "--modality", f"e={folder / 'e.npy'}") == expected
        assert _staged(folder / name, folder) == expected


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet", "parts"])
def test_labels_that_differ_by_a_zero_are_two_classes_with_and_without_the_option(tmp_path: Path, name: str) -> None:
    labels = ["007", "7", "010", "NA", None, ""]
    rows = [dict(zip(TYPES, (str(at), label, None, "1.50", None), strict=True)) for at, label in enumerate(labels)]
    _write(tmp_path / name, rows)
    np.save(tmp_path / "e.npy", np.ones((len(rows), 2), np.float32))
    modality = ["--modality", f"e={tmp_path / 'e.npy'}"]
    default = _stored(tmp_path / name, tmp_path / "default", *modality)
    assert [row["label"] for row in default] == ["007", "7", "010", "NA", None, None]
    assert {row["title"] for row in default} == {"1.50"}
    assert _stored(tmp_path / name, tmp_path / "named", *modality, "--label", "label") == default
    assert _staged(tmp_path / name, tmp_path) == _staged(tmp_path / name, tmp_path, "label") == default


def test_numbers_of_a_table_keep_their_type_in_both_commands(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "price": pa.array([5, None], pa.int16()), "when": ["2024-01-01", ""]})
    pq.write_table(table, tmp_path / "items.parquet")
    np.save(tmp_path / "e.npy", np.ones((2, 2), np.float32))
    expected = [
        {"id": "1", "price": 5, "when": "2024-01-01", "label": None},
        {"id": "2", "price": None, "when": "", "label": None},
    ]
    assert _stored(tmp_path / "items.parquet", tmp_path, "--modality", f"e={tmp_path / 'e.npy'}") == expected
    assert _staged(tmp_path / "items.parquet", tmp_path) == expected
    assert EmbeddingStore.open(tmp_path / "store").items.schema.field("price").type == pa.int16()
    assert StagedItems(tmp_path / "staged").table().schema.field("price").type == pa.int16()
