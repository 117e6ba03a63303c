"""Rounds of a simulation on disk, so that it goes on where it was cut off.

::

    FOLDER/simulation.json            what is played
    FOLDER/rounds/<trial>-<round>.parquet   a row for each strategy, and the rows that it asks for
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store.files import atomic_path

HEADER: Final = "simulation.json"


class RoundsFolder:
    """A folder of one simulation.

    Args:
        path: The folder; made if it is not there.
        played: What is played, in plain values; a folder takes the rounds of one game only.

    Raises:
        ConfigError: If the rounds of another game lie there.
        DataError: If its header cannot be read.
        WriteError: If it cannot be written to.
    """

    def __init__(self, path: Path, played: Mapping[str, Any]) -> None:
        self.path = path
        played = json.loads(json.dumps(played))
        if (path / HEADER).exists():
            self._compare(played)
            return
        if path.exists() and any(not file.name.startswith(".") for file in path.iterdir()):
            raise ConfigError(f"{path} is neither empty nor the folder of a simulation: choose another one")
        with atomic_path(path / HEADER) as temporary:
            temporary.write_text(json.dumps(played, indent=1, ensure_ascii=False), encoding="utf-8")

    def read(self, trial: int, number: int) -> pa.Table | None:
        """Read a round; ``None`` where it has not been played.

        Raises:
            DataError: If the file cannot be read.
        """
        file = self._file(trial, number)
        if not file.exists():
            return None
        try:
            return pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: damaged ({error}); remove it, and the round is played again") from error

    def write(self, trial: int, number: int, table: pa.Table) -> None:
        """Keep a round."""
        with atomic_path(self._file(trial, number)) as temporary:
            pq.write_table(table, temporary)

    def _file(self, trial: int, number: int) -> Path:
        return self.path / "rounds" / f"{trial}-{number:03d}.parquet"

    def _compare(self, played: Mapping[str, Any]) -> None:
        try:
            before = json.loads((self.path / HEADER).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path / HEADER}: cannot be read ({error}); choose another folder") from error
        for name in sorted(before.keys() | played.keys()):
            if before.get(name) != played.get(name):
                raise ConfigError(
                    f"{name} was {json.dumps(before.get(name))} for the rounds that are in {self.path}, and is "
                    f"{json.dumps(played.get(name))} now: take the old value, or another folder"
                )
