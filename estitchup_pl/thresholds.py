"""Rules that choose the threshold below which an item is "none", each a class to name in YAML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from torch import Tensor
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import (
    HEURISTICS,
    Heuristic,
    bounded_error_threshold,
    coverage_threshold,
    least_cost_threshold,
    select_threshold,
)


class ThresholdRule(ABC):
    """Chooses a threshold from rows whose label is known; a rule of your own subclasses it and implements the call.

    Attributes:
        needs_none: Whether the rows must hold "none" rows, so that a validation set without any is refused.

    Example:
        >>> import torch
        >>> class Median(ThresholdRule):
        ...     "Accepts half of the rows."
        ...     needs_none = False
        ...     def __call__(self, acceptance, predicted, labels):
        ...         return acceptance.median()
        >>> Median()(torch.tensor([0.2, 0.9, 0.7]), torch.tensor([0, 0, 1]), torch.tensor([1, 0, 1]))
        tensor(0.7000)
    """

    needs_none: bool = True

    @abstractmethod
    def __call__(self, acceptance: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        """Choose.

        Args:
            acceptance: One minus the score of "none"; with the paper's score the confidence. Float ``(rows,)`` in
                ``[0, 1]``. A row is accepted where it exceeds the threshold.
            predicted: Class of greatest probability, int64 ``(rows,)``.
            labels: Class index or ``NONE``, int64 ``(rows,)``.

        Returns:
            Threshold in ``[0, 1]``, a scalar in the type of ``acceptance``.

        Raises:
            DataError: If the rows do not allow a choice.
        """


class PaperHeuristic(ThresholdRule):
    """One of the two heuristics of Sec. 4.3; see :func:`~estitchup_pl.functional.select_threshold`.

    Args:
        name: ``"intersection"`` or ``"tp_ratio"``.

    Raises:
        ConfigError: If there is no such heuristic.
    """

    def __init__(self, name: Heuristic = "intersection") -> None:
        if name not in HEURISTICS:
            raise ConfigError(f"heuristic: expected one of {', '.join(HEURISTICS)}, got {name!r}")
        self.name: Final = name

    @override
    def __call__(self, acceptance: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        return select_threshold(acceptance, predicted, labels, self.name)


class LeastCost(ThresholdRule):
    """The decisions cost least; see :func:`~estitchup_pl.functional.least_cost_threshold`.

    Args:
        wrong_class: Cost of an item of a known class that is accepted with another.
        missed_none: Cost of a "none" item that is accepted.
        question: Cost of asking a person, which every rejected item does.
        none_share: Share of "none" items where the threshold will be used; that of the rows if not given.

    Example:
        >>> import torch
        >>> rule = LeastCost(wrong_class=1, missed_none=3, question=0.5)
        >>> rule(torch.tensor([0.9, 0.6, 0.4]), torch.tensor([0, 1, 0]), torch.tensor([0, -1, 0]))
        tensor(0.7500)
    """

    def __init__(
        self,
        wrong_class: float = 1.0,
        missed_none: float = 1.0,
        question: float = 0.2,
        none_share: float | None = None,
    ) -> None:
        self.wrong_class = wrong_class
        self.missed_none = missed_none
        self.question = question
        self.none_share = none_share

    @override
    def __call__(self, acceptance: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        costs = (self.wrong_class, self.missed_none, self.question)
        return least_cost_threshold(acceptance, predicted, labels, *costs, self.none_share)


class BoundedError(ThresholdRule):
    """At most a share of what is accepted is wrong, with a chosen probability.

    See :func:`~estitchup_pl.functional.bounded_error_threshold`, also for the items that the bound speaks of. Where
    no threshold can be vouched for it is 1, and nothing is accepted.

    Args:
        error: Greatest share of wrong decisions among accepted items.
        confidence: Probability that the bound holds.
        known_only: Speak of items of known classes alone.
    """

    def __init__(self, error: float = 0.05, confidence: float = 0.95, known_only: bool = False) -> None:
        self.error = error
        self.confidence = confidence
        self.known_only = known_only
        self.needs_none = not known_only

    @override
    def __call__(self, acceptance: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        return bounded_error_threshold(acceptance, predicted, labels, self.error, self.confidence, self.known_only)


class Coverage(ThresholdRule):
    """A wanted share of the items is accepted; see :func:`~estitchup_pl.functional.coverage_threshold`.

    Args:
        share: Share to accept, in ``(0, 1]``.
        known_only: Of the items of known classes; otherwise of all.
    """

    def __init__(self, share: float = 0.95, known_only: bool = True) -> None:
        self.share = share
        self.known_only = known_only
        self.needs_none = not known_only

    @override
    def __call__(self, acceptance: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        return coverage_threshold(acceptance, predicted, labels, self.share, self.known_only)


def threshold_rule(heuristic: Heuristic | ThresholdRule) -> ThresholdRule:
    """Take a rule as it is, and make one of the paper's of its name.

    Raises:
        ConfigError: If there is no heuristic of this name.

    Example:
        >>> threshold_rule("tp_ratio").name
        'tp_ratio'
    """
    return heuristic if isinstance(heuristic, ThresholdRule) else PaperHeuristic(heuristic)
