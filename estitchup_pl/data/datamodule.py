"""Precomputed embeddings as whole index batches, from memory, a GPU, or the mapped store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import psutil
import torch
from lightning.pytorch.utilities import rank_zero_info
from sklearn.preprocessing import StandardScaler

from estitchup_pl.batch import NONE, EmbeddingBatch
from estitchup_pl.data.digits import digits_store
from estitchup_pl.data.loading import (
    BatchSampler,
    EmbeddingLoader,
    EmbeddingSource,
    EvenBatches,
    MappedRows,
    ResidentRows,
    ShuffledBatches,
)
from estitchup_pl.data.splits import Split, SplitProtocol, TrialSplit
from estitchup_pl.errors import CheckpointError, ConfigError, DataError, SplitError, did_you_mean
from estitchup_pl.model.scaling import SCALINGS, ModalityScaling, Scaling
from estitchup_pl.seeding import global_seed
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels

Cache = Literal["auto", "device", "memory", "off"]
PredictRows = Literal["unlabelled", "test", "all"]

MOMENT_ROWS = 65536
"""Rows read at once to fit a scaling."""

CACHE_SHARE = 0.5
"""Share of the memory that is free which ``cache="auto"`` may take."""


class EmbeddingDataModule(pl.LightningDataModule):
    """Serves a store's embeddings, all chosen modalities concatenated, in batches of :class:`EmbeddingBatch`.

    Batches are gathered as whole index batches, never row by row. Loaders are plain iterables with their own
    distributed sampling: every process trains on its own share of one shared permutation, and evaluation and
    prediction count each row exactly once, whatever the number of processes.

    Args:
        store: Folder of an :class:`EmbeddingStore`, an open one, or ``"digits"`` for the embedded data set.
        split: Which rows train, validate and test; any :class:`SplitProtocol`.
        modalities: Modalities to concatenate, in this order; all of the store if ``None``. With a model from a
            checkpoint, its modalities are used.
        scaling: ``"none"``, ``"l2"`` or ``"standardize"`` (fitted on the training rows alone), for all
            modalities or by name.
        batch_size: Rows of a training batch on each process.
        eval_batch_size: Rows of a batch in validation, test and prediction at most.
        predict_rows: Rows that ``predict`` covers: those without a label, the test rows, or all.
        cache: Where the embeddings are kept: on the ``device`` that computes, in ``memory``, or nowhere
            (``off``: read from the mapped store with prefetch). ``auto`` takes the first that leaves half of
            the free memory free.

    Attributes:
        source: Where embeddings are read from; opened when a loader is made, unless it covers the rows already.

    Raises:
        ConfigError: If an option has a value that cannot be used.
        StoreError: If the store cannot be opened.
    """

    def __init__(
        self,
        store: str | Path | EmbeddingStore,
        split: SplitProtocol | None = None,
        modalities: Sequence[str] | None = None,
        scaling: Scaling | Mapping[str, Scaling] = "none",
        batch_size: int = 128,
        eval_batch_size: int = 4096,
        predict_rows: PredictRows = "unlabelled",
        cache: Cache = "auto",
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.store = _open(store)
        self.split = split or TrialSplit()
        self.modalities = _check_modalities(self.store, modalities)
        self.scaling = _check_scaling(scaling, self.modalities)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.predict_rows = predict_rows
        self.cache = cache
        self.class_names: tuple[str, ...] = ()
        self.scale = ModalityScaling(self.modality_dims, {})
        self._stage = "fit"
        self._labels: StoreLabels | None = None
        self._parts: Split | None = None
        self.source: EmbeddingSource | None = None
        self._label_index = torch.empty(0, dtype=torch.int64)
        self._targets = torch.empty(0, 0)

    @property
    def modality_dims(self) -> dict[str, int]:
        """Width of each chosen modality, in the order of their concatenation."""
        return {name: self.store.modalities[name].dim for name in self.modalities}

    @property
    def parts(self) -> Split:
        """Rows that train, validate and test.

        Raises:
            SplitError: If the store cannot be divided as asked.
        """
        if self._parts is None:
            self._parts = self.split.assign(self.store, self.labels)
        return self._parts

    @property
    def labels(self) -> StoreLabels:
        """Labels of the whole store."""
        if self._labels is None:
            self._labels = StoreLabels.read(self.store)
        return self._labels

    @property
    def validates_unknown(self) -> bool:
        """Whether a validation row belongs to a class outside training, so that a threshold can be fitted."""
        return bool((self.labels.index(self.class_names)[self.parts.val] == NONE).any())

    @property
    def validates_on_test_rows(self) -> bool:
        """Whether some row is both validated and tested on."""
        return bool(np.isin(self.parts.val, self.parts.test).any())

    def setup(self, stage: str) -> None:
        """Fix the classes and the modalities, before Lightning asks for loaders.

        Both are the model's where it has them (from a checkpoint). Otherwise the classes are those with a
        training row, in sorted order, and the modalities those asked for.

        Raises:
            CheckpointError: If the store does not have the modalities that the model was trained on.
            DataError: If a class is called "none".
            SplitError: If the store cannot be divided as asked.
        """
        self._stage = stage
        model: Any = self.trainer.lightning_module if self.trainer else None
        trained = bool(getattr(model, "class_names", ()))
        if trained:
            self._adopt(model)
        self.class_names = tuple(model.class_names if trained else self.labels.present(self.parts.train))
        self._check_classes()
        # One scaling: this module applies it, the model keeps it in its checkpoint.
        self.scale = model.scale if trained and hasattr(model, "scale") else self._fit_scaling()
        self._label_index = torch.from_numpy(self.labels.index(self.class_names))
        # The last row is all zeros and NONE is -1: indexing by the label gives every item its target.
        self._targets = torch.eye(len(self.class_names) + 1, len(self.class_names))
        if stage == "fit":
            self._announce_unknown_classes()

    def on_after_batch_transfer(self, batch: EmbeddingBatch, dataloader_idx: int) -> EmbeddingBatch:
        """Scale the embeddings, before callbacks see them."""
        if self.scale.mean.device != batch.embeddings.device:
            self.scale.to(batch.embeddings.device)
        batch.embeddings = self.scale(batch.embeddings)
        return batch

    def train_dataloader(self) -> EmbeddingLoader:
        """Batches of the training rows in an order drawn anew each epoch."""
        rank, world_size = self._process()
        sampler = ShuffledBatches(len(self.parts.train), self.batch_size, global_seed(), rank, world_size)
        return self._loader(self.parts.train, sampler)

    def val_dataloader(self) -> EmbeddingLoader:
        """Batches of the validation rows, each once."""
        return self._eval_loader(self.parts.val)

    def test_dataloader(self) -> EmbeddingLoader:
        """Batches of the test rows, each once."""
        return self._eval_loader(self.parts.test)

    def predict_dataloader(self) -> EmbeddingLoader:
        """Batches of the rows to predict, each once.

        Raises:
            SplitError: If there are none.
        """
        return self._eval_loader(self._rows_to_predict())

    def open_source(self, rows: Rows) -> EmbeddingSource:
        """Open these rows of the store where ``cache`` says that they are to be kept."""
        cpu = torch.device("cpu")
        device = self.trainer.strategy.root_device if self.trainer else cpu
        if self.cache == "off":
            return MappedRows(self.store, self.modalities)
        if self.cache == "auto":
            row_bytes = sum(
                info.dim * np.dtype(info.dtype).itemsize
                for name, info in self.store.modalities.items()
                if name in self.modalities
            )
            needed = len(rows) * row_bytes / CACHE_SHARE
            if device.type == "cuda" and needed <= torch.cuda.mem_get_info(device)[0]:
                return ResidentRows(self.store, self.modalities, rows, device)
            processes = self.trainer.num_devices if self.trainer else 1
            if needed * processes > psutil.virtual_memory().available:
                return MappedRows(self.store, self.modalities)
        return ResidentRows(self.store, self.modalities, rows, device if self.cache == "device" else cpu)

    def _fit_scaling(self) -> ModalityScaling:
        scaling = ModalityScaling(self.modality_dims, self.scaling)
        start = 0
        for name, dim in self.modality_dims.items():
            if self.scaling.get(name) == "standardize":
                scaler = _standardizer(self.store, name, self.parts.train)
                scaling.mean[start : start + dim] = torch.from_numpy(scaler.mean_)
                scaling.std[start : start + dim] = torch.from_numpy(scaler.scale_)
            start += dim
        return scaling

    def _adopt(self, model: Any) -> None:
        """Take over the modalities of a model that has been trained."""
        dims: dict[str, int] = getattr(model, "modalities", None) or self.modality_dims
        where = self.store.path or "in memory"
        for name, dim in dims.items():
            if name not in self.store.modalities:
                raise CheckpointError(
                    f"the checkpoint was trained on the modalities {list(dims)}, the store {where} has only "
                    f"{list(self.store.modalities)}"
                )
            found = self.store.modalities[name].dim
            if found != dim:
                raise CheckpointError(
                    f"modality {name!r} has {found} columns in the store {where}, the checkpoint was trained "
                    f"on {dim}: embed with the same encoder, or train anew"
                )
        if tuple(dims) != self.modalities:
            self.modalities = tuple(dims)
            self.source = None

    def _check_classes(self) -> None:
        if "none" in self.class_names:
            raise DataError(
                'a class to train on is called "none", which is what the classifier says for unknown items: '
                'rename it, or keep its rows out of training (data.split.unknown_classes=["none"])'
            )
        if self._stage == "fit":
            strangers = sorted(set(self.labels.present(self.parts.train)) - set(self.class_names))
            if strangers:
                raise CheckpointError(
                    f"{len(strangers)} classes of the training rows are not among the model's "
                    f"{len(self.class_names)}: {', '.join(strangers[:5])}; resume with the split of the checkpoint, "
                    "or begin a new fit"
                )

    def _announce_unknown_classes(self) -> None:
        evaluated = self.labels.present(np.union1d(self.parts.val, self.parts.test))
        unknown = sorted(set(evaluated) - set(self.class_names))
        if unknown:
            shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
            rank_zero_info(f'{len(unknown)} classes have no training row and count as "none": {shown}')

    def _rows_to_predict(self) -> Rows:
        if self.predict_rows == "all":
            return np.arange(len(self.store))
        if self.predict_rows == "test":
            return self.parts.test
        rows = self.labels.unlabelled
        if rows.size == 0:
            raise SplitError(
                "every row of the store has a label, so there is no unlabelled row to predict: "
                "choose --data.predict_rows test or --data.predict_rows all"
            )
        return rows

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _eval_loader(self, rows: Rows) -> EmbeddingLoader:
        rank, world_size = self._process()
        return self._loader(rows, EvenBatches(len(rows), self.eval_batch_size, rank, world_size))

    def _loader(self, rows: Rows, sampler: BatchSampler) -> EmbeddingLoader:
        if self.source is None or not self.source.covers(rows):
            both = self._stage == "fit"
            self.source = self.open_source(np.union1d(self.parts.train, self.parts.val) if both else rows)
        device = self.source.device
        return EmbeddingLoader(
            self.source,
            torch.from_numpy(rows),
            self._label_index.to(device),
            self._targets.to(device),
            sampler,
        )


def _open(store: str | Path | EmbeddingStore) -> EmbeddingStore:
    if isinstance(store, EmbeddingStore):
        return store
    return digits_store() if str(store) == "digits" else EmbeddingStore.open(store)


def _check_modalities(store: EmbeddingStore, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(store.modalities)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"modalities must name at least one modality and none twice, got {list(names)}")
    for name in names:
        _check_name(name, tuple(store.modalities), "modalities")
    return tuple(names)


def _check_scaling(scaling: Scaling | Mapping[str, Scaling], modalities: Sequence[str]) -> dict[str, Scaling]:
    by_name = dict.fromkeys(modalities, scaling) if isinstance(scaling, str) else dict(scaling)
    for name, kind in by_name.items():
        _check_name(name, modalities, "scaling")
        if kind not in SCALINGS:
            raise ConfigError(f"scaling of {name!r} must be one of {', '.join(SCALINGS)}, got {kind!r}")
    return by_name


def _check_name(name: str, names: Sequence[str], option: str) -> None:
    if name not in names:
        hint = did_you_mean(name, names)
        raise ConfigError(f"{option}: unknown modality {name!r}, expected one of {list(names)}{hint}")


def _standardizer(store: EmbeddingStore, modality: str, rows: Rows) -> StandardScaler:
    """Fit to the rows that have the modality, a chunk at a time; a constant column gets a deviation of one."""
    scaler = StandardScaler()
    for start in range(0, len(rows), MOMENT_ROWS):
        part = store.gather(rows[start : start + MOMENT_ROWS], [modality]).astype(np.float64)
        present = part[part.any(axis=1)]
        if len(present):
            scaler.partial_fit(present)
    if not hasattr(scaler, "n_samples_seen_"):
        raise DataError(f"no training row has the modality {modality!r}, so it cannot be standardized: leave it out")
    return scaler
