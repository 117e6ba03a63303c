"""Figures 3 to 7 of a method as Altair charts: one definition for the pictures and for the page.

Colours and fonts are no part of a chart; the page gives it those of its theme, the pictures take :data:`LIGHT`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from estitchup_pl.optional import require
from estitchup_pl.report.curves import MethodCurves, Rows

WIDTH, HEIGHT = 270, 190
GREY: Final = "#808890"  # seen on a light and on a dark page
SERIES: Final = ["known", "none", "overall"]
TEXT: Final[dict[str, Any]] = {"legend": {"layout": {"bottom": {"direction": "vertical", "anchor": "start"}}}}
LIGHT: Final[dict[str, Any]] = {
    "background": "#ffffff",
    "font": "sans-serif",
    "view": {"stroke": "transparent"},
    "axis": {"gridColor": "#e3e6ea", "domainColor": "#8a929c", "tickColor": "#8a929c", "labelColor": "#3a424c"},
    **TEXT,
    "range": {"category": ["#1f5fbf", "#c2410c", "#15803d"]},
    "mark": {"color": "#1f5fbf"},
}


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, one panel a method.

    Attributes:
        key: Name of its file.
        title: Heading.
        caption: What it shows and how to read it.
        draw: Draws the panel of a method; its data are named as in :attr:`MethodCurves.data`.
        data: Name of the data without which there is nothing to draw.
    """

    key: str
    title: str
    caption: str
    draw: Callable[[], Any]
    data: str


def _altair() -> Any:
    return require("altair", "report", "drawing figures")


def _x(title: str, *, unit: bool = True) -> Any:
    alt = _altair()
    scale = alt.Scale(domain=[0, 1]) if unit else alt.Scale(nice=False)
    return alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5, grid=False))


def _lines(data: str, names: list[str], x: Any, title: str, scale: Any, ratio: bool = False) -> Any:
    """Line of means, on a band of one standard deviation unless it is a ratio, with its numbers under the pointer."""
    alt = _altair()
    legend = _legend(values=names)
    colour = alt.Scale(domain=SERIES)  # one colour for each in every figure
    base = alt.Chart(alt.NamedData(data)).encode(
        x=x,
        color=alt.Color("series:N", scale=colour, legend=legend),
        tooltip=[
            alt.Tooltip("series:N", title=title),
            alt.Tooltip("x:Q", title=x.to_dict()["title"]),
            alt.Tooltip("mean:Q", title="mean"),
            alt.Tooltip("low:Q", title="mean - sd"),
            alt.Tooltip("high:Q", title="mean + sd"),
        ],
    )
    y = alt.Y("mean:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5, grid=not ratio))
    line = base.mark_line(strokeWidth=2, strokeDash=[5, 3] if ratio else [1, 0]).encode(y=y)
    area = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q")
    pointer = base.mark_circle(opacity=0, size=80).encode(y=y)
    return alt.layer(*([] if ratio else [area]), line, pointer)


def _legend(**options: Any) -> Any:
    options = {"symbolOpacity": 1, "symbolType": "stroke", "symbolStrokeWidth": 2.5, **options}
    return _altair().Legend(title=None, orient="bottom", **options)


def _share(alt: Any) -> Any:
    return alt.Scale(domain=[0, 1])


def _threshold_accuracies() -> Any:
    alt = _altair()
    return _lines("accuracies", ["known", "none"], _x("threshold"), "accuracy", _share(alt))


def _reliability() -> Any:
    alt = _altair()
    base = alt.Chart(alt.NamedData("reliability")).encode(
        tooltip=[
            alt.Tooltip("confidence:Q", title="mean confidence"),
            alt.Tooltip("mean:Q", title="accuracy"),
            alt.Tooltip("low:Q", title="accuracy - sd"),
            alt.Tooltip("high:Q", title="accuracy + sd"),
        ]
    )
    y = alt.Y("mean:Q", title="accuracy", scale=_share(alt), axis=alt.Axis(tickCount=5))
    bars = base.mark_bar(opacity=0.55, binSpacing=1).encode(x=_x("confidence").bin("binned"), x2="x2:Q", y=y)
    point = alt.X("confidence:Q", scale=_share(alt), title="confidence")
    spread = base.mark_rule(strokeWidth=2, color=GREY).encode(x=point, y=alt.Y("low:Q", title="accuracy"), y2="high:Q")
    return alt.layer(bars, spread, base.mark_point(filled=True, size=45).encode(x=point, y=y), _diagonal())


def _diagonal() -> Any:
    alt = _altair()
    ends = alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])
    return alt.Chart(ends).mark_line(strokeDash=[4, 3], strokeWidth=1.5, color=GREY).encode(x="x:Q", y="y:Q")


