"""The server: LitServe's processes and queue around a :class:`~estitchup_pl.serving.decider.Decider`.

Requests are read and checked in the process that speaks HTTP, before they join a batch: what LitServe would refuse
within a batch, it refuses to all who are in it.
"""

import logging
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty
from typing import Annotated, Any, Final

import litserve as ls
from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from litserve.loops.simple_loops import BatchedLoop
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as FormError
from typing_extensions import override

from estitchup_pl.embed import Modality, modality_of, refuse_other_recipe
from estitchup_pl.embed.recipe import Recipe
from estitchup_pl.errors import EstitchupError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.serving.asked import (
    Asked,
    Columns,
    Limits,
    RequestError,
    check_asked,
    read_json,
    read_parts,
)
from estitchup_pl.serving.decider import Answer, Decider
from estitchup_pl.serving.metering import Metered, count_answers, exposition

PATH: Final = "/predict"
TIMEOUT_SECONDS: Final = 30.0
"""How long a request may wait for its batch."""


class RequestReader:
    """Reads the requests to a model, in the process that speaks HTTP.

    Args:
        modalities: Width of each modality of the model, by name.
        encoded: Modalities whose raw values can be embedded.
        limits: What is too much.
    """

    def __init__(self, modalities: Mapping[str, int], encoded: Sequence[str], limits: Limits) -> None:
        self.modalities = dict(modalities)
        self.encoded = list(encoded)
        self.limits = limits

    async def read(self, request: Request) -> Asked:
        """Read a request and check what it holds; large ones are taken apart in a thread.

        Raises:
            HTTPException: With a status of 400 to 499 and a sentence, for what cannot be answered.
        """
        try:
            self._check_size(request)
            columns = await self._columns(request)
            return await run_in_threadpool(check_asked, columns, self.modalities, self.encoded, self.limits)
        except RequestError as refused:
            raise HTTPException(refused.status, str(refused)) from None

    async def _columns(self, request: Request) -> Columns:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await run_in_threadpool(read_json, await request.body())
        if kind == "multipart/form-data":
            return await run_in_threadpool(read_parts, await self._parts(request))
        raise RequestError(415, f"expected application/json or multipart/form-data, got {kind or 'no content type'}")

    async def _parts(self, request: Request) -> list[tuple[str, str | bytes]]:
        most = self.limits.max_items * len(self.modalities)
        options = {"max_files": most, "max_fields": most, "max_part_size": self.limits.max_bytes}
        try:
            async with request.form(**options) as form:
                items = form.multi_items()
                return [(name, await part.read() if isinstance(part, UploadFile) else part) for name, part in items]
        except FormError as error:
            raise RequestError(error.status_code, f"the form cannot be read ({error.detail})") from None

    def _check_size(self, request: Request) -> None:
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self.limits.max_bytes:
            raise RequestError(
                413, f"a body of {int(told):,} bytes, more than {self.limits.max_bytes:,} in a request (max_bytes)"
            )


async def read_request(request: Request) -> Asked:
    """Let the server's reader read a request."""
    reader: RequestReader = request.app.state.reader
    return await reader.read(request)


