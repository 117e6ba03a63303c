"""A table of items with texts and pictures, and what turns it into a store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from estitchup_pl.embed import ImageEmbedder, Modality, TextEmbedder, embed_items
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.tables import open_items

TEXT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
IMAGE_ENCODER = "efficientnet_b0.ra_in1k"


@dataclass(frozen=True)
class Catalogue:
    """A table of items.

    Attributes:
        items: File or folder of the table: CSV, parquet, JSON lines, or what else ``open_items`` reads.
        label: Column with the class of each item; empty where it is not known.
        text: Columns with texts.
        image: Columns with pictures, or with their paths.
        root: Folder or zip file that the paths are relative to.
        id: Column with the unique name of each item.
        text_encoder: Name or folder of a model of transformers.
        image_encoder: Name of a model of timm.
        image_checkpoint: File with its weights; they are downloaded if not given.

    Raises:
        ConfigError: If it has neither texts nor pictures.
    """

    items: str
    label: str
    text: Sequence[str] = ()
    image: Sequence[str] = ()
    root: str | None = None
    id: str = "id"
    text_encoder: str = TEXT_ENCODER
    image_encoder: str = IMAGE_ENCODER
    image_checkpoint: str | None = None

    def __post_init__(self) -> None:
        if not self.text and not self.image:
            raise ConfigError("nothing to embed: name columns with texts (--text) or with pictures (--image)")

    def embed(self, out: Path, accelerator: str = "auto") -> str:
        """Embed what is not embedded yet; a value that cannot be is left out and listed.

        Args:
            out: Folder of the store.
            accelerator: Kind of device.

        Returns:
            What was done, in some lines.

        Raises:
            ConfigError: If a column does not exist, or the store was made in another way.
            DataError: If the table cannot be used.
        """
        reader = open_items(self.items)
        for batch in islice(reader.batches(), 1):  # before any encoder is loaded
            self._check_columns(batch.schema.names)
        options: dict[str, Any] = {"on_error": "missing", "accelerator": accelerator, "devices": 1}
        summary = embed_items(out, reader, self._modalities(), self.id, self.label, **options)
        return str(summary or out)

    def recipe(self, out: Path) -> dict[str, Any]:
        """The configuration of ``estitchup embed`` that does the same."""
        texts = {
            name: {"column": column, "embedder": {"class_path": "estitchup_pl.embed.TextEmbedder", "init_args": args}}
            for name, column, args in self._texts()
        }
        images = {
            name: {
                "column": column,
                "root": self.root,
                "embedder": {"class_path": "estitchup_pl.embed.ImageEmbedder", "init_args": args},
            }
            for name, column, args in self._images()
        }
        items = {"class_path": "estitchup_pl.tables.TableFile", "init_args": {"path": self.items}}
        common = {"out": str(out), "items": items, "id": self.id, "label": self.label, "on_error": "missing"}
        return {**common, "modalities": {**texts, **images}}

    def _modalities(self) -> dict[str, Modality]:
        texts = {name: Modality(column, TextEmbedder(**args)) for name, column, args in self._texts()}
        images = {name: Modality(column, ImageEmbedder(**args), self.root) for name, column, args in self._images()}
        return {**texts, **images}

    def _texts(self) -> list[tuple[str, str, dict[str, Any]]]:
        options = {"model": self.text_encoder, "layers": [-1], "pooling": "mean", "strip_markup": True}
        return [(modality_name(column), column, options) for column in self.text]

    def _images(self) -> list[tuple[str, str, dict[str, Any]]]:
        options = {"model": self.image_encoder, "checkpoint": self.image_checkpoint}
        return [(modality_name(column), column, options) for column in self.image]

    def _check_columns(self, known: Sequence[str]) -> None:
        wanted = {"label": [self.label], "id": [self.id], "text": self.text, "image": self.image}
        for option, columns in wanted.items():
            for column in columns:
                if column not in known:
                    raise ConfigError(
                        f"{option}: {self.items} has no column {column!r}{did_you_mean(column, known)}; it has: "
                        f"{', '.join(known)}"
                    )
        names = [modality_name(column) for column in (*self.text, *self.image)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two columns to embed would both be called {name!r}: rename one in the table")


def modality_name(column: str) -> str:
    """Name of the modality of a column: what a folder can be called on every system.

    Example:
        >>> modality_name("Product name (en)")
        'Product_name_en'
    """
    return re.sub(r"[^\w.-]+", "_", column, flags=re.ASCII).strip("_.") or "column"
