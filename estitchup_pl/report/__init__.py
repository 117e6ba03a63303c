"""The report of a study: the paper's tables and figures, and a page to decide from."""

from __future__ import annotations

from estitchup_pl.report.libraries import missing_libraries
from estitchup_pl.report.tables import StudyTables, study_tables
from estitchup_pl.report.writing import ReportPaths, write_report

__all__ = ["ReportPaths", "StudyTables", "missing_libraries", "study_tables", "write_report"]
