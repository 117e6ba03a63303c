"""Proper scores: least where the probabilities are what the labels are drawn from."""

from __future__ import annotations

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional.checks import check_predictions


def brier_score(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Brier score over the rows of known classes, summed over classes.

    The outputs are independent sigmoids, one yes-or-no question a class, and are scored as such: nothing is normalised
    to a sum of one. Where rows do sum to one, this is the usual multi-class score (scikit-learn's
    ``brier_score_loss``). "none" rows have no class to be scored by and are left out.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Returns:
        Mean over rows of the sum of squared differences, in ``[0, classes]``, float64 scalar; NaN without such rows.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> brier_score(torch.tensor([[0.75, 0.5], [0.5, 0.5]]), torch.tensor([0, -1]))
        tensor(0.3125, dtype=torch.float64)
    """
    known, targets = _known(probabilities, labels)
    return (known - targets.double()).square().sum(dim=1).mean()


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the rows of known classes, summed over the classes' yes-or-no questions.

    ``-log p`` of the class alone would be least where all outputs are one: with independent sigmoids the other classes'
    ``-log(1 - p)`` belong to it. It is the training loss times the number of classes. Probabilities are kept a float32
    epsilon (1.2e-7) away from 0 and 1, where a sigmoid in float32 ends, so that a single row cannot be infinite.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Returns:
        Mean over rows in nats, float64 scalar; NaN without such rows.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> negative_log_likelihood(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))  # twice log 2
        tensor(1.3863, dtype=torch.float64)
    """
    known, targets = _known(probabilities, labels)
    margin = torch.finfo(torch.float32).eps
    likelihood = torch.where(targets, known, 1 - known).clamp(margin, 1 - margin)
    return -likelihood.log().sum(dim=1).mean()


def _known(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of known classes, float64, and the answers to their questions, bool; both ``(rows, classes)``."""
    check_predictions(probabilities, labels)
    known = labels != NONE
    classes = torch.arange(probabilities.shape[1], device=labels.device)
    return probabilities[known].double(), labels[known].unsqueeze(1) == classes
