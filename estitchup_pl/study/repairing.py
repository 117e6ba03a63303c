"""Files of a study that cannot be read any more: they are removed, with what rests on them, and so made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.utilities import rank_zero_warn

from estitchup_pl.errors import CheckpointError, DataError
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.store import sealed
from estitchup_pl.study.folder import StudyFolder

_READ: Final[Mapping[str, Callable[[Path], Any]]] = {
    ".json": sealed.read_json,
    ".npy": sealed.read_array,
    ".npz": sealed.read_arrays,
    ".parquet": sealed.read_table,
    ".ckpt": read_checkpoint,
}
"""What reads a file of a study, by the end of its name."""


def remove_damaged(folder: StudyFolder) -> None:
    """Remove every file of a run that is damaged, and what was made of it, so that the study makes it anew.

    A final fit whose curve is damaged is fitted again; thresholds are found again where validation logits were lost.

    Args:
        folder: The study's folder.
    """
    damaged = list(_damaged(folder.path / "runs"))
    for run, path in damaged:
        path.unlink(missing_ok=True)  # with another damaged file of this run
        (run / "run.json").unlink(missing_ok=True)
        if path.name == "curve.parquet":
            (run / "logits.npy").unlink(missing_ok=True)
        if path.name == "learnt.npz" or "threshold" in path.relative_to(run).parts:
            (run / "threshold.json").unlink(missing_ok=True)
    if damaged:
        names = ", ".join(str(path.relative_to(folder.path)) for _, path in damaged[:3])
        rank_zero_warn(f"{folder.path}: {len(damaged)} damaged files are made anew: {names}")


def is_whole(path: Path) -> bool:
    """Whether a file of a study holds what was written to it."""
    try:
        _READ.get(path.suffix, Path.stat)(path)
    except (DataError, CheckpointError):
        return False
    return True


def _damaged(runs: Path) -> Iterator[tuple[Path, Path]]:
    """Folder of the run and path of each damaged file."""
    for run in runs.glob("*/*"):
        files = (path for path in sorted(run.rglob("*")) if path.is_file())
        yield from ((run, path) for path in files if not is_whole(path))
