"""From a checkpoint to a running server, and to its end in order."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from estitchup_pl.embed.recipe import moved_recipe
from estitchup_pl.errors import ConfigError, EstitchupError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.optional import require
from estitchup_pl.serving.asked import Limits
from estitchup_pl.stopping import SIGNALS, Stopped

PORTS: Final = range(1024, 65536)
HOSTS: Final = ("127.0.0.1", "0.0.0.0", "::")

_FOLDER_OF_COUNTS: Final = "PROMETHEUS_MULTIPROC_DIR"


def serve(
    ckpt_path: str | Path,
    *,
    raw: bool = True,
    host: str = "127.0.0.1",
    port: int = 8000,
    accelerator: str = "auto",
    workers: int = 1,
    limits: Limits | None = None,
    text_encoder: str | None = None,
    image_checkpoint: str | None = None,
    **options: Any,
) -> None:
    """Answer requests over HTTP until SIGINT or SIGTERM comes; requests that are being answered are finished.

    Args:
        ckpt_path: Checkpoint of a fit.
        raw: Whether raw values are taken, of modalities of which the checkpoint says how they were embedded; their
            encoders are loaded.
        host: Address to listen at: ``127.0.0.1`` for this machine alone, ``0.0.0.0`` or ``::`` for all.
        port: Port to listen at, 1024 to 65535.
        accelerator: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        workers: Processes on each device, each with a model of its own.
        limits: What a request may hold.
        text_encoder: Folder or name of the text encoder, where it has moved.
        image_checkpoint: File with the weights of the image encoder, where it has moved.
        options: Further arguments of :class:`~estitchup_pl.serving.server.DecisionAPI`.

    Raises:
        ConfigError: For a port that is not free or not allowed, or a missing extra.
        CheckpointError: If the checkpoint cannot be read.
        EstitchupError: If a worker has ended by itself.
        Stopped: If a signal came before the server was ready.
    """
    _check_place(host, port)
    model = EmbeddingClassifier.load_from_checkpoint(ckpt_path, map_location="cpu")
    with tempfile.TemporaryDirectory(prefix="estitchup-counts-") as folder:
        os.environ[_FOLDER_OF_COUNTS] = folder  # before the library that reads it is imported, here and in workers
        for package in ("litserve", "prometheus_client", "python_multipart"):
            require(package, "serve", "serving")
        from estitchup_pl.serving.server import DecisionAPI, make_server

        recipes = model.trained_on.recipes if raw and model.trained_on else {}
        places = text_encoder, image_checkpoint
        moved = {name: moved_recipe(recipe, *places) for name, recipe in recipes.items()}
        api = DecisionAPI(ckpt_path, moved, **options)
        server = make_server(api, model, limits or Limits(), accelerator, workers)
        with _ended_in_order():
            server.run(host, port, num_api_servers=1, generate_client_file=False, access_log=False)


def _check_place(host: str, port: int) -> None:
    if port not in PORTS:
        raise ConfigError(f"port: expected one from {PORTS[0]} to {PORTS[-1]}, got {port}")
    if host not in HOSTS:
        raise ConfigError(f"host: expected one of {', '.join(HOSTS)}, got {host!r}")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        raise ConfigError(f"port {port} of {host} cannot be used ({error.strerror}): choose another (--port)") from None


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Turn both signals into what LitServe ends in order for, and a lost worker into a sentence.

    Its processes are forks of this one, in which the same handler would stand: they end without a word.
    """
    owner, stop = os.getpid(), Stopped(signal.SIGINT)

    def end(number: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != owner:
            raise SystemExit(0)
        stop.number = number
        logging.disable(logging.CRITICAL)  # its watchman takes workers that are told to end for dead ones
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    except KeyboardInterrupt:  # LitServe has not been ready yet, or was told twice
        raise stop from None
    except (EOFError, OSError, RuntimeError) as error:
        raise EstitchupError(
            f"the server has ended, since a worker has ({type(error).__name__}): its own output says why, unless it "
            "was killed"
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
