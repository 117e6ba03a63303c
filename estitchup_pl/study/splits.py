"""How the training rows of a split are divided once more to choose hyperparameters (Sec. 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from typing_extensions import override

from estitchup_pl.data.splits import Split, SplitProtocol, TrialSplit, check_fraction, divide, split_generator
from estitchup_pl.errors import SplitError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels


@dataclass
class SelectionSplit(SplitProtocol):
    """A random part of another split's training rows validates; its evaluated rows take no part at all.

    Classes with no row in the part that trains are "none" in the part that validates. Test rows are the
    validation rows.

    Attributes:
        split: The split whose training rows are divided.
        trial: Seed of the draw.
        fraction: Share of the training rows that validates, in ``(0, 1)``.
    """

    split: SplitProtocol = field(default_factory=TrialSplit)
    trial: int = 0
    fraction: float = 0.3

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        rows = self.split.assign(store, labels).train
        val, train = divide(rows, self.fraction, split_generator("selection", self.trial), self.groups(store))
        if not val.size or not train.size:
            raise SplitError(
                f"fraction={self.fraction} of {rows.size} training rows leaves no row to "
                f"{'train' if val.size else 'validate'} on: train on more rows"
            )
        return Split(train, val, val)

    @override
    def for_trial(self, trial: int) -> SelectionSplit:
        return replace(self, split=self.split.for_trial(trial), trial=trial)

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return self.split.groups(store)


@dataclass
class BootstrapSplit(SplitProtocol):
    """As many rows as another split trains on, drawn from them with replacement; those not drawn validate.

    A row drawn twice trains twice; one of the group of a drawn row takes no part. Test rows are the validation rows.

    Attributes:
        split: The split whose training rows are drawn from.
        trial: Seed of the draw.
        resample: Number of the draw.
    """

    split: SplitProtocol = field(default_factory=TrialSplit)
    trial: int = 0
    resample: int = 0

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        rows = self.split.assign(store, labels).train
        train = np.sort(split_generator("bootstrap", self.trial, self.resample).choice(rows, rows.size))
        groups = self.groups(store)
        val = rows[~np.isin(groups[rows], groups[train])]
        if val.size == 0:
            raise SplitError(f"all {rows.size} training rows were drawn, none is left to validate: train on more rows")
        return Split(train, val, val)

    @override
    def for_trial(self, trial: int) -> BootstrapSplit:
        return replace(self, split=self.split.for_trial(trial), trial=trial)

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return self.split.groups(store)
