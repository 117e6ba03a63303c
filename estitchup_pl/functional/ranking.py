"""Exact AUROC and AUPR over all classes and "none", averaged by support (Table 1).

Only the rank of each positive row within its own column matters, one rank a row. So the columns are sorted four
at a time as integers, and nothing of the size of the probabilities is ever kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional.checks import check_none_scores, check_predictions


class RankingScores(NamedTuple):
    """One-against-rest scores of each class and, in the last column, of "none"; each ``(classes + 1,)``.

    Attributes:
        auroc: Area under the ROC curve, float64; NaN where a column has no positive or no negative row.
        aupr: Average precision, float64; NaN where a column has no positive row.
        support: Positive rows, int64.
    """

    auroc: Tensor
    aupr: Tensor
    support: Tensor


def ranking_scores(probabilities: Tensor, labels: Tensor, none_scores: Tensor | None = None) -> RankingScores:
    """Score how well each column ranks its positive rows above all others.

    Ties count half in AUROC and enter AUPR together, as in scikit-learn's ``roc_auc_score`` and
    ``average_precision_score``. "none" is ranked by its scores; where they are not given by one minus the greatest
    probability, without the rounding of that difference.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
            probability (the paper's) if not given.

    Returns:
        AUROC, AUPR and support, ``(classes + 1,)``, "none" last.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]])
        >>> scores = ranking_scores(probabilities, torch.tensor([0, 0, -1]))
        >>> scores.auroc, scores.support
        (tensor([1., nan, 1.], dtype=torch.float64), tensor([2, 0, 1]))
    """
    check_predictions(probabilities, labels)
    ranks = _rank_rows(probabilities, labels, none_scores)
    support = ranks.support
    doubled_wins = torch.zeros_like(support).index_add_(0, ranks.column, ranks.doubled_wins)
    auroc = doubled_wins.double() / (2 * support * (len(labels) - support))
    aupr = torch.zeros_like(auroc).index_add_(0, ranks.column, ranks.precision) / support
    return RankingScores(auroc, aupr, support)


class RowScores(NamedTuple):
    """What each row adds to the weighted averages of Table 1, each field float64 ``(rows,)``.

    Attributes:
        auroc: Share of the rows outside its class that this row outranks in the column of its class, ties half;
            NaN where all rows belong to one class.
        precision: Share of its own class among the rows that are ranked at least as high.
    """

    auroc: Tensor
    precision: Tensor


def row_scores(probabilities: Tensor, labels: Tensor, none_scores: Tensor | None = None) -> RowScores:
    """Take the weighted averages of Table 1 apart into one contribution a row.

    Each row is positive in one column, that of its class or of "none". The AUROC weighted by support is the mean
    over rows of the share of negative rows that they outrank, the weighted AUPR the mean of the precision at
    their rank. The mean over rows that are not NaN therefore equals :func:`weighted_auroc_aupr`.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
            probability (the paper's) if not given.

    Returns:
        Contributions, in the order of the rows.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.75, 0.125]])
        >>> scores = row_scores(probabilities, torch.tensor([0, 1, -1]))
        >>> scores.auroc, scores.precision.round(decimals=2)
        (tensor([0.7500, 1.0000, 0.5000], dtype=torch.float64), tensor([0.5000, 1.0000, 0.3300], dtype=torch.float64))
    """
    check_predictions(probabilities, labels)
    ranks = _rank_rows(probabilities, labels, none_scores)
    auroc = ranks.doubled_wins.double() / (2 * (len(labels) - ranks.support[ranks.column]))
    order = ranks.row.argsort()
    return RowScores(auroc[order], ranks.precision[order])


def weighted_auroc_aupr(
    probabilities: Tensor, labels: Tensor, none_scores: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Average AUROC and AUPR over all classes and "none", weighted by support, in one pass (Table 1).

    Classes without a positive row are left out, those without a negative row out of AUROC; none counts as 0.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
            probability (the paper's) if not given.

    Returns:
        Weighted AUROC and weighted AUPR, float64 scalars; NaN where no class has one.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]])
        >>> weighted_auroc_aupr(probabilities, torch.tensor([0, 1, -1]))
        (tensor(1., dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    scores = ranking_scores(probabilities, labels, none_scores)
    return support_weighted_mean(scores.auroc, scores.support), support_weighted_mean(scores.aupr, scores.support)


def weighted_auroc(probabilities: Tensor, labels: Tensor, none_scores: Tensor | None = None) -> Tensor:
    """AUROC averaged over all classes and "none" by support; see :func:`weighted_auroc_aupr`."""
    return weighted_auroc_aupr(probabilities, labels, none_scores)[0]


def weighted_aupr(probabilities: Tensor, labels: Tensor, none_scores: Tensor | None = None) -> Tensor:
    """AUPR averaged over all classes and "none" by support; see :func:`weighted_auroc_aupr`."""
    return weighted_auroc_aupr(probabilities, labels, none_scores)[1]


def support_weighted_mean(values: Tensor, support: Tensor) -> Tensor:
    """Average the values that are defined, weighted by support.

    Args:
        values: One value a class, NaN where undefined, ``(classes,)``.
        support: Weight of each class, ``(classes,)``.

    Returns:
        Weighted mean, a scalar; NaN where no class has a value and support.

    Example:
        >>> support_weighted_mean(torch.tensor([1.0, 0.5, torch.nan]), torch.tensor([3, 1, 0]))
        tensor(0.8750)
    """
    weights = support.where(~values.isnan(), 0)
    return (values.nan_to_num() * weights).sum() / weights.sum()


_COLUMNS_PER_SORT = 4
"""Bit patterns of floats in [0, 1] fill a quarter of the integers of their width: four columns share a sort."""


class _PositiveRanks(NamedTuple):
    """Each row in the one column in which it is positive, by column and score; fields ``(rows,)`` but ``support``."""

    row: Tensor
    column: Tensor
    support: Tensor
    doubled_wins: Tensor
    precision: Tensor


def _rank_rows(probabilities: Tensor, labels: Tensor, none_scores: Tensor | None) -> _PositiveRanks:
    if none_scores is not None:
        check_none_scores(none_scores, labels)
    rows, classes = probabilities.shape
    column = labels.where(labels != NONE, classes)
    support = column.bincount(minlength=classes + 1)
    column, row = column.sort()
    keys = _none_keys(probabilities, none_scores)
    row, below, up_to, positives_below, positives_up_to = _rank_positives(probabilities, keys, row, column, support)
    negatives_below = below - positives_below
    negatives_equal = up_to - positives_up_to - negatives_below
    precision = (support[column] - positives_below).double() / (rows - below)
    return _PositiveRanks(row, column, support, 2 * negatives_below + negatives_equal, precision)


def _none_keys(probabilities: Tensor, none_scores: Tensor | None) -> Tensor:
    """Integers ``(1, rows)`` that ascend with the scores of "none"."""
    if none_scores is not None:
        return _sort_keys(none_scores.unsqueeze(1))
    return ~_sort_keys(probabilities.amax(dim=1, keepdim=True))


def _rank_positives(probabilities: Tensor, none_keys: Tensor, row: Tensor, column: Tensor, support: Tensor) -> Tensor:
    """Rank each positive row within the column in which it is positive, a block of columns at a time.

    Args:
        probabilities: Float ``(rows, classes)``.
        none_keys: What "none" is ranked by, integers ``(1, rows)``.
        row: Row of each positive, int64 ``(positives,)``, grouped by column.
        column: Its column, ascending, int64 ``(positives,)``.
        support: Positives of each column, int64 ``(classes + 1,)``.

    Returns:
        Integers ``(5, positives)``, by ascending column and score, so that sums do not depend on the order of
        rows: the row of the positive, rows scored below it, rows scored below or equal, and the same two among
        the positives of its column.
    """
    blocks = torch.split(probabilities, _COLUMNS_PER_SORT, dim=1)
    widths = [*(block.shape[1] for block in blocks), 1]
    sizes = torch.stack([part.sum() for part in torch.split(support, widths)]).tolist()
    ranks, first = [], 0
    parts = zip([*blocks, None], widths, torch.split(row, sizes), torch.split(column, sizes), strict=True)
    for block, width, block_row, block_column in parts:
        if block_row.numel():
            keys = none_keys if block is None else _sort_keys(block)
            ranks.append(_rank_within(keys, block_row, block_column - first))
        first += width
    return torch.cat(ranks, dim=1) if ranks else row.new_empty(5, 0)


def _sort_keys(block: Tensor) -> Tensor:
    """Map scores ``(rows, columns)`` to integers ``(columns, rows)`` of the same order, columns ascending."""
    block = block.to(torch.promote_types(block.dtype, torch.float32))
    integer = torch.int64 if block.dtype == torch.float64 else torch.int32
    limits = torch.iinfo(integer)
    quarter = limits.max // 2 + 1
    first_key = limits.min + quarter * torch.arange(block.shape[1], dtype=integer, device=block.device)
    bits = block.T.contiguous().view(integer) & limits.max  # without the sign of -0.0
    return bits + first_key.unsqueeze(-1)


def _rank_within(keys: Tensor, row: Tensor, column: Tensor) -> Tensor:
    own, order = keys[column, row].sort()  # keys ascend with columns, so column still tells whose they are
    everyone = keys.flatten().sort().values  # one-dimensional integers: a radix sort on CPUs
    ranks = []
    for pool, start in ((everyone, column * keys.shape[1]), (own, torch.searchsorted(column, column))):
        ranks += [torch.searchsorted(pool, own, right=right) - start for right in (False, True)]
    return torch.stack([row[order], *ranks])
