"""The page of a study: one file that opens from disk and asks for nothing from any network."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from estitchup_pl.batch import NONE
from estitchup_pl.optional import require
from estitchup_pl.report.curves import MethodCurves
from estitchup_pl.report.explorer import explorer
from estitchup_pl.report.figures import FIGURES, Figure, outcome_chart, page_panel, vega_lite_version
from estitchup_pl.report.items import ShownItems
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.report.tables import StudyTables
from estitchup_pl.report.verdict import verdict


def make_page(
    study: StudyRuns, tables: StudyTables, curves: list[MethodCurves], items: ShownItems | None = None
) -> str:
    """Write the page, with texts and pictures of items where they can be shown.

    Names, ids and labels come from users' data: Jinja escapes all text, and JSON so that it cannot end the element
    that it stands in.

    Raises:
        ConfigError: If a library of the extra ``report`` is not installed.
    """
    jinja2 = require("jinja2", "report", "writing the page")
    libraries = require("vl_convert", "report", "drawing figures").javascript_bundle(vl_version=vega_lite_version())
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    figures, panels = _figures(curves)
    answers = verdict(tables)
    page: str = environment.from_string(_file("page.html")).render(
        title=tables.name,
        lede=tables.summary(),
        style=_file("page.css"),
        answers=answers,
        model=study.model,
        remarks=tables.remarks(),
        tables=tables.tables(),
        figures=figures,
        facts=_facts(study),
        data={
            **explorer(study, items),
            "start": study.methods.index(answers[-1].method) if answers else 0,
            "trials": [f"trial {trial}" for trial in study.trials],
            "panels": panels,
            "outcomeChart": outcome_chart(),
        },
        vega=libraries.replace("</script", "<\\/script"),
        script=_file("page.js"),
    )
    return page


def _file(name: str) -> str:
    return (files("estitchup_pl.report") / name).read_text(encoding="utf-8")


def _figures(curves: list[MethodCurves]) -> tuple[list[tuple[Figure, list[tuple[str, int]]]], list[dict[str, Any]]]:
    """Each figure with its methods and the numbers of their charts, and the charts."""
    charts: list[dict[str, Any]] = []
    figures = []
    for figure in FIGURES:
        drawn = [(each.method, chart) for each in curves if (chart := page_panel(figure, each)) is not None]
        figures.append((figure, [(method, number) for number, (method, _) in enumerate(drawn, start=len(charts))]))
        charts += [chart for _, chart in drawn]
    return figures, charts


def _facts(study: StudyRuns) -> dict[str, str]:
    runs = study.of(study.control)
    return {
        "Methods": ", ".join(study.methods),
        "Control": study.control,
        "Trials": ", ".join(map(str, study.trials)),
        "Epochs": str(study.header.get("epochs", "")),
        "Training rows": _range([run.record.train_rows for run in runs]),
        "Test rows": _range([len(run.test.labels) for run in runs]),
        "“None” rows": _range([int((run.test.labels == NONE).sum()) for run in runs]),
        "Classes trained": _range([len(run.record.class_names) for run in runs]),
        **{f"Left out: {method}": why for method, why in study.left_out.items()},
    }


def _range(values: list[int]) -> str:
    low, high = np.min(values), np.max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
