"""The rows of every trial and stage, shared by all methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.data.datamodule import EmbeddingDataModule, open_store
from estitchup_pl.data.splits import FixedSplit, Split
from estitchup_pl.errors import SplitError
from estitchup_pl.store.labels import Rows, StoreLabels
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.curve import KNOWN_ROWS, CurveRows, sample_rows
from estitchup_pl.study.folder import threshold_part

if TYPE_CHECKING:
    from estitchup_pl.study.stage import Stage


@dataclass(frozen=True)
class Division:
    """Rows of one stage in one trial.

    Attributes:
        train: Rows that train, ascending; a row that is there twice trains twice.
        evaluated: Rows whose logits each fit leaves, ascending.
        class_names: Classes that a fit knows, in the order of its logits.
        labels: Class index or ``NONE`` of the evaluated rows, int64 ``(evaluated,)``.
    """

    train: Rows
    evaluated: Rows
    class_names: list[str]
    labels: Tensor

    @property
    def known(self) -> Rows:
        """The evaluated rows whose class the fit knows."""
        known: Rows = self.evaluated[self.labels.numpy() != NONE]
        return known


class Trials:
    """The store of a study, and its rows in each trial and stage.

    Args:
        config: The study. Its store is opened once, for all fits.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.store = open_store(config.store)
        self.labels = StoreLabels.read(self.store)
        self._divisions: dict[tuple[str, int, int], Division] = {}
        self._curve_rows: dict[int, CurveRows] = {}
        self._split = config.build_split()

    def division(self, stage: Stage, trial: int, number: int = 0) -> Division:
        """Rows of a stage.

        Args:
            stage: The stage.
            trial: The trial.
            number: Which of its divisions of the training rows, where it makes several.

        Raises:
            SplitError: If rows cannot be divided as asked, or some would train and be evaluated.
        """
        key = (stage.name, trial, number)
        if key not in self._divisions:
            protocol = stage.split(self.config, self._split.for_trial(trial), trial, number)
            parts = protocol.assign(self.store, self.labels)
            train, evaluated = np.sort(parts.train), np.sort(stage.evaluated(parts))
            self._check(train, evaluated)
            names = self.labels.present(train)
            labels = torch.from_numpy(self.labels.index(names)[evaluated])
            self._divisions[key] = Division(train, evaluated, names, labels)
        return self._divisions[key]

    def _check(self, train: Rows, evaluated: Rows) -> None:
        split = type(self._split).__name__
        if (both := np.intersect1d(train, evaluated)).size:
            raise SplitError(
                f"{split}: {both.size} rows train and are evaluated, the first is row {both[0]}; a split of a study "
                "must keep them apart"
            )
        for rows, part in ((train, "trains"), (evaluated, "is evaluated")):
            if not rows.size:
                raise SplitError(f"{split}: no row {part}")
            if (unlabelled := rows[self.labels.codes[rows] == NONE]).size:
                raise SplitError(f"{split}: row {unlabelled[0]} {part} and has no label")

    def class_names(self, trial: int) -> list[str]:
        """Classes of the final fit of a trial, in the order of its logits."""
        return self.labels.present(self.training_rows(trial))

    def training_rows(self, trial: int) -> Rows:
        """Rows of the final fit of a trial, ascending."""
        return np.sort(self._split.for_trial(trial).assign(self.store, self.labels).train)

    def class_counts(self, division: Division) -> Tensor:
        """Training rows of each class of a division, int64 ``(classes,)``."""
        return torch.from_numpy(np.bincount(self.labels.index(division.class_names)[division.train]))

    def gather(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """Embeddings ``(rows, dim)`` of the chosen modalities as the store has them, by name."""
        return {name: self.store.gather(rows, [name]) for name in self.config.modalities or self.store.modalities}

    def curve_rows(self, stage: Stage, trial: int) -> CurveRows:
        """Rows that the curves of a trial are measured on: all "none" rows, and known ones drawn at random."""
        if trial not in self._curve_rows:
            division = self.division(stage, trial)
            none, known = np.setdiff1d(division.evaluated, division.known), division.known
            rows = np.union1d(none, sample_rows(known, KNOWN_ROWS, trial))
            labels = division.labels[np.searchsorted(division.evaluated, rows)]
            self._curve_rows[trial] = CurveRows(self.gather(rows), labels, 1 - len(known) / len(division.evaluated))
        return self._curve_rows[trial]

    def data(self, division: Division, batch_size: int | None = None) -> EmbeddingDataModule:
        """Data module of a fit."""
        split = FixedSplit(Split(division.train, division.evaluated, division.evaluated))
        return EmbeddingDataModule(self.store, split, self.config.modalities, batch_size or self.config.batch_size)

    def table(self, final: Division, thresholds: Sequence[Division]) -> pa.Table:
        """Each labelled row with the parts it plays, see :class:`~estitchup_pl.study.folder.StudyFolder`."""
        rows = self.labels.labelled
        parts = {"part": _parts(rows, final, "train", "test")}
        for repeat, division in enumerate(thresholds):
            parts[threshold_part(repeat)] = _parts(rows, division, "fit", "val")
        return pa.table(
            {
                "row": rows,
                "id": self.store.column("id").take(rows),
                "label": self.store.column("label").cast(pa.string()).take(rows),
                **parts,
            }
        )


def _parts(rows: Rows, division: Division, train: str, evaluated: str) -> pa.Array:
    part = np.full(len(rows), None, dtype=object)
    part[np.isin(rows, division.train)] = train
    part[np.isin(rows, division.evaluated)] = evaluated
    return pa.array(part.tolist(), pa.string())