class DecisionAPI(ls.LitAPI):
    """What a worker does with the requests of a batch.

    Args:
        ckpt_path: Checkpoint of a fit.
        recipes: How raw values of modalities become embeddings, by name, as the checkpoint says; none for embeddings
            alone.
        top_k: Most likely classes in a decision.
        batch_size: Values that an encoder sees at once.
        max_requests: Requests that are decided together at most.
        batch_timeout: Seconds to wait for more requests once one is there.
    """

    def __init__(
        self,
        ckpt_path: str | Path,
        recipes: Mapping[str, Recipe] | None = None,
        top_k: int = 5,
        batch_size: int = 64,
        max_requests: int = 64,
        batch_timeout: float = 0.0,
    ) -> None:
        super().__init__(max_batch_size=max_requests, batch_timeout=batch_timeout, api_path=PATH, loop=PatientLoop())
        self.ckpt_path = str(ckpt_path)
        self.recipes = dict(recipes or {})
        self.top_k = top_k
        self.batch_size = batch_size

    @override
    def setup(self, device: str) -> None:
        """Load model and encoders in a worker's process, which the server's own process ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes
        try:
            model = EmbeddingClassifier.load_from_checkpoint(self.ckpt_path, map_location=device)
            self.decider = Decider(model, self._encoders(device), self.top_k)
        except EstitchupError as error:
            print(f"error: {error}", file=sys.stderr)
            logging.disable(logging.CRITICAL)  # which would say it once more, as a traceback
            raise

    def _encoders(self, device: str) -> dict[str, Modality]:
        """Load the encoders; those that are not what the model was trained on are refused."""
        made = {}
        for name, recipe in self.recipes.items():
            modality = replace(modality_of(name, recipe), batch_size=self.batch_size)
            modality.embedder.load()
            modality.embedder.eval()
            refuse_other_recipe(name, recipe, modality)
            modality.embedder.to(device)
            made[name] = modality
        return made

    @override
    def decode_request(self, request: Annotated[Asked, Depends(read_request)]) -> Asked:
        """Pass on what the process that speaks HTTP has read."""
        return request

    @override
    def batch(self, inputs: list[Asked]) -> list[Asked]:
        """Leave putting rows together to the decider."""
        return inputs

    @override
    def predict(self, x: list[Asked]) -> list[Answer | RequestError]:
        """Answer the requests of a batch."""
        found = self.decider(x)
        count_answers([one for one in found if not isinstance(one, RequestError)])
        return found

    @override
    def encode_response(self, output: Answer | RequestError) -> Response:
        """Make the response here, where the other processes do not wait for it."""
        if isinstance(output, RequestError):
            return JSONResponse({"detail": str(output)}, output.status)
        return JSONResponse({"decisions": output})


class PatientLoop(BatchedLoop):
    """Waits for the first request, where LitServe's own loop asks for one a thousand times a second.

    What has come meanwhile joins it, so batches grow with the load and a lone request waits for nobody.
    """

    @override
    def get_batch_requests(
        self, lit_api: ls.LitAPI, request_queue: Any, transport: Any
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Requests of a batch, and those that have waited for too long."""
        del transport
        found = [request_queue.get()]
        until = time.monotonic() + lit_api.batch_timeout
        while len(found) < lit_api.max_batch_size:
            try:
                found.append(request_queue.get(timeout=max(until - time.monotonic(), 0.0)))
            except Empty:
                break
        oldest = time.monotonic() - TIMEOUT_SECONDS
        late = [(sender, uid) for sender, uid, came, _ in found if came < oldest]
        return [(sender, uid, asked) for sender, uid, came, asked in found if came >= oldest], late


def make_server(
    api: DecisionAPI, model: EmbeddingClassifier, limits: Limits, accelerator: str = "auto", workers: int = 1
) -> ls.LitServer:
    """Make a server of LitServe that answers by an API, with its health, facts and counts beside it.

    Args:
        api: What its workers do.
        model: Their model, for what it says about itself.
        limits: What a request may hold.
        accelerator: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        workers: Processes on each device, each with a model of its own.
    """
    decision = model.decision
    facts = {
        "class_names": list(model.class_names),
        "modalities": model.modalities,
        "raw_values": list(api.recipes),
        "threshold": decision.threshold if decision.has_threshold else None,
        "limits": asdict(limits),
    }
    server = ls.LitServer(
        api,
        accelerator=accelerator,
        workers_per_device=workers,
        timeout=TIMEOUT_SECONDS,
        model_metadata=facts,
        max_payload_size=limits.max_bytes,
        middlewares=[(Metered, {"path": PATH})],
        disable_openapi_url=True,
    )
    server.app.state.reader = RequestReader(model.modalities, list(api.recipes), limits)
    server.app.add_api_route("/metrics", _metrics, methods=["GET"], dependencies=[Depends(server.setup_auth())])
    return server


async def _metrics() -> Response:
    return PlainTextResponse(await run_in_threadpool(exposition))
