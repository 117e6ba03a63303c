"""A sealed file gives back what was written, or says that it is damaged: no changed byte passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estitchup_pl.errors import DataError, WriteError
from estitchup_pl.store import sealed

TABLE = pa.table(
    {
        "row": pa.array([1, 2, None], pa.int32()),
        "text": ["a", None, ""],
        "value": [0.1, 1e-320, -0.0],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "none": pa.nulls(3, pa.string()),
    }
)
CONTENT = {
    "digest": "of something else",
    "name": "é \ud83d",
    "values": [0.1, 2, None, True, {"a": []}],
    "tuple": (1, 2),
}
ARRAY = np.array([[0.5, -np.inf], [65504, 0]], np.float16)
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "a.json": (sealed.write_json, sealed.read_json, CONTENT),
    "a.npy": (sealed.write_array, sealed.read_array, ARRAY),
    "a.npz": (sealed.write_arrays, sealed.read_arrays, {"one": ARRAY, "two.three": np.arange(3)}),
    "a.parquet": (sealed.write_table, sealed.read_table, TABLE),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    write, read, content = KINDS[name]
    write(tmp_path / "deep" / name, content)
    found = read(tmp_path / "deep" / name)
    if isinstance(content, pa.Table):
        assert found.equals(content, check_metadata=True)
    elif isinstance(content, np.ndarray):
        np.testing.assert_array_equal(found, content, strict=True)
    elif name == "a.npz":
        assert list(found) == list(content)
        for key in content:
            np.testing.assert_array_equal(found[key], content[key], strict=True)
    else:
        assert found == {**content, "tuple": [1, 2]}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


@pytest.mark.parametrize("content", [np.empty((0, 0), np.float16), np.float32(3), np.array(["a", "é"])])
def test_arrays_of_every_shape(content: np.ndarray, tmp_path: Path) -> None:
    sealed.write_array(tmp_path / "a.npy", content)
    np.testing.assert_array_equal(sealed.read_array(tmp_path / "a.npy"), content)


def outcome(read: Any, path: Path) -> str:
    try:
        return repr(read(path))
    except DataError as error:
        return "damaged" if str(error).startswith(f"{path}: damaged (") else str(error)


@pytest.mark.parametrize("name", KINDS)
def test_every_changed_byte_is_noticed(name: str, tmp_path: Path) -> None:
    write, read, content = KINDS[name]
    path = tmp_path / name
    write(path, content)
    whole, expected = path.read_bytes(), repr(read(path))
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert outcome(read, path) in (expected, "damaged")  # as before where it says nothing, as space in JSON


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_cut_off_or_empty_is_damaged(name: str, tmp_path: Path) -> None:
    write, read, content = KINDS[name]
    path = tmp_path / name
    write(path, content)
    whole = path.read_bytes()
    for length in (0, 1, 15, 16, 17, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="damaged"):
            read(path)


def test_a_value_of_a_table_that_fits_its_checksums_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    sealed.write_table(path, TABLE)
    metadata = pq.read_schema(path).metadata
    changed = TABLE.set_column(1, "text", pa.array(["b", None, ""]))
    pq.write_table(changed.replace_schema_metadata(metadata), path)
    with pytest.raises(DataError, match="does not match its own digest"):
        sealed.read_table(path)


def test_metadata_of_a_table_is_kept_and_sealed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    sealed.write_table(path, TABLE.replace_schema_metadata({"source": "a.csv"}))
    assert sealed.read_table(path).schema.metadata == {b"source": b"a.csv"}
    metadata = pq.read_schema(path).metadata
    pq.write_table(TABLE.replace_schema_metadata({**metadata, b"source": b"b.csv"}), path)
    with pytest.raises(DataError, match="does not match its own digest"):
        sealed.read_table(path)


def test_others_read_them_without_this_package(tmp_path: Path) -> None:
    for name, (write, _, content) in KINDS.items():
        write(tmp_path / name, content)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ARRAY)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), ARRAY)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["one"], ARRAY)
    assert pq.read_table(tmp_path / "a.parquet").equals(TABLE)
    assert json.loads((tmp_path / "a.json").read_text())["values"] == CONTENT["values"]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_there_is_no_damage(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KINDS[name][1](tmp_path / name)


def test_an_object_with_another_seal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'seal' is the entry of its digest"):
        sealed.write_json(tmp_path / "a.json", {"seal": 1})


def test_an_object_of_another_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="no entry 'seal', unless another version has written it"):
        sealed.read_json(tmp_path / "a.json")


def test_nothing_is_pickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        sealed.write_array(tmp_path / "a.npy", np.array([object()]))
    with pytest.raises(ValueError, match="allow_pickle"):
        sealed.write_arrays(tmp_path / "a.npz", {"a": np.array([object()])})


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_leaves_the_older_file(name: str, tmp_path: Path, file_limit: Any) -> None:
    write, read, content = KINDS[name]
    path = tmp_path / name
    write(path, content)
    before = repr(read(path))
    with file_limit(20), pytest.raises(WriteError, match="cannot be written"):
        write(path, content)
    assert repr(read(path)) == before
