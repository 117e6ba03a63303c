"""One made-up study and its report for all tests here."""

from __future__ import annotations

import pytest
from made_study import make_study

from estitchup_pl.report import ReportPaths, StudyTables, write_report
from estitchup_pl.report.runs import StudyRuns, read_study
from estitchup_pl.study import StudyFolder


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def runs(study: StudyFolder) -> StudyRuns:
    return read_study(study)


@pytest.fixture(scope="session")
def report(study: StudyFolder) -> ReportPaths:
    return write_report(study)


@pytest.fixture(scope="session")
def tables(report: ReportPaths) -> StudyTables:
    return report.tables
