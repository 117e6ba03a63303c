"""Real processes, really killed: what they leave is kept, and the end is that of a run nobody disturbed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import expected, files, run_letters, words

from estitchup_pl.store import EmbeddingStore

ROWS, SHARD = 200, 32
TESTS = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = words(2 * ROWS)
    texts[5], texts[150], texts[ROWS + 77] = "broken", None, "broken"
    columns = {"id": np.arange(ROWS), "title": texts[:ROWS], "note": texts[ROWS:]}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    return tmp_path


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def wait_for(log: Path, count: int, alive: Callable[[], bool]) -> None:
    """Wait until ``count`` texts are embedded."""
    deadline = time.monotonic() + 120
    while len(lines(log)) < count and time.monotonic() < deadline and alive():
        time.sleep(0.002)


def start(folder: Path, count: int) -> list[ForkServerProcess]:
    """Start a run on ``count`` processes that find each other as under any launcher."""
    context = multiprocessing.get_context("forkserver")  # imports once, then starts a process in a moment
    context.set_forkserver_preload(["toys", "lightning.fabric"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [(rank, count, port) for rank in range(count)] if count > 1 else [None]
    runs = [context.Process(target=run_letters, args=(str(folder), str(folder / "log"), 0.01, rank)) for rank in ranks]
    for run in runs:
        run.start()
    return runs


@pytest.mark.parametrize("count", [1, 2])
def test_killed_at_random_points_the_run_ends_as_if_it_had_not_been(
    folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one process and on two: the same bytes as one undisturbed process, and hardly anything embedded twice."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_letters(str(folder))
    undisturbed = files(folder / "store")
    (folder / "store").rename(folder / "undisturbed")

    chance, log, kills = random.Random(count), folder / "log", 0
    while not (folder / "store" / "store.json").exists():
        runs = start(folder, count)
        if kills < 4:
            wait_for(log, len(lines(log)) + chance.randint(1, 100), runs[0].is_alive)
            time.sleep(chance.uniform(0, 0.03))
            for run in runs:
                run.kill()
        for run in runs:
            run.join(100)
        kills += runs[0].exitcode == -signal.SIGKILL
        assert kills or runs[0].exitcode == 0

    assert kills >= 2
    assert files(folder / "store") == undisturbed
    EmbeddingStore.open(folder / "store").verify()
    table, embedded = pq.read_table(folder / "items.parquet"), lines(log)
    assert set(embedded) == {*table["title"].to_pylist(), *table["note"].to_pylist()} - {"broken", None}
    assert len(embedded) <= 2 * ROWS - 3 + kills * count * SHARD


CONFIG = """
out: {folder}/two
items: {{class_path: estitchup_pl.tables.TableFile, init_args: {{path: {folder}/items.parquet}}}}
modalities:
  title: {{column: title, batch_size: 8, dtype: float32, embedder: {{class_path: encoders.Letters}}}}
  note: {{column: note, batch_size: 8, embedder: {{class_path: encoders.Streamed}}}}
rows_per_shard: 32
on_error: missing
accelerator: cpu
devices: 2
strategy: ddp
"""


def command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command, with encoders of one's own in a module beside the config."""
    (folder / "encoders.py").write_text((TESTS / "toys.py").read_text())
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    return subprocess.run(
        [sys.executable, "-m", "estitchup_pl", "embed", "--config", str(folder / "config.yaml"), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_what_is_wrong_with_the_table_is_said_once_by_two_processes(folder: Path) -> None:
    result = command(folder, "--modalities.note.column", "nota")
    assert result.returncode == 2
    assert result.stderr.count("no column 'nota'; did you mean 'note'") == 1
    assert "Traceback" not in result.stderr


def test_the_command_starts_two_processes_whose_store_is_that_of_one(folder: Path) -> None:
    """Lightning Fabric's own launcher."""
    result = command(folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("200 items") == 1  # the first process alone speaks
    run_letters(str(folder))
    one, two = files(folder / "store"), files(folder / "two")
    assert one.keys() == two.keys()
    # The encoders' module goes by another name.
    assert {name for name in one if one[name] != two[name]} == {"store.json", "embed.json"}
    texts = pq.read_table(folder / "items.parquet")["title"].to_pylist()
    embeddings = EmbeddingStore.open(folder / "two").gather(np.arange(ROWS), ["title"])
    wanted = expected([None if text == "broken" else text for text in texts])
    np.testing.assert_allclose(embeddings, wanted, rtol=1e-6)
