"""Tables in every form that they come in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_catalogue import write_fashion
from toys import Letters, embed_on_cpu

from estitchup_pl.embed import Modality
from estitchup_pl.embed.modality import cell_value
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import DatasetFolder, FashionProductImages, ItemReader, TableFile


def rows(reader: ItemReader) -> list[dict]:
    return pa.Table.from_batches(list(reader.batches())).to_pylist()


def test_csv_columns_stay_text_and_empty_fields_are_null(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,title,price\n007,"a ""b"", c",1\n008,,NA\n009,"two\nlines",3.50\n')
    assert rows(TableFile(tmp_path / "a.csv")) == [
        {"id": "007", "title": 'a "b", c', "price": "1"},
        {"id": "008", "title": None, "price": "NA"},
        {"id": "009", "title": "two\nlines", "price": "3.50"},
    ]


def test_other_delimiters_encodings_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttitle\n1\ta, b\n")
    assert rows(TableFile(tmp_path / "a.tsv")) == [{"id": "1", "title": "a, b"}]
    (tmp_path / "a.txt").write_bytes("id;title\n1;Größe\n".encode("latin-1"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,title\n1,a\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": "1", "title": "a"}'))
    for name in ("a.csv.gz", "a.jsonl.gz"):
        assert rows(TableFile(tmp_path / name)) == [{"id": "1", "title": "a"}]
    reader = TableFile(tmp_path / "a.txt", format="csv", delimiter=";", encoding="latin-1")
    assert rows(reader) == [{"id": "1", "title": "Größe"}]


def test_parquet_files_and_folders_of_them_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, ids in (("b", [3, 4]), ("a", [1, 2])):
        pq.write_table(pa.table({"id": ids}), tmp_path / f"{name}.parquet")
    assert rows(TableFile(tmp_path)) == [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]
    assert rows(TableFile(tmp_path / "b.parquet")) == [{"id": 3}, {"id": 4}]
    pq.write_table(pa.table({"more": ["x"], "id": pa.array([5], pa.int32())}), tmp_path / "c.parquet")
    assert rows(TableFile(tmp_path))[-1] == {"id": 5}
    pq.write_table(pa.table({"sku": [6]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"d\.parquet: its columns do not fit those of the first file"):
        rows(TableFile(tmp_path))


def test_json_lines_may_show_a_column_or_its_type_late(tmp_path: Path) -> None:
    lines = [{"id": row, "price": None} for row in range(1500)] + [{"id": 1500, "price": 2.5, "title": "late"}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    table = rows(TableFile(tmp_path / "a.jsonl"))
    assert [row["id"] for row in table] == list(range(1501))
    assert (table[0], table[-1]) == (
        {"id": 0, "price": None, "title": None},
        {"id": 1500, "price": 2.5, "title": "late"},
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,title\n1,a\n2,b,c\n", r"a\.csv: cannot be read as csv: .*Expected 2 columns, got 3"),
        ("a.csv", b"id,title\n1,Gr\xf6\xdfe\n", r"a\.csv: cannot be read as csv: .*invalid UTF8.*set encoding"),
        ("a.jsonl", b'{"id": 1}\n{"id": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"id": 1}\n[2]\n', r"a\.jsonl, line 2: expected an object \{\.\.\.\}, got list"),
        ("a.jsonl", b'{"id": "\xf6"}\n', r"a\.jsonl: cannot be read as jsonl: .*set encoding"),
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
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"without any \.parquet file"):
        list(TableFile(tmp_path / "empty").batches())


def test_a_hugging_face_folder_gives_class_names_and_undecoded_pictures(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "kind": datasets.ClassLabel(names=["hat", "shoe"]),
            "image": datasets.Image(),
        }
    )
    columns = {
        "id": [1, 2, 3],
        "kind": [1, 0, -1],
        "image": [{"bytes": b"abc", "path": None}, {"bytes": b"d", "path": "d.jpg"}, None],
    }
    data = datasets.Dataset.from_dict(columns, features=features)
    data.save_to_disk(str(tmp_path / "one"))
    expected = [
        {"id": 1, "kind": "shoe", "image": {"bytes": b"abc", "path": None}},
        {"id": 2, "kind": "hat", "image": {"bytes": b"d", "path": "d.jpg"}},
        {"id": 3, "kind": None, "image": None},
    ]
    assert rows(DatasetFolder(tmp_path / "one")) == expected
    datasets.DatasetDict({"train": data, "test": data.select([2])}).save_to_disk(str(tmp_path / "two"))
    assert rows(DatasetFolder(tmp_path / "two", split="test")) == expected[2:]
    with pytest.raises(ConfigError, match="has the splits train, test; got split None"):
        rows(DatasetFolder(tmp_path / "two"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not a folder written by Dataset\.save_to_disk"):
        rows(DatasetFolder(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="there is no folder"):
        DatasetFolder(tmp_path / "gone")


def test_fashion_product_images_as_users_download_them(tmp_path: Path) -> None:
    table = rows(FashionProductImages(write_fashion(tmp_path)))
    assert table[1] == {
        "id": "39386",
        "product_type": "597",
        "title": "Peter England, Men Party, Blue Jeans",
        "description": None,
        "gender": "Men",
        "master_category": "Apparel",
        "sub_category": "Bottomwear",
        "article_type": "Jeans",
        "base_colour": "Blue",
        "season": "Summer",
        "year": "2012",
        "usage": "Casual",
        "image": None,
    }
    assert [row["product_type"] for row in table] == ["289", "597", None, "289"]
    assert table[0]["description"] == "<p>Blue &amp; white</p>"
    assert [row["image"] for row in table] == ["images/15970.jpg", None, "images/7.jpg", "images/8.jpg"]
    assert (table[2]["base_colour"], table[2]["usage"], table[3]["title"]) == (None, None, "Baggit Red Bag")


def test_a_fashion_folder_that_is_incomplete_or_damaged_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks styles\.csv.*paramaggarwal/fashion-product-images-dataset"):
        FashionProductImages(tmp_path)
    root = write_fashion(tmp_path / "fashion")
    (root / "styles" / "8.json").write_text("{")
    with pytest.raises(DataError, match=r"8\.json: not JSON"):
        rows(FashionProductImages(root))
    with (root / "styles.csv").open("a") as file:
        file.write("9,Women\n")
    (root / "styles" / "8.json").unlink()
    with pytest.raises(DataError, match=r"styles\.csv, line 6: expected 10 fields, got 2"):
        rows(FashionProductImages(root))
    (root / "styles.csv").write_text("")
    with pytest.raises(DataError, match=r"styles\.csv, line 1: expected a column 'articleType'"):
        rows(FashionProductImages(root))
    header = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n"
    (root / "styles.csv").write_bytes(header.encode() + b"7,Women,a,b,c,d,e,2011,f,caf\xe9\n")
    with pytest.raises(DataError, match=r"styles\.csv: not UTF-8"):
        rows(FashionProductImages(root))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_same_table_in_any_form_gives_the_same_store(tmp_path: Path, suffix: str) -> None:
    table = {"id": ["1", "2", "3"], "label": ["hat", None, "shoe"], "title": ["abc", None, "cab"]}
    path = tmp_path / f"items.{suffix}"
    if suffix == "csv":
        path.write_text("id,label,title\n1,hat,abc\n2,,\n3,shoe,cab\n")
    elif suffix == "jsonl":
        lines = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, lines)))
    else:
        pq.write_table(pa.table(table), path)
    embed_on_cpu(tmp_path / "store", TableFile(path), {"title": Modality("title", Letters())})
    store = EmbeddingStore.open(tmp_path / "store")
    store.verify()
    assert store.items.to_pydict() == table | {"has_title": [True, False, True]}


@given(st.one_of(st.none(), st.text(max_size=5), st.binary(max_size=5), st.integers()))
def test_a_cell_holds_itself_or_nothing(cell: object) -> None:
    empty = cell is None or cell == b"" or (isinstance(cell, str) and not cell.strip())
    assert cell_value(cell) == (None if empty else cell)
    assert cell_value({"bytes": None, "path": cell}) == cell_value(cell)
    assert cell_value(cell, "a/{}.jpg") == (None if empty else f"a/{cell}.jpg")
