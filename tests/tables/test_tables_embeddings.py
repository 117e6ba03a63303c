"""Embeddings in files: every kind gives the rows that were saved, in blocks, never whole in memory."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved_rows import ROWS, lists_of, made_rows, read_all

from estitchup_pl.errors import StoreError
from estitchup_pl.store import EmbeddingStore, RowSource
from estitchup_pl.tables import ConcatenatedRows, NpyFile, number_rows, open_embeddings, open_parquet_column
from estitchup_pl.tables.streams import StreamedRows

READS_FIXED_NULLS = int(pa.__version__.partition(".")[0]) >= 26
"""Older versions cannot read a null in a column of lists of a fixed size back from the parquet file they wrote."""


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["npy", "npy in Fortran order", "npz", "npz compressed", "parquet", "parquet fixed"])
def test_every_file_gives_the_rows_that_were_saved(tmp_path, kind, dtype):
    rows = made_rows(dtype)
    if kind.startswith("npy"):
        place = tmp_path / "vectors.npy"
        np.save(place, np.asfortranarray(rows) if "Fortran" in kind else rows)
    elif kind.startswith("npz"):
        place = tmp_path / "vectors.npz"
        (np.savez_compressed if "compressed" in kind else np.savez)(place, vectors=rows)
    else:
        table = pa.table({"v": lists_of(rows, fixed_size="fixed" in kind), "other": range(ROWS)})
        pq.write_table(table, tmp_path / "vectors.parquet", row_group_size=7)
        place = f"{tmp_path / 'vectors.parquet'}:v"
    source = open_embeddings(str(place))
    assert isinstance(source, RowSource)
    assert (source.shape, source.dtype) == (rows.shape, np.dtype(dtype))
    np.testing.assert_array_equal(read_all(source), rows)
    np.testing.assert_array_equal(source[3:9], rows[3:9], err_msg="read a second time")
    store = EmbeddingStore.from_arrays(number_rows(pa.table({"x": range(ROWS)}), "x"), {"v": read_all(source)})
    np.testing.assert_array_equal(store.gather(range(ROWS)), rows.astype(np.float16 if dtype == np.float16 else "f4"))


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6),
)
def test_a_stream_of_any_blocks_can_be_sliced_anywhere(sizes, slices):
    rows = made_rows(rows=sum(sizes), dim=2)
    edges = np.cumsum([0, *sizes])
    stream = StreamedRows(rows.shape, rows.dtype, lambda: (rows[a:b] for a, b in pairwise(edges)), "stream")
    for start, stop in slices:
        np.testing.assert_array_equal(stream[start : max(start, stop)], rows[start : max(start, stop)])


def test_a_stream_that_ends_early_is_named():
    stream = StreamedRows((5, 2), np.float32, lambda: iter([np.ones((3, 2))]), "stream.npz:a")
    with pytest.raises(StoreError, match=r"stream\.npz:a: ends after row 2 of 5"):
        stream[0:5]


def test_parts_follow_each_other_and_rows_are_named_within_them(tmp_path):
    rows = made_rows()
    for number, part in enumerate(np.split(rows, [6, 6, 15])):
        np.save(tmp_path / f"part{number}.npy", part)
    source = ConcatenatedRows([NpyFile(tmp_path / f"part{number}.npy") for number in range(4)])
    assert source.shape == rows.shape
    for step in (1, 5, ROWS):
        np.testing.assert_array_equal(read_all(source, step), rows)
    assert source.locate(5).endswith("part0.npy, row 5")
    assert source.locate(6).endswith("part2.npy, row 0")
    assert source.locate(22).endswith("part3.npy, row 7")
    assert source.locate().endswith("part0.npy and 3 more")


@pytest.mark.parametrize("change", [lambda a: a[:, :3], lambda a: a.astype(np.float16), lambda a: a[0]])
def test_parts_that_do_not_continue_each_other_are_refused(tmp_path, change):
    np.save(tmp_path / "part0.npy", made_rows())
    np.save(tmp_path / "part1.npy", change(made_rows()))
    with pytest.raises(StoreError, match=r"part1\.npy: shape .* does not continue .*part0\.npy"):
        ConcatenatedRows([NpyFile(tmp_path / f"part{number}.npy") for number in range(2)])


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_a_file_is_never_whole_in_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("estitchup_pl.store.blocks.BLOCK_BYTES", 64 << 10)
    rows = made_rows(rows=20_000, dim=128)  # 10 MB
    place = str(tmp_path / f"vectors.{kind}")
    if kind == "npy":
        np.save(place, rows)
    elif kind == "npz":
        np.savez(place, rows)
    else:
        pq.write_table(pa.table({"v": lists_of(rows)}), place, row_group_size=1000)
        place += ":v"
    items = number_rows(pa.table({"x": range(len(rows))}), "x")
    expected = rows[::7].copy()
    del rows
    arrow_pool, watched_pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(watched_pool)
    tracemalloc.start()
    try:
        store = EmbeddingStore.create(tmp_path / "store", items, {"v": open_embeddings(place)}, rows_per_shard=5000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(arrow_pool)
    assert peak < 4e6
    assert watched_pool.max_memory() < 6e6
    np.testing.assert_array_equal(store.gather(np.arange(0, 20_000, 7)), expected)


def test_a_null_or_empty_list_is_a_missing_modality(tmp_path):
    rows = made_rows(rows=4)
    full, gone = rows[2].tolist(), {"list<": [], "large_list<": [], "fixed_size_list<": None}
    fixed = (pa.list_(pa.float32(), 4),) if READS_FIXED_NULLS else ()
    for kind in (pa.list_(pa.float32()), *fixed, pa.large_list(pa.float32())):
        lists = [gone[str(kind).partition("item")[0]], rows[1].tolist(), full, None]
        pq.write_table(pa.table({"v": pa.array(lists, kind)}), tmp_path / "v.parquet")
        source = open_parquet_column(tmp_path / "v.parquet", "v")
        np.testing.assert_array_equal(read_all(source), rows * [[0], [1], [1], [0]])


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([[1, 2], [1, 2, 3]], pa.list_(pa.float32()), "row 1: 3 values where other rows have 2"),
        ([[1, 2], [1, None]], pa.list_(pa.float32()), "row 1: a null among its values"),
        pytest.param(
            [None, [None, 2]],
            pa.list_(pa.float32(), 2),
            "row 1: a null among its values",
            marks=pytest.mark.skipif(not READS_FIXED_NULLS, reason="needs pyarrow 26"),
        ),
        (
            [[1, 2], [3, 4]],
            pa.list_(pa.int32()),
            r"expected a column of lists of floating-point numbers, got type list",
        ),
        ([1.0, 2.0], pa.float32(), "expected a column of lists of floating-point numbers, got type float"),
        ([None, None], pa.list_(pa.float32()), "every row is null or empty"),
        ([[], []], pa.list_(pa.float32()), "every row is null or empty"),
    ],
)
def test_columns_that_hold_no_embeddings_are_refused(tmp_path, values, kind, message):
    pq.write_table(pa.table({"v": pa.array(values, kind)}), tmp_path / "v.parquet")
    with pytest.raises(StoreError, match=rf"v\.parquet:v.*{message}"):
        read_all(open_parquet_column(tmp_path / "v.parquet", "v"))


def test_a_row_of_a_later_batch_is_counted_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.blocks.BLOCK_BYTES", 64)
    lists = [[1.0, 2.0]] * 100
    lists[77] = [1.0]
    pq.write_table(pa.table({"v": lists}), tmp_path / "v.parquet")
    with pytest.raises(StoreError, match="row 77: 1 values where other rows have 2"):
        read_all(open_parquet_column(tmp_path / "v.parquet", "v"))


def test_a_column_of_a_folder_of_parts_is_one_modality_and_its_rows_are_named_within_their_part(tmp_path):
    rows = made_rows()
    for name, part in zip("ab", (rows[:9], rows[9:]), strict=True):
        pq.write_table(pa.table({"v.2": lists_of(part + 1), "v": lists_of(part)}), tmp_path / f"{name}.parquet")
    np.testing.assert_array_equal(read_all(open_embeddings(f"{tmp_path}:v")), rows)
    np.testing.assert_array_equal(read_all(open_embeddings(f"{tmp_path}:v.2")), rows + 1)
    pq.write_table(pa.table({"v": [[1.0, 2.0]]}), tmp_path / "c.parquet")
    with pytest.raises(StoreError, match=r"c\.parquet:v, row 0: 2 values where other rows have 4"):
        read_all(open_embeddings(f"{tmp_path}:v"))
