"""One made-up study and its report for all tests here."""

from __future__ import annotations

import pytest
from made_study import make_study

from estitchup_pl.report import ReportPaths, StudyTables, study_tables, write_report
from estitchup_pl.report.curves import method_curves
from estitchup_pl.report.page import make_page
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
def tables(study: StudyFolder) -> StudyTables:
    return study_tables(study)


@pytest.fixture(scope="session")
def page(runs: StudyRuns, tables: StudyTables) -> str:
    return make_page(runs, tables, [method_curves(method, runs.of(method)) for method in runs.methods])
