"""The store: what lies on disk, what is gathered from it, what survives a crash, what is refused."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estitchup_pl.errors import StoreError
from estitchup_pl.store import (
    FORMAT_VERSION,
    EmbeddingStore,
    ModalityInfo,
    StoreHeader,
    shard_path,
    write_header,
    write_items,
    write_shard,
)
from estitchup_pl.store.sources import inspect_block

ROWS = 10


def _table(rows: int = ROWS, **columns) -> pa.Table:
    labels = [None if row % 5 == 4 else f"class-{row % 3}" for row in range(rows)]
    return pa.table({"id": [f"item-{row}" for row in range(rows)], "label": labels, **columns})


def _embeddings(rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "title": rng.normal(size=(rows, 3)).astype(np.float16),
        "image": rng.normal(size=(rows, 5)).astype(np.float32),
    }


@pytest.fixture
def store(tmp_path) -> EmbeddingStore:
    return EmbeddingStore.create(tmp_path / "store", _table(), _embeddings(), rows_per_shard=4)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# What lies on disk ---------------------------------------------------------------------------------------------


def test_folder_holds_the_files_of_the_format_and_nothing_else(store):
    shards = [f"embeddings/{name}/0000{index}.npy" for name in ("image", "title") for index in range(3)]
    assert _names(store.path) == sorted([*shards, "items.parquet", "store.json"])
    assert json.loads((store.path / "store.json").read_text()) == {
        "format_version": 1,
        "rows": 10,
        "rows_per_shard": 4,
        "modalities": {
            "title": {"dim": 3, "dtype": "float16", "encoder": None, "pooling": None, "revision": None},
            "image": {"dim": 5, "dtype": "float32", "encoder": None, "pooling": None, "revision": None},
        },
    }


@pytest.mark.parametrize("name", ["title", "image"])
def test_shards_hold_the_rows_byte_for_byte_as_npy_version_1_in_c_order(store, name):
    for index in range(3):
        path = shard_path(store.path, name, index)
        with path.open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, fortran_order, _ = np.lib.format.read_array_header_1_0(file)
            expected = _embeddings()[name][index * 4 : index * 4 + 4]
            assert (shape, fortran_order, file.read()) == (expected.shape, False, expected.tobytes())


def test_items_are_read_by_pyarrow_alone_with_every_column_kept_as_it_is(tmp_path):
    further = {"price": pa.array(range(10), pa.int16()), "tags": pa.array([["a", "b"]] * 10), "text": ["é\n"] * 10}
    given_table = _table(**further)
    store = EmbeddingStore.create(tmp_path / "store", given_table, _embeddings())
    table = pq.read_table(store.path / "items.parquet")
    assert table.select(given_table.column_names).equals(given_table)
    assert table.schema.field("has_title").type == pa.bool_()
    assert store.items.equals(table)


def test_header_keeps_what_is_known_of_the_encoders_and_the_order_of_modalities(tmp_path):
    info = {"title": ModalityInfo(3, "float16", encoder="bert", pooling="mean", revision="1a2b")}
    store = EmbeddingStore.create(tmp_path / "store", _table(), _embeddings(), info=info)
    assert store.modalities == {**info, "image": ModalityInfo(5, "float32")}
    assert list(store.modalities) == ["title", "image"]


@given(
    st.builds(
        StoreHeader,
        rows=st.integers(1, 10**9),
        rows_per_shard=st.integers(1, 10**6),
        modalities=st.dictionaries(
            st.text("aZ_9", min_size=1, max_size=5),
            st.builds(
                ModalityInfo,
                dim=st.integers(1, 10**5),
                dtype=st.sampled_from(["float16", "float32"]),
                encoder=st.none() | st.text(),
            ),
            min_size=1,
        ),
    )
)
def test_header_survives_its_json(header):
    read = StoreHeader.from_json(header.to_json())
    assert read == header
    assert list(read.modalities) == list(header.modalities)


def test_a_folder_becomes_a_store_with_its_header(tmp_path):
    header = StoreHeader(6, 4, {"audio": ModalityInfo(2, "float32")})
    rows = np.arange(1, 13, dtype=np.float32).reshape(6, 2)
    write_shard(tmp_path, "audio", 1, rows[4:])
    write_shard(tmp_path, "audio", 0, rows[:4])
    write_items(tmp_path, _table(6, has_audio=[True] * 6))
    with pytest.raises(StoreError, match=r"it has no store\.json"):
        EmbeddingStore.open(tmp_path)
    write_header(tmp_path, header)
    store = EmbeddingStore.open(tmp_path)
    store.verify()
    np.testing.assert_array_equal(store.gather(range(6)), rows)


def test_a_shard_in_fortran_order_or_of_foreign_byte_order_is_written_in_the_format(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_shard(tmp_path, "a", 0, np.asfortranarray(rows))
    write_shard(tmp_path, "a", 1, rows.astype(">f4"))
    first, second = (shard_path(tmp_path, "a", index).read_bytes() for index in range(2))
    assert first == second
    np.testing.assert_array_equal(np.load(shard_path(tmp_path, "a", 0)), rows)


# Opening and gathering -----------------------------------------------------------------------------------------


def test_opening_reads_the_header_alone(store):
    for name in _names(store.path):
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
        on_disk = EmbeddingStore.create(Path(folder, "s"), _table(rows), arrays, rows_per_shard=rows_per_shard)
        for store in (on_disk, EmbeddingStore.from_arrays(_table(rows), arrays)):
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
    in_memory = EmbeddingStore.from_arrays(_table(), _embeddings())
    np.testing.assert_array_equal(store.gather(rows, ["image"]), _embeddings()["image"][rows])
    np.testing.assert_array_equal(in_memory.gather(rows, ["image"]), _embeddings()["image"][rows])


def test_gathered_rows_are_a_copy_and_the_maps_are_read_only(store):
    store.gather(range(ROWS))[:] = 0
    np.testing.assert_array_equal(store.gather(range(ROWS), ["title"]), _embeddings()["title"])
    with pytest.raises(ValueError, match="read-only"):
        store._shards.slice("title", 0, 0, 1)[:] = 0


def test_a_store_of_many_shards_holds_few_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.shards.MAX_MAPPED_SHARDS", 8)
    arrays = {"a": np.arange(1, 61, dtype=np.float32)[:, None]}
    store = EmbeddingStore.create(tmp_path / "store", _table(60), arrays, rows_per_shard=1)
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.is_dir() else 0
    for _ in range(2):
        np.testing.assert_array_equal(store.gather(range(60)), arrays["a"])
    if before:
        assert len(list(folder.iterdir())) <= before + 8


def test_threads_gather_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.shards.MAX_MAPPED_SHARDS", 3)
    arrays = _embeddings(2000)
    store = EmbeddingStore.create(tmp_path / "store", _table(2000), arrays, rows_per_shard=100)
    asked = [np.random.default_rng(seed).integers(0, 2000, 64) for seed in range(100)]
    with ThreadPoolExecutor(8) as threads:
        for rows, gathered in zip(asked, threads.map(store.gather, asked), strict=True):
            np.testing.assert_array_equal(gathered[:, 3:], arrays["image"][rows])


def test_one_column_is_read_without_the_others(tmp_path):
    noise = [os.urandom(2000).hex() for _ in range(ROWS)]
    store = EmbeddingStore.create(tmp_path / "store", _table(text=noise), _embeddings())
    path = store.path / "items.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert column.path_in_schema == "text"
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    assert store.column("id").to_pylist() == _table()["id"].to_pylist()
    with pytest.raises(StoreError, match=r"items\.parquet: cannot be read"):
        _ = store.items
    with pytest.raises(StoreError, match=r"items\.parquet: cannot be read"):
        store.verify()


def test_a_store_on_disk_is_pickled_as_its_path_and_one_in_memory_whole(store, monkeypatch, tmp_path):
    monkeypatch.chdir(store.path.parent)
    content = pickle.dumps(EmbeddingStore.open("store"))
    monkeypatch.chdir("/")
    assert len(content) < 500
    np.testing.assert_array_equal(pickle.loads(content).gather(range(10)), store.gather(range(10)))
    in_memory = pickle.loads(pickle.dumps(EmbeddingStore.from_arrays(_table(), _embeddings())))
    np.testing.assert_array_equal(in_memory.gather(range(10)), store.gather(range(10)))
    assert in_memory.items.equals(store.items)


def test_a_store_in_memory_keeps_arrays_without_copying_them():
    arrays = _embeddings()
    store = EmbeddingStore.from_arrays(_table(), arrays)
    assert np.shares_memory(store._shards.slice("image", 0, 0, ROWS), arrays["image"])
    assert store.path is None
    assert store.bytes_on_disk("image") == 0


def test_repr_says_where_it_is_and_what_is_in_it(store):
    assert repr(store) == f"EmbeddingStore({store.path}, 10 rows, title: 3 float16, image: 5 float32)"


# Types, labels, missing modalities -----------------------------------------------------------------------------


def test_float64_is_stored_as_float32_and_float16_on_request(tmp_path):
    rows = np.random.default_rng(0).normal(size=(ROWS, 2))
    store = EmbeddingStore.create(
        tmp_path / "store", _table(), {"a": rows, "b": rows}, info={"b": ModalityInfo(2, "float16")}
    )
    np.testing.assert_array_equal(store.gather(range(ROWS), ["a"]), rows.astype(np.float32))
    np.testing.assert_array_equal(store.gather(range(ROWS), ["b"]), rows.astype(np.float16))


def test_empty_and_null_labels_are_unlabelled_and_numbers_become_names(tmp_path):
    items = pa.table({"id": [1, 2, 3, 4], "label": pa.array(["a", "", None, "b"]).dictionary_encode()})
    store = EmbeddingStore.create(tmp_path / "store", items, {"a": np.ones((4, 1), np.float32)})
    assert store.column("id").to_pylist() == ["1", "2", "3", "4"]
    assert store.column("label").to_pylist() == ["a", None, None, "b"]


def test_a_table_without_labels_gets_null_labels(tmp_path):
    items = _table().drop_columns("label")
    store = EmbeddingStore.create(tmp_path / "store", items, _embeddings())
    assert store.column("label").null_count == ROWS
    store.verify()


def test_a_row_of_zeros_lacks_the_modality(tmp_path):
    arrays = _embeddings()
    arrays["image"][[2, 7]] = 0
    arrays["image"][3, 0] = -0.0
    store = EmbeddingStore.create(tmp_path / "store", _table(), arrays, rows_per_shard=3)
    assert np.flatnonzero(~store.column("has_image").to_numpy()).tolist() == [2, 7]
    assert store.column("has_title").to_numpy().all()


@pytest.mark.parametrize(("flag", "row_is_zero", "message"), [(True, True, "all zeros"), (False, False, "not all")])
def test_flags_that_contradict_the_rows_are_refused(tmp_path, flag, row_is_zero, message):
    arrays = _embeddings()
    arrays["image"][6] *= not row_is_zero
    items = _table(has_image=[flag if row == 6 else True for row in range(ROWS)])
    with pytest.raises(StoreError, match=rf"embeddings\['image'\], row 6: {message}"):
        EmbeddingStore.create(tmp_path / "store", items, arrays)


@given(hnp.arrays(np.uint16, (4, 3)) | hnp.arrays(np.uint32, (4, 3)))
def test_one_look_at_the_bits_finds_what_numpy_finds(bits):
    block = bits.view(np.float16 if bits.dtype == np.uint16 else np.float32)
    facts = inspect_block(block)
    np.testing.assert_array_equal(facts.finite, np.isfinite(block).all(axis=1))
    np.testing.assert_array_equal(facts.present, (block != 0).any(axis=1))


# Crashes -------------------------------------------------------------------------------------------------------


class _FailingRows:
    """Rows that raise when their second half is read."""

    shape = (ROWS, 2)
    dtype = np.dtype(np.float32)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, rows: slice) -> np.ndarray:
        if rows.stop > ROWS // 2:
            raise self._error
        return np.ones((rows.stop - rows.start, 2), np.float32)

    def locate(self, row: int | None = None) -> str:
        return "failing rows"


FAILURES = [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), StoreError("bad row")]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failure_midway_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(type(error)):
        EmbeddingStore.create(tmp_path / "new" / "store", _table(), {"a": _FailingRows(error)}, rows_per_shard=2)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_midway_leaves_the_older_store_as_it_was(store):
    before = {name: (store.path / name).read_bytes() for name in _names(store.path)}
    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore.create(
            store.path, _table(), {"a": _FailingRows(KeyboardInterrupt())}, rows_per_shard=2, overwrite=True
        )
    assert {name: (store.path / name).read_bytes() for name in _names(store.path)} == before


def test_overwriting_replaces_the_store_and_keeps_other_files(store):
    (store.path / "notes.txt").write_text("mine")
    new = EmbeddingStore.create(store.path, _table(4), _embeddings(4, seed=1), overwrite=True)
    new.verify()
    expected = ["embeddings/image/00000.npy", "embeddings/title/00000.npy", "items.parquet", "notes.txt", "store.json"]
    assert _names(store.path) == expected
    np.testing.assert_array_equal(new.gather(range(4), ["image"]), _embeddings(4, seed=1)["image"])


def test_a_store_can_be_rewritten_from_its_own_maps(store):
    rows = {name: np.load(shard_path(store.path, name, 0), mmap_mode="r") for name in store.modalities}
    new = EmbeddingStore.create(store.path, store.items.slice(0, 4), rows, overwrite=True)
    np.testing.assert_array_equal(new.gather(range(4), ["title"]), _embeddings()["title"][:4])


def test_folders_in_use_are_refused(store, tmp_path):
    with pytest.raises(StoreError, match="holds a store already"):
        EmbeddingStore.create(store.path, _table(), _embeddings())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is not empty, and not an unfinished store"):
        EmbeddingStore.create(tmp_path / "thesis", _table(), _embeddings())
    with pytest.raises(StoreError, match="expected a folder to write the store to, got a file"):
        EmbeddingStore.create(tmp_path / "thesis" / "chapter.tex", _table(), _embeddings(), overwrite=True)
    assert _names(tmp_path / "thesis") == ["chapter.tex"]


def _start_slow_creation(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that creates a store in ``folder`` and takes 0.02 s for each of 100 shards."""
    code = f"""
        import time, numpy as np, pyarrow as pa
        from estitchup_pl.store import EmbeddingStore

        class Slow:
            shape, dtype = (100, 2), np.dtype("float32")
            def __getitem__(self, rows):
                time.sleep(0.02)
                return np.ones((rows.stop - rows.start, 2), np.float32)
            def locate(self, row=None):
                return "slow"

        items = pa.table({{"id": [str(row) for row in range(100)]}})
        EmbeddingStore.create({str(folder)!r}, items, {{"a": Slow()}}, rows_per_shard=1)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])


def test_a_killed_creation_is_no_store_and_can_be_run_again(tmp_path):
    folder = tmp_path / "store"
    process = _start_slow_creation(folder)
    try:
        deadline = time.monotonic() + 60
        while not list(folder.rglob("*.npy")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(StoreError, match=r"it has no store\.json"):
        EmbeddingStore.open(folder)
    EmbeddingStore.create(folder, _table(), _embeddings()).verify()
    assert "embeddings/a/00000.npy" not in _names(folder)


def test_a_crash_while_the_store_is_put_in_place_can_be_run_again(store, monkeypatch):
    header = store.path / "store.json"
    real = Path.replace

    def crash(path, target):
        if Path(target) == header:
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            EmbeddingStore.create(store.path, _table(), _embeddings(seed=1), overwrite=True)
    assert not header.exists()
    again = EmbeddingStore.create(store.path, _table(), _embeddings(seed=1))
    again.verify()
    assert not (store.path / ".unfinished").exists()


def test_a_shard_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    write_shard(tmp_path, "a", 0, np.ones((2, 2), np.float32))
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
    with pytest.raises(OSError, match="broken disk"):
        write_shard(tmp_path, "a", 0, np.zeros((2, 2), np.float32))
    with pytest.raises(OSError, match="broken disk"):
        write_shard(tmp_path, "a", 1, np.zeros((2, 2), np.float32))
    assert _names(tmp_path) == ["embeddings/a/00000.npy"]
    assert np.load(shard_path(tmp_path, "a", 0)).all()


# Bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named_with_array_row_and_column(tmp_path, value):
    arrays = _embeddings()
    arrays["image"][7, 2] = value
    message = rf"embeddings\['image'\], row 7, column 2: expected finite numbers, got {value}"
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.create(tmp_path / "store", _table(), arrays, rows_per_shard=3)
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.from_arrays(_table(), arrays)
    assert not (tmp_path / "store").exists()


def test_a_mapped_array_is_named_by_its_file(tmp_path):
    rows = np.ones((ROWS, 2), np.float32)
    rows[9, 1] = np.nan
    np.save(tmp_path / "vectors.npy", rows)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    with pytest.raises(StoreError, match=r"vectors\.npy, row 9, column 1: expected finite"):
        EmbeddingStore.create(tmp_path / "store", _table(), {"a": mapped})


def test_a_value_too_large_for_float16_is_named(tmp_path):
    rows = np.ones((ROWS, 2), np.float32)
    rows[4, 1] = 70000
    with pytest.raises(StoreError, match=r"row 4, column 1: 70000\.0 does not fit into float16"):
        EmbeddingStore.create(tmp_path / "store", _table(), {"a": rows}, info={"a": ModalityInfo(2, "float16")})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((9, 2), np.float32), r"9 rows of embeddings for a table of 10 items \(1 missing\)"),
        (np.ones((12, 2), np.float32), r"12 rows of embeddings for a table of 10 items \(2 too many\)"),
        (np.ones(10, np.float32), r"expected an array of shape \(rows, dim\), got shape \(10,\)"),
        (np.ones((10, 2, 2), np.float32), r"expected an array of shape \(rows, dim\), got shape \(10, 2, 2\)"),
        (np.ones((10, 0), np.float32), r"expected an array of shape \(rows, dim\), got shape \(10, 0\)"),
        (np.ones((10, 2), np.int64), "expected floating-point embeddings, got values of type int64"),
        (np.array([[None]] * 10), "expected floating-point embeddings, got values of type object"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, rows, message):
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.create(tmp_path / "store", _table(), {"a": rows})
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.from_arrays(_table(), {"a": rows})
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (_table(0), "the table has no rows"),
        (pa.table({"id": ["a", "b", "a"]}), "id 'a' is there twice, in rows 0 and 2"),
        (pa.table({"id": pa.chunked_array([["x"], ["y", "z"], ["y"]])}), "id 'y' is there twice, in rows 1 and 3"),
        (pa.table({"id": ["a", None, "c"]}), "row 1 has no id"),
        (pa.table({"sku": ["a", "b", "c"]}), r"no column 'id' \(there are: sku\)"),
        (pa.table({"id": [1.0, 2.0, 3.0]}), "column 'id' is of type double; ids and labels are names"),
        (pa.table({"id": ["a", "b", "c"], "label": [1.0, 2.0, None]}), "column 'label' is of type double"),
        (pa.table([["a"], ["b"]], names=["id", "id"]), "column 'id' is there more than once"),
        (pa.table({"id": ["a", "b", "c"], "has_a": [1, 1, 1]}), "column 'has_a' must be of type bool, got int64"),
        (pa.table({"id": ["a", "b", "c"], "has_a": [True, None, True]}), "column 'has_a' is null in row 1"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, items, message):
    rows = np.ones((len(items), 2), np.float32)
    with pytest.raises(StoreError, match=f"things.csv: {message}"):
        EmbeddingStore.create(tmp_path / "store", items, {"a": rows}, items_name="things.csv")
    assert not (tmp_path / "store").exists()


def test_modalities_that_do_not_fit_are_refused(tmp_path):
    path, rows = tmp_path / "store", np.ones((ROWS, 2), np.float32)
    with pytest.raises(StoreError, match="at least one modality"):
        EmbeddingStore.create(path, _table(), {})
    with pytest.raises(StoreError, match=r"letters, digits, '_', '-' and '\.', got '\.\./up'"):
        EmbeddingStore.create(path, _table(), {"../up": rows})
    with pytest.raises(StoreError, match="expected 3 columns, got 2"):
        EmbeddingStore.create(path, _table(), {"a": rows}, info={"a": ModalityInfo(3)})
    with pytest.raises(StoreError, match=r"info for modality 'titel'.*did you mean 'title'"):
        EmbeddingStore.create(path, _table(), {"title": rows}, info={"titel": ModalityInfo(2)})
    with pytest.raises(StoreError, match=r"rows_per_shard .* at least 1, got 0"):
        EmbeddingStore.create(path, _table(), {"a": rows}, rows_per_shard=0)
    with pytest.raises(StoreError, match="one of float16, float32, got 'bfloat16'"):
        ModalityInfo(2, "bfloat16")
    with pytest.raises(StoreError, match="at least 1, got 0"):
        ModalityInfo(0)
    with pytest.raises(StoreError, match=r"shard 3 of modality 'a': .* got shape \(2,\) of float32"):
        write_shard(tmp_path, "a", 3, np.ones(2, np.float32))
    assert not path.exists()


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


_HEADER = '{"format_version": 1, "rows": 3, "rows_per_shard": 4, "modalities": {"a": {"dim": 1, "dtype": "float16"}}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("{}", "missing entry 'format_version'"),
        ('{"format_version": 1, "rows": 3}', "missing entry 'modalities'"),
        (_HEADER.replace("3", '"3"'), "rows of a store must be a whole number"),
        (_HEADER.replace('"a"', '"../a"'), "a modality's name consists of"),
        (_HEADER.replace("float16", "int8"), "one of float16, float32, got 'int8'"),
    ],
)
def test_a_damaged_header_is_refused(store, text, message):
    (store.path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=rf"store\.json: damaged .*{message}.*Restore"):
        EmbeddingStore.open(store.path)


def test_a_header_that_is_not_text_is_refused(store):
    (store.path / "store.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match=r"store\.json: damaged"):
        EmbeddingStore.open(store.path)


def test_a_newer_format_is_refused_and_unknown_entries_are_passed_over(store):
    content = json.loads((store.path / "store.json").read_text())
    (store.path / "store.json").write_text(json.dumps({**content, "made_by": "somebody"}))
    assert len(EmbeddingStore.open(store.path)) == 10
    (store.path / "store.json").write_text(json.dumps({"format_version": FORMAT_VERSION + 1}))
    with pytest.raises(StoreError, match=r"written in store format 2; .* reads up to 1\. Upgrade"):
        EmbeddingStore.open(store.path)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"is not an embedding store: it has no store\.json"):
        EmbeddingStore.open(tmp_path)
    with pytest.raises(StoreError, match="there is no such folder"):
        EmbeddingStore.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="there is no such folder"):
        EmbeddingStore.open(tmp_path / "file")


# Verification --------------------------------------------------------------------------------------------------


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
    np.testing.assert_array_equal(opened.gather([0, 9], ["image"]), _embeddings()["image"][[0, 9]])
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
    write_items(store.path, change(store.items))
    with pytest.raises(StoreError, match=rf"items\.parquet: {message}"):
        EmbeddingStore.open(store.path).verify()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_an_unreadable_table_is_named(store, change):
    change(store.path / "items.parquet")
    opened = EmbeddingStore.open(store.path)
    with pytest.raises(StoreError, match=r"items\.parquet: cannot be read"):
        opened.verify()
    with pytest.raises(StoreError, match=r"items\.parquet: cannot be read"):
        opened.column("id")


# The page about it ---------------------------------------------------------------------------------------------


def test_the_examples_of_the_page_run(store, monkeypatch, tmp_path):
    store.path.rename(tmp_path / "products")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        names: dict[str, object] = {}
        exec(example, names)
    np.testing.assert_array_equal(names["vector"], _embeddings()["title"][5])
