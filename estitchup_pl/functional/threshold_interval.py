"""How far a threshold can be trusted: an interval over the unknown classes that it rests on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, DataError

FEW_NONE_ROWS: Final = 30
"""Below so many "none" rows a threshold, or any figure about "none", is a rough one, and is said to be."""


class ThresholdInterval(NamedTuple):
    """A threshold's interval and what it rests on.

    Attributes:
        low: Lower end, in ``[0, 1]``.
        high: Upper end.
        none_rows: Rows of "none" that the threshold was chosen on.
        none_classes: Classes that these belong to.
    """

    low: float
    high: float
    none_rows: int
    none_classes: int

    @property
    def rests_on_few(self) -> bool:
        """Whether there are fewer than :data:`FEW_NONE_ROWS` "none" rows."""
        return self.none_rows < FEW_NONE_ROWS


def threshold_interval(
    choose: Callable[[Tensor, Tensor, Tensor], Tensor],
    acceptance: Tensor,
    predicted: Tensor,
    labels: Tensor,
    groups: Tensor,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> ThresholdInterval:
    """Choose a threshold again and again on resampled rows: unknown *classes* drawn whole, known rows one by one.

    Rows of one unknown class resemble each other, so what varies from one catalogue to the next is which classes are
    unknown. Drawing "none" rows one by one would give an interval that is far too short.

    Args:
        choose: Chooses a threshold from acceptance, predicted class and label, such as a
            :class:`~estitchup_pl.thresholds.ThresholdRule` or :func:`~estitchup_pl.functional.select_threshold`.
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        predicted: Class of greatest probability, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        groups: Number of the class that a "none" row really belongs to, int64 ``(rows,)``; of other rows not read.
        resamples: Number of resamples.
        level: Share of the resamples that the interval holds, in ``(0, 1)``.
        seed: Key of the random numbers.

    Returns:
        The interval, and the count of "none" rows and classes.

    Raises:
        ConfigError: If ``resamples`` or ``level`` cannot be.
        DataError: If shapes differ, or ``choose`` refuses the rows.

    Example:
        >>> from estitchup_pl.functional import select_threshold
        >>> acceptance = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.3])
        >>> labels, groups = torch.tensor([0, 0, 0, -1, -1, -1]), torch.tensor([0, 0, 0, 7, 7, 8])
        >>> found = threshold_interval(select_threshold, acceptance, torch.zeros(6).long(), labels, groups)
        >>> found.none_rows, found.none_classes, found.low < 0.65 <= found.high
        (3, 2, True)
    """
    if resamples < 1 or not 0 < level < 1:
        raise ConfigError(f"expected at least one resample and a level between 0 and 1, got {resamples} and {level}")
    if groups.shape != labels.shape:
        raise DataError(f"groups: expected one a row, {tuple(labels.shape)}, got {tuple(groups.shape)}")
    known, none = (labels != NONE).nonzero().squeeze(1), (labels == NONE).nonzero().squeeze(1)
    classes = [none[groups[none] == group] for group in torch.unique(groups[none])]
    source, thresholds = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = [known[source.integers(len(known), size=len(known))]] if len(known) else []
        drawn += [classes[place] for place in source.integers(len(classes), size=len(classes))] if classes else []
        rows = torch.cat(drawn) if drawn else known
        thresholds.append(float(choose(acceptance[rows], predicted[rows], labels[rows])))
    low, high = np.quantile(thresholds, [(1 - level) / 2, (1 + level) / 2])
    return ThresholdInterval(float(low), float(high), len(none), len(classes))
