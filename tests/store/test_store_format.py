"""What lies on disk: the files of the format, headers that are damaged or foreign, and the page about it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from small_store import file_names, small_embeddings, small_table

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


def test_folder_holds_the_files_of_the_format_and_nothing_else(store):
    shards = [f"embeddings/{name}/0000{index}.npy" for name in ("image", "title") for index in range(3)]
    assert file_names(store.path) == sorted([*shards, "items.parquet", "store.json"])
    content = json.loads((store.path / "store.json").read_text())
    del content["digests"], content["digest"]  # tested below
    assert content == {
        "format_version": 2,
        "rows": 10,
        "rows_per_shard": 4,
        "modalities": {
            "title": {"dim": 3, "dtype": "float16", **dict.fromkeys(("encoder", "pooling", "revision", "recipe"))},
            "image": {"dim": 5, "dtype": "float32", **dict.fromkeys(("encoder", "pooling", "revision", "recipe"))},
        },
        "integer_ids": False,
    }


@pytest.mark.parametrize("name", ["title", "image"])
def test_shards_hold_the_rows_byte_for_byte_as_npy_version_1_in_c_order(store, name):
    for index in range(3):
        path = shard_path(store.path, name, index)
        with path.open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, fortran_order, _ = np.lib.format.read_array_header_1_0(file)
            expected = small_embeddings()[name][index * 4 : index * 4 + 4]
            assert (shape, fortran_order, file.read()) == (expected.shape, False, expected.tobytes())


def test_items_are_read_by_pyarrow_alone_with_every_column_kept_as_it_is(tmp_path):
    further = {"price": pa.array(range(10), pa.int16()), "tags": pa.array([["a", "b"]] * 10), "text": ["é\n"] * 10}
    given_table = small_table(**further)
    store = EmbeddingStore.create(tmp_path / "store", given_table, small_embeddings())
    table = pq.read_table(store.path / "items.parquet")
    assert table.select(given_table.column_names).equals(given_table)
    assert table.schema.field("has_title").type == pa.bool_()
    assert store.items.equals(table)


def test_header_keeps_what_is_known_of_the_encoders_and_the_order_of_modalities(tmp_path):
    info = {"title": ModalityInfo(3, "float16", encoder="bert", pooling="mean", revision="1a2b")}
    store = EmbeddingStore.create(tmp_path / "store", small_table(), small_embeddings(), info=info)
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
        digests=st.dictionaries(
            st.text('az/"é\n', min_size=1).map("x".__add__), st.text("0f", min_size=32, max_size=32)
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
    digests = {
        "embeddings/audio/00001.npy": write_shard(tmp_path, "audio", 1, rows[4:]),
        "embeddings/audio/00000.npy": write_shard(tmp_path, "audio", 0, rows[:4]),
        "items.parquet": write_items(tmp_path, small_table(6, has_audio=[True] * 6)),
    }
    with pytest.raises(StoreError, match=r"it has no store\.json"):
        EmbeddingStore.open(tmp_path)
    write_header(tmp_path, header.with_digests(digests))
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


_HEADER = (
    '{"format_version": 2, "rows": 3, "rows_per_shard": 4, "modalities": {"a": {"dim": 1, "dtype": "float16"}}, '
    '"digests": {}}'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("{}", "missing entry 'format_version'"),
        ('{"format_version": 2, "rows": 3}', "missing entry 'modalities'"),
        (_HEADER.replace('"digests": {}', '"digests": {"../../x": "0"}'), "digests of a store are of its own files"),
        (_HEADER, "it does not match its own digest"),
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


def test_another_format_is_refused(store):
    (store.path / "store.json").write_text(json.dumps({"format_version": FORMAT_VERSION + 1}))
    with pytest.raises(StoreError, match=r"written in store format 3; .* reads format 2\. Use the version that wrote"):
        EmbeddingStore.open(store.path)


def test_unknown_entries_are_passed_over_and_covered_by_the_digest(store):
    """The digest by the words of docs/store.md: XXH3-128 of all that stands before it."""
    text = (store.path / "store.json").read_text()
    before = text[: text.rindex('"digest"')] + '"made_by": "somebody",\n  "digest": "'
    (store.path / "store.json").write_text(f'{before}{xxhash.xxh3_128(before.encode()).hexdigest()}"\n}}\n')
    assert len(EmbeddingStore.open(store.path)) == 10
    EmbeddingStore.open(store.path).verify()


def test_the_header_has_a_digest_of_every_file(store):
    digests = json.loads((store.path / "store.json").read_text())["digests"]
    files = {name: (store.path / name).read_bytes() for name in file_names(store.path) if name != "store.json"}
    assert digests == {name: xxhash.xxh3_128(content).hexdigest() for name, content in files.items()}
    assert len(digests) == 7


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"is not an embedding store: it has no store\.json"):
        EmbeddingStore.open(tmp_path)
    with pytest.raises(StoreError, match="there is no such folder"):
        EmbeddingStore.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="there is no such folder"):
        EmbeddingStore.open(tmp_path / "file")


def test_the_examples_of_the_page_run(store, monkeypatch, tmp_path):
    store.path.rename(tmp_path / "products")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        names: dict[str, object] = {}
        exec(example, names)
    np.testing.assert_array_equal(names["vector"], small_embeddings()["title"][5])
