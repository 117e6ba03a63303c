"""How the outputs of a classifier become decisions: calibration, then the score of "none", then the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.errors import CheckpointError, ConfigError, DataError
from estitchup_pl.functional import level_quantile, mean_logits, nonconformity, none_score, prediction_set, reject
from estitchup_pl.functional.checks import check_probabilities
from estitchup_pl.model.calibrators import Calibrator
from estitchup_pl.model.expectation import Expectation
from estitchup_pl.model.packing import pack, unpack
from estitchup_pl.model.scores import NoneScore

Part = Literal["calibrator", "score", "threshold"]


class Decisions(NamedTuple):
    """What is decided about each of some rows.

    Attributes:
        probabilities: Calibrated probability of each class in ``[0, 1]``, float32 ``(rows, classes)``.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float64 ``(rows,)``.
        predicted: Index of the class or ``NONE``, int64 ``(rows,)``.
    """

    probabilities: Tensor
    none_scores: Tensor
    predicted: Tensor


@dataclass(frozen=True)
class ThresholdBasis:
    """What a threshold rests on, and how far it can be trusted.

    Attributes:
        none_rows: "none" rows that it was fitted on.
        known_rows: Rows of known classes that it was fitted on.
        low: Lower end of its 95 % interval over unknown classes, see
            :func:`~estitchup_pl.functional.threshold_interval`; ``None`` where it was not computed, which it is when a
            fit ends.
        high: Its upper end.
    """

    none_rows: int
    known_rows: int
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None else f", 95 % interval over unknown classes {self.low:.3f} to {self.high:.3f}"
        return f'from {self.none_rows} "none" rows and {self.known_rows} others{interval}'


class Decision(nn.Module):
    """Turns scaled embeddings and logits into decisions; the one place in which that is done.

    Logits are calibrated; their sigmoid is the probability of each class. The score of "none" sees the embeddings and
    the calibrated logits. An item is accepted, as its most likely class, if one minus that score is greater than the
    threshold, else it is "none". Without a threshold every item is accepted.

    Args:
        calibrator: Maps logits to calibrated ones; ``None`` leaves them.
        score: Score of "none"; ``None`` for the paper's, one minus the greatest probability (Sec. 2.5).
        threshold: Threshold in ``[0, 1]``; NaN where none has been fitted.
        given: Names of those of these that come from elsewhere, another fit or the user: training does not void them.
        basis: Rows that the threshold rests on, where known.
        expectation: What is decided about these rows: later batches are compared with it.
        unlikely: How unlikely the right class was in validation rows, as
            :func:`~estitchup_pl.functional.nonconformity` returns it: what prediction sets rest on, where known.

    Shape:
        ``(rows, dim)`` and ``(rows, classes)``, for an ensemble ``(members, rows, classes)``, to :class:`Decisions`.

    Raises:
        ConfigError: If the threshold lies outside ``[0, 1]``.

    Example:
        >>> decide = Decision(threshold=0.6)
        >>> decide(torch.zeros(2, 4), torch.tensor([[3.0, -1.0], [0.2, 0.1]])).predicted
        tensor([ 0, -1])
    """

    def __init__(
        self,
        calibrator: Calibrator | None = None,
        score: NoneScore | None = None,
        threshold: float = math.nan,
        given: Iterable[Part] = (),
        basis: ThresholdBasis | None = None,
        expectation: Expectation | None = None,
        unlikely: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.calibrator = calibrator
        self.score = score
        self.given = frozenset(given)
        self.basis = basis
        self.expectation = expectation
        self.unlikely = unlikely
        self._threshold = math.nan
        if not math.isnan(threshold):
            self.threshold = threshold
        self.requires_grad_(False)  # nothing here is trained

    @property
    def threshold(self) -> float:
        """Threshold in ``[0, 1]``: an item is accepted only above it (Sec. 2.5); NaN where none has been fitted.

        Raises:
            ConfigError: If it is set to a value outside ``[0, 1]``.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | Tensor) -> None:
        if not 0 <= float(value) <= 1:
            raise ConfigError(f"the threshold must lie in [0, 1], got {float(value)}")
        self._threshold = float(torch.as_tensor(value, dtype=torch.float32))  # the type of what is compared with it

    @property
    def has_threshold(self) -> bool:
        """Whether a threshold has been fitted or given."""
        return not math.isnan(self._threshold)

    @property
    def is_fitted(self) -> bool:
        """Whether a part of it has been fitted to the weights that there are, and is void when they change."""
        there = {"calibrator": self.calibrator, "score": self.score, "threshold": self.has_threshold or None}
        return any(part is not None and name not in self.given for name, part in there.items())

    def given_parts(self) -> Decision:
        """The decision that is left when the weights change: what was given, and nothing that was fitted."""
        return Decision(
            self.calibrator if "calibrator" in self.given else None,
            self.score if "score" in self.given else None,
            self.threshold if "threshold" in self.given else math.nan,
            self.given,
            self.basis if "threshold" in self.given else None,
            self.expectation if "threshold" in self.given else None,
            self.unlikely if "threshold" in self.given else None,
        )

    def calibrated(self, logits: Tensor) -> Tensor:
        """Calibrated logits, float32, in the shape of those that came in."""
        logits = logits.float()
        if self.calibrator is None:
            return logits
        flat: Tensor = self.calibrator(logits.flatten(0, -2))
        return flat.view(logits.shape)

    def learn_sets(self, logits: Tensor, labels: Tensor) -> None:
        """Keep what prediction sets need of validation rows; calibration comes first.

        Args:
            logits: Of rows that have not trained the network, ``(rows, classes)``, for an ensemble those of its mean.
            labels: Class index or ``NONE``, int64 ``(rows,)``; without a row of a known class nothing is kept.
        """
        unlikely = nonconformity(self.calibrated(logits).sigmoid().float(), labels)
        self.unlikely = unlikely.cpu() if len(unlikely) else None

    def sets(self, probabilities: Tensor, level: float = 0.9) -> Tensor:
        """Prediction sets: of new items of known classes, so large a share has its class in its set.

        See :func:`~estitchup_pl.functional.prediction_set`. Whether an item is "none" is another question, and the
        threshold's.

        Args:
            probabilities: Calibrated ones, as this decision returns them, ``(rows, classes)``.
            level: Share in ``(0, 1)``.

        Returns:
            Whether the set of a row holds a class, bool ``(rows, classes)``.

        Raises:
            ConfigError: If ``level`` is no share, or no validation rows are known to find sets by.
        """
        if self.unlikely is None:
            raise ConfigError(
                "no validation rows have been kept to find prediction sets by: fit with Calibration or OODThreshold "
                "among the callbacks"
            )
        return prediction_set(probabilities, level_quantile(self.unlikely, level))

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Decisions:
        mean = self.calibrated(mean_logits(logits) if logits.ndim == 3 else logits)
        probabilities = mean.sigmoid().float()
        if self.score is None:
            return Decisions(probabilities, none_score(probabilities.double()), reject(probabilities, self.threshold))
        none_scores = self.score(embeddings, self.calibrated(logits) if self.score.of_members else mean)
        return Decisions(probabilities, none_scores, reject(probabilities, self.threshold, none_scores))

    def pack(self) -> dict[str, Any]:
        """All of it as plain values and tensors, for a checkpoint.

        Raises:
            ConfigError: If the calibrator or the score cannot be described in plain values.
        """
        return {
            "calibrator": pack(self.calibrator) if self.calibrator else None,
            "score": pack(self.score) if self.score else None,
            "threshold": self.threshold if self.has_threshold else None,
            "given": sorted(self.given),
            "basis": asdict(self.basis) if self.basis else None,
            "expectation": self.expectation._asdict() if self.expectation else None,
            "unlikely": self.unlikely,
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Make the decision that :meth:`pack` has described.

        Raises:
            CheckpointError: If it names a class that is not imported already, or holds a number that is not finite or
                a threshold outside ``[0, 1]``.
        """
        try:
            return cls(
                unpack(packed["calibrator"], Calibrator.__subclasses__()) if packed["calibrator"] else None,
                unpack(packed["score"], NoneScore.__subclasses__()) if packed["score"] else None,
                math.nan if packed["threshold"] is None else _in_range(packed["threshold"]),
                packed["given"],
                ThresholdBasis(**packed["basis"]) if packed["basis"] else None,
                Expectation.unpack(packed.get("expectation")),
                _shares(packed.get("unlikely")),
            )
        except (KeyError, TypeError, AttributeError, ConfigError, DataError) as error:
            raise CheckpointError(f"the decision in the checkpoint cannot be used ({error}): fit it anew") from error


def _shares(unlikely: Tensor | None) -> Tensor | None:
    """What a checkpoint holds for prediction sets, which no damage may have led out of its range."""
    if unlikely is not None:
        check_probabilities(unlikely, "unlikely", "the checkpoint is damaged: fit anew")
    return unlikely


def _in_range(threshold: float) -> float:
    """The threshold of a checkpoint, in which "not a number" does not stand for none."""
    if not 0 <= threshold <= 1:
        raise CheckpointError(f"the checkpoint holds the threshold {threshold}, outside [0, 1]: fit it anew")
    return threshold
