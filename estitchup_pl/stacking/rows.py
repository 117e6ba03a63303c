"""The rows of all runs on one device, and their batches epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from estitchup_pl.functional.random_bits import random_words, shuffle, to_beta, to_partners
from estitchup_pl.stacking.run import Run


@dataclass(frozen=True)
class StackRows:
    """Training rows of all runs.

    Attributes:
        embeddings: Those of all rows of any run, once, ``(n, dim)``.
        positions: Where each run's rows stand in them, int64 ``(runs, most rows)``, padded with 0.
        labels: Class of each, int64 likewise.
        count: Rows of each run, int64 ``(runs,)``.
        batch_size: Rows of a batch.
    """

    embeddings: Tensor
    positions: Tensor
    labels: Tensor
    count: Tensor
    batch_size: int

    @classmethod
    def gather(cls, runs: Sequence[Run], device: torch.device) -> StackRows:
        """Read them from the store that all runs share."""
        data = runs[0].data
        rows = reduce(np.union1d, (run.data.parts.train for run in runs))
        positions = [torch.from_numpy(np.searchsorted(rows, run.data.parts.train)) for run in runs]
        labels = [torch.from_numpy(run.data.labels.index(run.model.class_names)[run.data.parts.train]) for run in runs]
        return cls(
            torch.from_numpy(data.store.gather(rows, list(data.modalities))).to(device),
            pad_sequence(positions, batch_first=True).to(device),
            pad_sequence(labels, batch_first=True).to(device),
            torch.tensor([len(own) for own in positions], device=device),
            data.batch_size,
        )


class EpochBatches(NamedTuple):
    """Batches of all runs in one epoch, and who is mixed with whom.

    Attributes:
        rows: Rows of each batch that are no padding, int64 ``(steps, runs)``.
        own: Where the items stand in the embeddings, int64 ``(steps, runs, batch)``.
        labels: Their classes, likewise.
        partners: Where their partners stand, ``(steps, mixing runs, batch)``; mixing runs come last in a stack.
        partner_labels: Their classes, likewise.
        lam: Shares that the items keep of themselves, float32, likewise.
    """

    rows: Tensor
    own: Tensor
    labels: Tensor
    partners: Tensor
    partner_labels: Tensor
    lam: Tensor


def draw_epoch(stack: StackRows, shuffle_key: Tensor, pairs_key: Tensor, alpha: Tensor, epoch: Tensor) -> EpochBatches:
    """Shuffle the rows of each run, cut them into batches, and draw partners and shares for the runs that mix.

    Args:
        stack: The rows.
        shuffle_key: Keys of all runs, int64 ``(runs, 2)``.
        pairs_key: Keys of the runs that mix, int64 ``(mixing runs, 2)``.
        alpha: Parameters of their Beta distributions, ``(mixing runs,)``.
        epoch: Number of the epoch, int64, a scalar.
    """
    runs, most = stack.positions.shape
    batch = stack.batch_size
    steps = -(-most // batch)
    none = torch.zeros_like(epoch)
    words = random_words(shuffle_key, torch.stack([epoch, none, none]), most)
    order = torch.nn.functional.pad(shuffle(words, stack.count), (0, steps * batch - most))
    own, labels = (
        values.gather(1, order).view(runs, steps, batch).transpose(0, 1) for values in (stack.positions, stack.labels)
    )
    step = torch.arange(steps, device=epoch.device)
    rows = (stack.count - step[:, None] * batch).clamp(0, batch)

    counter = torch.stack([epoch.expand(steps), step, none.expand(steps)], dim=-1)[:, None]
    # Two words an item, side by side, so that a batch with fewer items draws the same for those that it has.
    words = random_words(pairs_key, counter, 2 * batch).view(steps, len(alpha), batch, 2)
    mixing = slice(runs - len(alpha), runs)
    partners = to_partners(words[..., 0], rows[:, mixing])
    return EpochBatches(
        rows,
        own.contiguous(),
        labels.contiguous(),
        own[:, mixing].gather(-1, partners),
        labels[:, mixing].gather(-1, partners),
        to_beta(words[..., 1], alpha[:, None]),
    )
