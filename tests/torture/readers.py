"""Every reader with a sample of what it reads."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from children import WrongResultError, start, status_of
from small import digits_config, method

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingMLP
from estitchup_pl.cli import given
from estitchup_pl.cli.study import study_parser
from estitchup_pl.embed.modality import open_root
from estitchup_pl.embed.pictures import read_picture
from estitchup_pl.embed.state import EmbedState, Note, Unit, read_digests
from estitchup_pl.errors import DataError, EstitchupError
from estitchup_pl.model import read_checkpoint
from estitchup_pl.report import study_tables
from estitchup_pl.serving import from_pretrained, save_pretrained
from estitchup_pl.store import EmbeddingStore, ModalityInfo
from estitchup_pl.store.label_history import apply_labels, label_history, undo
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.study import StudyConfig, StudyFolder, run_study
from estitchup_pl.tables import (
    DatasetFolder,
    FashionProductImages,
    TableFile,
    open_clip_retrieval,
    open_embeddings,
    open_items,
)

ROWS = 60


class Reader(NamedTuple):
    """A reader.

    Attributes:
        make: Writes a sample into an empty folder.
        read: Reads what lies in the folder; its result is compared where ``exact``.
        share: How many of a thousand damaged inputs it gets.
        exact: Whether damage must be noticed where it changes what is read.
        damaged: Pattern of the files that are damaged.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    share: int
    exact: bool = False
    damaged: str = "**/*"


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _items(rows: int = ROWS) -> pa.Table:
    labels = [None if row % 7 == 6 else f"class-{row % 4}" for row in range(rows)]
    return pa.table({"id": [f"item-{row}" for row in range(rows)], "label": labels, "price": np.arange(rows) / 7})


def _vectors(rows: int = ROWS, dim: int = 6) -> np.ndarray:
    return _random().normal(size=(rows, dim)).astype(np.float32)


# Stores


def make_store(folder: Path) -> None:
    vectors = {"title": _vectors(), "image": _vectors(dim=3).astype(np.float16)}
    info = {"title": ModalityInfo(6, encoder="some encoder", pooling="mean", revision="1")}
    EmbeddingStore.create(folder / "store", _items(), vectors, info=info, rows_per_shard=25)


def read_store(folder: Path) -> Any:
    store = EmbeddingStore.open(folder / "store")
    store.verify()
    return store.modalities, store.items.to_pydict(), store.gather(range(len(store))).tolist()


def use_store(folder: Path) -> Any:
    store = EmbeddingStore.open(folder / "store")
    StoreLabels.read(store)
    return store.gather([0, len(store) - 1]).tolist(), store.column("id").to_pylist()


# Tables


def make_csv(folder: Path, name: str, delimiter: str = ",") -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["id", "label", "text"])
    writer.writerows([f"item-{row}", f"class-{row % 4}", 'one, "two"\nthree é'] for row in range(ROWS))
    content = text.getvalue().encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def make_json(folder: Path, name: str) -> None:
    rows = (
        {"id": f"é{row}", "label": "\ud83d\ude00", "n": row / 3, "list": [{"a": None}, {"a": 1}]} for row in range(ROWS)
    )
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def make_parquet(folder: Path) -> None:
    lists = pa.FixedSizeListArray.from_arrays(_vectors().ravel(), 6).cast(pa.list_(pa.float32()))
    table = _items().append_column("v", lists).append_column("kind", pa.array(["a", "b"] * 30).dictionary_encode())
    pq.write_table(table, folder / "items.parquet", row_group_size=25)


def read_table(folder: Path, name: str) -> Any:
    return pa.Table.from_batches(list(TableFile(folder / name).batches())).to_pylist()


def make_hugging_face(folder: Path) -> None:
    import datasets

    rows = {**_items().to_pydict(), "v": _vectors().tolist(), "kind": [row % 2 for row in range(ROWS)]}
    data = datasets.Dataset.from_dict(rows).cast_column("kind", datasets.ClassLabel(names=["new", "old"]))
    datasets.disable_progress_bars()
    data.save_to_disk(folder / "data")


def read_hugging_face(folder: Path) -> Any:
    return pa.Table.from_batches(list(DatasetFolder(folder / "data").batches())).to_pylist()


def make_fashion(folder: Path) -> None:
    header = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n"
    lines = [f"{row},Men,Apparel,Topwear,Shirts,Navy,Fall,2011,Casual,Shirt {row}, blue\n" for row in range(9)]
    (folder / "styles.csv").write_text(header + "".join(lines))
    for name in ("styles", "images"):
        (folder / name).mkdir()
    for row in range(9):
        data = {"productTypeId": row, "productDescriptors": {"description": {"value": "<p>é</p>"}}}
        (folder / f"styles/{row}.json").write_text(json.dumps({"data": data}))


def read_fashion(folder: Path) -> Any:
    return pa.Table.from_batches(list(FashionProductImages(folder).batches())).to_pylist()


