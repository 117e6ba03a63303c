"""A study: methods times trials on one store, as the paper compares them (Secs. 3.4 to 5)."""

from __future__ import annotations

from estitchup_pl.study.baselines import EstimatorMethod
from estitchup_pl.study.choosing import Candidate, Chosen, select
from estitchup_pl.study.combining import Ensemble
from estitchup_pl.study.config import SelectionConfig, StudyConfig, WandbConfig
from estitchup_pl.study.deciding import Decided
from estitchup_pl.study.derived import DerivedMethod, Learnt, Member, MemberRows
from estitchup_pl.study.driver import run_study
from estitchup_pl.study.evaluation import evaluate, study_metrics
from estitchup_pl.study.folder import RunPredictions, RunRecord, StudyFolder
from estitchup_pl.study.heads import HeadMethod
from estitchup_pl.study.methods import FittedMethod, Method, NetworkMethod, RowsMethod
from estitchup_pl.study.refit import Refit, refit

__all__ = [
    "Candidate",
    "Chosen",
    "Decided",
    "DerivedMethod",
    "Ensemble",
    "EstimatorMethod",
    "FittedMethod",
    "HeadMethod",
    "Learnt",
    "Member",
    "MemberRows",
    "Method",
    "NetworkMethod",
    "Refit",
    "RowsMethod",
    "RunPredictions",
    "RunRecord",
    "SelectionConfig",
    "StudyConfig",
    "StudyFolder",
    "WandbConfig",
    "evaluate",
    "refit",
    "run_study",
    "select",
    "study_metrics",
]
