"""torchmetrics metrics over :mod:`estitchup_pl.functional`.

All metrics here keep the same state, the rows that they were shown, so a ``MetricCollection`` keeps it once for
all of them. A row that comes twice is counted once, and rows are put in the order of their numbers: samplers that
pad the last batch, the number of processes and the order of batches have no influence on the result.
"""

from estitchup_pl.metrics.calibration import (
    AdaptiveCalibrationError,
    BrierScore,
    ClasswiseCalibrationError,
    ConfidenceAccuracyCorrelation,
    ExpectedCalibrationError,
    NegativeLogLikelihood,
    ReliabilityDiagram,
)
from estitchup_pl.metrics.decisions import (
    AcceptedAccuracy,
    ConfidenceThreshold,
    NoneAwareAccuracy,
    SelectiveRisk,
    ThresholdMetric,
    TopOneAccuracy,
)
from estitchup_pl.metrics.defaults import default_metrics
from estitchup_pl.metrics.none import NoneDetection, NoneFalsePositives, NoneMetric
from estitchup_pl.metrics.ranking import WeightedAUPR, WeightedAUROC, WeightedRanking
from estitchup_pl.metrics.rows import RowMetric

__all__ = [
    "AcceptedAccuracy",
    "AdaptiveCalibrationError",
    "BrierScore",
    "ClasswiseCalibrationError",
    "ConfidenceAccuracyCorrelation",
    "ConfidenceThreshold",
    "ExpectedCalibrationError",
    "NegativeLogLikelihood",
    "NoneAwareAccuracy",
    "NoneDetection",
    "NoneFalsePositives",
    "NoneMetric",
    "ReliabilityDiagram",
    "RowMetric",
    "SelectiveRisk",
    "ThresholdMetric",
    "TopOneAccuracy",
    "WeightedAUPR",
    "WeightedAUROC",
    "WeightedRanking",
    "default_metrics",
]
