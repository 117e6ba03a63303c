"""The commands that write, each with what it needs and what it leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from children import WrongResultError

from estitchup_pl.cli import main
from estitchup_pl.errors import EstitchupError
from estitchup_pl.model import read_checkpoint
from estitchup_pl.store import EmbeddingStore

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
CPU = ("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.logger", "false")
ROWS = 1_200


class Work(NamedTuple):
    """A command at work.

    Attributes:
        prepare: Writes what it reads into an empty folder.
        words: The call; given the folder, as a killed fit is called again with its checkpoint.
        result: What it leaves, in a form that compares; raises one of our errors where it is not there or not whole.
    """

    prepare: Callable[[Path], object]
    words: Callable[[Path], list[str]]
    result: Callable[[Path], object]


def call(words: list[str]) -> int:
    """Run a command in this process, as its user would."""
    sys.argv = ["estitchup"]
    return main(words)


# store create


def _tables(folder: Path, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    labels = [f"class-{row % 5}" for row in range(ROWS)]
    pq.write_table(pa.table({"id": [f"item-{row}" for row in range(ROWS)], "label": labels}), folder / "items.parquet")
    np.save(folder / "v.npy", random.normal(size=(ROWS, 8)).astype(np.float32))


def _create(folder: Path) -> list[str]:
    words = ["store", "create", "--items", "items.parquet", "--modality", "v=v.npy", "--out", "store"]
    return [*words, "--rows-per-shard", "40", "--quiet", "--overwrite"]


def _with_older_store(folder: Path) -> None:
    _tables(folder, seed=1)
    items, rows = pq.read_table(folder / "items.parquet"), np.load(folder / "v.npy")
    EmbeddingStore.create(folder / "store", items, {"v": rows}, rows_per_shard=100)
    _tables(folder)


def _store(folder: Path) -> object:
    store = EmbeddingStore.open(folder / "store")
    store.verify()
    kept = {name: getattr(store, name) for name in ("modalities",)}
    return kept, hashlib.blake2b(store.gather(range(len(store))).tobytes()).hexdigest(), store.items.to_pydict()


# embed


def _texts(folder: Path) -> None:
    table = pa.table(
        {
            "id": [str(row) for row in range(300)],
            "title": [f"{'abcd'[row % 4] * (row % 9)} {row}" for row in range(300)],
        }
    )
    pq.write_table(table, folder / "items.parquet")
    (folder / "embed.yaml").write_text(
        "items: {class_path: TableFile, init_args: {path: items.parquet}}\nout: store\nrows_per_shard: 20\n"
        "accelerator: cpu\ndevices: 1\nmodalities:\n"
        "  title:\n    column: title\n    batch_size: 8\n    dtype: float32\n"
        "    embedder: {class_path: toys.Letters, init_args: {seconds: 0.002}}\n"
    )


# fit and predict


def _fit(folder: Path) -> list[str]:
    words = ["fit", "--data.store", "digits", *QUIET, *CPU, "--trainer.max_epochs", "8", "--checkpoint.dirpath", "kept"]
    words += ["--model.network.hidden", "[64]", "--trainer.callbacks+", "EMixup"]
    return [*words, *(["--ckpt_path", "kept/last.ckpt"] if (folder / "kept/last.ckpt").exists() else [])]


def _weights(folder: Path) -> object:
    content = read_checkpoint(folder / "kept/last.ckpt")
    state = {name: value.tolist() for name, value in content["state_dict"].items()}
    return content["epoch"], hashlib.blake2b(json.dumps(state).encode()).hexdigest()


@lru_cache(maxsize=1)
def _checkpoint() -> bytes:
    """A fitted checkpoint, made once in a child, so that nothing has run in this process."""
    import os
    import tempfile

    from children import start, status_of

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        status = status_of(start(lambda: call(_fit(folder)), folder), 300)
        if status:
            raise WrongResultError(f"fit ended with {status}: {(folder / 'log.txt').read_text()[-2000:]}")
        os.sync()
        return (folder / "kept/last.ckpt").read_bytes()


def _for_prediction(folder: Path) -> None:
    (folder / "model.ckpt").write_bytes(_checkpoint())


def _predict(folder: Path) -> list[str]:
    words = ["predict", "--ckpt_path", "model.ckpt", "--data.store", "digits", "--data.predict_rows", "all", *QUIET]
    return [*words, *CPU, "--data.eval_batch_size", "16", "--predictions.overwrite", "true"]


def _predictions(folder: Path) -> object:
    if not (folder / "predictions.parquet").exists():
        raise EstitchupError("no predictions")
    return pq.read_table(folder / "predictions.parquet").to_pydict()


# study


def _study_config(folder: Path) -> None:
    (folder / "study.yaml").write_text(
        "store: digits\nname: small\ntrials: 1\nheld_out: 2\n"
        "epochs: 3\ncurve_every: 2\naccelerator: cpu\nstack_size: 2\n"
        "split: {train_fraction: 0.2, unknown_classes: [eight, nine]}\nselection: {epochs: 1}\n"
        "model: {network: {class_path: EmbeddingMLP, init_args: {hidden: [8]}}}\n"
        "methods:\n  Control: {}\n  E-Mixup: {callbacks: [class_path: EMixup], grid: {alpha: [0.2, 0.8]}}\n"
    )


def _study_results(folder: Path) -> object:
    path = folder / "out/results.parquet"
    if not path.exists():
        raise EstitchupError("no results")
    logits = {str(file): file.read_bytes() for file in sorted(folder.glob("out/runs/**/logits.npy"))}
    digest = hashlib.blake2b(b"".join(logits.values())).hexdigest()
    return len(logits), digest, pq.read_table(path).drop_columns(["value"]).to_pydict()


WORK: dict[str, Work] = {
    "store create": Work(_tables, _create, _store),
    "store create (overwrite)": Work(_with_older_store, _create, _store),
    "embed": Work(_texts, lambda folder: ["embed", "--config", "embed.yaml"], _store),
    "fit": Work(lambda folder: None, _fit, _weights),
    "predict": Work(_for_prediction, _predict, _predictions),
    "study": Work(_study_config, lambda folder: ["study", "--config", "study.yaml", "--out", "out"], _study_results),
}


def fresh(work: Work, folder: Path) -> Path:
    """An empty folder with what a command needs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work.prepare(folder)
    return folder


def whole_or_refused(work: Work, folder: Path) -> object:
    """What a command has left, or ``None`` where it says with an error of ours that it is not there."""
    try:
        return work.result(folder)
    except EstitchupError:
        return None
