"""The other processes of a run: each holds a lock as long as it lives, so that none waits for one that has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from estitchup_pl.embed.state import Unit
from estitchup_pl.errors import DataError
from estitchup_pl.store import shard_path

_SECONDS: Final = 2.0
"""Between two looks at the others."""


class Companions:
    """Looks whether the processes of a run that have work to do are still there.

    Args:
        work: Folder of the run.
        rank: Number of this process.
        shares: Units of each process, by its number.
    """

    def __init__(self, work: Path, rank: int, shares: Mapping[int, Sequence[Unit]]) -> None:
        self._work = work
        self._rank = rank
        self._shares = shares
        self._looked = time.monotonic()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be there for the others within the body; they may look once all have entered it."""
        with FileLock(_lock(self._work, self._rank)):
            yield

    def look(self) -> None:
        """Look at the others, unless that was done a moment ago.

        Raises:
            DataError: If one has ended before its shards were there.
        """
        if time.monotonic() < self._looked + _SECONDS:
            return
        self._looked = time.monotonic()
        others = [rank for rank in self._shares if rank != self._rank]
        ended = [str(rank) for rank in others if self._has_ended(rank) and self._owes(rank)]
        if ended:  # all of them: where one is lost, others have ended for it
            which = f"process {ended[0]}" if len(ended) == 1 else f"processes {', '.join(ended)}"
            raise DataError(
                f"{which} of {len(self._shares)} {'has' if len(ended) == 1 else 'have'} ended before all shards were "
                "there; its own output says why, unless it was killed. Whole shards are kept: the same command goes on."
            )

    def _has_ended(self, rank: int) -> bool:
        try:
            with FileLock(_lock(self._work, rank), timeout=0):
                return True
        except Timeout:
            return False

    def _owes(self, rank: int) -> bool:
        """Whether a process has something left to do; the first one brings everything together at the end."""
        missing = any(not shard_path(self._work, unit.modality, unit.shard).exists() for unit in self._shares[rank])
        return missing or rank == 0


def _lock(work: Path, rank: int) -> Path:
    return work / f"process-{rank}.lock"
