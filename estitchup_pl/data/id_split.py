"""A split for work that goes on: which part a row plays depends on its id alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from estitchup_pl.data.splits import Split, SplitProtocol, check_fraction, digest_places, groups_of
from estitchup_pl.errors import SplitError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels


@dataclass
class IdSplit(SplitProtocol):
    """Each labelled row trains or is evaluated by its id: new labels, new rows and another order move no old row.

    So a model that is trained again on more labels can be compared with the one before, on the test rows of both. With
    a greater ``train_fraction`` test rows become training rows, never the other way round. Validation and test are the
    same rows: divide the training rows by a :class:`~estitchup_pl.data.ThresholdSplit` to fit a threshold.

    Attributes:
        train_fraction: Share of the ids that train, in ``(0, 1)``; of the rows about as many.
        trial: Another number divides the ids in another way.
        unknown_classes: Classes that are never trained on; all their rows are evaluated, as "none".
        group: Column of the items by which a row is placed in place of its id, so that equal values never stand on both
            sides, such as the title where variants of a product share it; by its id where it has no value. A row of an
            unknown class is evaluated all the same.
    """

    train_fraction: float = 0.8
    trial: int = 0
    unknown_classes: Sequence[str] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        check_fraction("train_fraction", self.train_fraction)

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        rows = labels.labelled
        places = digest_places(store, rows, "id", self.trial, self.group)
        is_unknown = np.isin(labels.codes[rows], labels.lookup(self.unknown_classes))
        trains = (places < self.train_fraction) & ~is_unknown
        for part, name in ((trains, "train on"), (~trains, "evaluate")):
            if not part.any():
                raise SplitError(
                    f"train_fraction={self.train_fraction} of {rows.size} labelled rows leaves no row to {name}: "
                    "choose another fraction, or label more rows"
                )
        return Split(rows[trains], rows[~trains], rows[~trains])

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return super().groups(store) if self.group is None else groups_of(store, self.group)

    @override
    def for_trial(self, trial: int) -> IdSplit:
        return replace(self, trial=trial)
