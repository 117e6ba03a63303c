"""Figures of one run's decisions, with the charts of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from estitchup_pl.report.curves import MethodCurves, decision_curves
from estitchup_pl.report.figures import FIGURES, GREY, LIGHT, RISK_OVER_COVERAGE, WIDTH, page_panel
from estitchup_pl.report.runs import Decisions

_OF_THE_PAPER: Final = {figure.key: figure for figure in FIGURES}

RUN_FIGURES: Final = {
    "reliability": replace(_OF_THE_PAPER["figure-4"], title="Reliability"),
    "accuracy_over_thresholds": replace(_OF_THE_PAPER["figure-3"], title="Accuracy over thresholds"),
    "risk_over_coverage": RISK_OVER_COVERAGE,
    "confidences": replace(_OF_THE_PAPER["figure-7"], title="Confidences"),
}
"""Figures of a run by the name under which loggers get them."""

_OVER_THRESHOLDS: Final = "accuracy_over_thresholds"


def charts(decisions: Decisions, threshold: float | None = None) -> dict[str, dict[str, Any]]:
    """Vega-Lite of each figure of :data:`RUN_FIGURES`.

    Args:
        decisions: Decisions on the evaluated rows.
        threshold: Threshold in ``[0, 1]`` to mark, where there is one.

    Raises:
        ConfigError: If altair is not installed.
    """
    curves = MethodCurves("", decision_curves([decisions]))
    drawn = {name: page_panel(figure, curves) for name, figure in RUN_FIGURES.items()}
    found = {name: panel for name, panel in drawn.items() if panel is not None}
    if threshold is not None:
        found[_OVER_THRESHOLDS] = _marked(found[_OVER_THRESHOLDS], threshold)
    return {name: {**panel, "width": WIDTH, "title": RUN_FIGURES[name].title} for name, panel in found.items()}


def alone(chart: dict[str, Any]) -> dict[str, Any]:
    """A chart with the colours of the pictures, to be drawn by itself."""
    return {**chart, "config": LIGHT}


def together(charts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All charts as one picture, two in a row."""
    return {"concat": list(charts.values()), "columns": 2, "config": LIGHT}


def _marked(panel: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Draw an upright line at the threshold."""
    rule = {
        "data": {"values": [{"x": threshold}]},
        "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [4, 3], "color": GREY},
        "encoding": {"x": {"field": "x", "type": "quantitative"}},
    }
    return {**panel, "layer": [*panel["layer"], rule]}
