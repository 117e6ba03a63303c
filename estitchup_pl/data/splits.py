"""Which rows train, validate and test: the paper's protocols, and an explicit column.

A protocol is a small dataclass that turns a store's labels into a :class:`Split`. A new protocol is a new
subclass of :class:`SplitProtocol`, named in YAML under ``data.split``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estitchup_pl.errors import ConfigError, SplitError, did_you_mean
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels


@dataclass(frozen=True)
class Split:
    """Store rows of each part, int64 ``(n,)``, in rising order.

    A class without a row in ``train`` is unknown: its rows in ``val`` and ``test`` are "none" (Sec. 3.5).
    """

    train: Rows
    val: Rows
    test: Rows


class SplitProtocol(ABC):
    """How labelled rows are divided. Subclass, implement :meth:`assign`, and name the class in YAML."""

    @abstractmethod
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """Divide the labelled rows.

        Args:
            store: The store, for protocols that read further columns.
            labels: Its labels.

        Raises:
            SplitError: If the store cannot be divided this way.
        """


@dataclass
class TrialSplit(SplitProtocol):
    """The paper's trial: a random tenth of the labelled rows trains, all others are evaluated (Sec. 3.4).

    Rows are drawn without regard to their class, so rare classes may be absent from training; their rows are
    "none". Validation and test are the same rows, as in the paper: a threshold *fitted* on this validation set
    would be judged on the rows it was fitted on. Fit it under :class:`ThresholdSplit` of the same trial and
    hand it over (``OODThreshold(checkpoint=…)``) instead.

    Attributes:
        trial: Number of the trial, the seed of the draw.
        train_fraction: Share of the labelled rows that trains, in ``(0, 1)``.
        unknown_classes: Classes that are never trained on; all their rows are evaluated, as "none".
    """

    trial: int = 0
    train_fraction: float = 0.1
    unknown_classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fraction("train_fraction", self.train_fraction)

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """See :meth:`SplitProtocol.assign`."""
        labelled = labels.labelled
        unknown = labels.lookup(self.unknown_classes)
        candidates = labelled[~np.isin(labels.codes[labelled], unknown)]
        count = round(self.train_fraction * candidates.size)
        if count == 0 or count == labelled.size:
            raise SplitError(
                f"train_fraction={self.train_fraction} of {candidates.size} labelled rows leaves no row to "
                f"{'train on' if count == 0 else 'evaluate'}: choose another fraction, or label more rows"
            )
        train = np.sort(_generator("trial", self.trial).permutation(candidates)[:count])
        evaluation = np.setdiff1d(labelled, train, assume_unique=True)
        return Split(train, evaluation, evaluation)


@dataclass
class ThresholdSplit(TrialSplit):
    """The split that finds a confidence threshold: a trial's training rows, divided once more (Sec. 4.3).

    Of the training rows of :class:`TrialSplit` with the same arguments, ``fit_fraction`` trains and the rest
    validates; ``held_out`` classes, drawn at random among those with rows on both sides, are taken out of the
    training part, so that validation has "none" rows. The test rows are the trial's evaluation rows.

    Attributes:
        fit_fraction: Share of the trial's training rows that trains, in ``(0, 1)``.
        held_out: Number of classes removed from training, at least 1.
    """

    fit_fraction: float = 0.7
    held_out: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("fit_fraction", self.fit_fraction)
        if self.held_out < 1:
            raise ConfigError(f"held_out must be at least 1, got {self.held_out}")

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """See :meth:`SplitProtocol.assign`."""
        trial = super().assign(store, labels)
        generator = _generator("threshold", self.trial)
        shuffled = generator.permutation(trial.train)
        count = round(self.fit_fraction * shuffled.size)
        fit, val = np.sort(shuffled[:count]), np.sort(shuffled[count:])
        both = np.intersect1d(labels.codes[fit], labels.codes[val])
        if both.size <= self.held_out:
            raise SplitError(
                f"cannot hold out {self.held_out} classes: only {both.size} have rows both among the "
                f"{fit.size} to fit on and the {val.size} to validate on; lower held_out or raise train_fraction"
            )
        removed = generator.choice(both, self.held_out, replace=False)
        return Split(fit[~np.isin(labels.codes[fit], removed)], val, trial.test)


@dataclass
class ColumnSplit(SplitProtocol):
    """A split written down in the items table: ``train``, ``val`` or ``test`` a row; null rows are left out.

    Without a ``val`` row validation takes the test rows, and the other way round.

    Attributes:
        column: Name of the column.
    """

    column: str = "split"

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """See :meth:`SplitProtocol.assign`."""
        parts = np.array(store.column(self.column).to_pylist(), dtype=object)
        names = ("train", "val", "test")
        for row in np.flatnonzero(~np.isin(parts, np.array([*names, None], dtype=object))):
            raise SplitError(
                f"column {self.column!r}, row {row}: expected 'train', 'val', 'test' or null, "
                f"got {parts[row]!r}{did_you_mean(str(parts[row]), names)}"
            )
        labelled = labels.labelled
        train, val, test = (labelled[parts[labelled] == name] for name in names)
        for name, size in (("train", train.size), ("val or test", val.size + test.size)):
            if size == 0:
                raise SplitError(f"column {self.column!r} marks no labelled row as {name}")
        return Split(train, val if val.size else test, test if test.size else val)


def _generator(stream: str, trial: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed("split", stream, trial))


def check_fraction(name: str, value: float) -> None:
    """Raise :class:`ConfigError` unless ``value`` lies in ``(0, 1)``."""
    if not 0 < value < 1:
        raise ConfigError(f"{name} must lie between 0 and 1 (both excluded), got {value}")
