"""The rows of every trial and stage, shared by all methods."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.batch import NONE
from estitchup_pl.data.datamodule import EmbeddingDataModule, open_store
from estitchup_pl.data.splits import Split, SplitProtocol, ThresholdSplit, TrialSplit
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.networks import EmbeddingMLP
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store.labels import Rows, StoreLabels
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.splits import BootstrapSplit, SelectionSplit

Stage = Literal["selection", "threshold", "final"]
"""What a fit is for: comparing candidates, finding thresholds, or the result."""


class Trials:
    """The store of a study, and its rows in each trial and stage.

    Args:
        config: The study. Its store is opened once, for all fits.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.store = open_store(config.store)
        self.labels = StoreLabels.read(self.store)
        self._parts: dict[tuple[Stage, int, int], Split] = {}

    def protocol(self, stage: Stage, trial: int, division: int = 0) -> SplitProtocol:
        """How the rows of a stage are divided.

        Args:
            stage: The stage.
            trial: The trial.
            division: Number of the division, where selection makes several.
        """
        config = self.config
        split = TrialSplit(trial, config.train_fraction, config.unknown_classes)
        if stage == "final":
            return split
        if stage == "threshold":
            return ThresholdSplit(split, trial, held_out=config.held_out)
        if config.selection.strategy == "split":
            return SelectionSplit(split, trial, config.selection.fraction)
        return BootstrapSplit(split, trial, division)

    def parts(self, stage: Stage, trial: int, division: int = 0) -> Split:
        """Rows that train, validate and test."""
        key = (stage, trial, division)
        if key not in self._parts:
            self._parts[key] = self.protocol(*key).assign(self.store, self.labels)
        return self._parts[key]

    def class_names(self, stage: Stage, trial: int, division: int = 0) -> list[str]:
        """Classes that a fit knows, in the order of its logits."""
        return self.labels.present(self.parts(stage, trial, division).train)

    def label_index(self, rows: Rows, class_names: list[str]) -> Rows:
        """Class index or ``NONE`` of rows, int64 ``(rows,)``."""
        index: Rows = self.labels.index(class_names)[rows]
        return index

    def known(self, rows: Rows, class_names: list[str]) -> Rows:
        """Those of the rows whose class is among ``class_names``."""
        known: Rows = rows[self.label_index(rows, class_names) != NONE]
        return known

    def gather(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """Embeddings ``(rows, dim)`` of the chosen modalities as the store has them, by name."""
        return {name: self.store.gather(rows, [name]) for name in self.config.modalities or self.store.modalities}

    def data(self, stage: Stage, trial: int, division: int = 0) -> EmbeddingDataModule:
        """Data module of a fit."""
        config = self.config
        protocol = self.protocol(stage, trial, division)
        return EmbeddingDataModule(self.store, protocol, config.modalities, config.batch_size)

    def classifier(self) -> EmbeddingClassifier:
        """Classifier of a fit, not fitted yet."""
        network = partial(EmbeddingMLP, hidden=self.config.hidden, dropout=self.config.dropout)
        scaling: Any = self.config.scaling
        return EmbeddingClassifier(network, scaling=scaling)

    def seed(self, stage: Stage, trial: int, number: int) -> int:
        """Seed of a fit: the same for all methods, so that they begin with the same weights."""
        return derive_seed(self.config.seed, "study", stage, trial, number)

    def table(self, trial: int) -> pa.Table:
        """Each labelled row with the part it plays, see :class:`~estitchup_pl.study.folder.StudyFolder`."""
        rows = self.labels.labelled
        final, threshold = self.parts("final", trial), self.parts("threshold", trial)
        part = np.where(np.isin(rows, final.train), "train", "test")
        threshold_part = np.full(len(rows), None, dtype=object)
        threshold_part[np.isin(rows, threshold.train)] = "fit"
        threshold_part[np.isin(rows, threshold.val)] = "val"
        return pa.table(
            {
                "row": rows,
                "id": self.store.column("id").take(rows),
                "label": self.store.column("label").cast(pa.string()).take(rows),
                "part": pa.array(part.tolist(), pa.string()),
                "threshold_part": pa.array(threshold_part.tolist(), pa.string()),
            }
        )
