"""Calibrators: maps of logits to logits whose probabilities say how often they are right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.functional.isotonic import IsotonicMap, apply_isotonic, fit_isotonic
from estitchup_pl.functional.logit_normalization import (
    LogitNorm,
    apply_logit_norm,
    fit_logit_norm,
    normalize_logits,
)
from estitchup_pl.functional.temperature import fit_temperature, fit_top_temperature
from estitchup_pl.functional.vector_scaling import Affine, apply_affine, check_pull, fit_vector_scaling
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

    def as_graph(self) -> Calibrator:
        """The same map by operations that depend on no value it has learnt, for export; itself unless it has to."""
        return self

    def for_classes(self, places: Tensor) -> None:
        """Serve another list of classes; what is learnt for all classes together, as by most, stays as it is.

        Args:
            places: Index that each class of the new list has in the one of before, int64 ``(classes,)``; -1 for a class
                that is new.
        """
        del places


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


class VectorScaling(Calibrator):
    """A factor and a shift for each class, drawn towards one temperature for all (Guo et al., 2017).

    It may change which class is on top.

    Args:
        shrinkage: Weight of the pull towards the temperature, in validation rows of a class; at least 0.

    Raises:
        ConfigError: If the shrinkage is negative.

    Example:
        >>> calibrator = VectorScaling()
        >>> calibrator.fit(torch.tensor([[4.0, -4.0]]).expand(4, 2), torch.tensor([0, 0, 0, 1]))
        >>> calibrator(torch.tensor([[4.0, -4.0]])).sigmoid().round(decimals=2)  # 3 in 4 were right
        tensor([[0.7500, 0.2500]])
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, shrinkage: float = 10.0) -> None:
        super().__init__()
        check_pull(shrinkage)
        self.shrinkage = shrinkage
        self.declare("scale", "shift")

    @override
    def fit(self, logits: Tensor, labels: Tensor) -> None:
        self.scale, self.shift = fit_vector_scaling(logits, labels, self.shrinkage)

    @override
    def forward(self, logits: Tensor) -> Tensor:
        self.check_fitted()
        return apply_affine(logits, Affine(self.scale, self.shift))

    @override
    def for_classes(self, places: Tensor) -> None:
        """Give a class that is new the mean factor and shift of the others."""
        for name in ("scale", "shift"):
            learnt = self.get_buffer(name)
            setattr(self, name, torch.where(places < 0, learnt.mean(), learnt[places]))

    @override
    def extra_repr(self) -> str:
        return f"shrinkage={self.shrinkage}"


class IsotonicTopLabel(Calibrator):
    """Confidence as a rising function of itself, of any shape, by how often the top class was right.

    Each row's logits are shifted by one number, so that the order of its classes stays; the order of rows by confidence
    stays too. See :func:`~estitchup_pl.functional.apply_isotonic`.

    Example:
        >>> calibrator = IsotonicTopLabel()
        >>> calibrator.fit(torch.tensor([[4.0, -4.0]]).expand(400, 2), (torch.arange(400) % 4 == 0).long())
        >>> calibrator(torch.tensor([[4.0, -4.0]])).sigmoid()[0, 0].round(decimals=2)  # 3 in 4 were right
        tensor(0.7500)
    """

    knots: Tensor
    accuracy: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.declare("knots", "accuracy", "rows")

    @override
    def fit(self, logits: Tensor, labels: Tensor) -> None:
        self.knots, self.accuracy, self.rows = fit_isotonic(logits, labels)

    @override
    def forward(self, logits: Tensor) -> Tensor:
        self.check_fitted()
        return apply_isotonic(logits, IsotonicMap(self.knots, self.accuracy, self.rows))


class LogitNormalization(Calibrator):
    """Centred logits divided by their p-norm, then a factor and a shift (arXiv 2403.14715).

    The norm, which may be none at all, is chosen by selective risk: it changes which rows are trusted first, for the
    better where labels were smoothed or mixed. The order of a row's classes stays.

    Example:
        >>> calibrator = LogitNormalization()
        >>> logits = torch.tensor([[1.0, 0.0, 0.0], [5.0, 4.0, 0.0], [1.0, 0.0, 0.0]])
        >>> calibrator.fit(logits, torch.tensor([0, 1, 0]))
        >>> calibrator(logits).amax(dim=1).argmin()  # the row that was wrong is trusted least
        tensor(1)
    """

    norm: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.declare("norm", "scale", "shift")

    @override
    def fit(self, logits: Tensor, labels: Tensor) -> None:
        self.norm, (self.scale, self.shift) = fit_logit_norm(logits, labels)

    @override
    def forward(self, logits: Tensor) -> Tensor:
        self.check_fitted()
        return apply_logit_norm(logits, LogitNorm(self.norm, Affine(self.scale, self.shift)))

    @override
    def as_graph(self) -> Calibrator:
        return _FixedNorm(self)


class _FixedNorm(LogitNormalization):
    """Logit normalisation whose norm is a number, on which the operations of a graph may depend."""

    def __init__(self, fitted: LogitNormalization) -> None:
        super().__init__()
        self.load_state_dict(fitted.state_dict())
        self._p = int(fitted.norm)

    @override
    def forward(self, logits: Tensor) -> Tensor:
        return apply_affine(normalize_logits(logits, self._p), Affine(self.scale, self.shift)).to(logits.dtype)
