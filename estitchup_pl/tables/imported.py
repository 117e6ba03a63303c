"""What every importer of a folder gives."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from estitchup_pl.store import RowSource


class Imported(NamedTuple):
    """A table of items and the embeddings of its rows, in the same order."""

    items: pa.Table
    embeddings: dict[str, RowSource]
