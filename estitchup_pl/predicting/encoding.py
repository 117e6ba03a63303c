"""From what people have to a store: a raw table is embedded as the model's training items were, arrays are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from estitchup_pl.embed import ImageEmbedder, Modality, embed_items, modality_of, moved_recipe
from estitchup_pl.embed.recipe import Recipe
from estitchup_pl.errors import ConfigError
from estitchup_pl.model import EmbeddingClassifier
from estitchup_pl.predicting.choosing import Choice, ChosenItems
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import (
    check_column,
    columns_within,
    open_embeddings,
    open_items,
    prepare_items,
    read_items,
)


@dataclass(frozen=True)
class RawItems:
    """A table of items with texts and pictures; what is not said is as it was when the model's items were embedded.

    Attributes:
        items: The table: CSV, parquet, JSON lines, or what else ``open_items`` reads.
        text: Columns with texts.
        image: Columns with pictures, or with their paths.
        root: Folder or zip file that the paths are relative to.
        id: Column with the unique name of each item.
        text_encoder: Folder or name of the text encoder, where it has moved.
        image_checkpoint: File with the weights of the image encoder, where it has moved.
    """

    items: str
    text: Sequence[str] = ()
    image: Sequence[str] = ()
    root: str | None = None
    id: str | None = None
    text_encoder: str | None = None
    image_checkpoint: str | None = None

    def embed(
        self, model: EmbeddingClassifier, out: Path, choice: Choice, *, other_encoder: bool = False, **options: Any
    ) -> EmbeddingStore:
        """Embed what is not embedded yet.

        Args:
            model: Whose checkpoint says how.
            out: Folder of the store.
            choice: Items that are embedded.
            other_encoder: Whether encoders need not be those that the model was trained on.
            options: Of :func:`~estitchup_pl.embed.embed_items`: ``on_error``, ``accelerator``, ``restart``.

        Raises:
            CheckpointError: If an encoder is not the one that the model was trained on.
            ConfigError: If the checkpoint does not say how, or a column does not exist.
            DataError: If the table cannot be used.
        """
        recipes = recipes_of(model)
        modalities = self.modalities(recipes)
        identifier = self._id_column(recipes)
        reader = open_items(self.items)
        for batch in islice(reader.batches(), 1):  # before any encoder is loaded
            for name, modality in modalities.items():
                check_column(modality.column, f"column of {name}", batch.schema.names, self.items)
            check_column(identifier, "id", batch.schema.names, self.items)
        same_as: Mapping[str, Recipe] = {} if other_encoder else recipes
        chosen = reader if choice.is_everything else ChosenItems(reader, identifier, choice)
        embed_items(out, chosen, modalities, identifier, devices=1, same_as=same_as, **options)
        return EmbeddingStore.open(out)

    def count(self, model: EmbeddingClassifier, choice: Choice) -> int:
        """How many items of the table are wanted; 1 where all are, without counting.

        Raises:
            ConfigError: If an id that is asked for is not there.
        """
        if choice.is_everything:
            return 1
        column, ids = self._id_column(recipes_of(model)), list[pa.Array]()
        for batch in open_items(self.items).batches():
            check_column(column, "id", batch.schema.names, self.items)
            ids.append(batch.column(column).cast(pa.string()))
        every = pa.chunked_array(ids, pa.string())
        choice.refuse_strangers(every, self.items)
        return int(np.count_nonzero(choice.wanted(every).to_numpy(zero_copy_only=False)))

    def _id_column(self, recipes: Mapping[str, Recipe]) -> str:
        return self.id or str(next(iter(recipes.values()))["id"])

    def modalities(self, recipes: Mapping[str, Recipe]) -> dict[str, Modality]:
        """Each modality as its recipe says, from the columns of this table."""
        places = self.text_encoder, self.image_checkpoint
        made = {name: modality_of(name, moved_recipe(recipe, *places)) for name, recipe in recipes.items()}
        pictures = {name for name, modality in made.items() if isinstance(modality.embedder, ImageEmbedder)}
        columns = {
            **assigned("image", self.image, {name: made[name].column for name in made if name in pictures}),
            **assigned("text", self.text, {name: made[name].column for name in made if name not in pictures}),
        }
        roots = {name: self.root or made[name].root for name in pictures}
        return {
            name: replace(modality, column=columns[name], root=roots.get(name, modality.root))
            for name, modality in made.items()
        }


@dataclass(frozen=True)
class Arrays:
    """Embeddings that are there already.

    Attributes:
        embeddings: For each modality ``FILE.npy``, ``FILE.npz[:NAME]`` or ``FILE.parquet:COLUMN``.
        items: Table with the ids of the rows; without one they are numbered.
        id: Its column with the unique name of each item.
    """

    embeddings: Mapping[str, str]
    items: str | None = None
    id: str | None = None

    def store(self, model: EmbeddingClassifier, out: Path, *, overwrite: bool) -> EmbeddingStore:
        """Write them as a store.

        Raises:
            ConfigError: If a column does not exist, or they are not the modalities of the model.
            DataError: If the table cannot be used.
            StoreError: If a file cannot be used, or they do not fit together.
        """
        for name in (*self.embeddings, *model.modalities):
            if name not in model.modalities or name not in self.embeddings:
                raise ConfigError(
                    f"modality: the model takes {', '.join(model.modalities)}, got {', '.join(self.embeddings)}"
                )
        sources = {name: open_embeddings(place) for name, place in self.embeddings.items()}
        rows = next(iter(sources.values())).shape[0]
        items = pa.table({"id": np.arange(rows)}) if self.items is None else self._table(self.items)
        return EmbeddingStore.create(out, items, sources, overwrite=overwrite, items_name=self.items or "rows")

    def _table(self, path: str) -> pa.Table:
        column = self.id or "id"
        reader = open_items(path, drop=sorted(columns_within(path, self.embeddings.values())))
        return prepare_items(read_items(reader, path, {column}), path, id_column=column)


def recipes_of(model: EmbeddingClassifier) -> dict[str, Recipe]:
    """How new items get the embeddings that a model takes.

    Raises:
        ConfigError: If its checkpoint does not say so of each modality.
    """
    known = model.trained_on.recipes if model.trained_on else {}
    missing = [name for name in model.modalities if name not in known]
    if missing:
        raise ConfigError(
            f"the checkpoint does not say how the embeddings of {', '.join(missing)} were made, since neither "
            "`estitchup embed` nor `estitchup train` wrote the store of its fit: give a store (--store) or arrays "
            "(--modality NAME=FILE) in the place of a table with texts and pictures"
        )
    return {name: known[name] for name in model.modalities}


def assigned(option: str, columns: Sequence[str], recorded: Mapping[str, str]) -> dict[str, str]:
    """Column of each modality: one of the name that it had in training stays with it, others take the places left.

    Args:
        option: What messages call the columns.
        columns: The columns of a call; none for those of the training.
        recorded: Column of each modality in training, in the order of the model.

    Raises:
        ConfigError: If there are not as many as modalities.

    Example:
        >>> assigned("text", ["about", "name"], {"name": "name", "description": "description"})
        {'name': 'name', 'description': 'about'}
    """
    if not columns:
        return dict(recorded)
    if len(columns) != len(recorded):
        raise ConfigError(
            f"{option}: the model takes {len(recorded)} such columns ({', '.join(recorded.values()) or 'none'}), got "
            f"{len(columns)}: {', '.join(columns)}"
        )
    same, rest = dict[str, str](), list(columns)
    for name, column in recorded.items():
        if column in rest:
            same[name] = column
            rest.remove(column)
    others = [name for name in recorded if name not in same]
    return {**same, **dict(zip(others, rest, strict=True))}
