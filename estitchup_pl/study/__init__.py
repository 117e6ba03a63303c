"""A study: methods times trials on one store, as the paper compares them (Secs. 3.4 to 5)."""

from __future__ import annotations

from estitchup_pl.study.baselines import EstimatorMethod
from estitchup_pl.study.combining import Ensemble, TemperatureScaling
from estitchup_pl.study.config import SelectionConfig, StudyConfig, WandbConfig
from estitchup_pl.study.driver import run_study
from estitchup_pl.study.evaluation import evaluate, study_metrics
from estitchup_pl.study.folder import RunPredictions, RunRecord, StudyFolder
from estitchup_pl.study.methods import DerivedMethod, FittedMethod, Member, Method, NetworkMethod, RowsMethod

__all__ = [
    "DerivedMethod",
    "Ensemble",
    "EstimatorMethod",
    "FittedMethod",
    "Member",
    "Method",
    "NetworkMethod",
    "RowsMethod",
    "RunPredictions",
    "RunRecord",
    "SelectionConfig",
    "StudyConfig",
    "StudyFolder",
    "TemperatureScaling",
    "WandbConfig",
    "evaluate",
    "run_study",
    "study_metrics",
]
