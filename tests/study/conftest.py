"""One small study, shared by the tests that look at what it has left."""

from __future__ import annotations

import pytest
from small import digits_config

from estitchup_pl.study import MethodConfig, StudyConfig, StudyFolder, run_study


@pytest.fixture(scope="session")
def config() -> StudyConfig:
    """Two methods of the paper, and one of each kind beyond it."""
    own = digits_config()
    beyond = {
        "Scaled": MethodConfig(base="E-Stitchup", temperature=True),
        "Ensemble": MethodConfig(base="E-Stitchup", ensemble=2),
        "Regression": MethodConfig(
            [{"class_path": "EStitchup"}],
            estimator={"class_path": "sklearn.linear_model.LogisticRegression"},
            copies=1,
        ),
    }
    return digits_config(methods={**own.methods, **beyond})


@pytest.fixture(scope="session")
def folder(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Folder of that study."""
    return run_study(config, StudyFolder(tmp_path_factory.mktemp("study")))
