"""The batches of all runs, side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce

import lightning.pytorch as pl
import numpy as np

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.data.loading import EmbeddingLoader
from estitchup_pl.errors import ConfigError
from estitchup_pl.seeding import run_seed
from estitchup_pl.stacking.run import Run

StackedBatch = dict[int, EmbeddingBatch]
"""Batch of each run that takes part in a step, by the run's position in the stack."""


class StackedDataModule(pl.LightningDataModule):
    """Serves the batches of all runs of a stack; the embeddings are held once.

    An epoch is as long as the longest of the runs; a run with fewer rows takes no part in its last steps.

    Args:
        runs: The runs, see :class:`Run`.

    Attributes:
        finished: Positions of the runs that take no further part.

    Raises:
        ConfigError: If the runs have different stores or modalities.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self.runs = tuple(runs)
        self.finished: set[int] = set()
        first = self.runs[0].data
        for run in self.runs:
            if run.data.store is not first.store or list(run.data.modalities) != list(first.modalities):
                raise ConfigError(
                    f"{run.name}: all runs of a stack share one store and its modalities; open the store once and "
                    "give the open store to every data module"
                )

    def setup(self, stage: str) -> None:
        """Set up the data of each run, and let all read from one place."""
        for run in self.runs:
            run.attach(self.trainer)  # type: ignore[arg-type]  # Lightning calls setup when there is one
            with run_seed(run.seed):
                run.data.setup(stage)
        rows = reduce(np.union1d, (run.data.parts.train for run in self.runs))
        reader = self.runs[0].data.open_reader(rows)
        for run in self.runs:
            run.data.reader = reader

    def train_dataloader(self) -> StackedLoader:
        """Training batches of all runs."""
        loaders = {}
        for position, run in enumerate(self.runs):
            with run_seed(run.seed):
                loaders[position] = run.data.train_dataloader()
        return StackedLoader(loaders, self.finished)

    def on_after_batch_transfer(self, batch: StackedBatch, dataloader_idx: int) -> StackedBatch:
        """Scale each run's embeddings as that run does."""
        return {run: self.runs[run].model.on_after_batch_transfer(own, dataloader_idx) for run, own in batch.items()}


class StackedLoader:
    """Iterable over the batches of several loaders, step by step.

    Args:
        loaders: Loader of each run.
        finished: Runs that take no further part, from the next epoch on; it may then end before :meth:`__len__`.
    """

    def __init__(self, loaders: Mapping[int, EmbeddingLoader], finished: Collection[int] = ()) -> None:
        self.loaders = loaders
        self.finished = finished
        self.sampler = self  # Lightning looks for these names, to set the epoch
        self.batch_sampler = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (called by Lightning)."""
        for loader in self.loaders.values():
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return max(map(len, self.loaders.values()))

    def __iter__(self) -> Iterator[StackedBatch]:
        batches = {run: iter(loader) for run, loader in self.loaders.items() if run not in self.finished}
        while step := {run: batch for run, own in batches.items() if (batch := next(own, None)) is not None}:
            yield step
