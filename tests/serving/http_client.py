"""Requests as other people's systems send them, with the standard library alone."""

from __future__ import annotations

import http.client
import io
import json
import socket
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

JSON = "application/json"


class Reply(NamedTuple):
    """Status and content of a response; of JSON what it holds."""

    status: int
    content: Any


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def send(port: int, method: str, path: str, body: Any = None, kind: str | None = None) -> Reply:
    """Send one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == JSON
        return Reply(response.status, json.loads(content) if is_json else content.decode())
    finally:
        connection.close()


def post(port: int, columns: Any) -> Reply:
    """Ask for decisions with JSON."""
    return send(port, "POST", "/predict", json.dumps(columns), JSON)


def post_parts(port: int, parts: Sequence[tuple[str, bytes | str]]) -> Reply:
    """Ask for decisions with a form: texts as fields, bytes as files."""
    edge, form = uuid.uuid4().hex, io.BytesIO()
    for name, content in parts:
        file = "" if isinstance(content, str) else '; filename="file"'
        form.write(f'--{edge}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode())
        form.write(content.encode() if isinstance(content, str) else content)
        form.write(b"\r\n")
    form.write(f"--{edge}--\r\n".encode())
    return send(port, "POST", "/predict", form.getvalue(), f"multipart/form-data; boundary={edge}")


def npy(rows: npt.ArrayLike) -> bytes:
    """An .npy file in memory."""
    file = io.BytesIO()
    np.save(file, np.asarray(rows))
    return file.getvalue()