def make_clip(folder: Path) -> None:
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir()
    for part in range(2):
        np.save(folder / f"img_emb/img_emb_{part}.npy", _vectors(20))
        np.save(folder / f"text_emb/text_emb_{part}.npy", _vectors(20).astype(np.float16))
        pq.write_table(_items(20), folder / f"metadata/metadata_{part}.parquet")


def read_clip(folder: Path) -> Any:
    items, embeddings = open_clip_retrieval(folder)
    return items.to_pylist(), [source[0 : source.shape[0]].tolist() for source in embeddings.values()]


# Arrays


def make_array(folder: Path, name: str) -> None:
    save = {"v.npy": np.save, "v.npz": np.savez, "packed.npz": np.savez_compressed}[name]
    save(folder / name, _vectors())


def read_array(folder: Path, name: str) -> Any:
    source = open_embeddings(str(folder / name))
    if len(source.shape) != 2 or source.dtype.kind != "f":
        raise DataError("no embeddings")  # what every user of a source says
    return source[0 : min(source.shape[0], 1000)].tolist()


# Checkpoints


@lru_cache(maxsize=1)
def fitted() -> bytes:
    """A checkpoint of a short fit."""
    import tempfile

    import lightning.pytorch as pl

    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder))
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
        run = pl.Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, default_root_dir=folder, **options)
        model = EmbeddingClassifier(network=partial(EmbeddingMLP, hidden=(4,)), scaling="standardize")
        run.fit(model, EmbeddingDataModule(Path(folder) / "store"))
        run.save_checkpoint(Path(folder) / "model.ckpt")
        return (Path(folder) / "model.ckpt").read_bytes()


def make_checkpoint(folder: Path) -> None:
    (folder / "model.ckpt").write_bytes(fitted())


def read_model(folder: Path) -> Any:
    read_checkpoint(folder / "model.ckpt")
    return _decided(_model(folder))


def _model(folder: Path) -> EmbeddingClassifier:
    return EmbeddingClassifier.load_from_checkpoint(
        folder / "model.ckpt", network=partial(EmbeddingMLP, hidden=(4,)), map_location="cpu"
    )


def _decided(model: EmbeddingClassifier) -> Any:
    values = {"title": _vectors(5), "image": _vectors(5, 3)}
    return model.class_names, model.predict_proba(values).tolist(), float(model.threshold)


# Zip files and pictures


def make_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for row in range(5):
            archive.writestr(f"images/{row}.txt", _random().bytes(200) + bytes(2000))


def read_zip(folder: Path) -> Any:
    read = open_root(folder / "files.zip", 1 << 20)
    return [read(f"images/{row}.txt") for row in range(5)]


def make_picture(folder: Path, name: str) -> None:
    from PIL import Image

    y, x = np.mgrid[:40, :60]
    picture = Image.fromarray(np.stack([x * 4, y * 5, x + y], -1).astype(np.uint8))
    picture.save(folder / name)


def read_one_picture(folder: Path, name: str) -> Any:
    try:
        return np.asarray(read_picture((folder / name).read_bytes(), 1_000_000)).shape
    except MemoryError:
        raise
    except Exception as error:  # any other becomes the reason why an item has no embedding
        raise DataError(str(error)) from error


# What a run of `embed` leaves, and configurations


def make_run(folder: Path) -> None:
    state = EmbedState(ROWS, 25, "32-true", {"title": {"column": "title", "embedder": {"class": "x", "gain": 1.0}}})
    state.write(folder, {"title": _random().integers(0, 2**63, ROWS).astype(np.uint64)})
    Note([1, 2], [(3, "cannot be read")], 4, 5).write(folder, Unit("title", 0, 0, 0, 25))


def read_run(folder: Path) -> Any:
    return EmbedState.read(folder), read_digests(folder), Note.read(folder, Unit("title", 0, 0, 0, 25))


def make_config(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "seed_everything: 3\ntrainer:\n  max_epochs: 4\n"
        "  callbacks+:\n    - class_path: EMixup\n      init_args: {alpha: 0.4}\n"
        'data:\n  store: "a b"\n  split: {class_path: TrialSplit, init_args: {unknown_classes: ["no", é]}}\n'
    )


def read_config(folder: Path) -> Any:
    root = given.config_file(folder / "a.yaml")
    return [(key, given.shown(node), given.plain(node)) for key, node in given.entries(root)]


def make_study_config(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "store: digits\ntrials: 2\nmodel: {scaling: l2}\nsplit:\n  train_fraction: 0.2\n"
        "methods:\n  Control: {}\n  Mixed:\n    callbacks: [class_path: EMixup]\n    grid: {alpha: [0.1, 0.4]}\n"
    )


def parse_study(folder: Path) -> Any:
    return study_parser().parse_call(["--config", str(folder / "a.yaml"), "--out", "out"]).as_dict()


# What studies, changes of labels and exports leave


def study_config() -> StudyConfig:
    own = method("Decided", base="Mixed", calibrator=method("Temperature"), score=method("SumOfScores"))
    mixed = {"callbacks": [{"class_path": "EMixup"}], "grid": {"alpha": [0.2, 0.8]}}
    options: dict[str, Any] = {"trials": 1, "epochs": 2, "stack_size": 1, "workers": 1}
    return digits_config(**options, methods={"Control": {}, "Mixed": mixed, "Sum": own})


