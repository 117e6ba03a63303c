"""Writing a report into the folder of its study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from estitchup_pl.report.curves import method_curves
from estitchup_pl.report.figures import FIGURES, panels, picture
from estitchup_pl.report.items import shown_items
from estitchup_pl.report.libraries import missing_libraries
from estitchup_pl.report.page import make_page
from estitchup_pl.report.runs import StudyRuns, read_study
from estitchup_pl.report.tables import StudyTables, tables_of
from estitchup_pl.store.files import atomic_path
from estitchup_pl.study.folder import StudyFolder


@dataclass(frozen=True)
class ReportPaths:
    """What a report consists of.

    Attributes:
        tables: The tables, printable with rich.
        tables_markdown: ``tables.md``.
        tables_json: ``tables.json``, in full precision.
        figures: ``figures/figure-3.png`` to ``figures/figure-7.png``, as far as there is anything to draw; none
            without the extra ``report``.
        html: ``report.html``; None without the extra ``report``.
    """

    tables: StudyTables = field(repr=False)
    tables_markdown: Path
    tables_json: Path
    figures: tuple[Path, ...] = ()
    html: Path | None = None


def write_report(folder: StudyFolder, root: str | Path = ".") -> ReportPaths:
    """Write the report of a study from its results and predictions, each file whole or not at all.

    Without the extra ``report`` these are the tables alone, see :func:`missing_libraries`.

    Args:
        folder: Folder of the study; the report is written into it.
        root: Folder or zip file that the paths of pictures are relative to, if the store's items name any.

    Returns:
        What was written.

    Raises:
        DataError: If the folder is no study's, or its control or its results are not complete.
        ConfigError: If there is no such root.
    """
    study = read_study(folder)
    tables = tables_of(study)
    texts = {"tables.md": tables.markdown(), "tables.json": tables.json()}
    markdown, numbers = (_write(folder.path / name, text.encode()) for name, text in texts.items())
    if missing_libraries():
        return ReportPaths(tables, markdown, numbers)
    return ReportPaths(tables, markdown, numbers, *_draw(folder.path, study, tables, root))


def _draw(path: Path, study: StudyRuns, tables: StudyTables, root: str | Path) -> tuple[tuple[Path, ...], Path]:
    curves = [method_curves(method, study.of(method)) for method in study.methods]
    charts = {figure.key: chart for figure in FIGURES if (chart := panels(figure, curves)) is not None}
    figures = tuple(_write(path / f"figures/{name}.png", picture(chart)) for name, chart in charts.items())
    page = make_page(study, tables, curves, shown_items(study.header["config"], root))
    return figures, _write(path / "report.html", page.encode())


def _write(path: Path, content: bytes) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path