def _epochs() -> Any:
    alt = _altair()
    return _lines("epochs", ["none", "overall"], _x("epoch", unit=False), "accuracy", _share(alt))


def _ratios() -> Any:
    alt = _altair()
    x = _x("threshold")
    rules = (
        alt.Chart(alt.NamedData("thresholds"))
        .mark_rule(strokeWidth=1.5, color=GREY)
        .encode(
            x=x,
            strokeDash=alt.StrokeDash("series:N", sort=None, legend=_legend()),
            tooltip=[alt.Tooltip("series:N", title="heuristic"), alt.Tooltip("x:Q", title="threshold")],
        )
    )
    left = _lines("threshold_accuracies", SERIES, x, "accuracy", _share(alt))
    right = _lines("ratios", SERIES, x, "TP / (FP + FN)", alt.Scale(domainMin=0), ratio=True)
    return alt.layer(left, right, rules).resolve_scale(y="independent")


def _histogram() -> Any:
    alt = _altair()
    base = alt.Chart(alt.NamedData("histogram")).encode(
        tooltip=[
            alt.Tooltip("x:Q", title="confidence from"),
            alt.Tooltip("x2:Q", title="to"),
            alt.Tooltip("mean:Q", title="share of rows"),
        ]
    )
    y = alt.Y("mean:Q", title="share of rows", axis=alt.Axis(format="%", tickCount=5))
    bars = base.mark_bar(binSpacing=1).encode(x=_x("confidence").bin("binned"), x2="x2:Q", y=y)
    middle = alt.X("middle:Q", title="confidence")
    spread = (
        base.transform_calculate(middle="(datum.x + datum.x2) / 2")
        .mark_rule(color=GREY, strokeWidth=2)
        .encode(x=middle, y=alt.Y("low:Q", title="share of rows"), y2="high:Q")
    )
    return alt.layer(bars, spread)


def _risk() -> Any:
    alt = _altair()
    title, scale = "share of errors", alt.Scale(domainMin=0)
    base = alt.Chart(alt.NamedData("risk")).encode(x=_x("coverage"))
    area = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q")
    return alt.layer(area, base.mark_line(strokeWidth=2).encode(y=alt.Y("mean:Q", title=title, scale=scale)))


RISK_OVER_COVERAGE: Final = Figure(
    "risk-coverage",
    "Risk over coverage",
    "Share of errors among the rows that are taken, the surest first, over their share of all rows. "
    'A "none" row that is taken is an error.',
    _risk,
    "risk",
)
"""What accepting more of the rows costs; no figure of the paper."""

