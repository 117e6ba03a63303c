"""The mean loss of an epoch, and the batch that was the first to have none."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from estitchup_pl.errors import DivergedError

_KEPT: Final = 1024
"""Batches whose losses are kept, each for itself, until they are added up."""

_SHOWN: Final = 8


class EpochLoss:
    """Adds up the losses of an epoch's batches without a wait for the device at each.

    Example:
        >>> epoch = EpochLoss()
        >>> epoch.add(torch.tensor(1.0), torch.tensor([4, 2, 7]))
        >>> epoch.add(torch.tensor(3.0), torch.tensor([5]))
        >>> epoch.mean()
        tensor(1.5000)
    """

    def __init__(self) -> None:
        self._recent: list[tuple[Tensor, Tensor]] = []
        self._sum = torch.zeros(())
        self._rows = 0
        self._batches = 0
        self._first_bad: tuple[int, list[int]] | None = None

    def add(self, loss: Tensor, rows: Tensor) -> None:
        """Take in a batch: its loss, a scalar, and its rows ``(*stack, batch)``."""
        self._recent.append((loss.detach(), rows))
        if len(self._recent) == _KEPT:
            self._collapse()

    def total(self) -> Tensor:
        """Sum over the rows of the epoch so far, a scalar."""
        self._collapse()
        return self._sum

    def mean(self) -> Tensor:
        """Mean over the rows of the epoch so far, a scalar; NaN without one."""
        return self.total() / self._rows

    def check(self, epoch: int) -> None:
        """Raise an error if the loss of a batch was not finite.

        Raises:
            DivergedError: Naming the rows of the first such batch.
        """
        self._collapse()
        if self._first_bad is not None:
            batch, rows = self._first_bad
            shown = ", ".join(map(str, rows[:_SHOWN])) + (", …" if len(rows) > _SHOWN else "")
            raise DivergedError(
                f"the loss is not finite in epoch {epoch}, first in batch {batch} (rows {shown} of the store). Nothing "
                "of this epoch is saved: the last checkpoint is that of the epoch before. Lower the learning rate, or "
                "look at the embeddings of these rows"
            )

    def _collapse(self) -> None:
        if not self._recent:
            return
        losses = torch.stack([loss.float() for loss, _ in self._recent])
        sizes = [rows.shape[-1] for _, rows in self._recent]
        bad = ~losses.isfinite()
        if self._first_bad is None and bool(bad.any()):
            place = int(bad.int().argmax())
            self._first_bad = self._batches + place, self._recent[place][1].flatten().tolist()
        rows = torch.tensor(sizes, dtype=losses.dtype, device=losses.device)
        self._sum = self._sum.to(losses.device) + (losses * rows).sum()
        self._rows += sum(sizes)
        self._batches += len(sizes)
        self._recent = []
