"""What became of the items of a prediction, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from estitchup_pl.callbacks.prediction_table import value_counts
from estitchup_pl.wording import counted

MOST_CLASSES: Final = 5
"""Classes that a summary names."""


@dataclass
class PredictionSummary:
    """Counts over the rows of a file of predictions.

    Attributes:
        path: The file.
        rows: Items in it.
        said: How often each class, and ``"none"``, was said.
        trained: Rows that the model was trained on.
        partly: Rows that were decided although they lack a modality.
        has_threshold: Whether there is a threshold, without which every item is accepted.
        sets: Share of items whose prediction set is to hold their class; ``None`` where there are no sets.
        large_sets: Whether every set holds every class, since too few validation rows are known for the share.

    Example:
        >>> print(PredictionSummary(Path("new.csv"), 5, Counter({"hat": 3, "none": 1}), partly=1))
        5 items: 3 accepted (60.0%), 1 "none" (20.0%)
        accepted: hat 3
        1 not decided, since nothing of them could be embedded (column problem)
        1 decided without some modality (column problem)
        no prediction sets: the model keeps no validation rows to find them by
        file: new.csv
    """

    path: Path
    rows: int = 0
    said: Counter[str] = field(default_factory=Counter)
    trained: int = 0
    partly: int = 0
    has_threshold: bool = True
    sets: float | None = None
    large_sets: bool = False

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch of the file."""
        self.rows += len(batch)
        said = batch.column("predicted")
        self.said.update(value_counts(said))
        self.trained += batch.column("trained_on").true_count
        lacking = len(batch) - batch.column("problem").null_count
        self.partly += lacking - said.null_count

    @property
    def none(self) -> int:
        """Items that are "none"."""
        return self.said["none"]

    @property
    def undecided(self) -> int:
        """Items of which nothing could be embedded, and so nothing is said."""
        return self.rows - self.said.total()

    def __str__(self) -> str:
        return "\n".join([self._counts(), *self._remarks(), f"file: {self.path}"])

    def _counts(self) -> str:
        accepted = sum(count for name, count in self.said.items() if name != "none")
        counts = {"accepted": accepted, '"none"': self.none}
        parts = [f"{count:,} {what}{self._share(count)}" for what, count in counts.items()]
        return f"{counted(self.rows, 'item')}: {', '.join(parts)}"

    def _remarks(self) -> Iterator[str]:
        accepted = [(name, count) for name, count in self.said.most_common() if name != "none"]
        if accepted:
            shown = ", ".join(f"{name} {count:,}" for name, count in accepted[:MOST_CLASSES])
            more = f" and {len(accepted) - MOST_CLASSES} more classes" if len(accepted) > MOST_CLASSES else ""
            yield f"accepted: {shown}{more}"
        if self.undecided:
            yield f"{self.undecided:,} not decided, since nothing of them could be embedded (column problem)"
        if self.partly:
            yield f"{self.partly:,} decided without some modality (column problem)"
        if self.trained:
            yield f"{self.trained:,} have trained the model, which flatters it (column trained_on)"
        if not self.has_threshold:
            yield 'no threshold has been fitted, so every item is accepted and none is "none"'
        if self.sets is None:
            yield "no prediction sets: the model keeps no validation rows to find them by"
        elif self.large_sets:
            yield f"prediction sets hold every class: too few validation rows for {self.sets:.0%}"

    def _share(self, count: int) -> str:
        return f" ({count / self.rows:.1%})" if self.rows else ""
