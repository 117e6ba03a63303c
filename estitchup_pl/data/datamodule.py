"""Precomputed embeddings as whole index batches, from memory, a GPU, or the mapped store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import psutil
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.data.digits import digits_store
from estitchup_pl.data.loading import (
    BatchSampler,
    EmbeddingLoader,
    EmbeddingReader,
    EvenBatches,
    MappedRows,
    ResidentRows,
    ShuffledBatches,
)
from estitchup_pl.data.none_groups import none_groups
from estitchup_pl.data.splits import Split, SplitProtocol, StratifiedSplit
from estitchup_pl.data.trained_rows import (
    build_split,
    describe_encoders,
    describe_recipes,
    describe_split,
    digest_ids,
    refuse_other_encoders,
    refuse_trained_rows,
)
from estitchup_pl.errors import CheckpointError, ConfigError, DataError, SplitError, did_you_mean
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.trained_on import TrainedOn
from estitchup_pl.seeding import global_seed
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels
from estitchup_pl.wording import counted

Cache = Literal["auto", "device", "memory", "off"]
PredictRows = Literal["unlabelled", "test", "all"]

MOMENT_ROWS = 65536
"""Rows read at once to fit a scaling."""

HARDLY_ANY = 0.1
"""Share of the evaluated rows below which the classes that the model knows are hardly those of the store."""

CACHE_SHARE = 0.5
"""Share of the memory that is free which ``cache="auto"`` may take."""


class EmbeddingDataModule(pl.LightningDataModule):
    """Serves a store's embeddings, all chosen modalities concatenated, in batches of :class:`EmbeddingBatch`.

    Batches are gathered as whole index batches, never row by row. Loaders are plain iterables with their own
    distributed sampling: every process trains on its own share of one shared permutation, and evaluation and
    prediction count each row exactly once, whatever the number of processes.

    Args:
        store: Folder of an :class:`EmbeddingStore`, an open one, or ``"digits"`` for the embedded data set.
        split: Which rows train, validate and test; any :class:`SplitProtocol`. Default: the split of the checkpoint
            that the model comes from, for a new model a :class:`~estitchup_pl.data.StratifiedSplit`, by which 80 % of
            the rows of each class train.
        modalities: Names of the modalities to concatenate, in this order; all of the store if ``None``. With a
            model from a checkpoint, its modalities are used.
        batch_size: Rows of a training batch on each process.
        eval_batch_size: Rows of a batch in validation, test and prediction at most.
        predict_rows: Rows that ``predict`` covers: those without a label, the test rows, all, or rows by number.
        cache: Where the embeddings are kept: on the ``device`` that computes, in ``memory``, or nowhere
            (``off``: read from the mapped store with prefetch). ``auto`` takes the first that leaves half of
            the free memory free.
        none_groups: Column of the store's items that parts "none" rows into groups, such as near and far: how well
            "none" is detected is then logged of each group too.
        verify: Whether to read the whole store first and compare it with its digests.
        other_encoder: Whether to take embeddings that, by the store's header, another encoder, pooling or revision has
            made than those that the model was trained on.

    Attributes:
        modalities: Width of each chosen modality, in the order of their concatenation.
        class_names: Known classes, once :meth:`setup` has run.
        reader: Where embeddings are read from; opened when a loader is made, unless it covers the rows already.

    Raises:
        ConfigError: If an option has a value that cannot be used.
        StoreError: If the store cannot be opened.
    """

    def __init__(
        self,
        store: str | Path | EmbeddingStore,
        split: SplitProtocol | None = None,
        modalities: Sequence[str] | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 4096,
        predict_rows: PredictRows | Sequence[int] = "unlabelled",
        cache: Cache = "auto",
        none_groups: str | None = None,
        verify: bool = False,
        other_encoder: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.store = open_store(store, verify=verify)
        self._given_split = split
        self.modalities = _check_modalities(self.store, modalities)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.predict_rows = predict_rows
        self.cache = cache
        self.none_groups = none_groups
        self.other_encoder = other_encoder
        self.class_names: tuple[str, ...] = ()
        self._stage = "fit"
        self._labels: StoreLabels | None = None
        self._divided: tuple[SplitProtocol, Split] | None = None
        self.reader: EmbeddingReader | None = None
        self._label_index = torch.empty(0, dtype=torch.int64)

    @property
    def split(self) -> SplitProtocol:
        """The split that was given; without one, that of the model's checkpoint, or else 80 % of each class.

        Raises:
            SplitError: If the checkpoint's is a class of the user's own, which has to be given again.
        """
        if self._given_split is not None:
            return self._given_split
        model = self._classifier
        return build_split(model.trained_on.split) if model and model.trained_on else StratifiedSplit()

    @property
    def parts(self) -> Split:
        """Rows that train, validate and test.

        Raises:
            SplitError: If the store cannot be divided as asked.
        """
        split = self.split
        if self._divided is None or (split is not self._divided[0] and split != self._divided[0]):
            self._divided = split, split.assign(self.store, self.labels)
        return self._divided[1]

    @property
    def labels(self) -> StoreLabels:
        """Labels of the whole store."""
        if self._labels is None:
            self._labels = StoreLabels.read(self.store)
        return self._labels

    @property
    def unknown_validation_rows(self) -> int:
        """Validation rows of classes outside training: the "none" rows that a threshold is fitted on."""
        return int((self.labels.index(self.class_names)[self.parts.val] == NONE).sum())

    @property
    def validates_on_test_rows(self) -> bool:
        """Whether some row is both validated and tested on."""
        return bool(np.isin(self.parts.val, self.parts.test).any())

    @override
    def setup(self, stage: str) -> None:
        """Fix the classes and the modalities, before Lightning asks for loaders, and tell them to the model.

        Both are the model's where it has them (from a checkpoint). Otherwise the classes are those with a
        training row, in sorted order, and the modalities those asked for.

        Raises:
            CheckpointError: If the store does not have the modalities that the model was trained on.
            ConfigError: If the model's scaling names a modality that is not chosen.
            DataError: If a class is called "none", or ``none_groups`` is no column that makes groups.
            SplitError: If the store cannot be divided as asked.
        """
        self._stage = stage
        model = self._classifier
        if model and type(self).on_after_batch_transfer is not pl.LightningDataModule.on_after_batch_transfer:
            raise ConfigError(
                f"{type(self).__name__} overrides on_after_batch_transfer, where the classifier scales embeddings and "
                "which Lightning would not call then: override on_before_batch_transfer"
            )
        if model and model.modalities:
            self._adopt(model.modalities)
        self.class_names = (model.class_names if model else ()) or tuple(self.labels.present(self.parts.train))
        self._check_classes()
        if model:
            self.describe_to(model)
        label_index = self.labels.index(self.class_names)
        if model and self.none_groups:
            model.group_none(none_groups(self.store, self.none_groups, np.flatnonzero(label_index == NONE)))
        self._label_index = torch.from_numpy(label_index)
        if stage == "fit":
            self._announce_unknown_classes()
            if self.trainer and not self.parts.val.size:
                self.trainer.limit_val_batches = 0

    def describe_to(self, model: EmbeddingClassifier) -> None:
        """Tell a classifier what the data are, and for a fit what its training rows are; :meth:`setup` comes first."""
        if self._stage != "fit":
            model.describe_data(self.class_names, self.modalities)
            return
        trained_on = TrainedOn(
            describe_split(self.split),
            torch.from_numpy(digest_ids(self.store, self.parts.train)),
            describe_encoders(self.store, self.modalities),
            describe_recipes(self.store, self.modalities),
            self.store.digest(self.modalities),
        )
        model.describe_data(self.class_names, self.modalities, self.moments, trained_on)

    def moments(self, modality: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``(dim,)`` of a modality over the training rows that have it, float64.

        A constant column gets a deviation of one.

        Raises:
            DataError: If no training row has the modality.
        """
        from sklearn.preprocessing import StandardScaler  # with pandas, a tenth of what a command takes to start

        scaler, rows, seen = StandardScaler(), self.parts.train, 0
        for start in range(0, len(rows), MOMENT_ROWS):
            part = self.store.gather(rows[start : start + MOMENT_ROWS], [modality]).astype(np.float64)
            present = part[part.any(axis=1)]
            seen += len(present)
            if len(present):
                scaler.partial_fit(present)
        if not seen:
            raise DataError(
                f"no training row has the modality {modality!r}, so its scaling cannot be learnt: leave it out"
            )
        return torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)

    def train_dataloader(self) -> EmbeddingLoader:
        """Batches of the training rows in an order drawn anew each epoch.

        A network with batch normalization gets no batch of a single row: it joins the one before.

        Raises:
            ConfigError: If there are only single rows for such a network.
        """
        rank, world_size = self._process()
        least = 2 if self._normalizes_batches else 1
        sampler = ShuffledBatches(len(self.parts.train), self.batch_size, global_seed(), rank, world_size, least=least)
        return self._loader(self.parts.train, sampler)

    def training_rows(self) -> EmbeddingLoader:
        """Batches of all training rows in their order, the same on every process: for what learns from them at once."""
        rows = self.parts.train
        return self._loader(rows, EvenBatches(len(rows), self.eval_batch_size))

    def val_dataloader(self) -> EmbeddingLoader:
        """Batches of the validation rows, each once; a fit on all rows does not ask for them.

        Raises:
            SplitError: If the model was trained on some of them.
        """
        return self._eval_loader(self.parts.val, "validate")

    def test_dataloader(self) -> EmbeddingLoader:
        """Batches of the test rows, each once.

        Raises:
            SplitError: If the model was trained on some of them.
        """
        return self._eval_loader(self.parts.test, "test")

    def predict_dataloader(self) -> EmbeddingLoader:
        """Batches of the rows to predict, each once.

        Raises:
            SplitError: If there are none.
        """
        return self._eval_loader(self._rows_to_predict())

    def open_reader(self, rows: Rows) -> EmbeddingReader:
        """Open these rows of the store where ``cache`` says that they are to be kept."""
        cpu = torch.device("cpu")
        device = self.trainer.strategy.root_device if self.trainer else cpu
        if self.cache == "off":
            return MappedRows(self.store, list(self.modalities))
        if self.cache == "auto":
            info = self.store.modalities
            row_bytes = sum(dim * np.dtype(info[name].dtype).itemsize for name, dim in self.modalities.items())
            needed = len(rows) * row_bytes / CACHE_SHARE
            if device.type == "cuda" and needed <= torch.cuda.mem_get_info(device)[0]:
                return ResidentRows(self.store, list(self.modalities), rows, device)
            processes = self.trainer.num_devices if self.trainer else 1
            if needed * processes > psutil.virtual_memory().available:
                return MappedRows(self.store, list(self.modalities))
        return ResidentRows(self.store, list(self.modalities), rows, device if self.cache == "device" else cpu)

    def _adopt(self, modalities: dict[str, int]) -> None:
        """Take over the modalities of a model that has been trained."""
        where = self.store.path or "in memory"
        for name, dim in modalities.items():
            if name not in self.store.modalities:
                raise CheckpointError(
                    f"the checkpoint was trained on the modalities {list(modalities)}, the store {where} has only "
                    f"{list(self.store.modalities)}"
                )
            found = self.store.modalities[name].dim
            if found != dim:
                raise CheckpointError(
                    f"modality {name!r} has {found} columns in the store {where}, the checkpoint was trained "
                    f"on {dim}: embed with the same encoder, or train anew"
                )
        if list(modalities) != list(self.modalities):
            self.modalities = dict(modalities)
            self.reader = None

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
            classes = counted(len(unknown), "class", "classes")
            rank_zero_info(f'{classes} without a training row, so "none": {shown}')

    def _announce_strangers(self, rows: Rows, purpose: str) -> None:
        """Warn where the model knows hardly any of the labels that it is evaluated on."""
        known = (self.labels.index(self.class_names)[rows] != NONE).sum() / max(len(rows), 1)
        if known < HARDLY_ANY:
            named = self.labels.present(rows)
            count = len(set(named) & set(self.class_names))
            rank_zero_warn(
                f"the model knows {count} of the {len(named)} classes of the rows to {purpose} "
                f'({", ".join(named[:3])}, …), so {1 - known:.0%} of the rows count as "none". It was trained on '
                f"{len(self.class_names)} ({', '.join(self.class_names[:3])}, …): are these the names in use?"
            )

    def _rows_to_predict(self) -> Rows:
        if not isinstance(self.predict_rows, str):
            return np.unique(np.asarray(self.predict_rows, np.int64))
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

    @property
    def _classifier(self) -> EmbeddingClassifier | None:
        """The model that is trained or evaluated; ``None`` for somebody's own module, which only gets batches."""
        model = self.trainer.lightning_module if self.trainer else None
        return model if isinstance(model, EmbeddingClassifier) else None

    @property
    def _normalizes_batches(self) -> bool:
        modules = self.trainer.lightning_module.modules() if self.trainer else ()
        return any(isinstance(module, _BatchNorm) for module in modules)

    def _eval_loader(self, rows: Rows, purpose: Literal["validate", "test"] | None = None) -> EmbeddingLoader:
        model = self._classifier
        if purpose and not rows.size:
            raise SplitError(f"no row is left to {purpose}: all labelled ones train. Label more, or train on fewer")
        if purpose and model and model.trained_on:
            refuse_trained_rows(self.store, rows, model.trained_on, purpose)
        if purpose and model and self._stage != "fit":
            self._announce_strangers(rows, purpose)
        rank, world_size = self._process()
        return self._loader(rows, EvenBatches(len(rows), self.eval_batch_size, rank, world_size))

    def _loader(self, rows: Rows, sampler: BatchSampler) -> EmbeddingLoader:
        model = self._classifier
        if model and model.trained_on and not self.other_encoder:
            refuse_other_encoders(describe_encoders(self.store, self.modalities), model.trained_on)
        if self.reader is None or not self.reader.covers(rows):
            both = self._stage == "fit"
            self.reader = self.open_reader(np.union1d(self.parts.train, self.parts.val) if both else rows)
        labels = self._label_index.to(self.reader.device)
        return EmbeddingLoader(self.reader, torch.from_numpy(rows), labels, len(self.class_names), sampler)


def open_store(store: str | Path | EmbeddingStore, *, verify: bool = False) -> EmbeddingStore:
    """Open a store: the folder of one, one that is open, or ``"digits"`` for the embedded data set.

    Args:
        store: Which.
        verify: Whether a folder is read whole and compared with its digests.

    Raises:
        StoreError: If the store cannot be opened.
    """
    if isinstance(store, EmbeddingStore):
        return store
    return digits_store() if str(store) == "digits" else EmbeddingStore.open(store, verify=verify)


def _check_modalities(store: EmbeddingStore, names: Sequence[str] | None) -> dict[str, int]:
    names = tuple(store.modalities) if names is None else names
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"modalities must name at least one modality and none twice, got {list(names)}")
    for name in names:
        if name not in store.modalities:
            hint = did_you_mean(name, store.modalities)
            raise ConfigError(f"modalities: unknown modality {name!r}, expected one of {list(store.modalities)}{hint}")
    return {name: store.modalities[name].dim for name in names}
