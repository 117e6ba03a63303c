"""Raw values in memory through an encoder, for a server; stores of any size are made by ``estitchup embed``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.utilities import move_data_to_device

from estitchup_pl.embed import Modality, Prepared
from estitchup_pl.embed.preparing import split_batches
from estitchup_pl.errors import ConfigError
from estitchup_pl.store.blocks import inspect_block


class Encoded(NamedTuple):
    """Embeddings of some values.

    Attributes:
        rows: float32 ``(values, dim)``, zeros where there was nothing to embed.
        broken: Why a value could not be embedded, by its place.
    """

    rows: npt.NDArray[np.float32]
    broken: dict[int, str]


@torch.inference_mode()
def encode_values(modality: Modality, values: Sequence[Any]) -> Encoded:
    """Embed values; those that cannot be are told, and the others embedded all the same.

    They are rounded to the type in which the embeddings of the training items were stored.

    Args:
        modality: Whose encoder is loaded, in evaluation mode, on its device.
        values: Text, bytes or what else it takes; ``None`` for nothing.

    Example:
        >>> from estitchup_pl.embed import Embedder
        >>> class Length(Embedder):
        ...     "Counts letters."
        ...
        ...     dim = 1
        ...
        ...     def embed(self, batch):
        ...         return torch.tensor([[len(text)] for text in batch]).float()
        >>> encode_values(Modality("name", Length()), ["four", None, "seven"]).rows.tolist()
        [[4.0], [0.0], [5.0]]
    """
    embedder = modality.embedder
    rows, broken = np.zeros((len(values), embedder.dim), np.float32), dict[int, str]()
    given = [place for place, value in enumerate(values) if value is not None]
    ready: list[tuple[int, Prepared]] = []
    for place, result in zip(given, embedder.prepare_many([values[place] for place in given]), strict=True):
        if isinstance(result, Prepared):
            ready.append((place, result))
        elif result is not None:
            broken[place] = _reason(result)
    ready.sort(key=lambda entry: -entry[1].length)  # as for a store: little of a batch is padding
    for part in split_batches([prepared.length for _, prepared in ready], modality.batch_size):
        inputs = embedder.collate([prepared.data for _, prepared in ready[part]])
        embedded = embedder.embed(move_data_to_device(inputs, embedder.device)).float().cpu().numpy()
        with np.errstate(over="ignore"):  # seen below, as infinity
            rows[[place for place, _ in ready[part]]] = embedded.astype(modality.dtype)
    for place in np.flatnonzero(~inspect_block(rows).finite).tolist():
        broken[place] = "the encoder's output is not finite"
    return Encoded(rows, broken)


def _reason(error: Exception) -> str:
    """What is wrong with a value, for whoever has sent it: libraries speak of objects in memory, which says nothing."""
    if isinstance(error, ConfigError):  # of the server's configuration: a text where pictures are wanted
        return "it is a text, and a file is expected"
    return str(error).partition(" <")[0].partition("\n")[0] or type(error).__name__