def make_study(folder: Path) -> None:
    def run() -> int:
        run_study(study_config(), StudyFolder(folder / "study"))
        return 0

    if status := status_of(start(run, folder, os.devnull), 600):  # nothing is to run in this process
        raise RuntimeError(f"the study of the sample ended with {status}")


def read_study(folder: Path) -> Any:
    """Report on what is there, make good what is damaged, and report again."""
    study = StudyFolder(folder / "study")
    try:
        before = study_tables(study).json()
    except EstitchupError:
        before = None
    run_study(study_config(), study)
    after = study_tables(study).json()
    if before not in (None, after):
        raise WrongResultError("what was reported before is not what is reported now")
    return after.replace(str(study.path), ""), [file.read_bytes() for file in sorted(study.path.rglob("*.npy"))]


def make_history(folder: Path) -> None:
    make_store(folder)
    apply_labels(folder / "store", {"item-1": "new", "item-6": "class-2"}, "answers.csv")
    apply_labels(folder / "store", {"item-1": None, "item-2": "new"}, "more.csv")


def read_history(folder: Path) -> Any:
    changes = [vars(change) for change in label_history(folder / "store")]
    undo(folder / "store")
    return [{**change, "when": ""} for change in changes], EmbeddingStore.open(folder / "store").items[
        "label"
    ].to_pylist()


def relabel(folder: Path) -> Any:
    """Change a label: what else the store holds must not change with it unnoticed."""
    apply_labels(folder / "store", {"item-1": "new"}, "answers.csv")
    return read_store(folder)


def make_export(folder: Path) -> None:
    make_checkpoint(folder)
    save_pretrained(_model(folder), folder / "exported")


def read_export(folder: Path) -> Any:
    return _decided(from_pretrained(folder / "exported", network=partial(EmbeddingMLP, hidden=(4,))))


def use_any(folder: Path) -> Any:
    """What ``store create --items`` makes of a folder."""
    return [batch.num_rows for batch in open_items(folder / "items.parquet").batches()]


READERS: dict[str, Reader] = {
    "store (verify)": Reader(make_store, read_store, 130, exact=True),
    "store (read)": Reader(make_store, use_store, 60),
    "csv": Reader(partial(make_csv, name="a.csv"), partial(read_table, name="a.csv"), 50),
    "tsv": Reader(partial(make_csv, name="a.tsv", delimiter="\t"), partial(read_table, name="a.tsv"), 20),
    "csv.gz": Reader(partial(make_csv, name="a.csv.gz"), partial(read_table, name="a.csv.gz"), 30),
    "jsonl": Reader(partial(make_json, name="a.jsonl"), partial(read_table, name="a.jsonl"), 50),
    "jsonl.gz": Reader(partial(make_json, name="a.jsonl.gz"), partial(read_table, name="a.jsonl.gz"), 30),
    "parquet": Reader(make_parquet, partial(read_table, name="items.parquet"), 70),
    "parquet (items)": Reader(make_parquet, use_any, 20),
    "parquet (column)": Reader(make_parquet, partial(read_array, name="items.parquet:v"), 40),
    "Hugging Face": Reader(make_hugging_face, read_hugging_face, 12),
    "fashion": Reader(make_fashion, read_fashion, 30),
    "clip-retrieval": Reader(make_clip, read_clip, 40),
    "npy": Reader(partial(make_array, name="v.npy"), partial(read_array, name="v.npy"), 60),
    "npz": Reader(partial(make_array, name="v.npz"), partial(read_array, name="v.npz"), 30),
    "npz, packed": Reader(partial(make_array, name="packed.npz"), partial(read_array, name="packed.npz"), 30),
    "checkpoint": Reader(make_checkpoint, read_model, 100, exact=True),
    "study": Reader(make_study, read_study, 20, exact=True),
    "changes of labels": Reader(make_history, read_history, 20, exact=True, damaged="store/label_history/*"),
    "store (relabelled)": Reader(make_store, relabel, 20, exact=True),
    "exported model": Reader(make_export, read_export, 30, exact=True, damaged="exported/*"),
    "zip": Reader(make_zip, read_zip, 60, exact=True),
    "png": Reader(partial(make_picture, name="a.png"), partial(read_one_picture, name="a.png"), 30),
    "jpeg": Reader(partial(make_picture, name="a.jpg"), partial(read_one_picture, name="a.jpg"), 30),
    "gif": Reader(partial(make_picture, name="a.gif"), partial(read_one_picture, name="a.gif"), 20),
    "webp": Reader(partial(make_picture, name="a.webp"), partial(read_one_picture, name="a.webp"), 20),
    "tiff": Reader(partial(make_picture, name="a.tiff"), partial(read_one_picture, name="a.tiff"), 20),
    "run of embed": Reader(make_run, read_run, 30, exact=True),
    "configuration": Reader(make_config, read_config, 20),
    "study's configuration": Reader(make_study_config, parse_study, 10),
}
