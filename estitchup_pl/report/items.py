"""What the page shows of an item beside its id: its texts, and its picture where the file is there."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.data.datamodule import open_store
from estitchup_pl.embed.shown import picture_column, picture_reader, shortened, text_columns
from estitchup_pl.errors import DataError
from estitchup_pl.store import EmbeddingStore

MOST_PICTURES: Final = 300
"""Pictures on a page at most, of two or three kilobytes each."""

_SIDE: Final = 96
_CHARACTERS: Final = 120
_TEXTS: Final = 2


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
    _read: Callable[[Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.picture = picture_column(self.store)
        self.texts = text_columns(self.store, self.picture, _TEXTS)
        self._read = picture_reader(self.root)

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
                shown.append([item, shortened(text, _CHARACTERS), picture])
        return shown

    @property
    def _pictures(self) -> list[str]:
        return [self.picture] if self.picture else []

    def _thumbnail(self, cell: Any) -> str:
        """A small picture as an address; empty where there is no file, or none that is a picture."""
        picture = self._read(cell)
        if picture is None:
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
