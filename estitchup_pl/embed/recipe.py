"""Embedding new items as those of a store were: what its header, and the checkpoint of a model, say of how."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from estitchup_pl.embed.embedder import Embedder
from estitchup_pl.embed.modality import Modality
from estitchup_pl.errors import CheckpointError, ConfigError

Recipe = Mapping[str, Any]
"""``id``, ``root``, ``column``, ``pattern``, ``dtype`` and ``embedder``, in plain values."""

_PLACES: Final = ("encoder_name", "model", "checkpoint", "pretrained", "revision", "weights")
"""Where weights come from: files move, and are compared by their digest."""


def moved_recipe(recipe: Recipe, text_encoder: str | None = None, image_checkpoint: str | None = None) -> Recipe:
    """The same recipe where the files of its encoder lie elsewhere now; their weights are compared all the same.

    Args:
        recipe: As the header of a store has it.
        text_encoder: Folder or name of the model, of a text encoder.
        image_checkpoint: File with the weights, of an image encoder.

    Example:
        >>> recipe = {"column": "title", "embedder": {"class": "estitchup_pl.embed.text.TextEmbedder"}}
        >>> moved_recipe(recipe, text_encoder="models/bert")["embedder"]["model"]
        'models/bert'
    """
    settings = recipe["embedder"]
    places = {"TextEmbedder": ("model", text_encoder), "ImageEmbedder": ("checkpoint", image_checkpoint)}
    option, place = places.get(settings["class"].rpartition(".")[2], ("", None))
    return {**recipe, "embedder": {**settings, option: place}} if place else recipe


def modality_of(name: str, recipe: Recipe) -> Modality:
    """Make the modality that a recipe describes; its encoder is not loaded.

    Args:
        name: Name of the modality, for messages.
        recipe: As the header of a store has it.

    Raises:
        ConfigError: If the encoder is a class that is neither of this package nor imported already, or cannot be made.

    Example:
        >>> encoder = {"class": "estitchup_pl.embed.text.TextEmbedder", "encoder_name": "bert", "pooling": "first"}
        >>> recipe = {"id": "sku", "root": None, "column": "title", "pattern": None, "dtype": "float16"}
        >>> made = modality_of("title", {**recipe, "embedder": encoder})
        >>> made.column, made.embedder.pooling
        ('title', 'first')
    """
    settings = recipe["embedder"]
    kind = _embedder_class(name, settings["class"])
    try:
        embedder = kind.from_fingerprint(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"modality {name!r}: its encoder {settings['class']} cannot be made from what the checkpoint says "
            f"({error}): embed with `estitchup embed` and give the store"
        ) from error
    return Modality(recipe["column"], embedder, recipe["root"], recipe["pattern"], dtype=recipe["dtype"])


def refuse_other_recipe(name: str, recipe: Recipe, modality: Modality) -> None:
    """Raise :class:`CheckpointError` if an encoder, once loaded, is not the one of a recipe.

    Weights are compared by their digest, whatever file they come from.
    """
    recorded, found = recipe["embedder"], modality.settings()["embedder"]
    if recorded["weights"] != found["weights"]:
        raise CheckpointError(
            f"modality {name!r}: the weights of the encoder {found.get('encoder_name', found['class'])} are not those "
            "that the model was trained on, so its outputs would mean nothing: give the same ones, or train anew"
        )
    differing = [key for key in recorded if key not in _PLACES and recorded[key] != found.get(key)]
    if differing:
        key = differing[0]
        raise CheckpointError(
            f"modality {name!r}: {key} of the encoder is {found.get(key)!r}, and was {recorded[key]!r} when the model "
            "was trained, so its outputs would mean little: use the versions of libraries of then, or train anew"
        )


def _embedder_class(name: str, path: str) -> type[Any]:
    """The class of an encoder, if it is one of this package or imported already."""
    place, _, _ = path.rpartition(".")
    if place.partition(".")[0] == __name__.partition(".")[0]:
        with suppress(ImportError):
            importlib.import_module(place)
    for kind in _subclasses(Embedder):
        if f"{kind.__module__}.{kind.__qualname__}" == path:
            return kind
    raise ConfigError(
        f"modality {name!r} was embedded by {path}, a class of your own, which is not imported on a checkpoint's word: "
        "embed with `estitchup embed` and the configuration that names it, and give the store (--store)"
    )


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
