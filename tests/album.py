"""Somebody's own logger that takes pictures and tables, and its board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger

from estitchup_pl.dashboards import Board, Table, board_of


class Album(CSVLogger):
    """Keeps what it gets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.records: list[tuple[str, Mapping[str, Any]]] = []
        self.pictures: dict[str, bytes] = {}
        self.tables: dict[str, Table] = {}
        self.checkpoints: list[Path] = []


class AlbumBoard(Board):
    def __init__(self, logger: Album) -> None:
        self.logger = logger

    @property
    def run(self) -> dict[str, Any]:
        return {"folder": "this"}

    def describe(self, command: str, record: Mapping[str, Any]) -> None:
        self.logger.records.append((command, record))

    def picture(self, name: str, png: bytes, step: int) -> None:
        self.logger.pictures[name] = png

    def table(self, name: str, table: Table, step: int) -> None:
        self.logger.tables[name] = table

    def checkpoint(self, path: Path) -> None:
        self.logger.checkpoints.append(path)


board_of.register(Album, AlbumBoard)
