"""A study: methods times trials on one store, as the paper compares them (Secs. 3.4 to 5)."""

from __future__ import annotations

from estitchup_pl.study.config import MethodConfig, SelectionConfig, StudyConfig, WandbConfig
from estitchup_pl.study.driver import run_study
from estitchup_pl.study.folder import RunPredictions, RunRecord, StudyFolder

__all__ = [
    "MethodConfig",
    "RunPredictions",
    "RunRecord",
    "SelectionConfig",
    "StudyConfig",
    "StudyFolder",
    "WandbConfig",
    "run_study",
]
