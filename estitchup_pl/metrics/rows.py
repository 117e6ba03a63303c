"""What all metrics share: the rows that they were shown.

A ``MetricCollection`` keeps them once for all of them. A row that comes twice is counted once, and rows are put in the
order of their numbers: samplers that pad the last batch, the number of processes and the order of batches have no
influence on the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_none_scores, check_predictions

_NO_ROW = -1
_NO_SCORE = -1.0  # not NaN, with which torchmetrics would find no two states equal


class RowMetric(Metric):
    """Collects predicted rows, each once; a metric of your own subclasses it and computes on :meth:`predictions`.

    :meth:`none_scores` are the scores of "none" of the same rows. ``compute`` returns a number, or a dict of numbers
    that are logged under their own names.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> from estitchup_pl import NONE
        >>> class CoverageAt(RowMetric):
        ...     "Share of the known rows whose confidence reaches a level."
        ...     def __init__(self, level: float = 0.9, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.level = level
        ...     def compute(self):
        ...         probabilities, labels = self.predictions()
        ...         return (probabilities[labels != NONE].amax(dim=1) >= self.level).double().mean()
        >>> metric = CoverageAt(level=0.5)
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.25, 0.375], [0.9, 0.5]]), torch.tensor([0, 1, NONE]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    is_differentiable = False
    full_state_update = False

    preds: list[Tensor]
    target: list[Tensor]
    rows: list[Tensor]
    scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_rows, **kwargs})
        for state in ("preds", "target", "rows", "scores"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self, preds: Tensor, target: Tensor, rows: Tensor | None = None, none_scores: Tensor | None = None
    ) -> None:
        """Take in predicted rows.

        Args:
            preds: Probabilities, float ``(rows, classes)`` in ``[0, 1]``; never taken for logits.
            target: Class index or ``NONE``, int64 ``(rows,)``.
            rows: Number of each row in its data set, int64 ``(rows,)``; a row that comes twice is counted once.
                Rows without a number are all counted.
            none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
                probability (the paper's) if not given.

        Raises:
            DataError: If shapes, types or ranges are wrong.
        """
        check_predictions(preds, target)
        if none_scores is not None:
            check_none_scores(none_scores, target)
        rows = torch.full_like(target, _NO_ROW) if rows is None else _checked_rows(rows, target)
        self.preds.append(preds.detach().to(torch.promote_types(preds.dtype, torch.float32)))
        self.target.append(target)
        self.rows.append(rows)
        self.scores.append(_stored_scores(none_scores, target))

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Return all rows seen, each once, in the order of their numbers.

        Returns:
            Probabilities, float ``(rows, classes)`` in ``[0, 1]``, and class index or ``NONE``, int64 ``(rows,)``.

        Raises:
            DataError: If a row came with two different labels.
        """
        preds, target, *_ = self._rows_once()
        return preds, target

    def row_numbers(self) -> Tensor:
        """Return the number of each row of :meth:`predictions`, int64 ``(rows,)``; -1 where it was given none."""
        return self._rows_once()[3]

    def none_scores(self) -> Tensor:
        """Return the score of "none" of each row of :meth:`predictions`.

        Returns:
            Scores in ``[0, 1]``, float64 ``(rows,)``: those that :meth:`update` was given, or one minus the greatest
            probability.

        Raises:
            DataError: If a row came with two different labels.
        """
        preds, _, scores, _ = self._rows_once()
        return _completed(preds, scores)

    def decided(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return :meth:`predictions` and their :meth:`none_scores`, ``None`` where no row was given one.

        That is what functions with a "none" column take: without scores they rank the probabilities themselves,
        in full precision.
        """
        preds, target, scores, _ = self._rows_once()
        given = bool((scores != _NO_SCORE).any())
        return preds, target, _completed(preds, scores) if given else None

    def _rows_once(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if len(self.rows) == 0:
            no_row = torch.empty(0, dtype=torch.int64)
            return torch.empty(0, 1), no_row, torch.empty(0, dtype=torch.float64), no_row
        states = (self.preds, self.target, self.scores, self.rows)
        preds, target, scores, rows = (dim_zero_cat(parts) for parts in states)
        if preds.device.type == "mps":  # which has no float64
            preds, target, scores, rows = preds.cpu(), target.cpu(), scores.cpu().double(), rows.cpu()
        if bool((rows[1:] > rows[:-1]).all()):
            return preds, target, scores, rows
        order = rows.argsort(stable=True)
        first = order[_is_first_of_row(rows[order], target[order])]
        return preds[first], target[first], scores[first], rows[first]


def _checked_rows(rows: Tensor, target: Tensor) -> Tensor:
    if rows.shape != target.shape or rows.dtype != torch.int64:
        raise DataError(f"rows: expected int64 {tuple(target.shape)}, got {rows.dtype} {tuple(rows.shape)}")
    if bool((rows < 0).any()):
        raise DataError(f"rows: expected rows of a data set, from 0, got {int(rows.min())}")
    return rows


def _stored_scores(none_scores: Tensor | None, target: Tensor) -> Tensor:
    dtype = torch.float32 if target.device.type == "mps" else torch.float64
    if none_scores is None:
        return torch.full(target.shape, _NO_SCORE, dtype=dtype, device=target.device)
    return none_scores.detach().to(dtype)


def _completed(preds: Tensor, scores: Tensor) -> Tensor:
    return scores.where(scores != _NO_SCORE, 1 - preds.amax(dim=1).double())


def _is_first_of_row(rows: Tensor, target: Tensor) -> Tensor:
    """Mark the first of each row among rows that are sorted by their number."""
    is_repeated = torch.zeros_like(rows, dtype=torch.bool)
    is_repeated[1:] = (rows[1:] == rows[:-1]) & (rows[1:] != _NO_ROW)
    contradicting = is_repeated & (target != target.roll(1))
    if bool(contradicting.any()):
        place = int(contradicting.nonzero()[0])
        raise DataError(
            f"rows: row {int(rows[place])} has different labels, {int(target[place - 1])} and "
            f"{int(target[place])}; a row is numbered within the data set, not within the batch"
        )
    return ~is_repeated


def gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    """Gather a state from all processes, some of which may not have seen a row.

    For those, torchmetrics hands over an empty float vector, which no collective can match with the others'
    shapes and types.
    """
    layouts: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(layouts, (rows.shape[1:], rows.dtype, rows.numel() > 0), group=group)
    shape, dtype, _ = max(layouts, key=lambda layout: layout[-1])
    if rows.numel() == 0:
        rows = torch.empty(0, *shape, dtype=dtype, device=rows.device)
    gathered: list[Tensor] = gather_all_tensors(rows, group)
    return gathered
