"""What every threshold would decide, counted once: the common ground of all choices of one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from estitchup_pl.batch import NONE
from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_probabilities


class CutCounts(NamedTuple):
    """Counts of right decisions after rejecting the ``rejected`` rows of least confidence, int64."""

    rejected: Tensor
    accepted_right: Tensor
    rejected_none: Tensor
    rows: int
    none_rows: int

    def after_rejecting(self, rejected: Tensor) -> CutCounts:
        """The same at other numbers of rejected rows, ``(cuts,)``."""
        return self._replace(
            rejected=rejected,
            accepted_right=self.accepted_right[rejected],
            rejected_none=self.rejected_none[rejected],
        )

    def check_both_kinds(self) -> None:
        """Refuse rows of one kind.

        Raises:
            DataError: If no row is "none", or all are.
        """
        for kind, rows in (('"none"', self.none_rows), ("in-distribution", self.rows - self.none_rows)):
            if rows == 0:
                raise DataError(
                    f"no {kind} row among the {self.rows} rows to choose a confidence threshold on: "
                    "validation needs held-out classes (the threshold split removes some from the training "
                    "rows) beside known ones"
                )

    def accepted_wrong(self) -> Tensor:
        """In-distribution rows that are accepted with another class."""
        return self.rows - self.rejected - self.accepted_right - self.accepted_none()

    def accepted_none(self) -> Tensor:
        """Rows of "none" that are accepted."""
        return self.none_rows - self.rejected_none

    def accuracy(self) -> Tensor:
        """Share of all rows that are decided rightly."""
        return (self.accepted_right + self.rejected_none).double() / self.rows

    def accuracy_id(self) -> Tensor:
        """Share of the in-distribution rows that are accepted with their own class."""
        return self.accepted_right.double() / (self.rows - self.none_rows)

    def accuracy_none(self) -> Tensor:
        """Share of the "none" rows that are rejected."""
        return self.rejected_none.double() / self.none_rows

    def ratio_id(self) -> Tensor:
        """TP / (FP + FN) of all in-distribution classes together."""
        false_positives = self.rows - self.rejected - self.accepted_right
        false_negatives = self.rows - self.none_rows - self.accepted_right
        return self.accepted_right.double() / (false_positives + false_negatives)

    def ratio_none(self) -> Tensor:
        """TP / (FP + FN) of "none"."""
        false_positives = self.rejected - self.rejected_none
        false_negatives = self.none_rows - self.rejected_none
        return self.rejected_none.double() / (false_positives + false_negatives)


def count_cuts(confidence: Tensor, predicted: Tensor, labels: Tensor) -> tuple[CutCounts, Tensor]:
    """Count right decisions for every number of rejected rows; also return the confidences, ascending.

    Raises:
        DataError: If the shapes differ or a confidence lies outside ``[0, 1]``.
    """
    if not confidence.shape == predicted.shape == labels.shape or confidence.ndim != 1:
        raise DataError(
            "confidence, predicted and labels: expected three equal shapes (rows,), "
            f"got {tuple(confidence.shape)}, {tuple(predicted.shape)} and {tuple(labels.shape)}"
        )
    check_probabilities(confidence, "confidence")
    ascending, order = confidence.sort()
    is_none = labels[order] == NONE
    is_right = (predicted == labels)[order] & ~is_none
    rejected_right, rejected_none = _prefix_sums(is_right), _prefix_sums(is_none)
    counts = CutCounts(
        rejected=torch.arange(len(labels) + 1, device=labels.device),
        accepted_right=rejected_right[-1] - rejected_right,
        rejected_none=rejected_none,
        rows=len(labels),
        none_rows=int(rejected_none[-1]),
    )
    return counts, ascending


def _prefix_sums(flags: Tensor) -> Tensor:
    return pad(flags.cumsum(dim=0), (1, 0))


def best_cut(ascending: Tensor, goodness: Tensor) -> Tensor:
    """Threshold of the best way to part rows, the lowest of equally good ones.

    It lies midway between the greatest confidence rejected (or 0) and the smallest one accepted (or 1); where rounding
    would carry it onto the latter it is the former, so that ``confidence > threshold``, in the type of the
    confidences, always yields the very decisions that were evaluated.

    Args:
        ascending: Confidences in ``[0, 1]``, ascending, ``(rows,)``; rows of equal confidence stand or fall together.
        goodness: Value of rejecting so many rows, ``(rows + 1,)``.

    Returns:
        Threshold in ``[0, 1]``, a scalar in the type of ``ascending``.
    """
    places = possible_cuts(ascending)
    return cut_at(ascending, places[goodness[places].argmax()])


def possible_cuts(ascending: Tensor) -> Tensor:
    """Numbers of rows that a threshold can reject, ascending, int64 ``(cuts,)``; see :func:`best_cut`."""
    parted = pad(ascending, (1, 0), value=0.0) < pad(ascending, (0, 1), value=1.0)
    parted[-1] = True  # rejecting every row is possible even where a confidence is 1
    return parted.nonzero().squeeze(1)


def cut_at(ascending: Tensor, rejected: Tensor) -> Tensor:
    """Threshold that rejects so many rows, one of :func:`possible_cuts`; a scalar in the type of ``ascending``."""
    low, high = pad(ascending, (1, 0), value=0.0)[rejected], pad(ascending, (0, 1), value=1.0)[rejected]
    middle = low + (high - low) / 2
    return torch.where(middle < high, middle, low)
