"""Tables of a run: its classes, and the items that its threshold only just lets through or only just stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from estitchup_pl.batch import NONE
from estitchup_pl.dashboards.boards import PICTURE, Table
from estitchup_pl.dashboards.evaluated import Evaluated
from estitchup_pl.embed.shown import picture_column, picture_reader, shortened, text_columns
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows

_MOST_TEXTS: Final = 4
_CHARACTERS: Final = 200
_SIDE: Final = 128


def class_table(evaluated: Evaluated, train_counts: dict[str, int]) -> Table:
    """Each class with its results, the worst first; the rows of unknown classes are the class ``none``.

    Args:
        evaluated: Decisions on the evaluated rows.
        train_counts: Training rows of each class.

    Returns:
        Rows of the class, its evaluated and training rows, its accuracy (the share of its rows that get it), the share
        of its rows that are called "none", their mean confidence, and the class that its rows get most often instead.
    """
    labels, predicted, accepted = evaluated.decisions.labels, evaluated.predicted, evaluated.accepted
    rows: list[list[Any]] = []
    for index in [*range(len(evaluated.class_names)), NONE]:
        mine = labels == index
        if not bool(mine.any()):
            continue
        (name,) = evaluated.names(torch.tensor([index]))
        wrong = Counter(evaluated.names(predicted[mine & accepted & (predicted != index)]))
        means = (predicted == index, ~accepted, evaluated.decisions.confidence)
        shares = [round(float(values[mine].double().mean()), 4) for values in means]
        mistaken = wrong.most_common(1)[0][0] if wrong else None
        rows.append([name, int(mine.sum()), train_counts.get(name, 0), *shares, mistaken])
    columns = ["class", "rows", "training rows", "accuracy", "share of none", "confidence", "most often taken for"]
    return Table(columns, sorted(rows, key=lambda row: (row[3], -row[1])))


def nearest(evaluated: Evaluated, count: int) -> list[int]:
    """Places of the rows nearest to the threshold, from those that are only just "none" to those only just accepted.

    Without a threshold, of the rows whose acceptance is least, which one would reject first.
    """
    acceptance = evaluated.decisions.acceptance.double().numpy()
    distance = acceptance if evaluated.threshold is None else np.abs(acceptance - evaluated.threshold)
    chosen = np.argsort(distance, kind="stable")[:count]
    return [int(place) for place in chosen[np.argsort(acceptance[chosen], kind="stable")]]


def item_table(
    evaluated: Evaluated,
    store: EmbeddingStore,
    count: int,
    texts: Sequence[str] | None = None,
    picture: str | None = None,
    root: str | None = None,
) -> Table:
    """Items near the threshold, see :func:`nearest`, with what a person needs to judge them.

    Args:
        evaluated: Decisions on the evaluated rows.
        store: The store of these rows.
        count: Number of items.
        texts: Columns of the store's items to show; by default the first four with texts.
        picture: Column of the store's items with pictures, or with the paths of picture files; by default the first
            that holds either.
        root: Folder or zip file that the paths are relative to. Default: the working directory.

    Raises:
        StoreError: If there is no such column.
        ConfigError: If there is no such folder or zip file.
    """
    places = nearest(evaluated, count)
    picture = picture or picture_column(store)
    texts = text_columns(store, picture, _MOST_TEXTS) if texts is None else texts
    rows, at = evaluated.rows[places], torch.tensor(places, dtype=torch.int64)
    decisions = evaluated.decisions
    columns: dict[str, list[Any]] = {"id": _cells(store, "id", rows)}
    if picture is not None:
        read = picture_reader(root or ".")
        columns[PICTURE] = [_thumbnail(read(cell)) for cell in _cells(store, picture, rows)]
    columns |= {
        **{name: [_shortened(cell) for cell in _cells(store, name, rows)] for name in texts},
        "label": _cells(store, "label", rows),
        "predicted": evaluated.names(evaluated.predicted[at]),
        "most likely": evaluated.names(decisions.predicted[at]),
        "confidence": _rounded(decisions.confidence[at]),
        "acceptance": _rounded(decisions.acceptance[at]),
    }
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _cells(store: EmbeddingStore, column: str, rows: Rows) -> list[Any]:
    cells: list[Any] = store.column(column).take(pa.array(rows)).to_pylist()
    return cells


def _thumbnail(picture: Any) -> Any:
    """Fit a picture into a white square, so that all are of one size; an item without one is shown without."""
    if picture is None:
        return None
    picture.thumbnail((_SIDE, _SIDE))
    square = picture.resize((_SIDE, _SIDE))
    square.paste("white", (0, 0, _SIDE, _SIDE))
    square.paste(picture, ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2))
    return square


def _shortened(cell: Any) -> str | None:
    return None if cell is None else shortened(str(cell), _CHARACTERS)


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
