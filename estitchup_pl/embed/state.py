"""What a run was asked for: written beside its shards, so that a later run can tell whether they still hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from estitchup_pl.embed.staging import Digests
from estitchup_pl.errors import StoreError
from estitchup_pl.store.files import atomic_path

STATE_NAME: Final = "embed.json"
DIGESTS_NAME: Final = "embed_inputs.parquet"
_VERSION: Final = 1


@dataclass(frozen=True)
class RunState:
    """Content of ``embed.json``.

    Attributes:
        rows: Rows of the input table.
        rows_per_shard: Rows in every shard but the last.
        precision: Precision of the Trainer.
        modalities: For each modality the settings that decide its embeddings.
        carried: For each modality how many rows are taken over from the finished store in the same folder.
        truncation: For each modality ``[rows, tokens]`` that were cut off; known once the run is finished.
    """

    rows: int
    rows_per_shard: int
    precision: str
    modalities: dict[str, dict[str, Any]]
    carried: dict[str, int] = field(default_factory=dict)
    truncation: dict[str, list[int]] = field(default_factory=dict)

    def differences(self, other: RunState) -> list[str]:
        """List what ``other``, the newer one, changes in the settings; rows and inputs are left out."""
        return [
            *_differences("rows_per_shard", self.rows_per_shard, other.rows_per_shard),
            *_differences("trainer.precision", self.precision, other.precision),
            *_differences("modalities", self.modalities, other.modalities),
        ]

    def write(self, folder: Path, digests: Digests) -> None:
        """Write the state and the digests of the inputs; the state last."""
        with atomic_path(folder / DIGESTS_NAME) as temporary:
            pq.write_table(pa.table(digests), temporary)
        with atomic_path(folder / STATE_NAME) as temporary:
            temporary.write_text(json.dumps({"version": _VERSION, **asdict(self)}, indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> RunState:
        """Read the state in ``folder``.

        Raises:
            StoreError: If it is damaged or of another version.
        """
        path = folder / STATE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("version") != _VERSION:
                raise ValueError("written by another version of estitchup_pl")
            return cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"{path}: damaged ({error}). Run again with --restart to embed everything anew."
            ) from error

    def restricted(self, modalities: set[str]) -> RunState:
        """The state with some of its modalities only."""
        return replace(self, modalities={name: self.modalities[name] for name in self.modalities if name in modalities})


def read_digests(folder: Path) -> Digests:
    """Read what :meth:`RunState.write` wrote beside the state."""
    table = pq.read_table(folder / DIGESTS_NAME)
    return {name: table[name].to_numpy() for name in table.column_names}


def first_difference(old: Digests, new: Digests) -> tuple[int, str] | None:
    """First row, and its modality, whose input changed between two tables of one length; ``None`` if none did."""
    changed = {name: np.flatnonzero(old[name] != new[name]) for name in old.keys() & new.keys()}
    rows = [(int(where[0]), name) for name, where in changed.items() if len(where)]
    return min(rows, default=None)


def weights_digest(module: nn.Module) -> str:
    """Digest of all parameters and buffers, by name, shape and bits."""
    content = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(_bytes(tensor))
    return content.hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(f"{name}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{name}: was {old!r}, is {new!r}"
