"""Files that end with a digest of what they hold: what is read from them is what was written, or they are damaged.

JSON keeps it in the entry ``seal``, parquet in the metadata of its schema, NPY and NPZ in 16 bytes after their end,
which numpy passes over. Every file is written whole or not at all.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import xxhash
from typing_extensions import Buffer, override

from estitchup_pl.errors import DataError
from estitchup_pl.store.files import DAMAGE, atomic_path

_SEAL: Final = "seal"
_BYTES: Final = 16
_CHANGED: Final = "it does not match its own digest, so it has changed since it was written"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object.

    Raises:
        ValueError: If it has an entry ``seal`` already.
    """
    if _SEAL in content:
        raise ValueError(f"{path}: {_SEAL!r} is the entry of its digest, and no other")
    sealed = {**content, _SEAL: _digest(json.dumps(content).encode())}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(sealed, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        DataError: If it is damaged.
        FileNotFoundError: If it is not there.
    """
    text = path.read_bytes()
    try:
        content: dict[str, Any] = json.loads(text)
        found = content.pop(_SEAL, None)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if found is None:
        raise _damaged(path, f"it has no entry {_SEAL!r}, unless another version has written it")
    if found != _digest(json.dumps(content).encode()):
        raise _damaged(path, _CHANGED)
    return content


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as NPY."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    _write_bytes(path, content)


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read what :func:`write_array` wrote; errors as in :func:`read_json`."""
    array: npt.NDArray[Any] = np.load(_read_bytes(path))
    return array


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name as NPZ."""
    content, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(content, allow_pickle=False, **named)
    _write_bytes(path, content)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what :func:`write_arrays` wrote; errors as in :func:`read_json`."""
    with np.load(_read_bytes(path)) as arrays:
        return dict(arrays)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as parquet."""
    sealed = {**(table.schema.metadata or {}), _SEAL: _table_digest(table)}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(sealed), temporary)


def read_table(path: Path) -> pa.Table:
    """Read what :func:`write_table` wrote, without its digest; errors as in :func:`read_json`."""
    content = path.read_bytes()
    try:
        table = pq.read_table(io.BytesIO(content))
        metadata = dict(table.schema.metadata or {})
        found = metadata.pop(_SEAL.encode(), b"")
        table = table.replace_schema_metadata(metadata or None)
        digest = _table_digest(table)
    except DAMAGE as error:
        raise _damaged(path, error) from error
    if found != digest.encode():
        raise _damaged(path, _CHANGED)
    return table


def _table_digest(table: pa.Table) -> str:
    """Digest of names, types, further metadata and values, however the values lie in memory."""
    columns = list(zip(table.schema.names, map(str, table.schema.types), strict=True))
    digesting = _Digesting()
    digesting.write(repr((columns, sorted((table.schema.metadata or {}).items()))).encode())
    pyarrow.csv.write_csv(table, digesting)
    return digesting.digest.hexdigest()


class _Digesting(io.RawIOBase):
    """A file that keeps nothing but the digest of what is written to it."""

    def __init__(self) -> None:
        self.digest = xxhash.xxh3_128()

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, content: Buffer, /) -> int:
        self.digest.update(content)
        return memoryview(content).nbytes


def _write_bytes(path: Path, content: io.BytesIO) -> None:
    content.write(xxhash.xxh3_128_digest(content.getbuffer()))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _read_bytes(path: Path) -> io.BytesIO:
    content = path.read_bytes()
    if xxhash.xxh3_128_digest(memoryview(content)[:-_BYTES]) != content[-_BYTES:]:
        raise _damaged(path, _CHANGED)
    return io.BytesIO(content)


def _digest(content: bytes | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(content)


def _damaged(path: Path, reason: object) -> DataError:
    return DataError(f"{path}: damaged ({reason})")
