"""Items a second of `estitchup serve` over HTTP, against the bare model on arrays in memory at the same batch size.

A server runs in processes of its own; clients send requests of one batch each as ``.npy`` files, and wait for the
decisions. Both are measured in turns, in one run; the ratio is served / bare::

    python benchmarks/serving.py --turns 5
    python benchmarks/serving.py --score sum --rows 10000
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.model.decision import Decision
from estitchup_pl.model.saving import save_classifier
from estitchup_pl.model.scores import SumOfScores

START_SECONDS = 300


def make_model(dim: int, classes: int, bank: int) -> EmbeddingClassifier:
    """Make a classifier of the paper's network; with rows in its bank its score of "none" looks for neighbours too."""
    model = EmbeddingClassifier(class_names=[f"class-{code}" for code in range(classes)], modalities={"photo": dim})
    model.configure_model()
    model.eval()
    if bank:
        score, labels = SumOfScores(), torch.arange(bank) % classes
        rows = torch.randn(bank, dim)
        score.fit(rows, labels)
        with torch.no_grad():
            score.standardize(rows[:500], model(rows[:500]))
        model.decision = Decision(score=score)
    model.threshold = 0.5
    return model


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Start a server on the CPU, and end it afterwards; its port."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = int(trial.getsockname()[1])
    place = ("--ckpt_path", folder / "model.ckpt", "--port", str(port), "--accelerator", "cpu", "--max_requests", "1")
    with (folder / "output").open("wb") as output:
        command = [sys.executable, "-m", "estitchup_pl", "serve", *place]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait(process, port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError("the server did not start")


def form(rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with an .npy file."""
    file = io.BytesIO()
    np.save(file, rows)
    head = b'--edge\r\nContent-Disposition: form-data; name="photo"; filename="photo.npy"\r\n\r\n'
    return head + file.getvalue() + b"\r\n--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def ask(port: int, body: bytes, headers: dict[str, str], times: int) -> int:
    """Send a request some times on one connection; return the number of decisions."""
    connection, count = http.client.HTTPConnection("127.0.0.1", port), 0
    for _ in range(times):
        connection.request("POST", "/predict", body, headers)
        count += len(json.loads(connection.getresponse().read())["decisions"])
    connection.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=1792)
    parser.add_argument("--classes", type=int, default=126)
    parser.add_argument("--score", choices=("paper", "sum"), default="paper", help='score of "none"')
    parser.add_argument("--rows", type=int, default=4444, help="training rows that the sum looks at")
    parser.add_argument("--batch", type=int, default=256, help="items of a request, and of the bare model's batch")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20, help="requests of each client in a turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    model = make_model(options.dim, options.classes, options.rows if options.score == "sum" else 0)
    batch = np.random.default_rng(0).normal(size=(options.batch, options.dim)).astype(np.float32)
    body, headers = form(batch)
    total = options.clients * options.requests
    rates: dict[str, list[float]] = {"served": [], "bare": []}
    with tempfile.TemporaryDirectory() as name:
        save_classifier(model, Path(name) / "model.ckpt")
        with served(Path(name)) as port, ThreadPoolExecutor(options.clients) as pool:
            ask(port, body, headers, 3)
            for _ in range(options.turns):
                began = time.perf_counter()
                jobs = [pool.submit(ask, port, body, headers, options.requests) for _ in range(options.clients)]
                assert sum(job.result() for job in jobs) == total * options.batch
                rates["served"].append(total * options.batch / (time.perf_counter() - began))
                began = time.perf_counter()
                for _ in range(total):
                    model.predict({"photo": batch})
                rates["bare"].append(total * options.batch / (time.perf_counter() - began))
    for kind, found in rates.items():
        print(f"{kind:<7}{statistics.median(found):>10,.0f} items/s")
    ratios = [served / bare for served, bare in zip(*rates.values(), strict=True)]
    print(f"served / bare: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
