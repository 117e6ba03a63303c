"""What turns raw values into vectors: the class to subclass for any kind of data."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Prepared:
    """One value, ready for the encoder.

    Attributes:
        data: What :meth:`Embedder.collate` gets a list of.
        length: Length by which a bucketing embedder's batches are put together, e.g. tokens.
        cut: How much was cut off the value's end, in the unit of ``length``; reported as truncation.
    """

    data: Any
    length: int = 0
    cut: int = 0


class Embedder(nn.Module, ABC):
    """A frozen encoder that maps raw values (texts, pictures, sounds ...) to vectors (Secs. 2.1, 3.2).

    Write two methods: the property :attr:`dim` and :meth:`embed`. Everything else has a default. Values reach
    the encoder in four steps; the first two run in threads, in parallel to the last::

        value --prepare--> prepared value --collate--> batch --(device transfer)--> batch --embed--> (batch, dim)

    A value is a ``str``, a number, or ``bytes``: the content of a binary column, or of the file that the column
    names when the modality has a ``root``. Values that are null never arrive here.

    A subclass may build its model in ``__init__`` or, better, in :meth:`load`, which runs once in every process
    before the first batch. Any model assigned to an attribute is moved to the device and put in ``eval`` mode.

    Attributes:
        bucketing: Prepare a whole shard at a time and batch values of like :attr:`Prepared.length`. For values
            whose prepared form is small and whose cost grows with their length.

    Example:
        >>> class Letters(Embedder):
        ...     '''Counts of a, b and c.'''
        ...
        ...     @property
        ...     def dim(self):
        ...         return 3
        ...
        ...     def embed(self, batch):
        ...         return torch.tensor([[text.count(letter) for letter in "abc"] for text in batch]).float()
        >>> Letters().embed(["abba", "cab"]).tolist()
        [[2.0, 2.0, 0.0], [1.0, 1.0, 1.0]]
    """

    bucketing: ClassVar[bool] = False

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of columns of the embedding; asked for after :meth:`load`."""

    @abstractmethod
    def embed(self, batch: Any) -> Tensor:
        """Embed one batch.

        Args:
            batch: What :meth:`collate` returned, its tensors on the device of this module. By default the list
                of values.

        Returns:
            Float tensor ``(batch, dim)``, rows in the order of the batch.
        """

    def load(self) -> None:
        """Build the model. Runs once in every process, before anything else is asked for."""

    def prepare(self, value: Any) -> Any:
        """Turn one raw value into what the encoder needs (decode, resize ...); runs in a thread, on the CPU.

        Returns:
            The prepared value, or ``None`` if there is nothing in it to embed.

        Raises:
            Exception: Any exception means that this value is broken; its message becomes the reason reported.
        """
        return value

    def prepare_many(self, values: Sequence[Any]) -> list[Prepared | Exception | None]:
        """Prepare several values at once; override instead of :meth:`prepare` where that is faster.

        Returns:
            For each value what became of it: ready, broken (the exception that says why) or empty (``None``).
        """
        return [self._prepare_or_error(value) for value in values]

    def collate(self, prepared: list[Any]) -> Any:
        """Put prepared values together to one batch (pad, stack ...); runs in a thread, on the CPU."""
        return prepared

    def describe(self) -> dict[str, str | None]:
        """Entries ``encoder``, ``pooling`` and ``revision`` of the store's header."""
        return {"encoder": _class_path(type(self)), "pooling": None, "revision": None}

    def fingerprint(self) -> dict[str, Any]:
        """Settings that decide the embeddings. A run is resumed only with the very same ones.

        By default the class and every public attribute that is plain data (numbers, strings, lists ...). The
        weights of the model are compared beside it, whatever this returns.
        """
        settings = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        settings.pop("training")
        plain = {name: _plain(value) for name, value in settings.items() if _is_plain(value)}
        return {"class": _class_path(type(self)), **plain}

    @classmethod
    def from_fingerprint(cls, settings: Mapping[str, Any]) -> Self:
        """Make the embedder that :meth:`fingerprint` has described, not loaded.

        By default each constructor argument is the setting of the same name, where there is one.
        """
        return cls(**{name: settings[name] for name in inspect.signature(cls).parameters if name in settings})

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters; the CPU for an embedder without any."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def _prepare_or_error(self, value: Any) -> Prepared | Exception | None:
        try:
            data = self.prepare(value)
        except Exception as error:
            return error
        return None if data is None else Prepared(data)


def _class_path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, bool | int | float | str | Path)


def _plain(value: Any) -> Any:
    """Plain data as it comes back from JSON, so that settings compare equal after a round trip."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
