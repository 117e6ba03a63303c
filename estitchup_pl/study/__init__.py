"""A study: methods times trials on one store, as the paper compares them (Secs. 3.4 to 5)."""

from __future__ import annotations

from estitchup_pl.study.folder import RunPredictions, RunRecord, StudyFolder

__all__ = ["RunPredictions", "RunRecord", "StudyFolder"]
