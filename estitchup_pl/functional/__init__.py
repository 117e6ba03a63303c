"""The mathematics of the framework as pure tensor functions; what came in is never written to.

Augmentation and softening take any leading ``*stack`` dimensions, one entry a run; evaluation takes one run.
"""

from estitchup_pl.functional.augmentation import (
    e_mixup,
    e_stitchup,
    modality_stitch,
    sample_lambda,
    sample_pairs,
    sample_stitch_mask,
)
from estitchup_pl.functional.calibration import (
    ReliabilityBins,
    adaptive_calibration_error,
    binned_calibration_error,
    binned_correlation,
    classwise_calibration_error,
    confidence_accuracy_correlation,
    expected_calibration_error,
    reliability_bins,
    top_label,
)
from estitchup_pl.functional.ood import (
    HEURISTICS,
    Heuristic,
    NoneAwareAccuracies,
    ThresholdCurves,
    acceptance,
    none_aware_accuracy,
    none_score,
    reject,
    select_threshold,
    threshold_curves,
)
from estitchup_pl.functional.ranking import (
    RankingScores,
    RowScores,
    ranking_scores,
    row_scores,
    support_weighted_mean,
    weighted_aupr,
    weighted_auroc,
    weighted_auroc_aupr,
)
from estitchup_pl.functional.softening import soften_labels
from estitchup_pl.functional.temperature import fit_temperature

__all__ = [
    "HEURISTICS",
    "Heuristic",
    "NoneAwareAccuracies",
    "RankingScores",
    "ReliabilityBins",
    "RowScores",
    "ThresholdCurves",
    "acceptance",
    "adaptive_calibration_error",
    "binned_calibration_error",
    "binned_correlation",
    "classwise_calibration_error",
    "confidence_accuracy_correlation",
    "e_mixup",
    "e_stitchup",
    "expected_calibration_error",
    "fit_temperature",
    "modality_stitch",
    "none_aware_accuracy",
    "none_score",
    "ranking_scores",
    "reject",
    "reliability_bins",
    "row_scores",
    "sample_lambda",
    "sample_pairs",
    "sample_stitch_mask",
    "select_threshold",
    "soften_labels",
    "support_weighted_mean",
    "threshold_curves",
    "top_label",
    "weighted_aupr",
    "weighted_auroc",
    "weighted_auroc_aupr",
]
