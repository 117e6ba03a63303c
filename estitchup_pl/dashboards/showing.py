"""All that loggers are shown of the rows that a run was evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from estitchup_pl.batch import NONE
from estitchup_pl.callbacks.evaluated import EvaluatedRows
from estitchup_pl.dashboards.boards import Table
from estitchup_pl.dashboards.drawing import alone, charts
from estitchup_pl.dashboards.evaluated import Evaluated, judged
from estitchup_pl.dashboards.tables import class_table, item_table
from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.report.figures import picture

_PACKAGES: Final = {"altair": "altair", "vl_convert": "vl-convert-python", "PIL": "pillow"}
"""What pictures are drawn with, by the names of the modules."""


@dataclass(frozen=True)
class Items:
    """Which items a table shows, and how.

    Attributes:
        count: Number of items.
        texts: Columns with texts; ``None`` for the first four.
        picture: Column with pictures; ``None`` for the first that holds some.
        root: Folder or zip file of picture files; ``None`` for the working directory.
    """

    count: int
    texts: Sequence[str] | None = None
    picture: str | None = None
    root: str | None = None


@dataclass(frozen=True)
class Shown:
    """Pictures, as the bytes of PNGs, and tables by their names."""

    pictures: dict[str, bytes]
    tables: dict[str, Table]


def shown(model: EmbeddingClassifier, rows: EvaluatedRows, data: EmbeddingDataModule | None, items: Items) -> Shown:
    """Decide about rows, and draw and tabulate what has come of it.

    Args:
        model: The classifier, with its decision.
        rows: The rows, each once.
        data: Where they come from; without it there are no tables.
        items: Which items to show.

    Raises:
        StoreError: If the store has no such column as ``items`` names.
        ConfigError: If there is no such folder or zip file.
    """
    evaluated = judged(model, rows)
    return Shown(_pictures(evaluated), {} if data is None else _tables(evaluated, data, items))


def _pictures(evaluated: Evaluated) -> dict[str, bytes]:
    if missing := [package for module, package in _PACKAGES.items() if find_spec(module) is None]:
        rank_zero_info(
            f"no figures are logged, since {' and '.join(missing)} is missing: pip install '.[report]' in a clone"
        )
        return {}
    drawn = charts(evaluated.decisions, evaluated.threshold)
    return {name: picture(alone(chart)) for name, chart in drawn.items()}


def _tables(evaluated: Evaluated, data: EmbeddingDataModule, items: Items) -> dict[str, Table]:
    codes, names = data.labels.codes[data.parts.train], data.labels.names
    trained = np.bincount(codes[codes != NONE], minlength=len(names))
    tables = {"classes": class_table(evaluated, dict(zip(names, trained.tolist(), strict=True)))}
    if items.count:
        options = (items.count, items.texts, items.picture, items.root)
        tables["items_near_the_threshold"] = item_table(evaluated, data.store, *options)
    return tables
