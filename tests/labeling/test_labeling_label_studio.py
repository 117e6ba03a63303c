"""One labelling round with a real Label Studio, started here where it is installed.

It is no dependency: ``LABEL_STUDIO=/path/to/label-studio make test`` names one of an environment of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from estitchup_pl.labeling.answers import compare_answers
from estitchup_pl.labeling.export import write_queue
from estitchup_pl.labeling.label_studio import read_export
from estitchup_pl.store import EmbeddingStore

PROGRAM = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
Api = Callable[..., Any]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """Call a Label Studio that runs for this test alone."""
    if PROGRAM is None:
        pytest.skip("no Label Studio: set LABEL_STUDIO to the program of one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["start", "--no-browser", "--port", str(port), "--data-dir", str(tmp_path / "data"), "--init"]
    account = ["--username", "a@example.com", "--password", "a-long-password", "--user-token", TOKEN]
    environment = {**os.environ, "COLLECT_ANALYTICS": "False", "SENTRY_DSN": "", "LATEST_VERSION_CHECK": "False"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [PROGRAM, *words, *account, "--enable-legacy-api-token"],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env=environment,
        )
    try:
        wait_for(port, server, tmp_path / "log")

        def call(method: str, path: str, body: Any = None) -> Any:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/{path}",
                data=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"},
                method=method,
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")

        yield call
    finally:
        server.terminate()
        server.wait(30)


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise TimeoutError(log.read_text()[-2000:])


def choice(label: str, shown: str) -> dict[str, Any]:
    return {"from_name": "label", "to_name": shown, "type": "choices", "value": {"choices": [label]}}


@pytest.mark.timeout(600)
def test_a_round_with_a_real_label_studio(api: Api, tmp_path: Path) -> None:
    """It takes our interface and tasks, shows our predictions, and what it exports is read as it was answered."""
    items = pa.table({"id": ["7", "8", "9", "10"], "label": ["hat", None, None, None]})
    store = EmbeddingStore.from_arrays(items, {"title": np.eye(4, dtype=np.float16)})
    queue = pa.table(
        {
            "id": ["8", "9", "10"],
            "title": ['a "round" <hat>', "sneakers & co", "a scarf"],
            "predicted": ["hat", "none", "none"],
            "likely": ["hat", "shoe", "hat"],
            "confidence": [0.7, 0.2, 0.1],
            "none_score": [0.3, 0.8, 0.9],
            "cluster": pa.array([None, 0, 0], pa.int32()),
        }
    )
    tasks, interface = write_queue(tmp_path / "queue.json", queue, ["hat", "shoe"])
    project = api("POST", "projects", {"title": "round", "label_config": interface.read_text()})["id"]
    imported = api("POST", f"projects/{project}/import", json.loads(tasks.read_text()))
    assert (imported["task_count"], imported["prediction_count"]) == (3, 3)
    numbers = {task["data"]["id"]: task["id"] for task in api("GET", f"tasks?project={project}")["tasks"]}
    new = {"from_name": "new_class", "to_name": "title", "type": "textarea", "value": {"text": ["scarf"]}}
    for name, body in {
        "8": {"result": [choice("hat", "title")]},
        "9": {"result": [], "was_cancelled": True},
        "10": {"result": [choice("hat", "title"), new]},
    }.items():
        api("POST", f"tasks/{numbers[name]}/annotations", body)
    export = tmp_path / "export.json"
    export.write_text(json.dumps(api("GET", f"projects/{project}/export?exportType=JSON&download_all_tasks=true")))
    changes = compare_answers(store, read_export(export))
    assert changes.new == {"8": "hat", "10": "scarf"}
    assert changes.unanswered == ["9"]
    assert changes.new_classes == {"scarf": 1}
