"""Collects a shard's embeddings on the device, row by row in their place, and writes it when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from estitchup_pl.embed.pipeline import WorkBatch
from estitchup_pl.embed.workspace import Note, Unit, write_note
from estitchup_pl.store import ModalityInfo, shard_path, write_shard


class ShardWriter(Callback):
    """Callback that writes each unit's note and shard as soon as its last batch is through.

    A shard stays on the device until then: no step has to wait for a copy to the host.

    Args:
        out: Folder of the finished store, whose last shard is filled up.
        work: Folder of the run.
        infos: For each modality the shape of its embeddings.
        failed: Called with modality, row and reason for a value that cannot be embedded; may raise.
    """

    def __init__(
        self,
        out: Path,
        work: Path,
        infos: Mapping[str, ModalityInfo],
        failed: Callable[[str, int, str], None],
    ) -> None:
        self._out = out
        self._work = work
        self._infos = infos
        self._failed = failed
        self._buffer: Tensor | None = None

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: WorkBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Report values that could not be prepared."""
        for row, why in batch.failed:
            self._failed(batch.unit.modality, row, why)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: WorkBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Place the embeddings of one batch; write the shard after its last one."""
        info = self._infos[batch.unit.modality]
        if self._buffer is None:
            self._buffer = self._new_buffer(batch.unit, info, pl_module.device)
        if batch.inputs is not None:
            self._buffer[batch.rows] = outputs.to(self._buffer.dtype)[batch.source]
        if batch.note is not None:
            self._write(batch.unit, batch.note, self._buffer)
            self._buffer = None

    def _new_buffer(self, unit: Unit, info: ModalityInfo, device: torch.device) -> Tensor:
        buffer = torch.zeros(unit.stop - unit.first, info.dim, dtype=getattr(torch, info.dtype), device=device)
        if unit.start > unit.first:
            old = np.load(shard_path(self._out, unit.modality, unit.shard), mmap_mode="r")
            buffer[: unit.start - unit.first] = torch.from_numpy(old[: unit.start - unit.first].copy())
        return buffer

    def _write(self, unit: Unit, note: Note, buffer: Tensor) -> None:
        shard = buffer.cpu().numpy()
        known = {row for row, _ in note.failed} | set(note.missing)
        usable = np.isfinite(shard).all(axis=1) & shard.any(axis=1)
        for row in np.flatnonzero(~usable) + unit.first:
            if row >= unit.start and row not in known:
                why = f"the encoder's output is NaN, infinite or all zero in {shard.dtype}"
                self._failed(unit.modality, int(row), why)
                note.failed.append((int(row), why))
                shard[row - unit.first] = 0
        write_note(self._work, unit, note)
        write_shard(self._work, unit.modality, unit.shard, shard)
