"""How well "none" is told from everything known: the one question that a score of "none" answers by itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional.checks import check_none_scores


class NoneDetectionScores(NamedTuple):
    """Detection of "none" among all rows, each field a float64 scalar, NaN where one kind of rows is missing.

    Attributes:
        auroc: Probability that a "none" row has a higher score than a known one, ties half.
        average_precision: Mean share of "none" among the rows that score at least as high as each "none" row.
        fpr95: Share of the known rows that are taken for "none" where at least 95 % of the "none" rows are found.
    """

    auroc: Tensor
    average_precision: Tensor
    fpr95: Tensor


def none_detection(none_scores: Tensor, labels: Tensor) -> NoneDetectionScores:
    """Measure how well a score tells "none" rows, the positives, from known ones.

    These are scikit-learn's ``roc_auc_score``, ``average_precision_score`` and the first point of its ``roc_curve``
    whose true positive rate is at least 0.95. Unlike Table 1, classes play no part, and average precision depends on
    the share of "none" rows.

    Args:
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Returns:
        The three figures.

    Raises:
        DataError: If shapes or ranges are wrong.

    Example:
        >>> scores, labels = torch.tensor([0.9, 0.4, 0.6, 0.1]), torch.tensor([-1, -1, 0, 1])
        >>> found = none_detection(scores, labels)
        >>> float(found.auroc), float(found.fpr95), round(float(found.average_precision), 4)
        (0.75, 0.5, 0.8333)
    """
    check_none_scores(none_scores, labels)
    is_none = labels == NONE
    none, known = none_scores[is_none].sort().values, none_scores[~is_none].sort().values
    if not len(none) or not len(known):
        undefined = none_scores.new_tensor(torch.nan, dtype=torch.float64)
        return NoneDetectionScores(undefined, undefined, undefined)
    below, up_to = (torch.searchsorted(known, none, right=right) for right in (False, True))
    hits = len(none) - torch.searchsorted(none, none)
    lowest = none[len(none) - (95 * len(none) + 99) // 100]  # of the 95 % that score highest, in whole rows
    return NoneDetectionScores(
        (below + up_to).double().mean() / (2 * len(known)),
        (hits.double() / (hits + len(known) - below)).mean(),
        (known >= lowest).double().mean(),
    )
