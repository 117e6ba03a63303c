"""Ranking over all classes and "none" (Table 1)."""

from __future__ import annotations

from torch import Tensor

from estitchup_pl.functional import weighted_aupr, weighted_auroc, weighted_auroc_aupr
from estitchup_pl.metrics.rows import RowMetric


class WeightedAUROC(RowMetric):
    """AUROC averaged over all classes and "none" by support (Table 1).

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = WeightedAUROC()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]]), torch.tensor([0, 1, -1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the average, float64; NaN where no class has an AUROC."""
        return weighted_auroc(*self.decided())


class WeightedAUPR(RowMetric):
    """AUPR (average precision) averaged over all classes and "none" by support (Table 1).

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = WeightedAUPR()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]]), torch.tensor([0, 1, -1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the average, float64; NaN without rows."""
        return weighted_aupr(*self.decided())


class WeightedRanking(RowMetric):
    """Both figures of Table 1 for the time of one.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = WeightedRanking()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]]), torch.tensor([0, 1, -1]))
        >>> metric.compute()
        {'auroc': tensor(1., dtype=torch.float64), 'aupr': tensor(1., dtype=torch.float64)}
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        """Return ``auroc`` and ``aupr``, the averages over all classes and "none" by support, float64."""
        auroc, aupr = weighted_auroc_aupr(*self.decided())
        return {"auroc": auroc, "aupr": aupr}
