"""A batch of predictions against what was expected of them when the model was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from estitchup_pl.errors import CheckpointError, ConfigError, DataError
from estitchup_pl.functional import FEW_NONE_ROWS
from estitchup_pl.model.expectation import Expectation
from estitchup_pl.serving.drift import (
    Difference,
    compare_classes,
    compare_distributions,
    compare_shares,
    holm,
    unknown_share,
)

COLUMNS: Final = ("id", "predicted", "confidence", "none_score")
SHOWN: Final = 10
"""Items and classes that are named."""


@dataclass(frozen=True)
class Batch:
    """Decisions about some items.

    Attributes:
        ids: Their names; empty where they have none.
        predicted: Class of each, or ``"none"``.
        confidence: In ``[0, 1]``, ``(rows,)``.
        none_scores: In ``[0, 1]``, ``(rows,)``.
        known: Whether each is of a known class, where that is known.
    """

    ids: Sequence[str]
    predicted: Sequence[str]
    confidence: npt.NDArray[np.float64]
    none_scores: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def is_none(self) -> npt.NDArray[np.bool_]:
        """Which rows were called "none"."""
        return np.array([name == "none" for name in self.predicted], bool)

    @classmethod
    def read(cls, path: str | Path) -> Batch:
        """Read a file that ``estitchup predict`` wrote, without the items of which nothing could be said.

        Raises:
            DataError: If it cannot be read, lacks a column, or says nothing of any item.
        """
        path = Path(path)
        try:
            table = pq.read_table(path) if path.suffix == ".parquet" else _read_csv(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as predictions ({error})") from error
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise DataError(f"{path}: has no column {missing[0]!r}; expected what `estitchup predict` writes")
        table = table.select(COLUMNS).filter(table["predicted"].is_valid())
        if not len(table):
            raise DataError(f"{path}: says nothing of any item")
        ids, predicted = (table[name].cast(pa.string()).to_pylist() for name in ("id", "predicted"))
        numbers = [table[name].to_numpy().astype(np.float64) for name in ("confidence", "none_score")]
        if not all(np.isfinite(column).all() for column in numbers):
            raise DataError(f"{path}: holds a confidence or score that is no number")
        return cls(ids, predicted, *numbers)

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> Batch:
        """Take what a checkpoint keeps of the rows that its threshold was found on.

        Args:
            checkpoint: As :func:`~estitchup_pl.model.checkpoints.read_checkpoint` returns it.

        Raises:
            CheckpointError: If it keeps nothing.
        """
        kept = Expectation.unpack(checkpoint["decision"].get("expectation"))
        if kept is None or not len(kept.predicted):
            raise CheckpointError(
                "the checkpoint keeps no validation rows to compare with, as a fit with OODThreshold does: give "
                "predictions of a time when all was well (--reference)"
            )
        names = [*checkpoint["hyper_parameters"]["class_names"], "none"]  # NONE, which is -1, finds the last
        predicted = [names[index] for index in kept.predicted.tolist()]
        return cls(
            [], predicted, kept.confidence.double().numpy(), kept.none_scores.double().numpy(), kept.known.numpy()
        )


def _read_csv(path: Path) -> pa.Table:
    """A table whose empty cells are null, and in which a class may be called "null"."""
    types = {"id": pa.string(), "predicted": pa.string()}
    options = pa.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    return pa.csv.read_csv(path, convert_options=options)


class Finding(NamedTuple):
    """One thing that was compared.

    Attributes:
        name: What it is, for people.
        difference: How it differs.
        adjusted: Its p value among those of all tests.
        has_changed: Whether that is an alarm.
    """

    name: str
    difference: Difference
    adjusted: float
    has_changed: bool


@dataclass(frozen=True)
class Monitored:
    """What has become of a batch.

    Attributes:
        batch: The batch.
        reference: What it was compared with.
        findings: Each comparison.
        unknown: Share of unknown items that was estimated without labels, with its interval, where the reference has
            labels.
        moved: Classes whose share has changed most: name, share expected, share found.
        advice: What to do, in sentences.
    """

    batch: Batch
    reference: Batch
    findings: list[Finding]
    unknown: tuple[float, float, float] | None
    moved: list[tuple[str, float, float]]
    advice: list[str]

    @property
    def has_drifted(self) -> bool:
        """Whether something has changed."""
        return any(finding.has_changed for finding in self.findings)

    @property
    def first_to_label(self) -> list[tuple[str, str, float]]:
        """Items with the highest score of "none": id, decision, score."""
        order = np.argsort(-self.batch.none_scores, kind="stable")[:SHOWN]
        scores = self.batch.none_scores
        return [(self.batch.ids[row], self.batch.predicted[row], float(scores[row])) for row in order.tolist()]


def monitor(batch: Batch, reference: Batch, alpha: float = 0.01, tolerance: float = 0.05, seed: int = 0) -> Monitored:
    """Compare a batch with a reference.

    An alarm needs a change that chance explains in less than ``alpha`` of batches, all comparisons taken together, and
    that is as large as ``tolerance``: in a large batch chance explains no change, however small.

    Args:
        batch: Today's decisions.
        reference: Decisions of the same model on items of known quality.
        alpha: Share of false alarms that is accepted, in ``(0, 1)``.
        tolerance: Change that does not matter, in ``[0, 1)``; see :class:`~estitchup_pl.serving.drift.Difference`.
        seed: Key of the random numbers.

    Raises:
        ConfigError: If ``alpha`` or ``tolerance`` is out of range.
        DataError: If there is no row on one side.
    """
    if not 0 < alpha < 1 or not 0 <= tolerance < 1:
        raise ConfigError(f"expected alpha in (0, 1) and tolerance in [0, 1), got {alpha} and {tolerance}")
    names, differences = zip(*_compared(batch, reference, seed), strict=True)
    adjusted = holm([difference.p_value for difference in differences])
    findings = [
        Finding(name, difference, p_value, p_value < alpha and difference.distance >= tolerance)
        for name, difference, p_value in zip(names, differences, adjusted, strict=True)
    ]
    known = reference.known
    unknown = None
    if known is not None and known.any() and not known.all():
        scores = reference.none_scores
        unknown = unknown_share(batch.none_scores, scores[known], scores[~known], seed=seed)
    return Monitored(batch, reference, findings, unknown, _moved(batch, reference), _advice(findings, batch, reference))


NONE_SHARE: Final = 'share of "none"'
CONFIDENCE: Final = "confidence of accepted items"
NONE_SCORE: Final = 'score of "none" of accepted items'
CLASSES: Final = "classes of accepted items (share that has moved)"


def _compared(batch: Batch, reference: Batch, seed: int) -> list[tuple[str, Difference]]:
    """Each comparison; of accepted items only where both sides have some."""
    found = [(NONE_SHARE, compare_shares(batch.is_none, reference.is_none))]
    ours, theirs = ~batch.is_none, ~reference.is_none
    if ours.any() and theirs.any():
        confidences = batch.confidence[ours], reference.confidence[theirs]
        scores = batch.none_scores[ours], reference.none_scores[theirs]
        found += [
            (CONFIDENCE, compare_distributions(*confidences, seed=seed)),
            (NONE_SCORE, compare_distributions(*scores, seed=seed)),
        ]
    if all(names := _comparable_classes(batch, reference)):
        found.append((CLASSES, compare_classes(*names, seed=seed)))
    return found


def _comparable_classes(batch: Batch, reference: Batch) -> tuple[list[str], list[str]]:
    """Classes of accepted items; with labels, a class that the reference does not have was held out to find "none"."""
    ours, theirs = _accepted(batch), _accepted(reference)
    if reference.known is not None:
        ours = [name for name in ours if name in set(theirs)]
    return ours, theirs


def _accepted(batch: Batch) -> list[str]:
    return [name for name in batch.predicted if name != "none"]


def _moved(batch: Batch, reference: Batch) -> list[tuple[str, float, float]]:
    ours, theirs = map(Counter, _comparable_classes(batch, reference))
    if not ours or not theirs:
        return []
    shares = [(name, theirs[name] / theirs.total(), ours[name] / ours.total()) for name in sorted({*ours, *theirs})]
    return sorted(shares, key=lambda entry: -abs(entry[1] - entry[2]))[:SHOWN]


def _advice(findings: Sequence[Finding], batch: Batch, reference: Batch) -> list[str]:
    changed = {finding.name: finding.difference for finding in findings if finding.has_changed}
    advice = []
    if NONE_SHARE in changed and changed[NONE_SHARE].found > changed[NONE_SHARE].expected:
        advice.append(
            'More items are unlike the known classes. Label "none" first, as new classes may be among them: '
            "estitchup queue --strategy none_first."
        )
    elif NONE_SHARE in changed:
        advice.append('Fewer items are "none" than expected: see by a sample of accepted ones whether they are right.')
    if CONFIDENCE in changed or NONE_SCORE in changed:
        advice.append(
            "Accepted items are not like those that the confidence was calibrated on. Label the least sure: "
            "estitchup queue --strategy margin; then train anew."
        )
    if CLASSES in changed:
        advice.append(
            "The shares of the classes have changed, on which calibration and threshold rest. Label some of each: "
            "estitchup queue --balance."
        )
    if len(batch) < FEW_NONE_ROWS or len(reference) < FEW_NONE_ROWS:
        advice.append(f"Fewer than {FEW_NONE_ROWS} items on one side: only great changes could be seen.")
    return advice or ["Nothing has changed by more than chance and tolerance explain: nothing needs a label for that."]


def plain(monitored: Monitored) -> dict[str, Any]:
    """The result in plain values, for a scheduler's log."""
    return {
        "items": len(monitored.batch),
        "reference_items": len(monitored.reference),
        "drift": monitored.has_drifted,
        "findings": [
            {"name": one.name, **one.difference._asdict(), "adjusted_p": one.adjusted, "changed": one.has_changed}
            for one in monitored.findings
        ],
        "unknown_share": monitored.unknown,
        "advice": monitored.advice,
        "label_first": [name for name, _, _ in monitored.first_to_label],
    }
