"""A table of text that Markdown, HTML and a console can show."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

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
        rows = [self.columns, ("---", *("---:",) * (len(self.columns) - 1))]
        rows += [
            tuple(f"**{_bare(cell)}**" if (i, j) in self.best else _bare(cell) for j, cell in enumerate(row))
            for i, row in enumerate(self.rows)
        ]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"## {self.title}\n\n{self.caption}\n\n{lines}\n"

    def html(self) -> str:
        """Table element in a box that scrolls by itself."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in range(len(self.rows)))
        label = escape(self.title, quote=True)
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _html_row(self, row: int) -> str:
        name, *cells = map(escape, self.rows[row])
        marked = (
            f"<td><strong>{cell}</strong></td>" if (row, column) in self.best else f"<td>{cell}</td>"
            for column, cell in enumerate(cells, start=1)
        )
        return f'<th scope="row">{name}</th>' + "".join(marked)

    def console(self) -> Table:
        """Table for a console."""
        table = Table(title=self.title, caption=self.caption, title_justify="left", caption_justify="left")
        for column, name in enumerate(self.columns):
            table.add_column(name, justify="right" if column else "left")
        for i, row in enumerate(self.rows):
            table.add_row(*(Text(cell, "bold" if (i, j) in self.best else "") for j, cell in enumerate(row)))
        return table


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


def with_spread(value: str, spread: float) -> str:
    """Append a standard deviation, as the paper does.

    Example:
        >>> with_spread("+0.0200", 0.0006)
        '+0.0200 (0.0006)'
    """
    return f"{value} ({number(spread)})"


def _bare(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("\n", " ")
