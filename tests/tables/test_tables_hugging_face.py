"""Data sets of Hugging Face: items, class names, splits, and columns of embeddings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from saved_rows import ROWS, items_of, made_rows, read_all

from estitchup_pl.errors import ConfigError, DataError, StoreError
from estitchup_pl.store import EmbeddingStore, RowSource
from estitchup_pl.tables import DatasetFolder, open_hugging_face, prepare_items


def _hugging_face_columns(rows):
    return {
        "sku": [f"sku-{row}" for row in range(len(rows))],
        "category": [row % 3 - 1 for row in range(len(rows))],
        "vector": rows.tolist(),
        "price": list(range(len(rows))),
    }


@pytest.fixture(scope="module")
def hugging_face():
    datasets = pytest.importorskip("datasets", reason="needs the extra estitchup_pl[datasets]")
    features = datasets.Features(
        {
            "sku": datasets.Value("string"),
            "category": datasets.ClassLabel(names=["shoe", "hat"]),
            "vector": datasets.Sequence(datasets.Value("float32")),
            "price": datasets.Value("int64"),
        }
    )
    return lambda rows: datasets.Dataset.from_dict(_hugging_face_columns(rows), features=features)


def test_a_hugging_face_folder_gives_rows_table_and_class_names(tmp_path, hugging_face):
    rows = made_rows()
    hugging_face(rows).save_to_disk(tmp_path / "data")
    items, embeddings = open_hugging_face(tmp_path / "data", {"text": "vector"})
    assert items.column_names == ["sku", "category", "price"]
    assert items["category"].to_pylist()[:3] == [None, "shoe", "hat"]
    assert isinstance(embeddings["text"], RowSource)
    np.testing.assert_array_equal(read_all(embeddings["text"]), rows)
    prepared = prepare_items(items, "data", id_column="sku", label_column="category")
    EmbeddingStore.create(tmp_path / "store", prepared, embeddings, rows_per_shard=10).verify()


def test_a_shuffled_hugging_face_data_set_keeps_rows_and_table_together(tmp_path, hugging_face):
    rows = made_rows()
    hugging_face(rows).shuffle(seed=1).save_to_disk(tmp_path / "data")
    items, embeddings = open_hugging_face(tmp_path / "data", {"text": "vector"}, drop=["sku"])
    order = items["price"].to_pylist()
    assert order != sorted(order)
    assert "sku" not in items.column_names
    np.testing.assert_array_equal(read_all(embeddings["text"]), rows[order])


def test_splits_of_a_hugging_face_folder_become_a_column(tmp_path, hugging_face):
    import datasets

    rows = made_rows()
    parts = {"train": hugging_face(rows[:15]), "test": hugging_face(rows[15:])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "data")
    items, embeddings = open_hugging_face(tmp_path / "data", {"text": "vector"})
    assert items["split"].to_pylist() == ["train"] * 15 + ["test"] * 8
    np.testing.assert_array_equal(read_all(embeddings["text"]), rows)


def test_pictures_of_a_hugging_face_folder_stay_out_of_the_table(tmp_path, hugging_face):
    import datasets

    data = hugging_face(made_rows())
    pictures = datasets.Dataset.from_dict(
        {"photo": [{"bytes": b"x", "path": None}] * ROWS}, features=datasets.Features({"photo": datasets.Image()})
    )
    datasets.concatenate_datasets([data, pictures], axis=1).save_to_disk(tmp_path / "data")
    items, _ = open_hugging_face(tmp_path / "data", {"text": "vector"})
    assert items.column_names == ["sku", "category", "price"]


def test_what_is_wrong_with_a_hugging_face_folder_is_named(tmp_path, hugging_face):
    hugging_face(made_rows()).save_to_disk(tmp_path / "data")
    with pytest.raises(StoreError, match="no column 'vektor'; did you mean 'vector'"):
        open_hugging_face(tmp_path / "data", {"text": "vektor"})
    with pytest.raises(StoreError, match="data:price: expected a column of lists of floating-point numbers"):
        open_hugging_face(tmp_path / "data", {"text": "price"})
    with pytest.raises(DataError, match="nowhere: not a folder that"):
        open_hugging_face(tmp_path / "nowhere", {"text": "vector"})


def test_without_the_package_datasets_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[datasets\]'"):
        open_hugging_face(tmp_path, {"text": "vector"})


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
    assert items_of(DatasetFolder(tmp_path / "one")) == expected
    datasets.DatasetDict({"train": data, "test": data.select([2])}).save_to_disk(str(tmp_path / "two"))
    assert items_of(DatasetFolder(tmp_path / "two", split="test")) == expected[2:]
    assert items_of(DatasetFolder(tmp_path / "two"))[2:] == [
        {**expected[2], "split": "train"},
        {**expected[2], "split": "test"},
    ]
    with pytest.raises(ConfigError, match="has the splits train, test; got 'val'"):
        items_of(DatasetFolder(tmp_path / "two", split="val"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not a folder that Dataset\.save_to_disk wrote"):
        items_of(DatasetFolder(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="there is no folder"):
        DatasetFolder(tmp_path / "gone")
