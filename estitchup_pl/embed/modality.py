"""One modality of a run: which column goes through which encoder, and how a cell becomes the value it gets."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import torch
from torch import Tensor, nn

from estitchup_pl.embed.embedder import Embedder
from estitchup_pl.errors import ConfigError, DataError

MAX_BYTES: Final = 256 << 20
"""Size of a file at most, unless said otherwise: a few kilobytes of a zip file can unpack to gigabytes."""


@dataclass
class Modality:
    """One modality of the store: which column goes through which encoder.

    Attributes:
        column: Column of the input table.
        embedder: The encoder.
        root: Folder or zip file that the column's paths are relative to; the encoder then gets the files' bytes.
            By default what the reader of the table says, if anything.
        pattern: Path of an item's file where the column holds something else, e.g. ``images/{}.jpg``: ``{}``
            stands for the value.
        batch_size: Values in a batch; does not change the embeddings beyond rounding.
        dtype: How the embeddings are stored.
        max_bytes: Size of a file at most, unpacked; a larger one is a value that cannot be read.
    """

    column: str
    embedder: Embedder
    root: str | None = None
    pattern: str | None = None
    batch_size: int = 64
    dtype: Literal["float16", "float32"] = "float16"
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        for option, count in (("batch_size", self.batch_size), ("max_bytes", self.max_bytes)):
            if count < 1:
                raise ConfigError(f"{option}: expected at least 1, got {count}")
        if self.pattern is not None and "{}" not in self.pattern:
            raise ConfigError(f"pattern: expected {{}} where the value is to stand, got {self.pattern!r}")

    def value(self, cell: Any) -> Any:
        """What a cell of the column holds for the encoder; ``None`` for nothing."""
        return cell_value(cell, self.pattern)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the embeddings; the embedder must be loaded."""
        encoder = {**self.embedder.fingerprint(), "weights": weights_digest(self.embedder)}
        return {"column": self.column, "pattern": self.pattern, "dtype": self.dtype, "embedder": encoder}


def cell_value(cell: Any, pattern: str | None = None) -> Any:
    """What a cell holds: ``str``, ``bytes``, another plain value, or ``None`` where it holds nothing.

    A Hugging Face image or audio cell, ``{"bytes": ..., "path": ...}``, holds its bytes, or else its path.

    Args:
        cell: Python value of the cell.
        pattern: Turns the value into a path: ``{}`` in it stands for the value.

    Example:
        >>> cell_value(1547, "images/{}.jpg")
        'images/1547.jpg'
        >>> cell_value({"bytes": None, "path": "a.jpg"})
        'a.jpg'
        >>> cell_value("  ") is None
        True
    """
    if isinstance(cell, dict) and {"bytes", "path"} >= cell.keys():
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or (isinstance(cell, str) and not cell.strip()) or cell == b"":
        return None
    return pattern.replace("{}", str(cell)) if pattern is not None else cell


def open_root(root: str | Path, max_bytes: int = MAX_BYTES) -> Callable[[str], bytes]:
    """Open a folder or a zip file and return the function that reads a file in it; threads may share it.

    Args:
        root: The folder or zip file.
        max_bytes: Size of a file at most, unpacked.

    Raises:
        ConfigError: If there is no such folder or zip file. The function raises :class:`DataError` for a file
            that is not there, cannot be read, is empty or too large, or lies outside the folder.
    """
    path = Path(root)
    if path.is_dir():
        return lambda name: _read_file(path, name, max_bytes)
    if not path.is_file():
        raise ConfigError(f"root: expected a folder or a zip file, there is nothing at {path}")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged table of contents fails in many ways
        raise ConfigError(f"root: {path} is neither a folder nor a readable zip file ({error})") from error
    return lambda name: _read_member(archive, name, max_bytes)


def _read_file(folder: Path, name: str, max_bytes: int) -> bytes:
    path = Path(os.path.normpath(folder.absolute() / name))  # as written: a link in the folder is whoever's who made it
    if not path.is_relative_to(os.path.normpath(folder.absolute())):
        raise DataError(f"file {name} lies outside {folder}, and is not read. Set root to a folder that holds it")
    try:
        with path.open("rb") as file:
            return _at_most(file, max_bytes, name)
    except FileNotFoundError:
        raise DataError(f"missing file {folder / name}") from None
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"file {folder / name} cannot be read: {error}") from error


def _read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    try:
        with archive.open(name) as file:
            return _at_most(file, max_bytes, name)
    except DataError:
        raise
    except KeyError:
        raise DataError(f"missing file {name} in {archive.filename}") from None
    except Exception as error:  # each way of packing fails with an exception of its own
        raise DataError(f"file {name} in {archive.filename} cannot be read: {error}") from error


def _at_most(file: IO[bytes], max_bytes: int, name: str) -> bytes:
    content = file.read(max_bytes + 1)
    if not content:  # as a member also seems whose entry in a zip file was lost
        raise DataError(f"file {name} is empty")
    if len(content) > max_bytes:
        raise DataError(f"file {name} has more than {max_bytes:,} bytes (max_bytes)")
    return content


def weights_digest(module: nn.Module) -> str:
    """Digest of all parameters and buffers, by name, shape and bits."""
    content = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(_bytes(tensor))
    return content.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
