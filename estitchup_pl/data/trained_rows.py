"""What a fit leaves in its checkpoint about its rows, and what a test makes of it."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.data.splits import SplitProtocol
from estitchup_pl.errors import CheckpointError, SplitError
from estitchup_pl.model.trained_on import Encoders, TrainedOn, other_encoder
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows

OWN_PACKAGE = __name__.partition(".")[0]


def digest_ids(store: EmbeddingStore, rows: Rows) -> Rows:
    """64-bit digest of the id of each of these rows, int64 ``(rows,)``; the same on every machine and version."""
    return _digests(store.column("id").take(rows))


def trained_rows(ids: pa.Array, trained_on: TrainedOn | None) -> npt.NDArray[np.bool_] | None:
    """Which of some items have trained a model, ``(items,)``; ``None`` where that is not known."""
    return None if trained_on is None else np.isin(_digests(ids), trained_on.digests.numpy())


def _digests(ids: pa.Array | pa.ChunkedArray) -> Rows:
    texts: list[str] = ids.cast(pa.string()).to_pylist()
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def describe_encoders(store: EmbeddingStore, modalities: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """What the header of a store says about how the embeddings of these modalities were made."""
    infos = {name: store.modalities[name] for name in modalities}
    return {
        name: {"encoder": info.encoder, "pooling": info.pooling, "revision": info.revision}
        for name, info in infos.items()
    }


def describe_recipes(store: EmbeddingStore, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How new items get embeddings of these modalities, of those of which the store knows it."""
    recipes = {name: store.modalities[name].recipe for name in modalities}
    return {name: recipe for name, recipe in recipes.items() if recipe is not None}


def refuse_other_encoders(found: Encoders, trained_on: TrainedOn) -> None:
    """Raise :class:`CheckpointError` if embeddings were made in another way than those that trained a model."""
    if differing := other_encoder(trained_on.encoders, found):
        raise CheckpointError(
            "the embeddings of the store were made in another way than those that the model was trained on "
            f"({differing}), so its outputs would mean nothing: embed with the same encoder, or train anew; if you "
            "know that they are the same, --data.other_encoder true"
        )


def refuse_trained_rows(store: EmbeddingStore, rows: Rows, trained_on: TrainedOn, purpose: str) -> None:
    """Raise :class:`SplitError` if some of the rows, which are to be evaluated, have trained the model.

    Args:
        store: The store.
        rows: Rows to evaluate.
        trained_on: What the model was trained on.
        purpose: What is to be done with the rows, for the message.
    """
    count = int(np.isin(digest_ids(store, rows), trained_on.digests.numpy()).sum())
    if count:
        raise SplitError(
            f"{count:,} of {len(rows):,} rows to {purpose} were trained on, which flatters the model: leave data.split "
            f"out, which takes the split of the fit, {spell_split(trained_on.split)}, or give one whose rows to "
            f"{purpose} are new to the model. Rows are known by their ids: other items need other ids"
        )


def describe_split(split: SplitProtocol) -> dict[str, Any]:
    """Describe a split in plain values, ``class_path`` and ``init_args``, the latter ``None`` where they are not plain.

    Example:
        >>> from estitchup_pl.data.splits import ColumnSplit
        >>> describe_split(ColumnSplit("fold"))
        {'class_path': 'estitchup_pl.data.splits.ColumnSplit', 'init_args': {'column': 'fold'}}
    """
    path, described = f"{type(split).__module__}.{type(split).__qualname__}", cast(Any, split)
    try:
        arguments = {field.name: _plain(getattr(described, field.name)) for field in fields(described) if field.init}
    except TypeError:  # no dataclass, or an argument that is no plain value
        return {"class_path": path, "init_args": None}
    return {"class_path": path, "init_args": arguments}


def build_split(description: Mapping[str, Any]) -> SplitProtocol:
    """Make the split that a checkpoint describes, if it is one of this package.

    Raises:
        SplitError: If it is another, which a checkpoint's word alone does not get imported.
        CheckpointError: If there is no such split, or not with these arguments.
    """
    place, _, name = description["class_path"].rpartition(".")
    if place.partition(".")[0] != OWN_PACKAGE or description["init_args"] is None:
        raise SplitError(
            f"the model was trained with the split {spell_split(description)}, which is or holds a class of your own; "
            "none is imported on a checkpoint's word: give it again (data.split)"
        )
    arguments = {
        key: build_split(value) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in description["init_args"].items()
    }
    try:
        kind = vars(importlib.import_module(place))[name]
        if not issubclass(kind, SplitProtocol):
            raise TypeError(f"{name} is no split")
        built: SplitProtocol = kind(**arguments)
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint names the split {spell_split(description)}, which cannot be made ({error}): give "
            "data.split"
        ) from error
    return built


def _plain(value: object) -> Any:
    if isinstance(value, SplitProtocol) and (described := describe_split(value))["init_args"] is not None:
        return described
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{value!r} is no plain value")


def spell_split(description: Mapping[str, Any]) -> str:
    """Write what :func:`describe_split` has described as a call.

    Example:
        >>> spell_split({"class_path": "estitchup_pl.data.splits.ColumnSplit", "init_args": {"column": "fold"}})
        "ColumnSplit(column='fold')"
    """
    name = description["class_path"].rpartition(".")[2]
    arguments = description["init_args"] or {}
    spelled = (
        f"{key}={spell_split(value) if isinstance(value, Mapping) and 'class_path' in value else repr(value)}"
        for key, value in arguments.items()
    )
    return f"{name}({', '.join(spelled)})" if description["init_args"] is not None else description["class_path"]
