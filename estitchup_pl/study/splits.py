"""How a trial's training rows are divided once more to choose hyperparameters (Sec. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estitchup_pl.data.splits import Split, TrialSplit, check_fraction
from estitchup_pl.errors import SplitError
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels


@dataclass
class SelectionSplit(TrialSplit):
    """A random part of a trial's training rows validates; the trial's evaluation rows take no part at all.

    Classes with no row in the part that trains are "none" in the part that validates. Test rows are the
    validation rows.

    Attributes:
        fraction: Share of the trial's training rows that validates, in ``(0, 1)``.
    """

    fraction: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("fraction", self.fraction)

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """See :meth:`~estitchup_pl.data.splits.SplitProtocol.assign`."""
        rows = super().assign(store, labels).train
        shuffled = np.random.default_rng(derive_seed("split", "selection", self.trial)).permutation(rows)
        count = round(self.fraction * rows.size)
        if count in (0, rows.size):
            raise SplitError(
                f"fraction={self.fraction} of {rows.size} training rows leaves no row to "
                f"{'validate' if count == 0 else 'train'} on: raise train_fraction"
            )
        val = np.sort(shuffled[:count])
        return Split(np.sort(shuffled[count:]), val, val)


@dataclass
class BootstrapSplit(TrialSplit):
    """As many rows as a trial trains on, drawn from them with replacement; those not drawn validate.

    Attributes:
        resample: Number of the draw.
    """

    resample: int = 0

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """See :meth:`~estitchup_pl.data.splits.SplitProtocol.assign`; a row drawn twice trains twice."""
        rows = super().assign(store, labels).train
        generator = np.random.default_rng(derive_seed("split", "bootstrap", self.trial, self.resample))
        train = np.sort(generator.choice(rows, rows.size))
        val = np.setdiff1d(rows, train)
        if val.size == 0:
            raise SplitError(
                f"all {rows.size} training rows were drawn, none is left to validate: raise train_fraction"
            )
        return Split(train, val, val)
