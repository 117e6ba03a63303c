"""The commands that write, each with what it needs and what it leaves."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from children import WrongResultError, start, status_of

from estitchup_pl.cli import COMMANDS, main
from estitchup_pl.data import open_store
from estitchup_pl.errors import CheckpointError, EstitchupError
from estitchup_pl.model import EmbeddingClassifier, read_checkpoint
from estitchup_pl.serving import from_pretrained, save_pretrained
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.label_history import label_history

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
CPU = ("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.logger", "false")
ROWS = 1_200

for module, _ in COMMANDS.values():  # once for all children, which would import it each
    importlib.import_module(module)


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
    return (
        store.modalities,
        hashlib.blake2b(store.gather(range(len(store))).tobytes()).hexdigest(),
        store.items.to_pydict(),
    )


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
def checkpoint() -> bytes:
    """A fitted checkpoint, made once in a child, so that nothing has run in this process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        status = status_of(start(lambda: call(_fit(folder)), folder), 300)
        if status:
            raise WrongResultError(f"fit ended with {status}: {(folder / 'log.txt').read_text()[-2000:]}")
        os.sync()
        return (folder / "kept/last.ckpt").read_bytes()


def _for_prediction(folder: Path) -> None:
    (folder / "model.ckpt").write_bytes(checkpoint())


def _predict(folder: Path) -> list[str]:
    words = ["predict", "--ckpt_path", "model.ckpt", "--data.store", "digits", "--data.predict_rows", "all", *QUIET]
    return [*words, *CPU, "--data.eval_batch_size", "16", "--predictions.overwrite", "true"]


def _predictions(folder: Path) -> object:
    if not (folder / "predictions.parquet").exists():
        raise EstitchupError("no predictions")
    return pq.read_table(folder / "predictions.parquet").to_pydict()


# queue, labels and export


def _half_labelled(folder: Path, rows_per_shard: int = 400) -> None:
    digits = open_store("digits")
    items, rows = digits.items, range(len(digits))
    names = [label if row % 2 else None for row, label in enumerate(items["label"].to_pylist())]
    items = items.set_column(items.schema.get_field_index("label"), "label", pa.array(names, pa.string()))
    rows_of = {name: digits.gather(rows, [name]) for name in digits.modalities}
    EmbeddingStore.create(folder / "store", items, rows_of, info=digits.modalities, rows_per_shard=rows_per_shard)


def _for_queue(folder: Path) -> None:
    _for_prediction(folder)
    _half_labelled(folder)


def _queue(folder: Path) -> list[str]:
    words = ["queue", "--store", "store", "--ckpt_path", "model.ckpt", "--out", "queue.parquet"]
    return [*words, "--budget", "50", "--overwrite"]


def _queued(folder: Path) -> object:
    if not (folder / "queue.parquet").exists():
        raise EstitchupError("no queue")
    return pq.read_table(folder / "queue.parquet").to_pydict()


def _for_labels(folder: Path) -> None:
    _half_labelled(folder)
    answers = {"id": [f"digit-{row:04d}" for row in range(0, 600, 2)], "label": ["zero", "one", "new"] * 100}
    pq.write_table(pa.table(answers), folder / "answers.parquet")


def _labels(folder: Path) -> object:
    changes = [
        (change.number, change.source, change.before, change.after) for change in label_history(folder / "store")
    ]
    return _store(folder), changes


def _export(folder: Path) -> list[str]:
    return ["export", "--ckpt_path", "model.ckpt", "--out", "exported", "--overwrite"]


def _with_older_export(folder: Path) -> None:
    _for_prediction(folder)
    model = EmbeddingClassifier.load_from_checkpoint(folder / "model.ckpt", map_location="cpu")
    for parameter in model.parameters():
        parameter.data.mul_(0.5)
    save_pretrained(model, folder / "exported")


def _exported(folder: Path) -> object:
    model = from_pretrained(folder / "exported")
    digits = open_store("digits")
    return model.predict_proba({name: digits.gather(range(20), [name]) for name in digits.modalities}).tolist()


# study


def _study_config(folder: Path) -> None:
    (folder / "study.yaml").write_text(
        "store: digits\nname: small\ntrials: 1\nheld_out: 2\n"
        "epochs: 3\ncurve_every: 2\naccelerator: cpu\nstack_size: 2\nworkers: 1\n"
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
    return len(logits), digest, repr(pq.read_table(path).to_pydict())  # as text, so that NaN is what it was


# train


def _small_store(folder: Path) -> None:
    random = np.random.default_rng(0)
    names = [None if row % 9 == 8 else f"class-{row % 5}" for row in range(180)]
    centres = random.normal(size=(5, 6))
    rows = np.stack([centres[row % 5] + random.normal(size=6) for row in range(180)]).astype(np.float32)
    items = pa.table({"id": [f"item-{row}" for row in range(180)], "label": names})
    EmbeddingStore.create(folder / "store", items, {"v": rows})


def _train(folder: Path) -> list[str]:
    words = ["train", "--store", "store", "--out", "model", "--budget", "4 fits", "--workers", "1"]
    return [*words, "--accelerator", "cpu"]


def _trained(folder: Path) -> object:
    content = read_checkpoint(folder / "model/model.ckpt")
    state = {name: value.tolist() for name, value in content["state_dict"].items()}
    if not (folder / "model/report.html").exists() and not (folder / "model/study/tables.md").exists():
        raise CheckpointError("no report")
    return hashlib.blake2b(json.dumps(state).encode()).hexdigest()


WORK: dict[str, Work] = {
    "store create": Work(_tables, _create, _store),
    "store create (overwrite)": Work(_with_older_store, _create, _store),
    "embed": Work(_texts, lambda folder: ["embed", "--config", "embed.yaml"], _store),
    "fit": Work(lambda folder: None, _fit, _weights),
    "predict": Work(_for_prediction, _predict, _predictions),
    "queue": Work(_for_queue, _queue, _queued),
    "labels": Work(_for_labels, lambda folder: ["labels", "store", "answers.parquet", "--apply"], _labels),
    "export": Work(_with_older_export, _export, _exported),
    "train": Work(_small_store, _train, _trained),
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
