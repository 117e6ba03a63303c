"""Many runs as one program: each keeps its own rows, classes, seed, augmentation, rates and weights.

The runs are ordinary data modules, classifiers and callbacks. What a program knows of them it does for all at once:
their weights, moments, batches and random numbers have a first axis over runs, and the number of operations of a
training step does not depend on how many there are.
"""

from __future__ import annotations

from estitchup_pl.stacking.fit import fit_runs
from estitchup_pl.stacking.run import FittedRun, Run

__all__ = ["FittedRun", "Run", "fit_runs"]
