"""Control against E-Stitchup on scikit-learn's digits: threshold, training, test, in about a minute.

Three in ten digits train, and eights and nines are never trained on: a trustworthy classifier says "none" to them.
"""

from __future__ import annotations

import argparse
import logging
import warnings

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.callbacks import EStitchup, OODThreshold
from estitchup_pl.splits import SplitProtocol, ThresholdSplit, TrialSplit

TRIAL = {"train_fraction": 0.3, "unknown_classes": ("eight", "nine")}
METHODS: dict[str, list[pl.Callback]] = {"Control": [], "E-Stitchup": [EStitchup(alpha=0.4)]}
COLUMNS = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "confidence_accuracy_correlation": "conf.-acc. correlation",
    "ece": "ECE",
    "threshold": "threshold",
    "accuracy_id": "known acc.",
    "accuracy_none": '"none" acc.',
    "accuracy": "accuracy",
}


def fit(split: SplitProtocol, callbacks: list[pl.Callback], epochs: int) -> tuple[pl.Trainer, EmbeddingClassifier]:
    """Train a classifier on the digits with a threshold."""
    pl.seed_everything(0, verbose=False)
    data = EmbeddingDataModule("digits", split, scaling="standardize")
    model = EmbeddingClassifier()
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return trainer, model


def evaluate(method: list[pl.Callback], epochs: int) -> dict[str, float]:
    """Find the threshold on held-out classes (Sec. 4.3), train on the whole trial, test."""
    _, scout = fit(ThresholdSplit(**TRIAL, held_out=2), [*method, OODThreshold()], epochs)
    final = [*method, OODThreshold(value=float(scout.threshold))]
    trainer, model = fit(TrialSplit(**TRIAL), final, epochs)
    (metrics,) = trainer.test(model, trainer.datamodule, verbose=False)
    return {name.removeprefix("test/"): value for name, value in metrics.items()}


def main() -> None:
    """Print one row for each method."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--epochs", type=int, default=120, help="epochs of each fit, a multiple of 12")
    epochs = parser.parse_args().epochs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")  # Lightning 2.6 under torch >= 2.14
    table = Table("method", *COLUMNS.values(), title="Digits: 30 % to train on, eights and nines unknown")
    with Progress(transient=True) as progress:
        for name, callbacks in progress.track(METHODS.items(), description="training"):
            metrics = evaluate(callbacks, epochs)
            table.add_row(name, *(f"{metrics[column]:.4f}" for column in COLUMNS))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
