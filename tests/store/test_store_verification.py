"""`verify` and `gather` find what is damaged, and name it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import file_names, small_embeddings

from estitchup_pl.data import EmbeddingDataModule
from estitchup_pl.errors import StoreError
from estitchup_pl.store import (
    EmbeddingStore,
    read_header,
    shard_path,
    write_header,
    write_items,
)


def _damage_shard(store, change):
    """Rewrite shard 1 of ``image`` (rows 4 to 7) by ``change``, which gets its path and rows."""
    path = shard_path(store.path, "image", 1)
    change(path, np.load(path))


def _set(row, column, value):
    def change(path, rows):
        rows[row, column] = value
        np.save(path, rows)

    return change


DAMAGES = {
    "missing": (lambda path, rows: path.unlink(), "missing"),
    "empty": (lambda path, rows: path.write_bytes(b""), "truncated or not an NPY file"),
    "short": (lambda path, rows: path.write_bytes(path.read_bytes()[:-1]), "truncated, 207 bytes where 208"),
    "long": (lambda path, rows: path.write_bytes(path.read_bytes() + b"x"), "too long, 209 bytes where 208"),
    "foreign": (lambda path, rows: path.write_bytes(b"no array here"), "truncated or not an NPY file"),
    "wrong dtype": (lambda path, rows: np.save(path, rows.astype(np.float64)), r"expected shape \(4, 5\) of float32"),
    "wrong dim": (lambda path, rows: np.save(path, rows[:, :4]), r"expected shape \(4, 5\)"),
    "wrong rows": (lambda path, rows: np.save(path, rows[:3]), r"expected shape \(4, 5\)"),
    "wrong order": (lambda path, rows: np.save(path, np.asfortranarray(rows)), "in Fortran order"),
    "NaN": (_set(2, 0, np.nan), r"row 2 \(row 6 of the store\): expected finite numbers"),
    "infinity": (_set(3, 4, np.inf), r"row 3 \(row 7 of the store\): expected finite numbers"),
    "hole": (_set(1, slice(None), 0), r"row 1 \(row 5 of the store\): all zeros"),
    "too many": (lambda path, rows: np.save(path.with_name("00003.npy"), rows), "unexpected"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_the_first_bad_shard_and_row(store, damage):
    store.verify()
    change, message = DAMAGES[damage]
    _damage_shard(store, change)
    with pytest.raises(StoreError, match=rf"embeddings/image/0000[13]\.npy.*{message}"):
        EmbeddingStore.open(store.path).verify()


@pytest.mark.parametrize("damage", ["missing", "short", "wrong dtype", "wrong dim"])
def test_gather_refuses_a_damaged_shard_when_it_touches_it(store, damage):
    change, message = DAMAGES[damage]
    _damage_shard(store, change)
    opened = EmbeddingStore.open(store.path)
    np.testing.assert_array_equal(opened.gather([0, 9], ["image"]), small_embeddings()["image"][[0, 9]])
    with pytest.raises(StoreError, match=rf"embeddings/image/00001\.npy: {message}"):
        opened.gather([5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(0, 9), "9 rows, the store's header says 10"),
        (lambda t: t.drop_columns("label"), "no column 'label'"),
        (lambda t: t.drop_columns("has_title"), "no column 'has_title'"),
        (lambda t: t.set_column(0, "id", pa.array(["same"] * 10)), "id 'same' is there twice, in rows 0 and 1"),
        (lambda t: t.set_column(0, "id", pa.array(range(10))), "column 'id' must be of type string, got int64"),
    ],
)
def test_verify_checks_the_table(store, change, message):
    _rewrite_items(store, change(store.items))
    with pytest.raises(StoreError, match=rf"items\.parquet: {message}"):
        EmbeddingStore.open(store.path).verify()


def test_labels_that_are_not_text_are_named(store):
    labels = pa.array([b"class-0"] * 7 + [b"h\xfft"] + [None] * 2).view(pa.string())
    _rewrite_items(store, store.items.set_column(1, "label", labels))
    with pytest.raises(StoreError, match=r"items\.parquet: column 'label', row 7: not text in UTF-8 \(b'h\\xfft'\)"):
        EmbeddingStore.open(store.path).verify()


def _rewrite_items(store, table):
    """Put another table into a store, with its digest."""
    digest = write_items(store.path, table)
    write_header(store.path, read_header(store.path).with_digests({"items.parquet": digest}))


def test_verify_finds_every_changed_byte(store):
    """Of every file; each change is one bit."""
    for name in file_names(store.path):
        path = store.path / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 1 if name == "store.json" else 3):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(StoreError, match="store"):
                EmbeddingStore.open(store.path, verify=True)
        path.write_bytes(whole)
    EmbeddingStore.open(store.path, verify=True)


def test_opening_verifies_only_if_asked(store):
    path = shard_path(store.path, "title", 2)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    EmbeddingStore.open(store.path)
    with pytest.raises(StoreError, match=r"title/00002\.npy: changed since it was written"):
        EmbeddingStore.open(store.path, verify=True)
    with pytest.raises(StoreError, match=r"title/00002\.npy: changed since it was written"):
        EmbeddingDataModule(store.path, verify=True)


def test_pages_of_the_table_have_checksums(store):
    """Where a reader asks for them, a changed page is noticed without the header."""
    path = store.path / "items.parquet"
    place = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset + 40
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="checksum"):
        pq.read_table(path, page_checksum_verification=True)


def test_a_file_too_few_is_named(store):
    write_header(store.path, read_header(store.path).with_digests({"failures.parquet": "0" * 32}))
    with pytest.raises(StoreError, match=r"failures\.parquet: missing"):
        EmbeddingStore.open(store.path).verify()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_an_unreadable_table_is_named(store, change):
    change(store.path / "items.parquet")
    opened = EmbeddingStore.open(store.path)
    with pytest.raises(StoreError, match=r"items\.parquet: (missing|changed since it was written)"):
        opened.verify()
    with pytest.raises(StoreError, match=r"items\.parquet: cannot be read"):
        opened.column("id")
