"""Files of embeddings that are damaged, foreign or not there: named, with what to do."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from saved_rows import lists_of, made_rows, read_all

from estitchup_pl.errors import DataError, StoreError
from estitchup_pl.tables import NpyFile, open_embeddings, open_npz, open_parquet_column


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
