"""The page of a batch that has been monitored: one file that opens from disk and asks for nothing from any network."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import numpy as np

from estitchup_pl.optional import require
from estitchup_pl.report.figures import LIGHT
from estitchup_pl.serving.drift import Floats
from estitchup_pl.serving.monitoring import Monitored

_BINS: Final = np.linspace(0, 1, 21)


def make_monitor_page(found: Monitored, predictions: str, reference: str) -> str:
    """Write the page; names come from users' data, and Jinja escapes all text.

    Args:
        found: What has become of the batch.
        predictions: What the batch is called.
        reference: What it was compared with is called.

    Raises:
        ConfigError: If a library of the extra ``report`` is not installed.
    """
    jinja2 = require("jinja2", "report", "writing the page")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    ours, theirs = found.batch, found.reference
    page: str = environment.from_string(_file("monitor.html")).render(
        style=_file("page.css"),
        found=found,
        predictions=predictions,
        reference=reference,
        figures=[
            ("Confidence", _histogram("confidence", ours.confidence, theirs.confidence)),
            ("Score of “none”", _histogram("score of “none”", ours.none_scores, theirs.none_scores)),
        ],
    )
    return page


def _file(name: str) -> str:
    return (files("estitchup_pl.report") / name).read_text(encoding="utf-8")


def _histogram(title: str, found: Floats, expected: Floats) -> str:
    """Shares of items over a value, found and expected, as SVG."""
    alt = require("altair", "report", "drawing figures")
    rows = [*_shares("found", found), *_shares("expected", expected)]
    chart = (
        alt.Chart(alt.Data(values=rows), width=420, height=200)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("share:Q", title="share of items"),
            color=alt.Color("series:N", title=None, scale=alt.Scale(domain=["found", "expected"])),
        )
    )
    specification = {**chart.to_dict(), "config": LIGHT}
    svg: str = require("vl_convert", "report", "drawing figures").vegalite_to_svg(specification)
    return svg


def _shares(series: str, values: Floats) -> Iterator[dict[str, Any]]:
    counts = np.histogram(values, _BINS)[0] / len(values)
    for edge, share in zip(_BINS, [*counts.tolist(), counts[-1]], strict=True):
        yield {"series": series, "x": float(edge), "share": float(share)}
