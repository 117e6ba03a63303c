"""What people are shown of a store's items: which columns hold texts and pictures, and the pictures themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from estitchup_pl.embed.modality import cell_value, open_root
from estitchup_pl.embed.pictures import read_picture
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store import EmbeddingStore, flag_column
from estitchup_pl.tables import holds_files

if TYPE_CHECKING:
    from PIL import Image

_LOOKED_AT: Final = 100
"""Rows that say what a column holds."""
_PICTURE_FILE: Final = re.compile(r".+\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)


def picture_column(store: EmbeddingStore) -> str | None:
    """The first column whose cells are files, or most of whose first texts are names of picture files."""
    return next((name for name in store.column_names if _holds_pictures(store, name)), None)


def text_columns(store: EmbeddingStore, picture: str | None, most: int) -> list[str]:
    """The first columns with texts, besides ids, labels and parts of a split.

    Args:
        store: The store.
        picture: Column that is shown as pictures.
        most: Number of columns at most.
    """
    skipped = {"id", "label", "split", picture, *map(flag_column, store.modalities)}
    names = (name for name in store.column_names if name not in skipped and _is_text(_first(store, name).type))
    return list(names)[:most]


def shortened(text: str, characters: int) -> str:
    """A text of no more than so many characters, with an ellipsis where something is left out.

    Example:
        >>> shortened("a long story", 7)
        'a long…'
    """
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def picture_reader(root: str | Path) -> Callable[[Any], Image.Image | None]:
    """Return what makes a picture of a cell, ``None`` of one that is missing or no picture.

    Args:
        root: Folder or zip file that paths are relative to.

    Raises:
        ConfigError: If there is no such folder or zip file.
    """
    read_file = open_root(root)

    def read(cell: Any) -> Image.Image | None:
        value = cell_value(cell)
        if value is None:
            return None
        try:
            return read_picture(value if isinstance(value, bytes) else read_file(str(value)))
        except (ConfigError, DataError, OSError, ValueError):
            return None

    return read


def _first(store: EmbeddingStore, name: str) -> pa.ChunkedArray:
    return store.column(name).slice(0, _LOOKED_AT)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holds_pictures(store: EmbeddingStore, name: str) -> bool:
    kind = _first(store, name).type
    if holds_files(kind):
        return True
    cells = _first(store, name).drop_null().to_pylist() if _is_text(kind) else []
    return sum(bool(_PICTURE_FILE.fullmatch(cell)) for cell in cells) > len(cells) / 2
