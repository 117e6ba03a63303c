"""Importers: every source gives the rows that were saved, in blocks, and names what does not fit."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estitchup_pl.errors import StoreError
from estitchup_pl.store import EmbeddingStore, RowSource
from estitchup_pl.tables import (
    ConcatenatedRows,
    NpyFile,
    number_rows,
    open_clip_retrieval,
    open_embeddings,
    open_hugging_face,
    open_npz,
    open_parquet_column,
    prepare_items,
    read_items,
)
from estitchup_pl.tables.streams import StreamedRows

ROWS = 23


def _rows(dtype=np.float32, rows=ROWS, dim=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(dtype)


def _read_all(source: RowSource, step: int = 5) -> np.ndarray:
    return np.concatenate([source[first : first + step] for first in range(0, source.shape[0], step)])


def _lists(rows: np.ndarray, fixed_size: bool = False) -> pa.Array:
    values = pa.array(rows.reshape(-1))
    if fixed_size:
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    return pa.ListArray.from_arrays(np.arange(0, rows.size + 1, rows.shape[1]), values)


# Arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["npy", "npy in Fortran order", "npz", "npz compressed", "parquet", "parquet fixed"])
def test_every_file_gives_the_rows_that_were_saved(tmp_path, kind, dtype):
    rows = _rows(dtype)
    if kind.startswith("npy"):
        place = tmp_path / "vectors.npy"
        np.save(place, np.asfortranarray(rows) if "Fortran" in kind else rows)
    elif kind.startswith("npz"):
        place = tmp_path / "vectors.npz"
        (np.savez_compressed if "compressed" in kind else np.savez)(place, vectors=rows)
    else:
        table = pa.table({"v": _lists(rows, fixed_size="fixed" in kind), "other": range(ROWS)})
        pq.write_table(table, tmp_path / "vectors.parquet", row_group_size=7)
        place = f"{tmp_path / 'vectors.parquet'}:v"
    source = open_embeddings(str(place))
    assert isinstance(source, RowSource)
    assert (source.shape, source.dtype) == (rows.shape, np.dtype(dtype))
    np.testing.assert_array_equal(_read_all(source), rows)
    np.testing.assert_array_equal(source[3:9], rows[3:9], err_msg="read a second time")
    store = EmbeddingStore.from_arrays(number_rows(pa.table({"x": range(ROWS)}), "x"), {"v": _read_all(source)})
    np.testing.assert_array_equal(store.gather(range(ROWS)), rows.astype(np.float16 if dtype == np.float16 else "f4"))


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6),
)
def test_a_stream_of_any_blocks_can_be_sliced_anywhere(sizes, slices):
    rows = _rows(rows=sum(sizes), dim=2)
    edges = np.cumsum([0, *sizes])
    stream = StreamedRows(rows.shape, rows.dtype, lambda: (rows[a:b] for a, b in pairwise(edges)), "stream")
    for start, stop in slices:
        np.testing.assert_array_equal(stream[start : max(start, stop)], rows[start : max(start, stop)])


def test_a_stream_that_ends_early_is_named():
    stream = StreamedRows((5, 2), np.float32, lambda: iter([np.ones((3, 2))]), "stream.npz:a")
    with pytest.raises(StoreError, match=r"stream\.npz:a: ends after row 2 of 5"):
        stream[0:5]


def test_parts_follow_each_other_and_rows_are_named_within_them(tmp_path):
    rows = _rows()
    for number, part in enumerate(np.split(rows, [6, 6, 15])):
        np.save(tmp_path / f"part{number}.npy", part)
    source = ConcatenatedRows([NpyFile(tmp_path / f"part{number}.npy") for number in range(4)])
    assert source.shape == rows.shape
    for step in (1, 5, ROWS):
        np.testing.assert_array_equal(_read_all(source, step), rows)
    assert source.locate(5).endswith("part0.npy, row 5")
    assert source.locate(6).endswith("part2.npy, row 0")
    assert source.locate(22).endswith("part3.npy, row 7")
    assert source.locate().endswith("part0.npy and 3 more")


@pytest.mark.parametrize("change", [lambda a: a[:, :3], lambda a: a.astype(np.float16), lambda a: a[0]])
def test_parts_that_do_not_continue_each_other_are_refused(tmp_path, change):
    np.save(tmp_path / "part0.npy", _rows())
    np.save(tmp_path / "part1.npy", change(_rows()))
    with pytest.raises(StoreError, match=r"part1\.npy: shape .* does not continue .*part0\.npy"):
        ConcatenatedRows([NpyFile(tmp_path / f"part{number}.npy") for number in range(2)])


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_a_file_is_never_whole_in_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("estitchup_pl.store.sources.BLOCK_BYTES", 64 << 10)
    rows = _rows(rows=20_000, dim=128)  # 10 MB
    place = str(tmp_path / f"vectors.{kind}")
    if kind == "npy":
        np.save(place, rows)
    elif kind == "npz":
        np.savez(place, rows)
    else:
        pq.write_table(pa.table({"v": _lists(rows)}), place, row_group_size=1000)
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


def test_a_null_list_is_a_missing_modality(tmp_path):
    rows = _rows(rows=4)
    lists = [rows[0].tolist(), None, rows[2].tolist(), None]
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 4), pa.large_list(pa.float32())):
        pq.write_table(pa.table({"v": pa.array(lists, kind)}), tmp_path / "v.parquet")
        source = open_parquet_column(tmp_path / "v.parquet", "v")
        np.testing.assert_array_equal(_read_all(source), rows * [[1], [0], [1], [0]])


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([[1, 2], [1, 2, 3]], pa.list_(pa.float32()), "row 1: 3 values where other rows have 2"),
        ([[1, 2], [1, None]], pa.list_(pa.float32()), "row 1: a null among its values"),
        ([None, [None, 2]], pa.list_(pa.float32(), 2), "row 1: a null among its values"),
        (
            [[1, 2], [3, 4]],
            pa.list_(pa.int32()),
            r"expected a column of lists of floating-point numbers, got type list",
        ),
        ([1.0, 2.0], pa.float32(), "expected a column of lists of floating-point numbers, got type float"),
        ([None, None], pa.list_(pa.float32()), "every row is null"),
    ],
)
def test_columns_that_hold_no_embeddings_are_refused(tmp_path, values, kind, message):
    pq.write_table(pa.table({"v": pa.array(values, kind)}), tmp_path / "v.parquet")
    with pytest.raises(StoreError, match=rf"v\.parquet:v.*{message}"):
        _read_all(open_parquet_column(tmp_path / "v.parquet", "v"))


def test_a_row_of_a_later_batch_is_counted_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("estitchup_pl.store.sources.BLOCK_BYTES", 64)
    lists = [[1.0, 2.0]] * 100
    lists[77] = [1.0]
    pq.write_table(pa.table({"v": lists}), tmp_path / "v.parquet")
    with pytest.raises(StoreError, match="row 77: 1 values where other rows have 2"):
        _read_all(open_parquet_column(tmp_path / "v.parquet", "v"))


# Damaged and foreign files -------------------------------------------------------------------------------------


def _truncate(path, share=0.7):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_truncated_npy_file_is_named_before_anything_is_read(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, _rows())
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
    np.savez(path, _rows())
    _truncate(path)
    with pytest.raises(StoreError, match=r"vectors\.npz: not an NPZ file, or truncated"):
        open_npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_with_wrong_bytes_is_named(tmp_path, save):
    path = tmp_path / "vectors.npz"
    save(path, a=_rows(rows=20_000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"vectors\.npz:a: damaged"):
        _read_all(open_npz(path))


def test_a_truncated_parquet_file_is_named(tmp_path):
    pq.write_table(pa.table({"v": _lists(_rows())}), tmp_path / "v.parquet")
    _truncate(tmp_path / "v.parquet")
    with pytest.raises(StoreError, match=r"v\.parquet: cannot be read as parquet"):
        open_parquet_column(tmp_path / "v.parquet", "v")


def test_python_objects_and_fortran_order_in_a_stream_are_refused(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [[1.0], [1.0, 2.0]]
    np.save(tmp_path / "ragged.npy", ragged)
    np.savez(tmp_path / "both.npz", ragged=ragged, fortran=np.asfortranarray(_rows()))
    with pytest.raises(StoreError, match=r"ragged\.npy: holds Python objects"):
        NpyFile(tmp_path / "ragged.npy")
    with pytest.raises(StoreError, match=r"both\.npz:ragged: holds Python objects"):
        open_npz(tmp_path / "both.npz", "ragged")
    with pytest.raises(StoreError, match=r"both\.npz:fortran: in Fortran order"):
        open_npz(tmp_path / "both.npz", "fortran")


def test_names_within_files_are_answered_with_the_nearest(tmp_path):
    np.savez(tmp_path / "v.npz", title=_rows(), image=_rows())
    pq.write_table(pa.table({"title_embedding": _lists(_rows())}), tmp_path / "v.parquet")
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
    with pytest.raises(StoreError, match=r"expected FILE\.npy, FILE\.npz\[:NAME\] or FILE\.parquet:COLUMN"):
        open_embeddings(place)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"v\.npy: there is no such file"):
        open_embeddings(f"{tmp_path}/v.npy")
    with pytest.raises(StoreError, match=r"items\.csv: there is no such file"):
        read_items(tmp_path / "items.csv")


# Tables --------------------------------------------------------------------------------------------------------

TABLE = pa.table({"id": ["007", "8", "9"], "label": ["a, b", "", "ü\nx"], "price": [1, 2, 3]})


@pytest.mark.parametrize("name", ["i.parquet", "i.csv", "i.tsv", "i.jsonl", "i.ndjson", "i.csv.gz", "i.jsonl.gz"])
def test_every_kind_of_table_is_read_with_ids_as_they_are_written(tmp_path, name):
    path = tmp_path / name
    opened = gzip.open if name.endswith(".gz") else open
    if ".parquet" in name:
        pq.write_table(TABLE, path)
    elif "json" in name:
        with opened(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in TABLE.to_pylist())
    else:
        options = pyarrow.csv.WriteOptions(delimiter="\t" if "tsv" in name else ",", quoting_style="needed")
        with opened(path, "wb") as file:
            pyarrow.csv.write_csv(TABLE, file, options)
    assert read_items(path, names=["id", "label"]).equals(TABLE)
    assert read_items(path, names=["id"], drop=["price", "absent"]).column_names == ["id", "label"]


@pytest.mark.parametrize(
    ("name", "content"), [("i.csv", "a,b\n1\n"), ("i.jsonl", '{"a": 1\n'), ("i.parquet", "x"), ("i.xlsx", "")]
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(StoreError, match=rf"{name}: (cannot be read as a table|expected a table that ends in)"):
        read_items(tmp_path / name)


def test_chosen_columns_are_copied_and_all_others_kept():
    table = pa.table({"sku": [5, 6], "type": ["a", ""], "fold": ["train", "test"], "photo": ["1", "0"]})
    prepared = prepare_items(
        table, "t", id_column="sku", label_column="type", split_column="fold", flag_columns={"image": "photo"}
    )
    assert prepared.select(table.column_names).equals(table)
    assert prepared.select(["id", "label", "split", "has_image"]).to_pydict() == {
        "id": ["5", "6"],
        "label": ["a", ""],
        "split": ["train", "test"],
        "has_image": [True, False],
    }


def test_columns_that_have_their_name_already_need_no_copy():
    table = pa.table({"id": ["a"], "label": ["x"], "split": ["train"], "has_image": [True]})
    options = {"label_column": "label", "split_column": "split", "flag_columns": {"image": "has_image"}}
    assert prepare_items(table, "t", **options).equals(table)
    assert prepare_items(table, "t").equals(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id_column": "skuu"}, r"t: no column 'skuu'; did you mean 'sku'\? \(there are: sku, type, id, weight\)"),
        ({"label_column": "typ"}, "t: no column 'typ'; did you mean 'type'"),
        ({"id_column": "sku"}, "column 'sku' is to become 'id', but the table has a column 'id' too"),
        ({"label_column": "weight"}, "column 'weight' is of type double; ids and labels are names"),
        ({"flag_columns": {"image": "type"}}, "column 'type' is not of truth values"),
    ],
)
def test_columns_that_cannot_be_chosen_are_refused(options, message):
    table = pa.table({"sku": [5, 6], "type": ["a", "b"], "id": ["x", "y"], "weight": [0.5, 1.0]})
    with pytest.raises(StoreError, match=message):
        prepare_items(table, "t", **options)


def test_rows_are_numbered_only_where_there_are_no_ids():
    assert number_rows(pa.table({"x": [3, 4]}), "t")["id"].to_pylist() == ["0", "1"]
    with pytest.raises(StoreError, match="t: the table has a column 'id'"):
        number_rows(pa.table({"id": [3, 4]}), "t")


# clip-retrieval ------------------------------------------------------------------------------------------------


def _clip_folder(folder, parts=11, text=True):
    """Write a folder as clip-retrieval does: unpadded or padded numbers, columns that come and go."""
    rng = np.random.default_rng(0)
    written = {"key": [], "image": [], "text": []}
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number in range(parts):
        rows = int(rng.integers(1, 5))
        image, caption = (rng.normal(size=(rows, dim)).astype(np.float16) for dim in (6, 3))
        keys = [f"{number}-{row}" for row in range(rows)]
        columns = {"image_path": keys, "caption": keys, "key": keys}
        if number % 2:
            columns["width"] = [640] * rows
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", image)
        if text:
            np.save(folder / "text_emb" / f"text_emb_{number}.npy", caption)
        pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
        written["key"] += keys
        written["image"].append(image)
        written["text"].append(caption)
    return {name: values if name == "key" else np.concatenate(values) for name, values in written.items()}


def test_a_clip_retrieval_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    written = _clip_folder(tmp_path / "clip")
    items, embeddings = open_clip_retrieval(tmp_path / "clip")
    assert items["key"].to_pylist() == written["key"]
    assert set(items["width"].to_pylist()) == {640, None}
    prepared = prepare_items(items, "clip", id_column="key", label_column="caption")
    store = EmbeddingStore.create(tmp_path / "store", prepared, embeddings, rows_per_shard=7)
    store.verify()
    for name in ("image", "text"):
        np.testing.assert_array_equal(store.gather(range(len(store)), [name]), written[name])


def test_a_clip_retrieval_folder_of_pictures_alone_has_one_modality(tmp_path):
    _clip_folder(tmp_path / "clip", text=False)
    assert list(open_clip_retrieval(tmp_path / "clip").embeddings) == ["image"]


def test_a_clip_retrieval_folder_that_does_not_fit_together_is_refused(tmp_path):
    folder = tmp_path / "clip"
    with pytest.raises(StoreError, match="expected a clip-retrieval folder"):
        open_clip_retrieval(folder)
    _clip_folder(folder)
    part = folder / "img_emb" / "img_emb_3.npy"
    np.save(part, np.load(part)[:-1])
    with pytest.raises(StoreError, match=r"img_emb_3\.npy: shape \(.*\), but .*metadata_3\.parquet has \d rows"):
        open_clip_retrieval(folder)
    part.unlink()
    with pytest.raises(StoreError, match="part 3 is in only one of img_emb/ and metadata/"):
        open_clip_retrieval(folder)


# Hugging Face --------------------------------------------------------------------------------------------------


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
    rows = _rows()
    hugging_face(rows).save_to_disk(tmp_path / "data")
    items, embeddings = open_hugging_face(tmp_path / "data", {"text": "vector"}, names=["sku", "category"])
    assert items.column_names == ["sku", "category", "price"]
    assert items["category"].to_pylist()[:3] == [None, "shoe", "hat"]
    assert isinstance(embeddings["text"], RowSource)
    np.testing.assert_array_equal(_read_all(embeddings["text"]), rows)
    prepared = prepare_items(items, "data", id_column="sku", label_column="category")
    EmbeddingStore.create(tmp_path / "store", prepared, embeddings, rows_per_shard=10).verify()


def test_a_shuffled_hugging_face_data_set_keeps_rows_and_table_together(tmp_path, hugging_face):
    rows = _rows()
    hugging_face(rows).shuffle(seed=1).save_to_disk(tmp_path / "data")
    items, embeddings = open_hugging_face(tmp_path / "data", {"text": "vector"}, drop=["sku"])
    order = items["price"].to_pylist()
    assert order != sorted(order)
    assert "sku" not in items.column_names
    np.testing.assert_array_equal(_read_all(embeddings["text"]), rows[order])


def test_splits_of_a_hugging_face_folder_become_a_column(tmp_path, hugging_face):
    import datasets

    rows = _rows()
    parts = {"train": hugging_face(rows[:15]), "test": hugging_face(rows[15:])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "data")
    items, embeddings = open_hugging_face(tmp_path / "data", {"text": "vector"})
    assert items["split"].to_pylist() == ["train"] * 15 + ["test"] * 8
    np.testing.assert_array_equal(_read_all(embeddings["text"]), rows)


def test_pictures_of_a_hugging_face_folder_stay_out_of_the_table(tmp_path, hugging_face):
    import datasets

    data = hugging_face(_rows())
    pictures = datasets.Dataset.from_dict(
        {"photo": [{"bytes": b"x", "path": None}] * ROWS}, features=datasets.Features({"photo": datasets.Image()})
    )
    datasets.concatenate_datasets([data, pictures], axis=1).save_to_disk(tmp_path / "data")
    items, _ = open_hugging_face(tmp_path / "data", {"text": "vector"})
    assert items.column_names == ["sku", "category", "price"]


def test_what_is_wrong_with_a_hugging_face_folder_is_named(tmp_path, hugging_face):
    hugging_face(_rows()).save_to_disk(tmp_path / "data")
    with pytest.raises(StoreError, match="no column 'vektor'; did you mean 'vector'"):
        open_hugging_face(tmp_path / "data", {"text": "vektor"})
    with pytest.raises(StoreError, match="data:price: expected a column of lists of floating-point numbers"):
        open_hugging_face(tmp_path / "data", {"text": "price"})
    with pytest.raises(StoreError, match="nowhere: cannot be read as a Hugging Face data set"):
        open_hugging_face(tmp_path / "nowhere", {"text": "vector"})


def test_without_the_package_datasets_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(StoreError, match=r"pip install 'estitchup_pl\[datasets\]'"):
        open_hugging_face(tmp_path, {"text": "vector"})
