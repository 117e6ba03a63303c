"""Values that the paper prints, for its six methods (arXiv 1912.00772, Tables 1 to 3)."""

from __future__ import annotations

from typing import Final

TABLE_1: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "Control": {"auroc": (0.9698, 0.0010), "aupr": (0.8913, 0.0026)},
    "Soft Control": {"auroc": (0.0200, 0.0006), "aupr": (0.0196, 0.0028)},
    "E-Mixup": {"auroc": (0.0173, 0.0014), "aupr": (0.0164, 0.0054)},
    "E-Stitchup": {"auroc": (0.0189, 0.0007), "aupr": (0.0222, 0.0031)},
    "Soft E-Mixup": {"auroc": (0.0216, 0.0008), "aupr": (0.0228, 0.0022)},
    "Soft E-Stitchup": {"auroc": (0.0226, 0.0012), "aupr": (0.0236, 0.0020)},
}
"""Table 1: the control's scores, for all others the difference to it; each with its standard deviation."""

TABLE_2: Final[dict[str, float]] = {
    "Control": 0.9072,
    "Soft Control": 0.9292,
    "E-Mixup": 0.9789,
    "E-Stitchup": 0.9860,
    "Soft E-Mixup": 0.9236,
    "Soft E-Stitchup": 0.9472,
}
"""Table 2: confidence-accuracy correlation."""

TABLE_3: Final[dict[str, dict[str, float]]] = {
    "Control": {"threshold": 0.93, "accuracy_id": 0.82, "accuracy_none": 0.72, "accuracy": 0.82},
    "Soft Control": {"threshold": 0.50, "accuracy_id": 0.80, "accuracy_none": 0.75, "accuracy": 0.80},
    "E-Mixup": {"threshold": 0.70, "accuracy_id": 0.79, "accuracy_none": 0.75, "accuracy": 0.79},
    "E-Stitchup": {"threshold": 0.78, "accuracy_id": 0.78, "accuracy_none": 0.77, "accuracy": 0.78},
    "Soft E-Mixup": {"threshold": 0.52, "accuracy_id": 0.75, "accuracy_none": 0.80, "accuracy": 0.75},
    "Soft E-Stitchup": {"threshold": 0.58, "accuracy_id": 0.76, "accuracy_none": 0.79, "accuracy": 0.76},
}
"""Table 3: after "the optimal confidence threshold" was chosen; by which heuristic is not said."""
