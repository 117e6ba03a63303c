"""What a request asks about: embeddings or raw values of some items, checked before they meet those of others."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import ConfigError, DataError, EstitchupError, did_you_mean
from estitchup_pl.model.inputs import side_by_side

NPY_MAGIC: Final = b"\x93NUMPY"
_BASE64: Final = "base64"

Columns = Mapping[str, "list[Any] | npt.NDArray[Any]"]
"""What stands under the name of each modality: a list, one entry an item, or rows of embeddings."""


class RequestError(EstitchupError):
    """A request that is not answered, with the reason in a sentence for its sender.

    Attributes:
        status: Status of HTTP, 400 to 499.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What a request may hold.

    Attributes:
        max_items: Items at most.
        max_bytes: Size of its body at most.
        max_characters: Length of a text at most.

    Raises:
        ConfigError: If one of them is below 1.
    """

    max_items: int = 256
    max_bytes: int = 32 << 20
    max_characters: int = 100_000

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ConfigError(f"{limit.name}: expected at least 1, got {getattr(self, limit.name)}")


@dataclass(frozen=True)
class Asked:
    """Items of a request.

    Attributes:
        count: Number of items.
        embeddings: Finite float32 ``(count, dim)`` of the modalities that came as embeddings, by name.
        values: Raw values of the others, one entry an item: text, bytes of a file, or ``None`` where the item has none.
    """

    count: int
    embeddings: Mapping[str, npt.NDArray[np.float32]]
    values: Mapping[str, Sequence[str | bytes | None]]


def read_json(body: bytes) -> Columns:
    """Read ``{"title": [...], "photo": [...]}``.

    Raises:
        RequestError: If the body is no JSON, or no object of lists.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(column, list) for column in found.values()):
        raise RequestError(422, 'expected a JSON object with a list for each modality: {"title": ["…", "…"]}')
    return found


def read_parts(parts: Iterable[tuple[str, str | bytes]]) -> Columns:
    """Put the parts of a form together: each is a text or a file of one item, or an .npy file with rows of embeddings.

    Raises:
        RequestError: If an .npy file is broken, or stands beside other parts of its modality.
    """
    found: dict[str, list[Any]] = {}
    for name, content in parts:
        found.setdefault(name, []).append(content)
    return {name: _rows_or_items(name, column) for name, column in found.items()}


def _rows_or_items(name: str, column: list[Any]) -> list[Any] | npt.NDArray[Any]:
    if not any(isinstance(part, bytes) and part.startswith(NPY_MAGIC) for part in column):
        return column
    if len(column) > 1:
        raise RequestError(422, f"modality {name!r}: an .npy file holds the rows of all items, and stands alone")
    try:
        return read_npy(column[0])
    except ValueError as error:
        raise RequestError(422, f"modality {name!r}: the .npy file cannot be read ({error})") from None


def read_npy(content: bytes) -> npt.NDArray[Any]:
    """Read an .npy file from memory; nothing is allocated on the word of its header.

    Raises:
        ValueError: If it is broken, or holds Python objects.

    Example:
        >>> file = io.BytesIO()
        >>> np.save(file, np.float32([[1, 2]]))
        >>> read_npy(file.getvalue()).tolist()
        [[1.0, 2.0]]
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file)
    if dtype.kind not in "fiu":
        raise ValueError(f"expected numbers, got {dtype}")
    flat = np.frombuffer(content, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C")


def check_asked(
    columns: Columns, modalities: Mapping[str, int], encoded: Collection[str] = (), limits: Limits | None = None
) -> Asked:
    """Check what a request holds.

    Args:
        columns: What stands under each name.
        modalities: Width of each modality of the model, by name.
        encoded: Modalities whose raw values can be embedded.
        limits: What is too much.

    Raises:
        RequestError: With status 413 for too many items or too long a text, 422 for anything else: a modality that
            is missing or unknown, another width or number of items, numbers that are not finite, values of another
            type, raw values where no encoder is.

    Example:
        >>> check_asked({"photo": [[1, 2], [3, 4]]}, {"photo": 2}).embeddings["photo"].tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    limits = limits or Limits()
    count = _count(columns, modalities, limits)
    embeddings: dict[str, npt.NDArray[np.float32]] = {}
    values: dict[str, list[str | bytes | None]] = {}
    for name, column in columns.items():
        if not _is_raw(column):
            embeddings[name] = _embeddings(name, column, modalities[name])
        elif name in encoded:
            values[name] = [_value(f"{name}, item {row}", cell, limits) for row, cell in enumerate(column, 1)]
        else:
            raise RequestError(
                422, f"modality {name!r}: raw values, and this server has no encoder for them: send embeddings"
            )
    return Asked(count, embeddings, values)


def _count(columns: Columns, modalities: Mapping[str, int], limits: Limits) -> int:
    """Number of items, the same in each of the model's modalities."""
    for name in columns:
        if name not in modalities:
            known = ", ".join(modalities)
            raise RequestError(422, f"there is no modality {name!r}, only {known}{did_you_mean(name, modalities)}")
    for name in modalities:
        if name not in columns:
            raise RequestError(422, f"modality {name!r} is missing; of items that lack it send null, or rows of zeros")
    counts = {name: len(column) if isinstance(column, list) or column.ndim else 0 for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        spelled = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise RequestError(422, f"expected as many items of each modality: {spelled}")
    count = next(iter(counts.values()))
    if not count:
        raise RequestError(422, "expected at least one item, got none")
    if count > limits.max_items:
        raise RequestError(413, f"{count:,} items, more than {limits.max_items:,} in a request (max_items)")
    return count


def _is_raw(column: list[Any] | npt.NDArray[Any]) -> bool:
    """Whether a column holds raw values; of items that lack a modality there is nothing either way."""
    return isinstance(column, list) and any(isinstance(cell, str | bytes | dict) for cell in column)


def _embeddings(name: str, column: list[Any] | npt.NDArray[Any], dim: int) -> npt.NDArray[np.float32]:
    if isinstance(column, list):
        column = [[0.0] * dim if cell is None else cell for cell in column]
    try:
        rows: npt.NDArray[np.float32] = side_by_side({name: np.asarray(column)}, {name: dim}).numpy()
    except ValueError as error:  # ours, and NumPy's about rows of different lengths
        reason = str(error) if isinstance(error, DataError) else f"modality {name!r}: rows of different lengths"
        raise RequestError(422, reason) from None
    return rows


def _value(where: str, cell: Any, limits: Limits) -> str | bytes | None:
    if isinstance(cell, str) and len(cell) > limits.max_characters:
        raise RequestError(
            413, f"{where}: a text of {len(cell):,} characters, more than {limits.max_characters:,} (max_characters)"
        )
    if cell is None or isinstance(cell, str | bytes):
        return cell or None
    if isinstance(cell, dict) and list(cell) == [_BASE64] and isinstance(cell[_BASE64], str):
        try:
            return base64.b64decode(cell[_BASE64], validate=True) or None
        except binascii.Error as error:
            raise RequestError(422, f"{where}: no base64 ({error})") from None
    raise RequestError(
        422, f'{where}: expected a text, {{"base64": "…"}} of a file, or null, got {type(cell).__name__}'
    )
