"""What the page shows of an item beside its id: its texts, and its picture where the file is there."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.data.datamodule import open_store
from estitchup_pl.embed.modality import cell_value, open_root
from estitchup_pl.embed.pictures import read_picture
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store import EmbeddingStore, flag_column

MOST_PICTURES: Final = 300
"""Pictures on a page at most, of two or three kilobytes each."""

_SIDE: Final = 96
_CHARACTERS: Final = 120
_TEXTS: Final = 2
_PICTURE_FILE: Final = re.compile(r".+\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)


@dataclass
class ShownItems:
    """Texts and pictures of a store's items by their ids.

    Args:
        store: The store.
        root: Folder or zip file that paths of pictures are relative to.

    Attributes:
        texts: Columns whose texts are shown, at most two.
        picture: Column with pictures or with paths of picture files, if there is one.
    """

    store: EmbeddingStore
    root: str | Path = "."
    texts: Sequence[str] = field(init=False)
    picture: str | None = field(init=False)
    _read: Callable[[str], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.picture = next((name for name in self.store.column_names if self._holds_pictures(name)), None)
        skipped = {"id", "label", "split", self.picture, *map(flag_column, self.store.modalities)}
        texts = (name for name in self.store.column_names if name not in skipped and _is_text(self._first(name).type))
        self.texts = list(texts)[:_TEXTS]
        self._read = open_root(self.root)

    def of(self, ids: Iterable[str]) -> list[list[str]]:
        """Id, text and picture of items that have either; the picture as an address that holds it, or an empty text."""
        wanted = list(dict.fromkeys(ids))
        rows = pc.index_in(pa.array(wanted, pa.string()), self.store.column("id").cast(pa.string()).combine_chunks())
        columns = {name: self.store.column(name).take(rows).to_pylist() for name in (*self.texts, *self._pictures)}
        shown, pictures = [], 0
        for place, item in enumerate(wanted):
            text = " · ".join(str(columns[name][place]) for name in self.texts if columns[name][place])
            picture = self._thumbnail(columns[self.picture][place]) if self.picture and pictures < MOST_PICTURES else ""
            pictures += bool(picture)
            if text or picture:
                shown.append([item, text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…", picture])
        return shown

    @property
    def _pictures(self) -> list[str]:
        return [self.picture] if self.picture else []

    def _first(self, name: str) -> pa.ChunkedArray:
        return self.store.column(name).slice(0, 100)

    def _holds_pictures(self, name: str) -> bool:
        """Whether cells of a column are files, or most of its first texts names of picture files."""
        kind = self._first(name).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind):
            return True
        cells = self._first(name).drop_null().to_pylist() if _is_text(kind) else []
        return sum(bool(_PICTURE_FILE.fullmatch(cell)) for cell in cells) > len(cells) / 2

    def _thumbnail(self, cell: Any) -> str:
        """A small picture as an address; empty where there is no file, or none that is a picture."""
        value = cell_value(cell)
        if value is None:
            return ""
        try:
            picture = read_picture(value if isinstance(value, bytes) else self._read(str(value)))
        except (ConfigError, DataError, OSError, ValueError):
            return ""
        picture.thumbnail((_SIDE, _SIDE))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=70)
        return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def shown_items(config: dict[str, Any], root: str | Path = ".") -> ShownItems | None:
    """Open the items of a study's store; ``None`` where the store is not there any more.

    Args:
        config: The study's configuration in plain values.
        root: Folder or zip file that paths of pictures are relative to.

    Raises:
        ConfigError: If there is no such folder or zip file.
    """
    try:
        return ShownItems(open_store(config["store"]), root)
    except (KeyError, DataError, OSError):
        return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
