"""Thresholds by what a decision costs, by a bound on the error of what is accepted, and by how much is accepted.

They stand beside the two heuristics of the paper, :func:`~estitchup_pl.functional.select_threshold`. All take
validation rows: their acceptance (one minus the score of "none"; with the paper's score the confidence), the class
predicted and the label. A row is accepted where its acceptance exceeds the threshold.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.cuts import best_cut, count_cuts, cut_at, possible_cuts


def least_cost_threshold(
    acceptance: Tensor,
    predicted: Tensor,
    labels: Tensor,
    wrong_class: float = 1.0,
    missed_none: float = 1.0,
    question: float = 0.2,
    none_share: float | None = None,
) -> Tensor:
    """Choose the threshold whose decisions cost least on the rows.

    A row that is accepted costs nothing if its class is right, ``wrong_class`` if it is another and ``missed_none`` if
    the row is "none". A row that is rejected costs a ``question`` to a person, whatever it is. The search is exact; of
    equally cheap thresholds the lowest wins.

    Args:
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        predicted: Class of greatest probability, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        wrong_class: Cost of an in-distribution row accepted with another class, at least 0.
        missed_none: Cost of a "none" row that is accepted, at least 0.
        question: Cost of a row that is rejected, at least 0.
        none_share: Share of "none" where the threshold will be used, in ``(0, 1)``; that of the rows if not given.

    Returns:
        Threshold in ``[0, 1]``, a scalar in the type of ``acceptance``.

    Raises:
        ConfigError: If a cost is negative or ``none_share`` is no share.
        DataError: If shapes or ranges are wrong, there are no rows, or ``none_share`` is given and one kind is missing.

    Example:
        >>> acceptance, predicted = torch.tensor([0.9, 0.7, 0.5, 0.3]), torch.tensor([0, 1, 0, 1])
        >>> labels = torch.tensor([0, 1, 1, -1])
        >>> least_cost_threshold(acceptance, predicted, labels, question=0.5)
        tensor(0.6000)
        >>> least_cost_threshold(acceptance, predicted, labels, wrong_class=0.1, missed_none=5, question=0.5)
        tensor(0.4000)
    """
    for name, cost in (("wrong_class", wrong_class), ("missed_none", missed_none), ("question", question)):
        if not 0 <= cost < math.inf:
            raise ConfigError(f"{name}: expected a cost of at least 0, got {cost}")
    counts, ascending = count_cuts(acceptance, predicted, labels)
    known, none = _weights(counts.rows - counts.none_rows, counts.none_rows, none_share)
    rejected_known = counts.rejected - counts.rejected_none
    cost_known = counts.accepted_wrong().double() * wrong_class + rejected_known * question
    cost_none = counts.accepted_none().double() * missed_none + counts.rejected_none * question
    return best_cut(ascending, -(cost_known * known + cost_none * none))


def bounded_error_threshold(
    acceptance: Tensor,
    predicted: Tensor,
    labels: Tensor,
    error: float = 0.05,
    confidence: float = 0.95,
    known_only: bool = False,
) -> Tensor:
    """Choose the lowest threshold at which the error among accepted items is bounded, with a chosen probability.

    With probability ``confidence`` over the draw of the rows, at most a share ``error`` of all *new* items that exceed
    the threshold are wrong. The bound speaks of items drawn as the rows were. With all rows, an accepted "none" row is
    an error, and the bound holds where unknown items are as frequent, and as unlike the known classes, as those of the
    rows. With ``known_only`` it speaks of items of known classes alone, and holds whatever the unknown ones are.

    Learn-then-Test with fixed-sequence testing (Angelopoulos et al., 2021): "the error exceeds the bound" is tested by
    the binomial tail of the errors among the rows accepted (Clopper and Pearson's bound), first with few rows
    accepted, then with one more at a time, until a test fails; no test costs another its level. That holds for any
    number of rows if, as the threshold falls, the error among what is accepted does not.

    Args:
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        predicted: Class of greatest probability, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        error: Greatest share of wrong decisions among accepted items, in ``(0, 1)``.
        confidence: Probability that the bound holds, in ``(0, 1)``.
        known_only: Look at rows of known classes alone.

    Returns:
        Threshold in ``[0, 1]``, a scalar in the type of ``acceptance``; 1, which accepts nothing, where no threshold
        can be vouched for: the surest rows are too often wrong, or there are too few rows. The least, all of them
        right, are ``log(1 - confidence) / log(1 - error)``: 59 for 0.05 and 0.95.

    Raises:
        ConfigError: If ``error`` or ``confidence`` is no share.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> acceptance = torch.linspace(0.001, 0.999, 500)
        >>> labels = (acceptance < 0.2).long()  # wrong below 0.2, right above
        >>> bounded_error_threshold(acceptance, torch.zeros(500, dtype=torch.int64), labels, error=0.1)
        tensor(0.1360)
    """
    for name, share in (("error", error), ("confidence", confidence)):
        if not 0 < share < 1:
            raise ConfigError(f"{name}: expected a share between 0 and 1, got {share}")
    if known_only:
        known = labels != NONE
        acceptance, predicted, labels = acceptance[known], predicted[known], labels[known]
    counts, ascending = count_cuts(acceptance, predicted, labels)
    cuts = possible_cuts(ascending).flip(0)
    accepted = counts.rows - cuts
    tested = accepted >= _first_tested(counts.rows, error, confidence)
    cuts, accepted = cuts[tested], accepted[tested]
    wrong = accepted - counts.accepted_right[cuts]
    passes = binom.cdf(wrong.cpu().numpy(), accepted.cpu().numpy(), error) <= 1 - confidence
    reached = int(np.logical_and.accumulate(passes).sum())
    return cut_at(ascending, cuts[reached - 1]) if reached else ascending.new_tensor(1.0)


def _first_tested(rows: int, error: float, confidence: float) -> int:
    """Rows accepted at the first test: a tenth more than need be, so that a single error does not end the search."""
    least = math.ceil(math.log(1 - confidence) / math.log(1 - error))
    return max(min(least + rows // 10, rows), least)


def coverage_threshold(
    acceptance: Tensor, predicted: Tensor, labels: Tensor, coverage: float = 0.95, known_only: bool = True
) -> Tensor:
    """Choose the highest threshold that still accepts a wanted share of the rows.

    Args:
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        predicted: Class of greatest probability, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        coverage: Share to accept, in ``(0, 1]``.
        known_only: Of the rows of known classes, right or wrong; otherwise of all rows.

    Returns:
        Threshold in ``[0, 1]``, a scalar in the type of ``acceptance``; rows of acceptance 0 are never accepted.

    Raises:
        ConfigError: If ``coverage`` is no share.
        DataError: If shapes or ranges are wrong, or there is no such row.

    Example:
        >>> acceptance = torch.tensor([0.9, 0.7, 0.5, 0.3])
        >>> coverage_threshold(acceptance, torch.zeros(4).long(), torch.tensor([0, 0, 0, -1]), coverage=0.6)
        tensor(0.6000)
    """
    if not 0 < coverage <= 1:
        raise ConfigError(f"coverage: expected a share above 0 and up to 1, got {coverage}")
    if known_only:
        known = labels != NONE
        acceptance, predicted, labels = acceptance[known], predicted[known], labels[known]
    counts, ascending = count_cuts(acceptance, predicted, labels)
    if not counts.rows:
        raise DataError(f"no {'row of a known class' if known_only else 'row'} to choose a threshold on")
    accepted = counts.rows - counts.rejected
    enough = accepted >= math.ceil(coverage * counts.rows - 1e-9)
    return best_cut(ascending, torch.where(enough, -accepted, -counts.rows - 1))


def _weights(known: int, none: int, none_share: float | None) -> tuple[float, float]:
    """Weight of a row of each kind."""
    if not known + none:
        raise DataError("no row to choose a threshold on")
    if none_share is None:
        return 1.0, 1.0
    if not 0 < none_share < 1:
        raise ConfigError(f"none_share: expected a share between 0 and 1, got {none_share}")
    if not known or not none:
        raise DataError(f'none_share: needs "none" rows and others, got {none} and {known}')
    return (1 - none_share) / known, none_share / none
