"""Opening a store and gathering its rows: any rows, any shards, threads, processes; what is refused."""

from __future__ import annotations

import os
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_store import ROWS, file_names, small_embeddings, small_table

from estitchup_pl.errors import StoreError
from estitchup_pl.store import (
    EmbeddingStore,
)


def test_opening_reads_the_header_alone(store):
    for name in file_names(store.path):
        if name != "store.json":
            (store.path / name).unlink()
    opened = EmbeddingStore.open(store.path)
    assert (len(opened), opened.modalities) == (10, store.modalities)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), rows=st.integers(1, 40), rows_per_shard=st.integers(1, 45))
def test_gather_equals_fancy_indexing_for_any_shards_rows_and_modalities(data, rows, rows_per_shard):
    dtypes = data.draw(st.lists(st.sampled_from([np.float16, np.float32]), min_size=1, max_size=3))
    rng = np.random.default_rng(rows)
    arrays = {f"m{k}": rng.normal(size=(rows, k + 1)).astype(dtype) for k, dtype in enumerate(dtypes)}
    names = data.draw(st.lists(st.sampled_from(list(arrays)), min_size=1, max_size=4))
    asked = data.draw(hnp.arrays(np.int64, st.integers(0, 60), elements=st.integers(0, rows - 1)))
    expected = np.concatenate([arrays[name][asked] for name in names], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        on_disk = EmbeddingStore.create(Path(folder, "s"), small_table(rows), arrays, rows_per_shard=rows_per_shard)
        for store in (on_disk, EmbeddingStore.from_arrays(small_table(rows), arrays)):
            gathered = store.gather(asked, names)
            assert gathered.dtype == expected.dtype
            np.testing.assert_array_equal(gathered, expected)
            store.verify()


def test_gather_gives_float16_only_where_every_modality_is(store):
    assert store.gather([0], ["title"]).dtype == np.float16
    assert store.gather([0], ["title", "image"]).dtype == np.float32


def test_gather_takes_more_rows_than_it_copies_at_a_time(store, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.shards.CHUNK_ROWS", 3)
    rows = np.random.default_rng(0).integers(0, ROWS, 100)
    in_memory = EmbeddingStore.from_arrays(small_table(), small_embeddings())
    np.testing.assert_array_equal(store.gather(rows, ["image"]), small_embeddings()["image"][rows])
    np.testing.assert_array_equal(in_memory.gather(rows, ["image"]), small_embeddings()["image"][rows])


def test_gathered_rows_are_a_copy_and_the_maps_are_read_only(store):
    store.gather(range(ROWS))[:] = 0
    np.testing.assert_array_equal(store.gather(range(ROWS), ["title"]), small_embeddings()["title"])
    with pytest.raises(ValueError, match="read-only"):
        store._shards.slice("title", 0, 0, 1)[:] = 0


def test_a_store_of_many_shards_holds_few_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.shards.MAX_MAPPED_SHARDS", 8)
    arrays = {"a": np.arange(1, 61, dtype=np.float32)[:, None]}
    store = EmbeddingStore.create(tmp_path / "store", small_table(60), arrays, rows_per_shard=1)
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.is_dir() else 0
    for _ in range(2):
        np.testing.assert_array_equal(store.gather(range(60)), arrays["a"])
    if before:
        assert len(list(folder.iterdir())) <= before + 8


def test_threads_gather_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.shards.MAX_MAPPED_SHARDS", 3)
    arrays = small_embeddings(2000)
    store = EmbeddingStore.create(tmp_path / "store", small_table(2000), arrays, rows_per_shard=100)
    asked = [np.random.default_rng(seed).integers(0, 2000, 64) for seed in range(100)]
    with ThreadPoolExecutor(8) as threads:
        for rows, gathered in zip(asked, threads.map(store.gather, asked), strict=True):
            np.testing.assert_array_equal(gathered[:, 3:], arrays["image"][rows])


def test_one_column_is_read_without_the_others(tmp_path):
    noise = [os.urandom(2000).hex() for _ in range(ROWS)]
    store = EmbeddingStore.create(tmp_path / "store", small_table(text=noise), small_embeddings())
    path = store.path / "items.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert column.path_in_schema == "text"
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    assert store.column("id").to_pylist() == small_table()["id"].to_pylist()
    with pytest.raises(StoreError, match=r"items\.parquet: cannot be read"):
        _ = store.items


def test_a_store_on_disk_is_pickled_as_its_path_and_one_in_memory_whole(store, monkeypatch, tmp_path):
    monkeypatch.chdir(store.path.parent)
    content = pickle.dumps(EmbeddingStore.open("store"))
    monkeypatch.chdir("/")
    assert len(content) < 500
    np.testing.assert_array_equal(pickle.loads(content).gather(range(10)), store.gather(range(10)))
    in_memory = pickle.loads(pickle.dumps(EmbeddingStore.from_arrays(small_table(), small_embeddings())))
    np.testing.assert_array_equal(in_memory.gather(range(10)), store.gather(range(10)))
    assert in_memory.items.equals(store.items)


def test_a_store_in_memory_keeps_arrays_without_copying_them():
    arrays = small_embeddings()
    store = EmbeddingStore.from_arrays(small_table(), arrays)
    assert np.shares_memory(store._shards.slice("image", 0, 0, ROWS), arrays["image"])
    assert store.path is None
    assert store.bytes_on_disk("image") == 0


def test_repr_says_where_it_is_and_what_is_in_it(store):
    assert repr(store) == f"EmbeddingStore({store.path}, 10 rows, title: 3 float16, image: 5 float32)"


@pytest.mark.parametrize("rows", [[10], [-1], [3, 2**40]])
def test_rows_out_of_range_are_refused(store, rows):
    with pytest.raises(StoreError, match=rf"has rows 0 to 9, got row {rows[-1]}"):
        store.gather(rows)


@pytest.mark.parametrize("rows", [[0.5], [[1, 2]], [True] * 10, ["1"]])
def test_what_is_no_row_number_is_refused(store, rows):
    with pytest.raises(StoreError, match="expected row numbers of shape"):
        store.gather(rows)


def test_unknown_modalities_and_columns_are_answered_with_the_nearest_name(store):
    with pytest.raises(StoreError, match=r"no modality 'imge'; did you mean 'image'\? \(there are: title, image\)"):
        store.gather([0], ["imge"])
    with pytest.raises(StoreError, match=r"pass \['image'\]"):
        store.gather([0], "image")
    with pytest.raises(StoreError, match="expected at least one modality"):
        store.gather([0], [])
    with pytest.raises(StoreError, match="no column 'lable'; did you mean 'label'"):
        store.column("lable")
