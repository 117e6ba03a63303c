"""How rows become batches: samplers for any number of processes, readers, and the loader of both."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.errors import ConfigError
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows

PREFETCHED_BATCHES = 4
"""Batches that a thread reads ahead from a mapped store."""


class BatchSampler(Protocol):
    """Yields the batches of one process, as positions in the loader's rows."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int: ...


@dataclass
class ShuffledBatches:
    """Training batches: one permutation an epoch, shared by all processes and dealt out among them.

    The permutation is a function of (seed, epoch). Where the rows do not divide evenly, the first ones of the
    permutation are dealt out once more, so that all processes take the same number of steps.

    Attributes:
        length: Number of rows.
        batch_size: Rows of a batch on this process; the last batch of an epoch may be smaller.
        seed: Seed of the run.
        rank: Number of this process.
        world_size: Number of processes.
        epoch: Epoch whose permutation comes next; Lightning sets it.
        least: Fewest rows of a batch: a last one with fewer is joined to the one before.

    Raises:
        ConfigError: If not one batch can have ``least`` rows.
    """

    length: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    least: int = 1

    def __post_init__(self) -> None:
        if min(self.batch_size, self._share) < self.least:
            raise ConfigError(
                f"batch normalization needs batches of at least {self.least} rows: there are {self.length} training "
                f"rows on {self.world_size} processes in batches of {self.batch_size}. Use larger batches or fewer "
                "processes, or a network without it"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (called by Lightning)."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "shuffle", self.epoch))
        order = torch.randperm(self.length, generator=generator)
        order = torch.cat([order, order[: self._share * self.world_size - self.length]])
        ends = [self.batch_size * batch for batch in range(1, len(self))]
        return iter(torch.tensor_split(order[self.rank :: self.world_size], ends))

    def __len__(self) -> int:
        full, rest = divmod(self._share, self.batch_size)
        return full + (rest >= self.least)

    @property
    def _share(self) -> int:
        return math.ceil(self.length / self.world_size)


@dataclass
class EvenBatches:
    """Evaluation batches: every row once, in order, the same number of batches on every process.

    Sizes differ by one row at most. With fewer rows than processes some batches are empty, since a process
    that took fewer steps than the others could leave them waiting in a collective call.

    Attributes:
        length: Number of rows.
        batch_size: Rows of a batch at most.
        rank: Number of this process.
        world_size: Number of processes.
    """

    length: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[Tensor]:
        mine = torch.arange(self.length).tensor_split(self.world_size)[self.rank]
        return iter(mine.tensor_split(len(self)))

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.length / self.world_size) / self.batch_size)


class EmbeddingLoader:
    """Iterable of :class:`EmbeddingBatch`; what Lightning takes in place of a PyTorch ``DataLoader``.

    Args:
        reader: Where embeddings come from.
        rows: Store rows of this part, int64 ``(n,)``.
        labels: Class index or ``NONE`` of every row of the store, int64, on the reader's device.
        classes: Number of classes, which is the width of the targets.
        sampler: Batches of this process as positions in ``rows``.
    """

    def __init__(
        self, reader: EmbeddingReader, rows: Tensor, labels: Tensor, classes: int, sampler: BatchSampler
    ) -> None:
        self.reader = reader
        self.rows = rows
        self.labels = labels
        self.classes = torch.arange(classes, device=reader.device)
        self.sampler = sampler  # Lightning looks for these names, to set the epoch
        self.batch_sampler = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        batches = (self.rows[positions] for positions in self.sampler)
        for rows, embeddings in self.reader.read(batches):
            labels = self.labels[rows]
            targets = (labels.unsqueeze(1) == self.classes).float()  # none for NONE
            yield EmbeddingBatch(embeddings, targets, labels, rows)


class EmbeddingReader(Protocol):
    """Where embeddings come from, as concatenated float32."""

    device: torch.device

    def covers(self, rows: Rows) -> bool:
        """Tell whether every one of these rows can be read."""
        ...

    def read(self, batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Read batches of rows: pairs of rows ``(batch,)`` and embeddings ``(batch, dim)`` on the device."""
        ...


class ResidentRows(EmbeddingReader):
    """Embeddings of chosen rows in memory or on a GPU, in their stored type; upcast as they are gathered."""

    def __init__(self, store: EmbeddingStore, modalities: Sequence[str], rows: Rows, device: torch.device) -> None:
        self.device = device
        self.rows = torch.from_numpy(rows).to(device)
        self.embeddings = torch.from_numpy(store.gather(rows, modalities)).to(device)
        self._whole = len(rows) == len(store)

    @override
    def covers(self, rows: Rows) -> bool:
        return self._whole or bool(torch.isin(torch.from_numpy(rows), self.rows.cpu()).all())

    @override
    def read(self, batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in batches:
            rows = rows.to(self.device, non_blocking=True)
            positions = rows if self._whole else torch.searchsorted(self.rows, rows)
            yield rows, self.embeddings[positions].float()


class MappedRows(EmbeddingReader):
    """Embeddings read from the store's maps by a thread that stays a few batches ahead."""

    def __init__(self, store: EmbeddingStore, modalities: Sequence[str]) -> None:
        self.device = torch.device("cpu")
        self.store = store
        self.modalities = modalities

    @override
    def covers(self, rows: Rows) -> bool:
        return True

    @override
    def read(self, batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for rows in batches:
                ahead.append(pool.submit(self._gather, rows))
                if len(ahead) > PREFETCHED_BATCHES:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows, torch.from_numpy(self.store.gather(rows.numpy(), self.modalities)).float()
