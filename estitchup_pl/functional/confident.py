"""Which labels are likely wrong: confident learning on out-of-fold probabilities (Northcutt et al., 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_predictions


class LabelIssues(NamedTuple):
    """What confident learning says of each label, each field ``(rows,)``.

    Attributes:
        is_issue: Whether the label is likely wrong.
        suggested: The class that the row is likely of, int64; its label where that is no issue.
        quality: Probability of the label less that of the most likely other class, mapped to ``[0, 1]``; the
            lowest are the likeliest errors.
    """

    is_issue: Tensor
    suggested: Tensor
    quality: Tensor


def label_issues(probabilities: Tensor, labels: Tensor) -> LabelIssues:
    """Find labels that are likely wrong.

    A row is confidently of a class if its probability reaches the mean that this class has among the rows of its
    own label; of several such classes, of the most probable. Rows that are confidently of another class than their
    label says are issues: the off-diagonal of the confident joint.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``, of models that did not see these rows.
        labels: Class index of each row, int64 ``(rows,)``; no "none".

    Returns:
        An entry for each row.

    Raises:
        DataError: If shapes, types or ranges are wrong, or a label is "none".

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.2, 0.7], [0.95, 0.1]])
        >>> label_issues(probabilities, torch.tensor([0, 0, 1, 1])).is_issue
        tensor([False, False, False,  True])
    """
    check_predictions(probabilities, labels)
    if bool((labels < 0).any()):
        raise DataError('labels: label errors are sought among labelled rows, and some are "none": leave those out')
    classes = probabilities.shape[1]
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    counts = torch.bincount(labels, minlength=classes)
    # A class without rows has no threshold, so nothing is confidently of it.
    thresholds = torch.full((classes,), torch.inf, dtype=probabilities.dtype)
    sums = torch.zeros(classes, dtype=probabilities.dtype).index_add(0, labels, own)
    thresholds[counts > 0] = sums[counts > 0] / counts[counts > 0]
    confident = torch.where(probabilities >= thresholds, probabilities, -1.0)
    best, suggested = confident.max(dim=1)
    is_issue = (best >= 0) & (suggested != labels)
    others = probabilities.scatter(1, labels[:, None], -1.0).amax(dim=1).clamp(min=0)
    return LabelIssues(is_issue, torch.where(is_issue, suggested, labels), (own - others + 1) / 2)
