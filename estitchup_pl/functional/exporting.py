"""The few operations that a graph of fixed operations, such as ONNX, has to do in another way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def row_blocks(rows: Tensor, size: int) -> Sequence[Tensor]:
    """Split rows into blocks of at most ``size``; a graph, whose number of rows is open, takes them all at once.

    Example:
        >>> [len(block) for block in row_blocks(torch.zeros(5, 1), 2)]
        [2, 2, 1]
    """
    blocks: Sequence[Tensor] = (rows,) if torch.compiler.is_exporting() else torch.split(rows, size)
    return blocks


def count_below(knots: Tensor, at: Tensor) -> Tensor:
    """Number of knots below each value; ONNX has no binary search, so a graph compares with all.

    Args:
        knots: Rising, ``(knots,)``.
        at: Float, any shape.

    Returns:
        Int64 in the shape of ``at``.

    Example:
        >>> count_below(torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 0.5, 1.0]))
        tensor([0, 1, 1])
    """
    if torch.compiler.is_exporting():
        return (knots < at.unsqueeze(-1)).sum(dim=-1)
    return torch.searchsorted(knots.contiguous(), at.contiguous())


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the types of the operands; a graph knows no other."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(device.type, enabled=False)


def falling(values: Tensor) -> Tensor:
    """Order each row from its greatest value down, int64 in the shape of ``values``; of equal ones the first leads.

    A graph leaves the order of equal ones to its runtime.

    Example:
        >>> falling(torch.tensor([[1.0, 2.0, 1.0]]))
        tensor([[1, 0, 2]])
    """
    if torch.compiler.is_exporting():
        return values.topk(values.shape[1], dim=1).indices
    return values.argsort(dim=1, descending=True, stable=True)
