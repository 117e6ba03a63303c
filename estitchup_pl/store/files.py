"""What lies on disk: header, item table and shards, each written whole or not at all.

The layout is a folder that numpy and pyarrow alone can read::

    store.json                        StoreHeader
    items.parquet                     one row an item
    embeddings/<modality>/00000.npy   rows x dim, float16 or float32, C order, NPY version 1

These are the building blocks of every writer of stores. ``store.json`` comes last, so a folder is a store if
and only if it has a valid one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.errors import StoreError

FORMAT_VERSION: Final = 1
"""Version of the format that this package writes, and the newest that it reads."""

HEADER_NAME: Final = "store.json"
ITEMS_NAME: Final = "items.parquet"
EMBEDDINGS_NAME: Final = "embeddings"
TEMPORARY_SUFFIX: Final = ".tmp"
DTYPES: Final = ("float16", "float32")

_MODALITY_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ModalityInfo:
    """What is known about the embeddings of one modality.

    Attributes:
        dim: Number of columns, at least 1.
        dtype: ``"float16"`` or ``"float32"``.
        encoder: Name of the model that made them, where known.
        pooling: How the model's outputs became one vector an item, where known.
        revision: Version of the model, where known.

    Raises:
        StoreError: For a ``dim`` below 1 or another ``dtype``.
    """

    dim: int
    dtype: str = "float32"
    encoder: str | None = None
    pooling: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise StoreError(f"dim of a modality must be a whole number of at least 1, got {self.dim!r}")
        if self.dtype not in DTYPES:
            raise StoreError(f"dtype of a modality must be one of {', '.join(DTYPES)}, got {self.dtype!r}")


@dataclass(frozen=True)
class StoreHeader:
    """Content of ``store.json``.

    Attributes:
        rows: Number of items, at least 1.
        rows_per_shard: Rows in every shard but the last one, which holds the rest.
        modalities: Description of each modality by name, in the store's order.
        format_version: Version of the format.

    Raises:
        StoreError: For counts below 1, no modality at all, or a name that cannot be a folder's.
    """

    rows: int
    rows_per_shard: int
    modalities: dict[str, ModalityInfo]
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("rows_per_shard", self.rows_per_shard)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise StoreError(f"{name} of a store must be a whole number of at least 1, got {count!r}")
        if not self.modalities:
            raise StoreError("a store needs at least one modality, got none")
        for name in self.modalities:
            check_modality_name(name)

    @property
    def shards(self) -> int:
        """Number of shards of each modality."""
        return -(-self.rows // self.rows_per_shard)

    def shard_range(self, index: int) -> tuple[int, int]:
        """First row of a shard and the row after its last."""
        start = index * self.rows_per_shard
        return start, min(start + self.rows_per_shard, self.rows)

    def to_json(self) -> str:
        """Text of ``store.json``."""
        content = asdict(self)
        return json.dumps({"format_version": content.pop("format_version"), **content}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: Path | str = HEADER_NAME) -> StoreHeader:
        """Read the text of ``store.json``; keys that this version does not know are passed over.

        Raises:
            StoreError: If the text is damaged or comes from a newer version of the format.
        """
        try:
            content = json.loads(text)
            version = content["format_version"]
            if version <= FORMAT_VERSION:
                modalities = {name: _modality_from_json(entry) for name, entry in content["modalities"].items()}
                return cls(content["rows"], content["rows_per_shard"], modalities, version)
        except KeyError as error:
            raise StoreError(_damaged(where, f"missing entry {error}")) from error
        except (TypeError, AttributeError, ValueError) as error:
            raise StoreError(_damaged(where, str(error))) from error
        raise StoreError(
            f"{where}: written in store format {version}; this version of estitchup_pl reads up to {FORMAT_VERSION}. "
            "Upgrade estitchup_pl, or create the store again with this version."
        )


def _modality_from_json(entry: dict[str, Any]) -> ModalityInfo:
    known = {name: entry.get(name) for name in ("encoder", "pooling", "revision")}
    return ModalityInfo(dim=entry["dim"], dtype=entry["dtype"], **known)


def _damaged(where: Path | str, reason: str) -> str:
    return (
        f"{where}: damaged ({reason}). Expected JSON with format_version, rows, rows_per_shard and modalities. "
        "Restore the file from a copy, or create the store again."
    )


def check_modality_name(name: str) -> None:
    """Raise :class:`StoreError` unless ``name`` can be a folder's name on every system."""
    if not isinstance(name, str) or not _MODALITY_NAME.fullmatch(name):
        raise StoreError(f"a modality's name consists of letters, digits, '_', '-' and '.', got {name!r}")


def shard_path(root: Path, modality: str, index: int) -> Path:
    """Path of one shard.

    Example:
        >>> shard_path(Path("products"), "title", 3).as_posix()
        'products/embeddings/title/00003.npy'
    """
    return Path(root) / EMBEDDINGS_NAME / modality / f"{index:05d}.npy"


def write_shard(root: Path, modality: str, index: int, array: npt.NDArray[Any]) -> None:
    """Write one shard ``(rows, dim)``: under a temporary name, flushed to the disk, then renamed.

    Raises:
        StoreError: If the array is not two-dimensional float16 or float32.
    """
    if array.ndim != 2 or array.dtype.name not in DTYPES:
        raise StoreError(
            f"shard {index} of modality {modality!r}: expected (rows, dim) of float16 or float32, "
            f"got shape {array.shape} of {array.dtype}"
        )
    write_npy(shard_path(root, modality, index), array.shape, array.dtype.name, [array])


def write_npy(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, blocks: Iterable[npt.NDArray[Any]]) -> None:
    """Write an array that comes in blocks of rows as one NPY version 1 file, whole or not at all."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": tuple(int(size) for size in shape),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).view(np.uint8).data)


def write_items(root: Path, table: pa.Table) -> None:
    """Write ``items.parquet``, whole or not at all."""
    with atomic_path(Path(root) / ITEMS_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=1 << 17)


def write_header(root: Path, header: StoreHeader) -> None:
    """Write ``store.json``; the last step, which makes a store of the folder."""
    with atomic_path(Path(root) / HEADER_NAME) as temporary:
        temporary.write_text(header.to_json(), encoding="utf-8")


def read_header(root: Path) -> StoreHeader:
    """Read ``store.json``.

    Raises:
        StoreError: If the folder is no store, or its header is damaged or of a newer version.
    """
    path = Path(root) / HEADER_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        what = "there is no such folder" if not Path(root).is_dir() else f"it has no {HEADER_NAME}"
        raise StoreError(
            f"{root} is not an embedding store: {what}. Expected the folder that `estitchup store create` or "
            f"`estitchup embed` wrote to its end ({HEADER_NAME} is written last)."
        ) from None
    except UnicodeDecodeError as error:
        raise StoreError(_damaged(path, str(error))) from error
    return StoreHeader.from_json(text, path)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it when the body ends well, remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Make a file's content, or the names in a folder, outlast a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
