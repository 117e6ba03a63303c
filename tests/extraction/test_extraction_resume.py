"""Real processes, really killed: what they leave is kept, and the end is that of a run nobody disturbed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import expected, files, run_letters, words

from estitchup_pl.extraction.workspace import WORK_NAME
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


def wait_for(log: Path, count: int, alive: object) -> None:
    """Wait until ``count`` texts are embedded."""
    deadline = time.monotonic() + 120
    while len(lines(log)) < count and time.monotonic() < deadline and alive():
        time.sleep(0.002)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_points_the_run_ends_as_if_it_had_not_been(folder: Path, seed: int, tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["toys"])
    chance, log, kills = random.Random(seed), folder / "log", 0
    run_letters(str(folder))
    whole = files(folder / "store")
    (folder / "store").rename(folder / "undisturbed")

    while not (folder / "store" / "store.json").exists():
        run = processes.Process(target=run_letters, args=(str(folder), str(log), 0.01))
        run.start()
        wait_for(log, len(lines(log)) + chance.randint(1, 120), run.is_alive)
        time.sleep(chance.uniform(0, 0.03))
        if kills == 5:
            run.join(120)
        os.kill(run.pid, signal.SIGKILL) if run.is_alive() else None
        run.join()
        kills += run.exitcode == -signal.SIGKILL

    assert kills >= 3
    assert files(folder / "store") == whole
    EmbeddingStore.open(folder / "store").verify()
    embedded = lines(log)
    good = {
        text for column in ("title", "note") for text in pq.read_table(folder / "items.parquet")[column].to_pylist()
    }
    assert set(embedded) == good - {"broken", None}
    assert len(embedded) <= 2 * ROWS - 3 + kills * SHARD


CONFIG = """
out: {folder}/two
items: {{class_path: estitchup_pl.extraction.TableFile, init_args: {{path: {folder}/items.parquet}}}}
modalities:
  title:
    column: title
    batch_size: 8
    dtype: float32
    embedder: {{class_path: encoders.Letters, init_args: {{log: {folder}/log, seconds: 0.05}}}}
  note:
    column: note
    batch_size: 8
    embedder: {{class_path: encoders.Streamed, init_args: {{log: {folder}/log, seconds: 0.05}}}}
rows_per_shard: 32
on_error: missing
trainer: {{accelerator: cpu, devices: 2, strategy: ddp}}
"""


def test_two_processes_killed_and_resumed_give_the_store_of_one(folder: Path) -> None:
    """Through the command line, with encoders of one's own in a module beside the config."""
    (folder / "encoders.py").write_text((TESTS / "toys.py").read_text())
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    command = [sys.executable, "-m", "estitchup_pl", "embed", "--config", str(folder / "config.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    first = start()
    wait_for(folder / "log", ROWS // 2, lambda: first.poll() is None)
    assert first.poll() is None, first.communicate()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert not (folder / "two" / "store.json").exists()
    kept = list((folder / "two" / WORK_NAME / "embeddings").rglob("*.npy"))
    assert kept
    second = start()
    output, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors.decode()
    assert output.decode().count("200 items") == 1  # the first process alone speaks
    assert len(lines(folder / "log")) <= 2 * ROWS - 3 + 2 * SHARD

    run_letters(str(folder))
    one, two = files(folder / "store"), files(folder / "two")
    differing = {name for name in one if one[name] != two.get(name)}
    assert one.keys() == two.keys()
    assert differing == {"store.json", "embed.json"}  # the encoders' module goes by another name
    store = EmbeddingStore.open(folder / "two")
    texts = pq.read_table(folder / "items.parquet")["title"].to_pylist()
    np.testing.assert_allclose(
        store.gather(np.arange(ROWS), ["title"]),
        expected([None if text == "broken" else text for text in texts]),
        rtol=1e-6,
    )
