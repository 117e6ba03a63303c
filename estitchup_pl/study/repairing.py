"""Files of a study that cannot be read any more: they are removed, with what rests on them, and so made anew."""

from __future__ import annotations

import json
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.utilities import rank_zero_warn

from estitchup_pl.study.folder import StudyFolder

_UNREADABLE: Final = (
    ValueError,  # JSON, an array's header, fewer bytes than it says
    OSError,
    EOFError,
    KeyError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    pa.ArrowException,
)
"""What numpy, JSON and pyarrow raise for damaged files."""


def remove_damaged(folder: StudyFolder) -> None:
    """Remove every file of a run that cannot be read, and what was made of it, so that the study makes it anew.

    A final fit whose curve is damaged is fitted again; thresholds are found again where validation logits were lost.
    What cannot be seen is a changed number in an array that is otherwise whole.

    Args:
        folder: The study's folder.
    """
    damaged = list(_damaged(folder.path / "runs"))
    for run, path in damaged:
        path.unlink()
        (run / "run.json").unlink(missing_ok=True)
        if path.name == "curve.parquet":
            (run / "logits.npy").unlink(missing_ok=True)
        if path.name == "learnt.npz" or "threshold" in path.relative_to(run).parts:
            (run / "threshold.json").unlink(missing_ok=True)
    if damaged:
        names = ", ".join(str(path.relative_to(folder.path)) for _, path in damaged[:3])
        rank_zero_warn(f"{folder.path}: {len(damaged)} damaged files are made anew: {names}")


def is_readable(path: Path) -> bool:
    """Whether a file of a study can be read: its structure, not each of its numbers."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_bytes()), dict)
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r").dtype.kind == "f" if path.stat().st_size else False
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file) as arrays:  # numpy leaves a damaged file open that it opened
                return all(arrays[name] is not None for name in arrays)
        if path.suffix == ".parquet":
            pq.read_table(path)
    except _UNREADABLE:
        return False
    return True


def _damaged(runs: Path) -> Iterator[tuple[Path, Path]]:
    """Folder of the run and path of each damaged file."""
    for run in runs.glob("*/*"):
        files = (path for path in sorted(run.rglob("*")) if path.is_file())
        yield from ((run, path) for path in files if not is_readable(path))
