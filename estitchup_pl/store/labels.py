"""The labels of a store, as codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.store.embedding_store import EmbeddingStore

Rows = npt.NDArray[np.int64]
"""Rows of a store, int64 ``(n,)``."""


@dataclass(frozen=True)
class StoreLabels:
    """Labels of a whole store.

    Attributes:
        names: Every label that occurs, sorted.
        codes: Position in ``names`` of each row's label, :data:`NONE` where it has none; int64 ``(rows,)``.
    """

    names: tuple[str, ...]
    codes: Rows

    @classmethod
    def read(cls, store: EmbeddingStore) -> StoreLabels:
        """Read the labels of a store."""
        column = store.column("label").cast(pa.string())
        names = sorted(pc.unique(column.drop_null()).to_pylist())
        codes = pc.index_in(column, value_set=pa.array(names, pa.string()), skip_nulls=True)
        return cls(tuple(names), codes.fill_null(NONE).to_numpy().astype(np.int64))

    @property
    def labelled(self) -> Rows:
        """Rows that have a label, in rising order."""
        return np.flatnonzero(self.codes != NONE)

    @property
    def unlabelled(self) -> Rows:
        """Rows that have none, in rising order."""
        return np.flatnonzero(self.codes == NONE)

    def present(self, rows: Rows) -> list[str]:
        """Names of the labels that occur in these rows, sorted."""
        codes = np.unique(self.codes[rows])
        return [self.names[code] for code in codes[codes != NONE]]

    def index(self, class_names: Sequence[str]) -> Rows:
        """Position in ``class_names`` of each row's label, :data:`NONE` for others and none; int64 ``(rows,)``."""
        position = {name: index for index, name in enumerate(class_names)}
        table = np.array([position.get(name, NONE) for name in self.names] + [NONE], dtype=np.int64)
        return table[self.codes]

    def lookup(self, names: Sequence[str]) -> Rows:
        """Codes of these names.

        Raises:
            ConfigError: If a name does not occur in the store; the nearest that does is offered.
        """
        for name in names:
            if name not in self.names:
                raise ConfigError(f"the store has no class {name!r}{did_you_mean(name, self.names)}")
        return np.array([self.names.index(name) for name in names], dtype=np.int64)
