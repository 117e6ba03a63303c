"""The page of a study: one file that opens from disk and asks for nothing from any network."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from estitchup_pl.batch import NONE
from estitchup_pl.optional import require
from estitchup_pl.report.curves import MethodCurves
from estitchup_pl.report.explorer import explorer
from estitchup_pl.report.figures import FIGURES, outcome_chart, page_panel, vega_lite_version
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.report.tables import StudyTables
from estitchup_pl.report.verdict import Answer, verdict


def make_page(study: StudyRuns, tables: StudyTables, curves: list[MethodCurves]) -> str:
    """Write the page.

    Names, ids and labels come from users' data: text is escaped, and JSON cannot end the element that it stands in.

    Raises:
        ConfigError: If altair or vl-convert is not installed.
    """
    figures, panels = _figures(curves)
    answers = verdict(tables)
    converter = require("vl_convert", "report", "drawing figures")
    content = {
        **explorer(study),
        "start": study.methods.index(answers[-1].method),
        "trials": [f"trial {trial}" for trial in study.trials],
        "panels": panels,
        "outcomeChart": outcome_chart(),
    }
    return Template(_file("page.html")).substitute(
        title=escape(tables.name),
        lede=escape(tables.summary()),
        style=_file("page.css"),
        verdict="\n".join(map(_card, answers)),
        tables=_tables(tables),
        figures=figures,
        about=_about(study),
        data=embedded_json(content),
        vega=converter.javascript_bundle(vl_version=vega_lite_version()).replace("</script", "<\\/script"),
        script=_file("page.js"),
    )


def embedded_json(content: Any) -> str:
    r"""Write JSON that can stand in a script element whatever its strings are.

    Example:
        >>> print(embedded_json({"id": "</script>"}))
        {"id":"\u003c/script>"}
    """
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return (files("estitchup_pl.report") / name).read_text(encoding="utf-8")


def _card(answer: Answer) -> str:
    return (
        f'<article class="card"><h3>{escape(answer.question)}</h3><p class="answer">{escape(answer.method)}</p>'
        f"<p>{escape(answer.why)}</p></article>"
    )


def _tables(tables: StudyTables) -> str:
    return "\n".join(f"{_heading(table.key, table.title, table.caption)}\n{table.html()}" for table in tables.tables())


def _heading(key: str, title: str, caption: str) -> str:
    return f'<h3 id="{key}">{escape(title)}</h3>\n<p class="caption">{escape(caption)}</p>'


def _figures(curves: list[MethodCurves]) -> tuple[str, list[dict[str, Any]]]:
    """Markup of all figures, and the charts that it numbers."""
    panels: list[dict[str, Any]] = []
    sections = []
    for figure in FIGURES:
        places = ""
        for method in curves:
            if (panel := page_panel(figure, method)) is not None:
                label = escape(f"{figure.title}, {method.method}", quote=True)
                places += (
                    f"<figure><h4>{escape(method.method)}</h4>"
                    f'<div class="panel" role="img" aria-label="{label}" data-panel="{len(panels)}"></div></figure>\n'
                )
                panels.append(panel)
        places = places or "<p>No method has such data.</p>"
        heading = _heading(figure.key, figure.title, figure.caption)
        sections.append(f'{heading}\n<div class="panels">{places}</div>')
    return "\n".join(sections), panels


def _about(study: StudyRuns) -> str:
    runs = study.of(study.control)
    none = [int((run.test.labels == NONE).sum()) for run in runs]
    facts = {
        "Methods": ", ".join(study.methods),
        "Control": study.control,
        "Trials": ", ".join(map(str, study.trials)),
        "Epochs": str(study.header.get("epochs", "")),
        "Training rows": _range([run.record.train_rows for run in runs]),
        "Test rows": _range([len(run.test.labels) for run in runs]),
        "“None” rows": _range(none),
        "Classes trained": _range([len(run.record.class_names) for run in runs]),
        **{f"Left out: {method}": why for method, why in study.left_out.items()},
    }
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
    return (
        "<p>Every method was trained in every trial. A trial is a split of the labelled rows that all methods share; "
        "classes without a training row are “none” among its test rows. Thresholds were chosen on a second split, "
        "made of training rows alone with some classes taken out.</p>"
        f'<dl class="facts">{entries}</dl>'
    )


def _range(values: list[int]) -> str:
    low, high = np.min(values), np.max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
