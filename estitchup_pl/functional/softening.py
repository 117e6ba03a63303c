"""Label softening (Sec. 2.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError


def soften_labels(targets: Tensor, softness: float | Tensor, *, class_mask: Tensor | None = None) -> Tensor:
    """Subtract ``softness`` from the classes of a target and spread a total of one over all other classes.

    The classes with zero probability are found first. Positive entries lose ``softness``, clamped at zero; each
    zero entry gets ``1 / (number of zeros in its row)``. Rows then do not sum to one, on purpose: the
    classifier's outputs are independent sigmoids (Secs. 2.4 and 3.3). A row without zeros only gets the
    subtraction. With an augmentation, soften the mixed target, not the targets that go into the mix.

    Args:
        targets: Float ``(*stack, batch, classes)`` in ``[0, 1]``.
        softness: "Label Softness" in ``[0, 1]``; a tensor must broadcast to ``targets``: ``(*stack, 1, 1)``.
        class_mask: False at columns that are no class of a run, bool, broadcasts to ``targets``; such columns
            are left as they are. Every column is a class if not given.

    Returns:
        Softened targets in ``[0, 1]``, in the shape and type that came in.

    Raises:
        ConfigError: If ``softness`` lies outside ``[0, 1]``.

    Example:
        >>> soften_labels(torch.tensor([[0.75, 0.25, 0.0, 0.0]]), 0.25)
        tensor([[0.5000, 0.0000, 0.5000, 0.5000]])
    """
    amount = torch.as_tensor(softness, dtype=targets.dtype)  # a number is checked without waiting for a GPU
    if not bool(((amount >= 0) & (amount <= 1)).all()):
        raise ConfigError(f"softness: expected a number from 0 to 1, got {softness}; 0.1 is usual")
    return spread_softly(targets, amount.to(targets.device), class_mask)


def spread_softly(targets: Tensor, softness: Tensor, class_mask: Tensor | None) -> Tensor:
    """Do what :func:`soften_labels` does without looking at the values, for which a GPU would have to be waited for."""
    is_zero = targets == 0
    if class_mask is not None:
        is_zero = is_zero & class_mask
    share = is_zero.sum(dim=-1, keepdim=True).to(torch.promote_types(targets.dtype, torch.float32)).reciprocal()
    return torch.where(is_zero, share.to(targets.dtype), (targets - softness).clamp(min=0))
