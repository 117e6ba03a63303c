"""Many runs as one fit: each keeps its own split, seed, callbacks, optimizer and schedule.

The runs are ordinary data modules, classifiers and callbacks. What they share is the network: their weights are
slices of one stack of weights, so that a layer of all runs is one batched matrix product, and the bookkeeping of a
training step is done once for all of them.
"""

from __future__ import annotations

from estitchup_pl.stacking.classifier import StackedClassifier
from estitchup_pl.stacking.data import StackedDataModule
from estitchup_pl.stacking.fit import FittedRun, fit_runs
from estitchup_pl.stacking.run import Run

__all__ = ["FittedRun", "Run", "StackedClassifier", "StackedDataModule", "fit_runs"]
