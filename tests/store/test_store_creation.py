"""What a store is made of: types, labels, missing modalities; input that does not fit together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from small_store import ROWS, small_embeddings, small_table

from estitchup_pl.errors import StoreError
from estitchup_pl.store import (
    EmbeddingStore,
    ModalityInfo,
    write_shard,
)
from estitchup_pl.store.blocks import inspect_block


def test_float64_is_stored_as_float32_and_float16_on_request(tmp_path):
    rows = np.random.default_rng(0).normal(size=(ROWS, 2))
    store = EmbeddingStore.create(
        tmp_path / "store", small_table(), {"a": rows, "b": rows}, info={"b": ModalityInfo(2, "float16")}
    )
    np.testing.assert_array_equal(store.gather(range(ROWS), ["a"]), rows.astype(np.float32))
    np.testing.assert_array_equal(store.gather(range(ROWS), ["b"]), rows.astype(np.float16))


def test_empty_and_null_labels_are_unlabelled_and_numbers_become_names(tmp_path):
    items = pa.table({"id": [1, 2, 3, 4], "label": pa.array(["a", "", None, "b"]).dictionary_encode()})
    store = EmbeddingStore.create(tmp_path / "store", items, {"a": np.ones((4, 1), np.float32)})
    assert store.column("id").to_pylist() == ["1", "2", "3", "4"]
    assert store.column("label").to_pylist() == ["a", None, None, "b"]


def test_splits_are_text_and_an_empty_id_is_none(tmp_path):
    items = pa.table({"id": ["a", "b", "c"], "split": [0, 1, None]})
    arrays = {"a": np.ones((3, 1), np.float32)}
    assert EmbeddingStore.from_arrays(items, arrays).column("split").to_pylist() == ["0", "1", None]
    with pytest.raises(StoreError, match="items: row 1 has no id"):
        EmbeddingStore.from_arrays(pa.table({"id": ["a", "", "c"]}), arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows,
        lambda rows: rows.clone().requires_grad_(),
        lambda rows: rows.to_sparse(),
        lambda rows: rows.bfloat16(),
        lambda rows: rows.bfloat16().to_sparse().requires_grad_(),
        lambda rows: rows.double(),
        lambda rows: rows.T.contiguous().T,
    ],
    ids=["dense", "with gradient", "sparse", "bfloat16", "all three", "float64", "transposed"],
)
def test_tensors_of_any_kind_are_stored_as_their_values(tmp_path, change):
    rows = torch.arange(2.0 * ROWS).reshape(ROWS, 2)  # whole numbers that bfloat16 holds
    for store in (
        EmbeddingStore.create(tmp_path / "store", small_table(), {"a": change(rows)}),
        EmbeddingStore.from_arrays(small_table(), {"a": change(rows)}),
    ):
        gathered = store.gather(range(ROWS))
        assert gathered.dtype == np.float32
        np.testing.assert_array_equal(gathered, rows.numpy())


def test_a_tensor_of_float16_stays_one_and_is_not_copied():
    rows = torch.ones(ROWS, 2, dtype=torch.float16, requires_grad=True)
    store = EmbeddingStore.from_arrays(small_table(), {"a": rows})
    assert store.gather([0]).dtype == np.float16
    assert np.shares_memory(store._shards.slice("a", 0, 0, ROWS), rows.detach().numpy())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.empty(ROWS, 2, device="meta"), "cannot be made an array of shape"),
        (torch.ones(ROWS, 2, dtype=torch.int8), "expected floating-point embeddings, got values of type int8"),
        ([[1.0]] * 9 + [[1.0, 2.0]], "cannot be made an array of shape .*inhomogeneous"),
        (scipy.sparse.csr_array(np.eye(ROWS)), "of type object: Python objects, such as a sparse matrix"),
        (np.ma.masked_equal(np.eye(ROWS), 0), "has masked values; fill them"),
        (np.ones((ROWS, 2), "V2"), "bfloat16 comes out of an NPY file"),
    ],
    ids=["meta", "int8", "ragged", "scipy", "masked", "void"],
)
def test_what_holds_no_numbers_of_floating_point_is_named(tmp_path, values, message):
    with pytest.raises(StoreError, match=rf"embeddings\['a'\]: .*{message}"):
        EmbeddingStore.create(tmp_path / "store", small_table(), {"a": values})
    with pytest.raises(StoreError, match=rf"embeddings\['a'\]: .*{message}"):
        EmbeddingStore.from_arrays(small_table(), {"a": values})


def test_a_table_without_labels_gets_null_labels(tmp_path):
    items = small_table().drop_columns("label")
    store = EmbeddingStore.create(tmp_path / "store", items, small_embeddings())
    assert store.column("label").null_count == ROWS
    store.verify()


def test_a_row_of_zeros_lacks_the_modality(tmp_path):
    arrays = small_embeddings()
    arrays["image"][[2, 7]] = 0
    arrays["image"][3, 0] = -0.0
    store = EmbeddingStore.create(tmp_path / "store", small_table(), arrays, rows_per_shard=3)
    assert np.flatnonzero(~store.column("has_image").to_numpy()).tolist() == [2, 7]
    assert store.column("has_title").to_numpy().all()


@pytest.mark.parametrize(("flag", "row_is_zero", "message"), [(True, True, "all zeros"), (False, False, "not all")])
def test_flags_that_contradict_the_rows_are_refused(tmp_path, flag, row_is_zero, message):
    arrays = small_embeddings()
    arrays["image"][6] *= not row_is_zero
    items = small_table(has_image=[flag if row == 6 else True for row in range(ROWS)])
    with pytest.raises(StoreError, match=rf"embeddings\['image'\], row 6: {message}"):
        EmbeddingStore.create(tmp_path / "store", items, arrays)


@given(hnp.arrays(np.uint16, (4, 3)) | hnp.arrays(np.uint32, (4, 3)))
def test_one_look_at_the_bits_finds_what_numpy_finds(bits):
    block = bits.view(np.float16 if bits.dtype == np.uint16 else np.float32)
    facts = inspect_block(block)
    np.testing.assert_array_equal(facts.finite, np.isfinite(block).all(axis=1))
    np.testing.assert_array_equal(facts.present, (block != 0).any(axis=1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named_with_array_row_and_column(tmp_path, value):
    arrays = small_embeddings()
    arrays["image"][7, 2] = value
    message = rf"embeddings\['image'\], row 7, column 2: expected finite numbers, got {value}"
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.create(tmp_path / "store", small_table(), arrays, rows_per_shard=3)
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.from_arrays(small_table(), arrays)
    assert not (tmp_path / "store").exists()


def test_a_mapped_array_is_named_by_its_file(tmp_path):
    rows = np.ones((ROWS, 2), np.float32)
    rows[9, 1] = np.nan
    np.save(tmp_path / "vectors.npy", rows)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    with pytest.raises(StoreError, match=r"vectors\.npy, row 9, column 1: expected finite"):
        EmbeddingStore.create(tmp_path / "store", small_table(), {"a": mapped})


def test_a_value_too_large_for_float16_is_named(tmp_path):
    rows = np.ones((ROWS, 2), np.float32)
    rows[4, 1] = 70000
    with pytest.raises(StoreError, match=r"row 4, column 1: 70000\.0 does not fit into float16"):
        EmbeddingStore.create(tmp_path / "store", small_table(), {"a": rows}, info={"a": ModalityInfo(2, "float16")})


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
        EmbeddingStore.create(tmp_path / "store", small_table(), {"a": rows})
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.from_arrays(small_table(), {"a": rows})
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (small_table(0), "the table has no rows"),
        (pa.table({"id": ["a", "b", "a"]}), "id 'a' is there twice, in rows 0 and 2"),
        (pa.table({"id": pa.chunked_array([["x"], ["y", "z"], ["y"]])}), "id 'y' is there twice, in rows 1 and 3"),
        (pa.table({"id": ["a", None, "c"]}), "row 1 has no id"),
        (pa.table({"sku": ["a", "b", "c"]}), r"no column 'id' \(there are: sku\)"),
        (pa.table({"id": [1.0, 2.0, 3.0]}), "column 'id' is of type double; ids, labels and splits are names"),
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
        EmbeddingStore.create(path, small_table(), {})
    with pytest.raises(StoreError, match=r"letters, digits, '_', '-' and '\.', got '\.\./up'"):
        EmbeddingStore.create(path, small_table(), {"../up": rows})
    with pytest.raises(StoreError, match="expected 3 columns, got 2"):
        EmbeddingStore.create(path, small_table(), {"a": rows}, info={"a": ModalityInfo(3)})
    with pytest.raises(StoreError, match=r"info for modality 'titel'.*did you mean 'title'"):
        EmbeddingStore.create(path, small_table(), {"title": rows}, info={"titel": ModalityInfo(2)})
    with pytest.raises(StoreError, match=r"rows_per_shard .* at least 1, got 0"):
        EmbeddingStore.create(path, small_table(), {"a": rows}, rows_per_shard=0)
    with pytest.raises(StoreError, match="one of float16, float32, got 'bfloat16'"):
        ModalityInfo(2, "bfloat16")
    with pytest.raises(StoreError, match="at least 1, got 0"):
        ModalityInfo(0)
    with pytest.raises(StoreError, match=r"shard 3 of modality 'a': .* got shape \(2,\) of float32"):
        write_shard(tmp_path, "a", 3, np.ones(2, np.float32))
    assert not path.exists()


@pytest.mark.parametrize("column", ["id", "label", "note"])
def test_text_that_is_not_utf_8_is_refused_with_its_row(tmp_path, column):
    cells = pa.array([f"text-{row}".encode() for row in range(ROWS - 1)] + [b"h\xfft"]).view(pa.string())
    table = small_table(note=["x"] * ROWS)
    table = table.set_column(table.schema.get_field_index(column), column, cells)
    with pytest.raises(StoreError, match=rf"items: column '{column}', row 9: not text in UTF-8 \(b'h\\xfft'\)"):
        EmbeddingStore.create(tmp_path / "store", table, small_embeddings())
    assert not (tmp_path / "store").exists()
