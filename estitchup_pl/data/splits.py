"""Which rows train, validate and test: the paper's protocols, and an explicit column.

A protocol is a small dataclass that turns a store's labels into a :class:`Split`. A new protocol is a new
subclass of :class:`SplitProtocol`, named in YAML under ``data.split`` or as the ``split`` of a study.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from estitchup_pl.errors import ConfigError, SplitError, did_you_mean
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels

FloatRows = npt.NDArray[np.float64]
"""One number a row."""

_SEEDS: Final = 2**63
"""Number of seeds that :func:`derive_seed` has."""


@dataclass(frozen=True)
class Split:
    """Store rows of each part, int64 ``(n,)``, in rising order.

    A class without a row in ``train`` is unknown: its rows in ``val`` and ``test`` are "none" (Sec. 3.5).
    """

    train: Rows
    val: Rows
    test: Rows


class SplitProtocol(ABC):
    """How labelled rows are divided. Subclass, implement :meth:`assign`, and name the class in YAML.

    Example:
        >>> class EvenRows(SplitProtocol):
        ...     def assign(self, store, labels):
        ...         rows = labels.labelled
        ...         return Split(rows[::2], rows[1::2], rows[1::2])
    """

    @abstractmethod
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        """Divide the labelled rows.

        Args:
            store: The store, for protocols that read further columns.
            labels: Its labels.

        Raises:
            SplitError: If the store cannot be divided this way.
        """

    def for_trial(self, trial: int) -> SplitProtocol:
        """Return this split in one trial of a study; the same rows in each unless a subclass says otherwise."""
        return self

    def groups(self, store: EmbeddingStore) -> Rows:
        """Group of each row of the store, int64 ``(rows,)``; a split of this one's rows keeps groups together.

        Each row is a group of its own unless a subclass says otherwise.
        """
        return np.arange(len(store))


@dataclass
class FixedSplit(SplitProtocol):
    """Rows that are divided already, for callers in Python.

    Attributes:
        parts: The rows of each part.
    """

    parts: Split

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        return self.parts


@dataclass
class TrialSplit(SplitProtocol):
    """The paper's trial: a random tenth of the labelled rows trains, all others are evaluated (Sec. 3.4).

    Rows are drawn without regard to their class, so rare classes may be absent from training; their rows are
    "none". Validation and test are the same rows, as in the paper: a threshold *fitted* on this validation set
    would be judged on the rows it was fitted on. Fit it under a :class:`ThresholdSplit` of this split and
    hand it over (``OODThreshold(checkpoint=…)``) instead.

    Attributes:
        trial: Number of the trial, the seed of the draw.
        train_fraction: Share of the labelled rows that trains, in ``(0, 1)``.
        unknown_classes: Classes that are never trained on; all their rows are evaluated, as "none".
        group: Column of the items whose equal values never stand on both sides, such as the title where variants of a
            product share it; rows without a value are groups of their own. With unequal groups a little less than
            ``train_fraction`` may train.
    """

    trial: int = 0
    train_fraction: float = 0.1
    unknown_classes: Sequence[str] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        check_fraction("train_fraction", self.train_fraction)

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        labelled, groups = labels.labelled, self.groups(store)
        is_unknown = np.isin(labels.codes[labelled], labels.lookup(self.unknown_classes))
        candidates = labelled[~np.isin(groups[labelled], groups[labelled[is_unknown]])]
        train, _ = divide(candidates, self.train_fraction, split_generator("trial", self.trial), groups)
        if train.size in (0, labelled.size):
            raise SplitError(
                f"train_fraction={self.train_fraction} of {candidates.size} labelled rows leaves no row to "
                f"{'evaluate' if train.size else 'train on'}: choose another fraction, or label more rows"
            )
        evaluation = np.setdiff1d(labelled, train, assume_unique=True)
        return Split(train, evaluation, evaluation)

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return super().groups(store) if self.group is None else groups_of(store, self.group)

    @override
    def for_trial(self, trial: int) -> TrialSplit:
        return replace(self, trial=trial)


@dataclass
class StratifiedSplit(SplitProtocol):
    """A share of the rows of each class trains, all others are evaluated: what a fit takes where no split is named.

    Of a class with two rows or more at least one trains and, below a share of 1, at least one is evaluated; a class of
    one row is trained. Which rows they are hangs on the digests of their ids: rows in another order are divided alike,
    and new rows move few old ones (an :class:`IdSplit` moves none, but leaves out classes by chance). Validation and
    test are the same rows, none of which is "none" unless ``unknown_classes`` says so: divide the training rows by a
    :class:`ThresholdSplit` to fit a threshold.

    Attributes:
        train_fraction: Share of the rows of each class that trains, above 0; at 1 all do, and nothing is evaluated.
        trial: Another number divides the rows in another way.
        unknown_classes: Classes that are never trained on; all their rows are evaluated, as "none".
        group: Column of the items whose equal values never stand on both sides: where some would train, all do, but for
            those of unknown classes.
    """

    train_fraction: float = 0.8
    trial: int = 0
    unknown_classes: Sequence[str] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.train_fraction <= 1:
            raise ConfigError(f"train_fraction must lie above 0 and be at most 1, got {self.train_fraction}")

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        rows, codes = labels.labelled, labels.codes[labels.labelled]
        if not rows.size:
            raise SplitError("no row of the store has a label, so there is none to train on: label some")
        places = digest_places(store, rows, "stratified", self.trial, self.group)
        is_known = ~np.isin(codes, labels.lookup(self.unknown_classes))
        trains = is_known & (ranks_within(codes, places) < self._counts(codes))
        if self.group is not None:
            groups = self.groups(store)[rows]
            trains = is_known & np.isin(groups, groups[trains])
        if not trains.any():
            raise SplitError("every class is among unknown_classes, so no row is left to train on")
        return Split(rows[trains], rows[~trains], rows[~trains])

    def _counts(self, codes: Rows) -> Rows:
        """Training rows of the class of each row."""
        _, place, sizes = np.unique(codes, return_inverse=True, return_counts=True)
        most = sizes if self.train_fraction == 1 else np.maximum(sizes - 1, 1)
        counts: Rows = np.clip(np.rint(self.train_fraction * sizes).astype(np.int64), 1, most)[place]
        return counts

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return super().groups(store) if self.group is None else groups_of(store, self.group)

    @override
    def for_trial(self, trial: int) -> StratifiedSplit:
        return replace(self, trial=trial)


@dataclass
class ThresholdSplit(SplitProtocol):
    """The split that finds a confidence threshold: the training rows of another split, divided once more (Sec. 4.3).

    Of those training rows ``fit_fraction`` trains and the rest validates; ``held_out`` classes, drawn at random among
    those with rows on both sides, are taken out of the part that trains, so that validation has "none" rows. The test
    rows are those of the other split, and none of them is looked at.

    A threshold hangs on which classes are held out. Several splits that differ in their ``repeat`` divide the rows
    anew and hold out other classes for as long as there are any.

    Attributes:
        split: The split whose training rows are divided: that of the fit which is to use the threshold.
        trial: Seed of the draw.
        fit_fraction: Share of the training rows that trains, in ``(0, 1)``.
        held_out: Classes removed from training: their number, at least 1, or as a float their share of the classes
            with rows on both sides, in ``(0, 1)``.
        repeat: Number of the draw, 0 or above.
    """

    split: SplitProtocol = field(default_factory=StratifiedSplit)
    trial: int = 0
    fit_fraction: float = 0.7
    held_out: int | float = 5
    repeat: int = 0

    def __post_init__(self) -> None:
        check_fraction("fit_fraction", self.fit_fraction)
        check_held_out(self.held_out)
        if self.repeat < 0:
            raise ConfigError(f"repeat must be 0 or above, got {self.repeat}")

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        outer, groups = self.split.assign(store, labels), self.groups(store)
        before = np.empty(0, dtype=np.int64)
        for repeat in range(self.repeat + 1):  # which classes one holds out hangs on those before it
            generator = split_generator("threshold", self.trial, *[repeat] * (repeat > 0))
            fit, val = divide(outer.train, self.fit_fraction, generator, groups)
            both = np.intersect1d(labels.codes[fit], labels.codes[val])
            removed = least_often(both, before, self._count(both, fit, val), generator)
            before = np.concatenate([before, removed])
        return Split(fit[~np.isin(labels.codes[fit], removed)], val, outer.test)

    @override
    def for_trial(self, trial: int) -> ThresholdSplit:
        return replace(self, split=self.split.for_trial(trial), trial=trial)

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return self.split.groups(store)

    def _count(self, both: Rows, fit: Rows, val: Rows) -> int:
        """Classes to hold out."""
        share = isinstance(self.held_out, float)
        count = max(1, round(self.held_out * both.size)) if share else int(self.held_out)
        if both.size <= count:
            raise SplitError(
                f"cannot hold out {count} classes: only {both.size} have rows both among the "
                f"{fit.size} to fit on and the {val.size} to validate on; lower held_out, or train on more rows"
            )
        return count


@dataclass
class RowsPerClass(SplitProtocol):
    """At most so many training rows of each class, drawn from those of another split: what does labelling more buy?

    Rows that are not drawn take no part. Validation and test rows are those of the other split.

    Attributes:
        rows: Training rows of each class, at least 1; of a class that has fewer, all.
        split: The split whose training rows are drawn from.
        trial: Seed of the draw.
    """

    rows: int = 20
    split: SplitProtocol = field(default_factory=TrialSplit)
    trial: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"rows must be at least 1, got {self.rows}")

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        outer = self.split.assign(store, labels)
        shuffled = split_generator("rows per class", self.trial).permutation(outer.train)
        codes = labels.codes[shuffled]
        drawn = [shuffled[codes == code][: self.rows] for code in np.unique(codes)]
        return replace(outer, train=np.sort(np.concatenate(drawn)))

    @override
    def for_trial(self, trial: int) -> RowsPerClass:
        return replace(self, split=self.split.for_trial(trial), trial=trial)

    @override
    def groups(self, store: EmbeddingStore) -> Rows:
        return self.split.groups(store)


@dataclass
class FoldSplit(SplitProtocol):
    """Cross-validation: the labelled rows in equal folds, one of which is evaluated and the others train.

    A study with as many trials as folds evaluates each row once, by a fit that has not seen it. Rows of one class are
    spread evenly over the folds.

    With ``held_out`` some classes are unknown in each fold, others in each for as long as there are any: their rows do
    not train, and those of the fold are "none". So how "none" is told is measured too, each row still evaluated once.

    Attributes:
        folds: Number of folds, at least 2.
        fold: The fold that is evaluated, from 0.
        held_out: Classes with two rows or more that are not trained on: their number, or as a float their share.
    """

    folds: int = 5
    fold: int = 0
    held_out: int | float = 0

    def __post_init__(self) -> None:
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise ConfigError(f"expected at least 2 folds and a fold below them, got {self.folds} and {self.fold}")
        if self.held_out:
            check_held_out(self.held_out)

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        shuffled = split_generator("folds").permutation(labels.labelled)
        by_class = shuffled[np.argsort(labels.codes[shuffled], kind="stable")]
        train, evaluated = np.delete(by_class, slice(self.fold, None, self.folds)), by_class[self.fold :: self.folds]
        train = train[~np.isin(labels.codes[train], self._removed(labels))]
        if not evaluated.size:
            raise SplitError(f"{self.folds} folds of {labels.labelled.size} labelled rows: some are empty; take fewer")
        return Split(np.sort(train), np.sort(evaluated), np.sort(evaluated))

    def _removed(self, labels: StoreLabels) -> Rows:
        """Classes that are unknown in this fold."""
        if not self.held_out:
            return np.empty(0, dtype=np.int64)
        codes, counts = np.unique(labels.codes[labels.labelled], return_counts=True)
        several = split_generator("fold classes").permutation(codes[counts > 1])
        share = isinstance(self.held_out, float)
        count = max(1, round(self.held_out * several.size)) if share else int(self.held_out)
        if several.size <= count:
            raise SplitError(f"cannot hold out {count} of the {several.size} classes with two rows: lower held_out")
        return np.roll(several, -self.fold * count)[:count]

    @override
    def for_trial(self, trial: int) -> FoldSplit:
        return replace(self, fold=trial % self.folds)


@dataclass
class AllRows(SplitProtocol):
    """All labelled rows train and none is evaluated: for the last fit, when everything has been chosen and measured."""

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        nothing = np.empty(0, dtype=np.int64)
        return Split(labels.labelled, nothing, nothing)


PART_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "test": "test",
}
"""What tools write in a column of splits, in small letters, and the part that it means."""


@dataclass
class ColumnSplit(SplitProtocol):
    """A split written down in the items table: ``train``, ``val`` or ``test`` a row; null rows are left out.

    ``validation``, ``valid``, ``dev`` and ``training`` are understood too, in small letters or capitals. Without a row
    that validates validation takes the test rows, and the other way round.

    Attributes:
        column: Name of the column.
    """

    column: str = "split"

    @override
    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        labelled = labels.labelled
        parts = self._read(store)[labelled]
        train, val, test = (labelled[parts == name] for name in ("train", "val", "test"))
        for name, size in (("train", train.size), ("val or test", val.size + test.size)):
            if size == 0:
                raise SplitError(f"column {self.column!r} marks no labelled row as {name}")
        return Split(train, val if val.size else test, test if test.size else val)

    def _read(self, store: EmbeddingStore) -> npt.NDArray[np.object_]:
        """Part that each row of the store plays, an object array ``(rows,)`` of names and None."""
        written = store.column(self.column).cast(pa.string())
        parts = {text: PART_NAMES.get(text.strip().casefold()) for text in pc.unique(written.drop_null()).to_pylist()}
        for text, part in parts.items():
            if part is None:
                near = did_you_mean(text.casefold(), PART_NAMES)
                raise SplitError(
                    f"column {self.column!r}, row {pc.index(written, text).as_py()}: expected 'train', 'val' "
                    f"('validation', 'valid', 'dev'), 'test' or null, got {text!r}{near}"
                )
        return np.array([parts.get(text) for text in written.to_pylist()], dtype=object)


def divide(rows: Rows, fraction: float, generator: np.random.Generator, groups: Rows) -> tuple[Rows, Rows]:
    """Draw a share of the rows, and the others, both in rising order; no group is on both sides.

    Args:
        rows: What to divide, int64 ``(n,)``.
        fraction: Share to draw, in ``[0, 1]``: as many whole groups, in random order, as stay within it.
        generator: Source of the draw.
        groups: Group of each row of the store, int64 ``(rows of the store,)``.

    Example:
        >>> first, rest = divide(np.arange(4), 0.75, np.random.default_rng(0), np.arange(4))
        >>> len(first), sorted([*first, *rest]) == [0, 1, 2, 3]
        (3, True)
        >>> divide(np.arange(4), 0.5, np.random.default_rng(0), np.array([7, 8, 8, 7]))
        (array([0, 3]), array([1, 2]))
    """
    own = groups[rows]
    values, sizes = np.unique(own, return_counts=True)
    order = generator.permutation(values.size)
    within = np.cumsum(sizes[order]) <= round(fraction * rows.size)
    drawn = np.isin(own, values[order[within]])
    return rows[drawn], rows[~drawn]


def groups_of(store: EmbeddingStore, column: str) -> Rows:
    """Number of each row's value in a column of the items, int64 ``(rows,)``; each null has a number of its own.

    Raises:
        StoreError: If there is no such column.

    Example:
        >>> store = EmbeddingStore.from_arrays(
        ...     pa.table({"id": ["1", "2", "3"], "title": ["a", None, "a"]}), {"x": np.zeros((3, 1), "float32")}
        ... )
        >>> groups_of(store, "title").tolist()
        [0, 4, 0]
    """
    codes = pc.dictionary_encode(store.column(column)).combine_chunks().indices
    own = pa.array(np.arange(len(store)) + len(store))
    return np.asarray(pc.coalesce(codes.cast(pa.int64()), own))


def least_often(values: Rows, before: Rows, count: int, generator: np.random.Generator) -> Rows:
    """Draw different values at random from those that have been drawn least often.

    Args:
        values: What to draw from, int64 ``(n,)``, each once.
        before: What was drawn before.
        count: How many to draw, at most ``n``.
        generator: Source of the draw.

    Example:
        >>> sorted(least_often(np.arange(4), np.array([0, 2]), 3, np.random.default_rng(0)).tolist())[-2:]
        [2, 3]
    """
    times = (before[:, None] == values).sum(axis=0)
    fewest, others = values[times == times.min()], values[times > times.min()]
    if count <= fewest.size:
        return generator.choice(fewest, count, replace=False)
    return np.concatenate([fewest, least_often(others, before, count - fewest.size, generator)])


def digest_places(store: EmbeddingStore, rows: Rows, stream: str, trial: int, group: str | None) -> FloatRows:
    """Place of each row in ``[0, 1)``: a function of its id alone, or of its value in a column where it has one.

    Args:
        store: The store.
        rows: The rows, int64 ``(n,)``.
        stream: What the places are for.
        trial: Another number gives other places.
        group: The column.
    """
    names = store.column("id").cast(pa.string())
    if group is not None:
        names = pc.coalesce(store.column(group).cast(pa.string()), names)
    return np.array([derive_seed("split", stream, trial, name) / _SEEDS for name in names.take(rows).to_pylist()])


def ranks_within(codes: Rows, places: FloatRows) -> Rows:
    """Rank of each row by its place among those of the same code, from 0.

    Example:
        >>> ranks_within(np.array([0, 1, 0, 0]), np.array([0.5, 0.1, 0.9, 0.2])).tolist()
        [1, 0, 2, 0]
    """
    order = np.lexsort((places, codes))
    starts = np.searchsorted(codes[order], codes[order], side="left")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order)) - starts
    return ranks


def split_generator(stream: str, *key: int) -> np.random.Generator:
    """Generator of a split, a function of its kind and numbers alone."""
    return np.random.default_rng(derive_seed("split", stream, *key))


def check_fraction(name: str, value: float) -> None:
    """Raise :class:`ConfigError` unless ``value`` lies in ``(0, 1)``."""
    if not 0 < value < 1:
        raise ConfigError(f"{name} must lie between 0 and 1 (both excluded), got {value}")


def check_held_out(value: int | float) -> None:
    """Raise :class:`ConfigError` unless ``value`` is a number of classes, or a float in ``(0, 1)``."""
    if not (0 < value < 1 if isinstance(value, float) else value >= 1):
        raise ConfigError(
            f"held_out must be a number of classes, at least 1, or their share between 0 and 1, got {value}"
        )
