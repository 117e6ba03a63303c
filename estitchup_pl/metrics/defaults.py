"""What an evaluation logs."""

from __future__ import annotations

from torchmetrics import Metric

from estitchup_pl.metrics.calibration import ConfidenceAccuracyCorrelation, ExpectedCalibrationError
from estitchup_pl.metrics.decisions import AcceptedAccuracy, NoneAwareAccuracy, SelectiveRisk
from estitchup_pl.metrics.none import NoneDetection, NoneFalsePositives
from estitchup_pl.metrics.ranking import WeightedRanking


def default_metrics() -> dict[str, Metric]:
    """Metrics of an evaluation by name, as ``fit``, ``validate`` and ``test`` log them.

    Example:
        >>> print(*default_metrics())
        ranking ece ece_id correlation correlation_id correlation_weighted accuracy accepted none none_fpr risk
    """
    return {
        "ranking": WeightedRanking(),
        "ece": ExpectedCalibrationError(),
        "ece_id": ExpectedCalibrationError(known_only=True),
        "correlation": ConfidenceAccuracyCorrelation(),
        "correlation_id": ConfidenceAccuracyCorrelation(known_only=True),
        "correlation_weighted": ConfidenceAccuracyCorrelation(weighted=True),
        "accuracy": NoneAwareAccuracy(),
        "accepted": AcceptedAccuracy(),
        "none": NoneDetection(),
        "none_fpr": NoneFalsePositives(),
        "risk": SelectiveRisk(),
    }
