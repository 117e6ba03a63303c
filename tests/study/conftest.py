"""One small study, shared by the tests that look at what it has left."""

from __future__ import annotations

import pytest
from small import STITCH, digits_config, method

from estitchup_pl.study import StudyConfig, StudyFolder, run_study


@pytest.fixture(scope="session")
def config() -> StudyConfig:
    """Two methods of the paper, and one of each kind beyond it; what is derived stands before its base."""
    logistic = {"class_path": "sklearn.linear_model.LogisticRegression"}
    temperature = method("Temperature", target="all")
    beyond = {
        "Scaled ensemble": method("Decided", base="Ensemble", calibrator=temperature),
        "Scaled": method("Decided", base="E-Stitchup", calibrator=temperature),
        "Chosen": method("Chosen", methods=["Control", "Sum", "Scaled", "Regression"], average=2),
        "Sum": method("Decided", base="Control", calibrator=temperature, score=method("SumOfScores")),
        "Ensemble": method("Ensemble", base="E-Stitchup", size=3),
        "Regression": method("EstimatorMethod", estimator=logistic, callbacks=[STITCH], copies=1),
    }
    half = {"half": method("Coverage", share=0.5, known_only=False)}
    return digits_config(methods={**beyond, **digits_config().methods}, thresholds=half, control="Control")


@pytest.fixture(scope="session")
def folder(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Folder of that study."""
    return run_study(config, StudyFolder(tmp_path_factory.mktemp("study")))
