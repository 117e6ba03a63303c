"""From a table's cell to the value that an embedder gets: text as it is, files and binary columns as bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from estitchup_pl.errors import ConfigError, DataError


def open_root(root: str | Path) -> Callable[[str], bytes]:
    """Open a folder or a zip file and return the function that reads a file in it; threads may share it.

    Raises:
        ConfigError: If there is no such folder or zip file. The function raises :class:`DataError` for a file
            that is not there.
    """
    path = Path(root)
    if path.is_dir():
        return lambda name: _read_file(path / name)
    if not path.is_file():
        raise ConfigError(f"root: expected a folder or a zip file, there is nothing at {path}")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ConfigError(f"root: {path} is neither a folder nor a readable zip file ({error})") from error
    return lambda name: _read_member(archive, name)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"missing file {path}") from None


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise DataError(f"missing file {name} in {archive.filename}") from None


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
