"""What the tests of several processes do in each of them; also run by pytest itself, as the one process.

    python -m torch.distributed.run --nproc-per-node 2 tests/processes.py FOLDER

FOLDER holds ``model.ckpt``; results are written beside it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from album import Album
from blobs import blobs_store
from training import SMALL, classifier, data, trainer, weights

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.callbacks import (
    Calibration,
    EMixup,
    EStitchup,
    FitHead,
    LabelSoftening,
    OODThreshold,
    PredictionWriter,
)
from estitchup_pl.dashboards import Dashboard
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.model import LDA, LinearHead, MaxProbability, NeighborDistance, SumOfScores

METHODS = {
    "control": list,
    "soft_e_mixup": lambda: [EMixup(), LabelSoftening()],
    "e_stitchup": lambda: [EStitchup(), OODThreshold()],
    "sum": lambda: [OODThreshold(score=SumOfScores([MaxProbability(), NeighborDistance(k=3)])), Calibration()],
}
ODD = 137
"""Rows of the store that are evaluated; they do not divide evenly among processes or batches."""


SPLIT = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)


def several() -> dict[str, object]:
    """Trainer options for the processes that there are."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    return {"devices": count, "strategy": "ddp"} if count > 1 else {}


def fit(folder: Path, callbacks: list[pl.Callback], epochs: int, checkpoint: Path | None = None) -> EmbeddingClassifier:
    """Fit a small classifier, from a checkpoint on if there is one."""
    model = classifier(scaling="standardize")
    rows = data(split=SPLIT, store=blobs_store(ODD), batch_size=8)
    run = trainer(folder, epochs, callbacks=callbacks, **several())
    run.fit(model, rows, ckpt_path=checkpoint, weights_only=True)
    run.save_checkpoint(folder / f"epoch-{epochs}.ckpt")
    return model


def everything(model: EmbeddingClassifier) -> dict[str, torch.Tensor]:
    """Weights, and all that the decision has learnt."""
    return {**weights(model), "threshold": torch.tensor(model.threshold)}


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Tell whether two tensors hold the same, "not a number" where the other does."""
    return first.shape == second.shape and torch.equal(first.nan_to_num(7), second.nan_to_num(7))


def resume(folder: Path) -> dict[str, bool]:
    """Tell for each method whether a fit that was interrupted after an epoch ends with the very same weights."""
    equal = {}
    for name, callbacks in METHODS.items():
        place = folder / name
        whole = everything(fit(place, callbacks(), epochs=3))
        fit(place, callbacks(), epochs=1)
        torch.rand(17)  # a new process has drawn other numbers
        resumed = everything(fit(place, callbacks(), epochs=3, checkpoint=place / "epoch-1.ckpt"))
        equal[name] = whole.keys() == resumed.keys() and all(same(whole[key], resumed[key]) for key in whole)
    return equal


def evaluate(folder: Path, out: str) -> dict[str, float]:
    """Test the checkpoint and write its predictions."""
    model = EmbeddingClassifier.load_from_checkpoint(folder / "model.ckpt", network=SMALL)
    rows = data(store=blobs_store(ODD), split=None, eval_batch_size=16, predict_rows="all")
    run = trainer(folder, callbacks=[PredictionWriter(folder / out)], **several())
    (metrics,) = run.test(model, rows, verbose=False)
    run.predict(model, rows, return_predictions=False)
    return metrics


def solve(folder: Path) -> list[float]:
    """Fit a linear head; its first process solves for all."""
    model = classifier(network=LinearHead, scaling="centered_l2")
    run = trainer(folder, callbacks=[FitHead(LDA())], **several())
    run.fit(model, data(split=SPLIT, store=blobs_store(ODD), batch_size=8))
    weights_of_all: torch.Tensor = run.strategy.all_gather(model.network[0].weight.detach())
    return weights_of_all.flatten().tolist()


def show(folder: Path) -> dict[str, list[list[object]]]:
    """Tables that a logger is shown of a test; from the first process alone."""
    model, album = EmbeddingClassifier.load_from_checkpoint(folder / "model.ckpt", network=SMALL), Album(folder)
    rows = data(store=blobs_store(ODD), split=None, eval_batch_size=16)
    run = trainer(folder, callbacks=[Dashboard(items=7)], logger=album, **several())
    run.test(model, rows, verbose=False)
    return {name: list(map(list, table.rows)) for name, table in album.tables.items()}


def main(folder: Path) -> None:
    """Do all of it and leave the results as JSON."""
    results = {
        "resume": resume(folder),
        "test": evaluate(folder, "several.parquet"),
        "head": solve(folder),
        "shown": show(folder),
    }
    if os.environ.get("RANK", "0") == "0":
        (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    pl.seed_everything(0, verbose=False)
    main(Path(sys.argv[1]))
