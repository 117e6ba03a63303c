"""Calibrators: maps of logits to logits whose probabilities say how often they are right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.functional.temperature import fit_temperature, fit_top_temperature
from estitchup_pl.model.learnt import Learnt

Target = Literal["top", "all"]
"""What a temperature is fitted on: whether the top class is right, or all classes."""


class Calibrator(Learnt, ABC):
    """A map of logits to logits, fitted on validation rows; the sigmoid of the result is the probability.

    A calibrator of your own subclasses it and implements :meth:`fit` and ``forward``. What it learns lies in buffers,
    so that a checkpoint holds it; its constructor takes plain values, each kept as an attribute of the same name. A
    class whose logit is ``-inf`` does not exist for that row, and stays so.

    Shape:
        ``forward``: ``(rows, classes)`` to the same, in the type of the logits.

    Example:
        >>> class Shift(Calibrator):
        ...     "Moves all logits so that the mean greatest one is 0."
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.declare("mean")
        ...     def fit(self, logits, labels):
        ...         self.mean = logits.amax(dim=1).mean()
        ...     def forward(self, logits):
        ...         return logits - self.mean
        >>> calibrator = Shift()
        >>> calibrator.fit(torch.tensor([[1.0, 3.0]]), torch.tensor([1]))
        >>> calibrator(torch.tensor([[1.0, 3.0]]))
        tensor([[-2.,  0.]])
    """

    @abstractmethod
    def fit(self, logits: Tensor, labels: Tensor) -> None:
        """Learn from the validation rows of a threshold split, which no fit has seen.

        Args:
            logits: Float ``(rows, classes)``; ``-inf`` for a class that the row's fit did not know.
            labels: Class index or ``NONE``, int64 ``(rows,)``.

        Raises:
            DataError: If there is no row of a known class, or shapes, types or a label are wrong.
        """

    @abstractmethod
    @override
    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits; see the class for shapes."""


class Temperature(Calibrator):
    """All logits divided by one number (Guo et al., 2017).

    Args:
        target: ``"top"``: fitted on whether the top class is right, which is what confidence speaks of. ``"all"``: on
            the cross-entropy of all classes.

    Raises:
        ConfigError: If there is no such target.

    Example:
        >>> calibrator = Temperature()
        >>> calibrator.fit(torch.tensor([[4.0, -4.0]]).expand(4, 2), torch.tensor([0, 0, 0, 1]))
        >>> calibrator(torch.tensor([[4.0, -4.0]])).sigmoid().round(decimals=2)  # 3 in 4 were right
        tensor([[0.7500, 0.2500]])
    """

    temperature: Tensor

    def __init__(self, target: Target = "top") -> None:
        super().__init__()
        if target not in get_args(Target):
            hint = did_you_mean(target, get_args(Target))
            raise ConfigError(f"target: expected one of {', '.join(get_args(Target))}, got {target!r}{hint}")
        self.target = target
        self.declare("temperature")

    @override
    def fit(self, logits: Tensor, labels: Tensor) -> None:
        fit = fit_top_temperature if self.target == "top" else fit_temperature
        self.temperature = torch.tensor(fit(logits, labels), dtype=torch.float64, device=logits.device)

    @override
    def forward(self, logits: Tensor) -> Tensor:
        self.check_fitted()
        return logits / self.temperature

    @override
    def extra_repr(self) -> str:
        return f"target={self.target!r}"