FIGURES: Final = (
    Figure(
        "figure-3",
        "Figure 3: accuracy over thresholds",
        'Accuracy of known classes and of "none" on the test rows when everything below the threshold is called '
        '"none". The wider the range over which neither breaks down, the easier a threshold is chosen.',
        _threshold_accuracies,
        "accuracies",
    ),
    Figure(
        "figure-4",
        "Figure 4: reliability",
        "Accuracy of the test rows in ten bins of confidence (bars), and their mean confidence (points). On the dashed "
        "line confidence is what it claims to be; below it the method is overconfident.",
        _reliability,
        "reliability",
    ),
    Figure(
        "figure-5",
        "Figure 5: accuracy in the course of training",
        'Overall and "none" accuracy after each epoch, at the threshold of the intersection heuristic.',
        _epochs,
        "epochs",
    ),
    Figure(
        "figure-6",
        "Figure 6: choosing the threshold",
        'On the threshold split: overall and "none" accuracy (solid, left axis), the ratio of true positives to '
        'false positives and false negatives of known classes and of "none" (dashed, right axis), and upright the '
        "means of the thresholds that the two heuristics chose.",
        _ratios,
        "ratios",
    ),
    Figure(
        "figure-7",
        "Figure 7: confidences",
        "Share of the test rows in twenty bins of confidence.",
        _histogram,
        "histogram",
    ),
)


def panels(figure: Figure, methods: list[MethodCurves]) -> dict[str, Any] | None:
    """Vega-Lite of a figure, one panel a method that has its data; None where none has."""
    drawn = [
        {**panel, "width": WIDTH, "title": curves.method}
        for curves in methods
        if (panel := page_panel(figure, curves)) is not None
    ]
    return {"concat": drawn, "columns": 3, "title": figure.title, "config": LIGHT} if drawn else None


def picture(chart: dict[str, Any]) -> bytes:
    """Draw a chart as PNG.

    Raises:
        ConfigError: If altair or vl-convert is not installed.
    """
    converter = require("vl_convert", "report", "drawing figures")
    image: bytes = converter.vegalite_to_png(chart, vl_version=vega_lite_version(), scale=2)
    return image


def page_panel(figure: Figure, curves: MethodCurves) -> dict[str, Any] | None:
    """Vega-Lite of a panel as wide as its place on the page, without colours; None where there is no data."""
    if not curves.data[figure.data]:
        return None
    filled: dict[str, Any] = _fill(_template(figure), curves.data)
    return filled


@cache
def _template(figure: Figure) -> dict[str, Any]:
    return _specification(figure.draw())


def _fill(part: Any, data: dict[str, Rows]) -> Any:
    """Put rows where a chart names its data; Altair itself would copy them many times."""
    if isinstance(part, list):
        return [_fill(item, data) for item in part]
    if not isinstance(part, dict):
        return part
    if part.keys() == {"name"} and part["name"] in data:
        return {"values": data[part["name"]]}
    return {key: _fill(value, data) for key, value in part.items()}


def _specification(chart: Any) -> dict[str, Any]:
    """Vega-Lite as wide as its place, without Altair's own theme."""
    content = chart.properties(width="container", height=HEIGHT).to_dict()
    return {key: value for key, value in content.items() if key not in ("$schema", "config")}


def outcome_chart() -> dict[str, Any]:
    """Vega-Lite of what each threshold brings: data named ``outcome`` and the parameter ``threshold``."""
    alt = _altair()
    x, names = _x("threshold"), [*SERIES, "coverage"]
    lines = (
        alt.Chart(alt.NamedData("outcome"))
        .mark_line(strokeWidth=2)
        .encode(
            x=x,
            y=alt.Y("value:Q", title="share of rows", scale=_share(alt), axis=alt.Axis(tickCount=5)),
            color=alt.Color("series:N", scale=alt.Scale(domain=names), legend=_legend()),
        )
    )
    here = alt.Chart(alt.Data(values=[{}])).transform_calculate(x="threshold").mark_rule(strokeWidth=2, color=GREY)
    chart = alt.layer(lines, here.encode(x=x)).add_params(alt.param(name="threshold", value=0))
    return _specification(chart)


def vega_lite_version() -> str:
    """Version of Vega-Lite that the charts are written in, e.g. ``"6.4"``."""
    major, minor, *_ = _altair().SCHEMA_VERSION.removeprefix("v").split(".")
    return f"{major}.{minor}"
