"""A small study that was never trained: logits drawn at random, known methods more or less sure of themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from estitchup_pl.functional import select_threshold
from estitchup_pl.study import RunRecord, StudyFolder
from estitchup_pl.study.evaluation import evaluate
from estitchup_pl.study.thresholds import widened

HOSTILE = "</script><b>bold & 'quoted' \"twice\"</b> {{ 7 * 7 }} [/red] a|b"
CLASSES = ("ant", "bee", "cat", "dog", HOSTILE, "eel", "fox")
NAME = f"made {HOSTILE}"
UNKNOWN, HELD_OUT = "fox", "eel"
METHODS = {"Control": (3.0, 0.8), "E-Stitchup": (1.0, 0.1), f"Soft {HOSTILE}": (0.6, 0.0)}
"""Scale of the logits, and of their noise."""
BEST = {"method": f"Soft {HOSTILE}", "made_of": "E-Stitchup", "values": {"alpha": 0.1}, "trial": 0, "target": "aupr"}
BEST |= {"score": 0.9, "refused": {}}


def make_study(path: Path, rows: int = 420, trials: int = 3, paper: bool = True) -> StudyFolder:
    """Write a whole study of three methods."""
    folder = StudyFolder(path)
    header = {"name": NAME, "methods": [*METHODS], "trials": [*range(trials)], "control": "Control", "epochs": 24}
    folder.write_header(
        {**header, "config": {"store": "stores/made up"}, "paper": paper, "metrics": {"accuracy_top1_id": True}}
    )
    for trial in range(trials):
        labels = make_trial(folder, trial, rows)
        for number, method in enumerate(METHODS):
            make_run(folder, method, trial, labels, np.random.default_rng((trial, number)))
    folder.write_table("results.parquet", evaluate(folder))
    folder.best_path.write_bytes(b"a checkpoint")
    folder.write_best(BEST)
    return folder


def make_trial(folder: StudyFolder, trial: int, rows: int) -> pa.Table:
    source = np.random.default_rng(trial)
    labels = source.choice(CLASSES, rows, p=(0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.07))
    part = np.where((source.random(rows) < 0.3) & (labels != UNKNOWN), "train", "test")
    threshold_part = np.where(
        part == "test", None, np.where((source.random(rows) < 0.4) | (labels == HELD_OUT), "val", "fit")
    )
    ids = [f"item-{row}" if row % 10 else f"item-{row} {HOSTILE}" for row in range(rows)]
    table = pa.table({"row": range(rows), "id": ids, "label": labels, "part": part, "threshold_part_0": threshold_part})
    folder.write_table(f"trials/{trial}.parquet", table)
    return table


def make_run(folder: StudyFolder, method: str, trial: int, table: pa.Table, source: np.random.Generator) -> None:
    logits, class_names = {}, [name for name in sorted(CLASSES) if name != UNKNOWN]
    for column, part, known in (
        ("part", "test", class_names),
        ("threshold_part_0", "val", [name for name in class_names if name != HELD_OUT]),
    ):
        labels = [row["label"] for row in table.to_pylist() if row[column] == part]
        logits[part] = widened(draw_logits(labels, known, *METHODS[method], source), known, class_names)
    chosen = {"alpha": 0.1 * (1 + trial)} if method == "E-Stitchup" else {}
    record = RunRecord(
        method,
        trial,
        class_names,
        {},
        chosen,
        train_rows=table["part"].to_pylist().count("train"),
        epochs=24,
    )
    folder.write_run(record, logits["test"], [logits["val"]], make_curve(method, source))
    decisions = folder.threshold_predictions(method, trial)
    top = decisions.probabilities.max(dim=-1)
    for heuristic in ("intersection", "tp_ratio"):
        record.thresholds[heuristic] = float(select_threshold(*top, decisions.labels, heuristic))
    folder.write_run(record)


def draw_logits(
    labels: list[str], class_names: list[str], scale: float, noise: float, source: np.random.Generator
) -> np.ndarray:
    """Logits whose top-one confidence is right as often as it says where ``scale`` is 1 and ``noise`` is 0."""
    own = np.array([class_names.index(label) if label in class_names else -1 for label in labels])
    confidence = np.where(own >= 0, source.beta(4, 1, len(own)), source.beta(1.5, 3, len(own))).clip(0.01, 0.999)
    right = (own >= 0) & (source.random(len(own)) < confidence)
    other = (own + source.integers(1, len(class_names), len(own))) % len(class_names)
    top = np.log(confidence / (1 - confidence))
    logits = top[:, None] - source.exponential(3, (len(own), len(class_names))) - 2
    logits[np.arange(len(own)), np.where(right, own, other)] = top
    return scale * (logits + source.normal(0, noise, logits.shape))


def make_curve(method: str, source: np.random.Generator) -> pa.Table:
    epochs = np.arange(1, 25)
    rise = 0.9 * (1 - np.exp(-epochs / (8 if method == "Control" else 4)))
    accuracy = rise + source.normal(0, 0.01, 24)
    none = 0.7 + source.normal(0, 0.05, 24)
    return pa.table({"epoch": epochs, "accuracy": accuracy, "accuracy_id": accuracy, "accuracy_none": none})
