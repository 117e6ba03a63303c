"""Files of embeddings that are damaged, foreign or not there: named, with what to do."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from saved_rows import lists_of, made_rows, read_all

from estitchup_pl.errors import DataError, StoreError
from estitchup_pl.store import EmbeddingStore, ModalityInfo
from estitchup_pl.tables import DatasetFolder, NpyFile, TableFile, open_embeddings, open_npz, open_parquet_column


def _truncate(path, share=0.7):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_truncated_npy_file_is_named_before_anything_is_read(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, made_rows())
    _truncate(path)
    with pytest.raises(StoreError, match=r"vectors\.npy: truncated, 347 bytes where its header .* needs 496"):
        NpyFile(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"vectors\.npy: not an NPY file, or truncated"):
        NpyFile(path)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match=r"vectors\.npy: not an NPY file, or truncated"):
        NpyFile(path)


def test_a_truncated_npz_file_is_named(tmp_path):
    path = tmp_path / "vectors.npz"
    np.savez(path, made_rows())
    _truncate(path)
    with pytest.raises(StoreError, match=r"vectors\.npz: not an NPZ file, or truncated"):
        open_npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_with_wrong_bytes_is_named(tmp_path, save):
    path = tmp_path / "vectors.npz"
    save(path, a=made_rows(rows=20_000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"vectors\.npz:a: damaged"):
        read_all(open_npz(path))


def test_a_truncated_parquet_file_is_named(tmp_path):
    pq.write_table(pa.table({"v": lists_of(made_rows())}), tmp_path / "v.parquet")
    _truncate(tmp_path / "v.parquet")
    with pytest.raises(DataError, match=r"v\.parquet: cannot be read as parquet"):
        open_parquet_column(tmp_path / "v.parquet", "v")


def test_python_objects_and_fortran_order_in_a_stream_are_refused(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [[1.0], [1.0, 2.0]]
    np.save(tmp_path / "ragged.npy", ragged)
    np.savez(tmp_path / "both.npz", ragged=ragged, fortran=np.asfortranarray(made_rows()))
    with pytest.raises(StoreError, match=r"ragged\.npy: holds Python objects"):
        NpyFile(tmp_path / "ragged.npy")
    with pytest.raises(StoreError, match=r"both\.npz:ragged: holds Python objects"):
        open_npz(tmp_path / "both.npz", "ragged")
    with pytest.raises(StoreError, match=r"both\.npz:fortran: in Fortran order"):
        open_npz(tmp_path / "both.npz", "fortran")


def test_names_within_files_are_answered_with_the_nearest(tmp_path):
    np.savez(tmp_path / "v.npz", title=made_rows(), image=made_rows())
    pq.write_table(pa.table({"title_embedding": lists_of(made_rows())}), tmp_path / "v.parquet")
    with pytest.raises(StoreError, match=r"no array 'titel'; did you mean 'title'\? \(there are: title, image\)"):
        open_embeddings(f"{tmp_path / 'v.npz'}:titel")
    with pytest.raises(StoreError, match=r"name one of its arrays, as FILE\.npz:NAME \(there are: title, image\)"):
        open_embeddings(f"{tmp_path / 'v.npz'}")
    with pytest.raises(StoreError, match="no column 'title_embeding'; did you mean 'title_embedding'"):
        open_embeddings(f"{tmp_path / 'v.parquet'}:title_embeding")


@pytest.mark.parametrize("place", ["vectors.pt", "title", "v.parquet", "v.npy:a"])
def test_what_names_no_embeddings_is_refused(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    for name in ("vectors.pt", "title", "v.parquet", "v.npy"):
        (tmp_path / name).write_text("")
    with pytest.raises(StoreError, match=r"expected FILE\.npy, FILE\.npz\[:NAME\], FILE\.parquet:COLUMN"):
        open_embeddings(place)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"v\.npy: there is no such file"):
        open_embeddings(f"{tmp_path}/v.npy")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), ",  # its end is missing
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4), }",
        b"{'descr': '<f4\", 'fortran_order': False, 'shape': (3, 4), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)\xff }",
        b"('descr', '<f4')",
        b"(" * 300,
    ],
)
def test_any_damage_to_the_header_of_an_npy_file_is_told(tmp_path, header):
    path = tmp_path / "vectors.npy"
    head = header.ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(48))
    with pytest.raises(StoreError, match=r"vectors\.npy: "):
        NpyFile(path)


def test_a_header_that_promises_more_than_a_computer_can_count_is_told(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, made_rows(rows=8))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(8, 4), }" + b" " * 40, b"(9999999999999, 9999999999999), }".ljust(49), 1))
    assert path.read_bytes() != content
    with pytest.raises(StoreError, match="truncated"):
        NpyFile(path)


def _not_text(path):
    """Write a parquet file whose texts are no UTF-8, as a damaged file has them."""
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 2, 4], np.int32).tobytes()), pa.py_buffer(b"ab\xff\xfe")]
    )
    pq.write_table(pa.table({"id": ["a", "b"], "label": broken}), path)


def test_texts_of_a_parquet_file_that_are_no_text_are_told(tmp_path):
    _not_text(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"items\.parquet: damaged .*UTF"):
        list(TableFile(tmp_path / "items.parquet").batches())


def test_a_store_whose_labels_are_no_text_is_told(tmp_path):
    items = pa.table({"id": ["a", "b"], "label": ["x", "y"]})
    store = EmbeddingStore.create(tmp_path / "store", items, {"v": np.ones((2, 3), np.float32)})
    _not_text(tmp_path / "store" / "items.parquet")
    for read in (lambda: store.column("label"), lambda: store.items):
        with pytest.raises(StoreError, match=r"items\.parquet: .*UTF"):
            read()
    with pytest.raises(StoreError, match=r"items\.parquet: changed since it was written"):
        store.verify()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format_version": ' + "[" * 100_000])
def test_nested_json_is_told_wherever_it_is_read(tmp_path, content):
    (tmp_path / "items.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"items\.jsonl, line 1: not JSON"):
        list(TableFile(tmp_path / "items.jsonl").batches())
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json: damaged"):
        EmbeddingStore.open(tmp_path)


def test_half_a_character_in_a_stores_header_is_told(tmp_path):
    items = pa.table({"id": ["a"]})
    EmbeddingStore.create(tmp_path, items, {"v": np.ones((1, 3), np.float32)}, info={"v": ModalityInfo(3, encoder="x")})
    header = (tmp_path / "store.json").read_text()
    (tmp_path / "store.json").write_text(header.replace('"x"', '"\\ud800"'))
    with pytest.raises(StoreError, match=r"store\.json.*encoder of a modality must be text"):
        EmbeddingStore.open(tmp_path)


def test_a_truncated_gz_file_is_told(tmp_path):
    with gzip.open(tmp_path / "items.csv.gz", "wt") as file:
        file.write("id,label\n" + "".join(f"{row},shoe\n" for row in range(10_000)))
    _truncate(tmp_path / "items.csv.gz")
    with pytest.raises(DataError, match=r"items\.csv\.gz: damaged or cut off"):
        list(TableFile(tmp_path / "items.csv.gz").batches())


def test_a_damaged_arrow_file_does_not_take_the_process_down(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"id": ["a", "bb", "ccc"] * 50, "v": [[1.0, 2.0]] * 150, "label": ["x", "y", "z"] * 50}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "data")
    (path,) = (tmp_path / "data").glob("*.arrow")
    content = path.read_bytes()
    offsets = np.cumsum([0, *map(len, rows["id"])]).astype("<i4").tobytes()
    at = content.index(offsets)
    path.write_bytes(content[:at] + b"\xff\xff\xff\x7f" * 100 + content[at + 400 :])
    with pytest.raises(DataError, match=r"data: damaged .*Copy the folder again"):
        list(DatasetFolder(tmp_path / "data").batches())
    path.write_bytes(content)
    assert sum(batch.num_rows for batch in DatasetFolder(tmp_path / "data").batches()) == 150
