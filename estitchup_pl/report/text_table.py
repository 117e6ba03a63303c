"""A table of text that Markdown, a page and a console can show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

MISSING = "–"


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        key: Name of the table, as part of a link.
        title: Heading.
        caption: What the columns mean.
        columns: Head of each column.
        rows: Cells of each row, the name of the method first.
        best: Places ``(row, column)`` of the best values.
    """

    key: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()

    def markdown(self) -> str:
        """Section of a Markdown page."""
        rows = [
            tuple(f"**{plain(cell)}**" if (i, j) in self.best else plain(cell) for j, cell in enumerate(row))
            for i, row in enumerate(self.rows)
        ]
        rows = [tuple(map(plain, self.columns)), ("---", *("---:",) * (len(self.columns) - 1)), *rows]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"## {plain(self.title)}\n\n{plain(self.caption)}\n\n{lines}\n"

    def console(self) -> Table:
        """Table for a console."""
        table = Table(title=Text(self.title), caption=Text(self.caption), title_justify="left", caption_justify="left")
        for column, name in enumerate(self.columns):
            table.add_column(Text(name), justify="right" if column else "left")
        for i, row in enumerate(self.rows):
            table.add_row(*(Text(cell, "bold" if (i, j) in self.best else "") for j, cell in enumerate(row)))
        return table


def plain(text: str) -> str:
    r"""Write a text in Markdown so that it stands there as it is: no markup, no link, one line.

    Example:
        >>> print(plain("a|b *<i>* snake_case [+0.1, +0.2] _x_"))
        a\|b \*&lt;i&gt;\* snake_case [+0.1, +0.2] \_x\_
    """
    return re.sub(r"[\\`*|~$]|(?<!\w)_|_(?!\w)|(?<=\])[(:\[]", r"\\\g<0>", escape(" ".join(text.split()), quote=False))


def number(value: float, sign: bool = False) -> str:
    """Write a number with four decimals, the one format of all tables.

    Example:
        >>> number(0.98765), number(0.02, sign=True), number(float("nan"))
        ('0.9877', '+0.0200', '–')
    """
    if not np.isfinite(value):
        return MISSING
    return f"{value:+.4f}" if sign else f"{value:.4f}"


def threshold(value: float) -> str:
    """Write a threshold: four decimals, and six where it is so near to one that four would say 1.

    Example:
        >>> threshold(0.58), threshold(0.999997)
        ('0.5800', '0.999997')
    """
    return f"{value:.6f}" if 0.9995 <= value < 1 else number(value)


def values_text(values: Mapping[str, Any]) -> str:
    """Write values with their names.

    Example:
        >>> values_text({"alpha": 0.4, "hidden": [250, 250]}), values_text({})
        ('alpha 0.4, hidden [250, 250]', '–')
    """
    texts = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    return ", ".join(texts) or MISSING


def with_spread(value: str, spread: float) -> str:
    """Append a standard deviation, as the paper does.

    Example:
        >>> with_spread("+0.0200", 0.0006)
        '+0.0200 (0.0006)'
    """
    return f"{value} ({number(spread)})"
