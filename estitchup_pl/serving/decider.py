"""Requests that came together, decided together: values through their encoders, embeddings through the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from estitchup_pl.embed import Modality
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.serving.asked import Asked, RequestError
from estitchup_pl.serving.encoding import encode_values

Answer = list[dict[str, Any]]
"""One decision an item, in plain values."""

_Rows = Mapping[str, npt.NDArray[np.float32]]


class Decider:
    """Answers requests; those that come together are embedded and decided in common batches.

    Args:
        model: A fitted classifier.
        encoders: Modalities whose raw values can be embedded, by name, their encoders loaded.
        top_k: Most likely classes in a decision.

    Raises:
        ConfigError: If ``top_k`` is below 1.

    Example:
        >>> model = EmbeddingClassifier(class_names=["hat", "shoe"], modalities={"photo": 3})
        >>> model.configure_model()
        >>> model.threshold = 1.0
        >>> ((answer,),) = Decider(model)([Asked(1, {"photo": np.zeros((1, 3), np.float32)}, {})])
        >>> answer["predicted"], answer["threshold"], len(answer["top_classes"])
        ('none', 1.0, 2)
    """

    def __init__(
        self,
        model: EmbeddingClassifier,
        encoders: Mapping[str, Modality] | None = None,
        top_k: int = 5,
    ) -> None:
        if top_k < 1:
            raise ConfigError(f"top_k: expected at least 1, got {top_k}")
        self.model = model
        self.encoders = dict(encoders or {})
        self.top_k = top_k

    def __call__(self, asked: Sequence[Asked]) -> list[Answer | RequestError]:
        """Answer each request, or say why it is refused; what is wrong with one concerns no other."""
        refused, embedded = self._embed(asked)
        whole = [number for number in range(len(asked)) if number not in refused]
        answers: dict[int, Answer | RequestError] = {**refused}
        try:
            answers |= zip(whole, self._decide([embedded[number] for number in whole]), strict=True)
        except DataError:  # a number too large for the network: whose it is shows one by one
            answers |= {number: self._decide_alone(embedded[number]) for number in whole}
        return [answers[number] for number in range(len(asked))]

    def _embed(self, asked: Sequence[Asked]) -> tuple[dict[int, RequestError], list[_Rows]]:
        """Embeddings of all modalities of each request, and the requests that hold a value which cannot be embedded."""
        rows: list[dict[str, npt.NDArray[np.float32]]] = [dict(one.embeddings) for one in asked]
        refused: dict[int, RequestError] = {}
        for name, modality in self.encoders.items():
            raw = [number for number, one in enumerate(asked) if name in one.values]
            places = [(number, item) for number in raw for item in range(asked[number].count)]
            values = [asked[number].values[name][item] for number, item in places]
            if not values:
                continue
            encoded = encode_values(modality, values)
            for place, reason in encoded.broken.items():
                number, item = places[place]
                refused.setdefault(number, RequestError(422, f"modality {name!r}, item {item + 1}: {reason}"))
            for number, (start, stop) in zip(raw, _spans([asked[number].count for number in raw]), strict=True):
                rows[number][name] = encoded.rows[start:stop]
        return refused, list(rows)

    def _decide(self, requests: Sequence[_Rows]) -> list[Answer]:
        if not requests:
            return []
        joined = requests[0]
        if len(requests) > 1:
            joined = {name: np.concatenate([rows[name] for rows in requests]) for name in self.model.modalities}
        answers = self._answers(joined)
        counts = [len(next(iter(rows.values()))) for rows in requests]
        return [answers[start:stop] for start, stop in _spans(counts)]

    def _decide_alone(self, rows: _Rows) -> Answer | RequestError:
        try:
            return self._answers(rows)
        except DataError as error:
            return RequestError(422, str(error))

    def _answers(self, rows: _Rows) -> Answer:
        found = self.model.predict(rows)
        top = found.probabilities.topk(min(self.top_k, found.probabilities.shape[1]), dim=1)
        names = self.model.class_names
        threshold = self.model.threshold if self.model.decision.has_threshold else None
        columns = (
            found.predicted,
            found.confidence.tolist(),
            found.none_scores.tolist(),
            top.indices.tolist(),
            top.values.tolist(),
        )
        return [
            {
                "predicted": predicted,
                "confidence": confidence,
                "none_score": none_score,
                "threshold": threshold,
                "top_classes": [names[index] for index in indices],
                "top_probabilities": probabilities,
            }
            for predicted, confidence, none_score, indices, probabilities in zip(*columns, strict=True)
        ]


def _spans(counts: Sequence[int]) -> list[tuple[int, int]]:
    """First row of each of some parts in a row, and the one after its last.

    Example:
        >>> _spans([2, 3])
        [(0, 2), (2, 5)]
    """
    return list(pairwise(accumulate(counts, initial=0)))
