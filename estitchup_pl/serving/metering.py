"""What a server counts, for Prometheus: requests and their time, batches, and what has been decided.

A server is several processes; the library adds up what each of them has counted, in a folder that the environment
variable ``PROMETHEUS_MULTIPROC_DIR`` names before it is imported.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from estitchup_pl.serving.decider import Answer

SHARES: Final = tuple(edge / 10 for edge in range(1, 11))
"""Upper edges of the bins of confidences and scores."""

_REQUESTS: Final = Counter("estitchup_requests", "Requests for decisions.", ["status"])
_SECONDS: Final = Histogram("estitchup_request_seconds", "Time of a request for decisions.")
_BATCH: Final = Histogram("estitchup_batch_items", "Items decided together.", buckets=[4**power for power in range(8)])
_DECISIONS: Final = Counter("estitchup_decisions", 'Items by their class or "none".', ["predicted"])
_CONFIDENCE: Final = Histogram("estitchup_confidence", "Confidence of the most likely class.", buckets=SHARES)
_NONE_SCORE: Final = Histogram("estitchup_none_score", 'Score of "none".', buckets=SHARES)


def count_answers(answers: Sequence[Answer]) -> None:
    """Count the decisions of a batch."""
    _BATCH.observe(sum(map(len, answers)))
    decisions = [decision for answer in answers for decision in answer]
    for predicted, number in Tally(decision["predicted"] for decision in decisions).items():
        _DECISIONS.labels(predicted).inc(number)
    for decision in decisions:
        _CONFIDENCE.observe(decision["confidence"])
        _NONE_SCORE.observe(decision["none_score"])


def exposition() -> bytes:
    """All counts of all processes, in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class Metered:
    """Counts the requests to one address by status, and their time; a middleware of ASGI.

    Args:
        app: What answers them.
        path: The address.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        if scope["type"] != "http" or scope["path"] != self.path:
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _REQUESTS.labels(str(message["status"])).inc()
                _SECONDS.observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, counted)
