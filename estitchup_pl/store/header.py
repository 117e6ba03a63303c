"""The header of a store, ``store.json``, which is written last: a folder is a store if and only if it has a valid one.

The layout is a folder that numpy and pyarrow alone can read::

    store.json                        StoreHeader, with digests of all other files
    items.parquet                     one row an item
    embeddings/<modality>/00000.npy   rows x dim, float16 or float32, C order, NPY version 1
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import xxhash

from estitchup_pl.errors import StoreError
from estitchup_pl.store.files import DTYPES, atomic_path

FORMAT_VERSION: Final = 2
"""Version of the format that this package writes and reads."""

HEADER_NAME: Final = "store.json"

_SEALED: Final = re.compile(r'(.*"digest": ")([0-9a-f]{32})("\n}\n)', re.DOTALL)
"""Text of a header: what its digest covers, the digest, the end."""

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
        recipe: How ``estitchup embed`` has made them, in plain values, so that new items can be embedded in the same
            way; ``None`` for those that it has not made. See :func:`~estitchup_pl.embed.modality_of`.

    Raises:
        StoreError: For a ``dim`` below 1, another ``dtype``, or what is no text.
    """

    dim: int
    dtype: str = "float32"
    encoder: str | None = None
    pooling: str | None = None
    revision: str | None = None
    recipe: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise StoreError(f"dim of a modality must be a whole number of at least 1, got {self.dim!r}")
        if self.dtype not in DTYPES:
            raise StoreError(f"dtype of a modality must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        for name in ("encoder", "pooling", "revision"):
            value = vars(self)[name]
            if value is not None and not (isinstance(value, str) and _is_text(value)):
                raise StoreError(f"{name} of a modality must be text or nothing, got {value!a}")
        if not isinstance(self.recipe, dict | None):
            raise StoreError(f"recipe of a modality must be plain values by name or nothing, got {self.recipe!a}")


@dataclass(frozen=True)
class StoreHeader:
    """Content of ``store.json``.

    Attributes:
        rows: Number of items, at least 1.
        rows_per_shard: Rows in every shard but the last one, which holds the rest.
        modalities: Description of each modality by name, in the store's order.
        digests: Digest of every other file of the store by its name relative to the folder, as
            :func:`~estitchup_pl.store.files.digest_file` gives it; empty for a store in memory.
        integer_ids: Whether the ids, text in the store, are whole numbers where they come from.
        format_version: Version of the format.

    Raises:
        StoreError: For counts below 1, no modality at all, a name that cannot be a folder's, or digests of files
            outside the store.
    """

    rows: int
    rows_per_shard: int
    modalities: dict[str, ModalityInfo]
    digests: dict[str, str] = field(default_factory=dict)
    integer_ids: bool = False
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("rows_per_shard", self.rows_per_shard)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise StoreError(f"{name} of a store must be a whole number of at least 1, got {count!r}")
        if not self.modalities:
            raise StoreError("a store needs at least one modality, got none")
        for name in self.modalities:
            check_modality_name(name)
        for name in self.digests:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise StoreError(f"digests of a store are of its own files, got one of {name!r}")

    @property
    def shards(self) -> int:
        """Number of shards of each modality."""
        return -(-self.rows // self.rows_per_shard)

    def shard_range(self, index: int) -> tuple[int, int]:
        """First row of a shard and the row after its last."""
        start = index * self.rows_per_shard
        return start, min(start + self.rows_per_shard, self.rows)

    def with_digests(self, digests: Mapping[str, str]) -> StoreHeader:
        """This header with the digests of more files."""
        return replace(self, digests={**self.digests, **digests})

    def to_json(self) -> str:
        """Text of ``store.json``; it ends with a digest of all that comes before."""
        content = asdict(self)
        text = json.dumps({"format_version": content.pop("format_version"), **content}, indent=2)
        covered = text.removesuffix("\n}") + ',\n  "digest": "'
        return f'{covered}{_digest(covered)}"\n}}\n'

    @classmethod
    def from_json(cls, text: str, where: Path | str = HEADER_NAME) -> StoreHeader:
        """Read the text of ``store.json``; keys that this version does not know are passed over.

        Raises:
            StoreError: If the text is damaged, was edited, or is in another version of the format.
        """
        try:
            content = json.loads(text)
            version = content["format_version"]
            if version == FORMAT_VERSION:
                modalities = {name: _modality_from_json(entry) for name, entry in content["modalities"].items()}
                integer_ids = content.get("integer_ids") is True
                header = cls(
                    content["rows"], content["rows_per_shard"], modalities, dict(content["digests"]), integer_ids
                )
                _check_digest(text)
                return header
        except KeyError as error:
            raise StoreError(_damaged(where, f"missing entry {error}")) from error
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise StoreError(_damaged(where, str(error))) from error
        raise StoreError(
            f"{where}: written in store format {version}; this version of estitchup_pl reads format {FORMAT_VERSION}. "
            "Use the version that wrote the store, or create it again with this one."
        )


def _is_text(value: str) -> bool:
    """Whether a string can be written: half a character, which JSON allows, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _check_digest(text: str) -> None:
    parts = _SEALED.fullmatch(text)
    if parts is None or _digest(parts[1]) != parts[2]:
        raise ValueError("it does not match its own digest, so it has changed since it was written")


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())


def _modality_from_json(entry: dict[str, Any]) -> ModalityInfo:
    known = {name: entry.get(name) for name in ("encoder", "pooling", "revision", "recipe")}
    return ModalityInfo(dim=entry["dim"], dtype=entry["dtype"], **known)


def _damaged(where: Path | str, reason: str) -> str:
    return (
        f"{where}: damaged ({reason}). Expected JSON with format_version, rows, rows_per_shard, modalities, digests "
        "and digest. Restore the file from a copy, or create the store again."
    )


def check_modality_name(name: str) -> None:
    """Raise :class:`StoreError` unless ``name`` can be a folder's name on every system."""
    if not isinstance(name, str) or not _MODALITY_NAME.fullmatch(name):
        raise StoreError(f"a modality's name consists of letters, digits, '_', '-' and '.', got {name!r}")


def write_header(root: Path, header: StoreHeader) -> None:
    """Write ``store.json``; the last step, which makes a store of the folder."""
    with atomic_path(Path(root) / HEADER_NAME) as temporary:
        temporary.write_bytes(header.to_json().encode())


def read_header(root: Path) -> StoreHeader:
    """Read ``store.json``.

    Raises:
        StoreError: If the folder is no store, or its header is damaged or of a newer version.
    """
    path = Path(root) / HEADER_NAME
    try:
        text = path.read_bytes().decode()  # as it is: reading text would change ends of lines
    except (FileNotFoundError, NotADirectoryError):
        what = "there is no such folder" if not Path(root).is_dir() else f"it has no {HEADER_NAME}"
        raise StoreError(
            f"{root} is not an embedding store: {what}. Expected the folder that `estitchup store create` or "
            f"`estitchup embed` wrote to its end ({HEADER_NAME} is written last)."
        ) from None
    except UnicodeDecodeError as error:
        raise StoreError(_damaged(path, str(error))) from error
    return StoreHeader.from_json(text, path)
