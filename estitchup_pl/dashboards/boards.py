"""One adapter for each logger that takes more than numbers; all through what Lightning and the loggers offer to users.

For a logger of one's own::

    @board_of.register
    def _(logger: MyLogger) -> Board:
        return MyBoard(logger)
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from typing_extensions import override

from estitchup_pl.optional import require


@dataclass(frozen=True)
class Table:
    """A table to look at.

    Attributes:
        columns: Names of the columns.
        rows: Cells: numbers, texts, ``None``, or pictures (:class:`PIL.Image.Image`) in the column ``picture``.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def pictures(self) -> list[Any]:
        """The pictures in it, from top to bottom."""
        places = [place for place, name in enumerate(self.columns) if name == PICTURE]
        return [row[place] for row in self.rows for place in places if row[place] is not None]

    def without_pictures(self) -> Table:
        """The same table without the column of pictures."""
        kept = [place for place, name in enumerate(self.columns) if name != PICTURE]
        return Table([self.columns[place] for place in kept], [[row[place] for place in kept] for row in self.rows])


PICTURE = "picture"
"""Name of the column that holds pictures."""


class Board(ABC):
    """A logger that takes pictures and tables; subclass it for one of your own and register it with `board_of`."""

    @property
    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Arguments with which a new logger of the same class would go on in the same run."""

    @abstractmethod
    def describe(self, command: str, record: Mapping[str, Any]) -> None:
        """Take what a run is.

        Args:
            command: ``fit``, whose record is that of the run, or ``validate`` or ``test``, which have joined it.
            record: Nested plain values, as :func:`~estitchup_pl.dashboards.record_of` returns them.
        """

    @abstractmethod
    def picture(self, name: str, png: bytes, step: int) -> None:
        """Take a picture, as the bytes of a PNG, under a name such as ``val/reliability``."""

    @abstractmethod
    def table(self, name: str, table: Table, step: int) -> None:
        """Take a table, under a name such as ``val/classes``."""

    @abstractmethod
    def checkpoint(self, path: Path) -> None:
        """Take a checkpoint, or note nothing where it lies in the logger's own folder."""


@singledispatch
def board_of(logger: Logger) -> Board | None:
    """The board of a logger; ``None`` for a logger of numbers alone, such as ``CSVLogger``.

    Example:
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> board_of(CSVLogger("runs")) is None
        True
    """
    return None


@dataclass(frozen=True)
class WandbBoard(Board):
    """A run of Weights & Biases."""

    logger: WandbLogger

    @property
    @override
    def run(self) -> dict[str, Any]:
        return {"id": self.logger.version}

    @override
    def describe(self, command: str, record: Mapping[str, Any]) -> None:
        self.logger.log_hyperparams(dict(record) if command == "fit" else {command: dict(record)})

    @override
    def picture(self, name: str, png: bytes, step: int) -> None:
        self.logger.log_image(name, [_image(png)], step)

    @override
    def table(self, name: str, table: Table, step: int) -> None:
        wandb, place = require("wandb", "wandb", "WandbLogger"), list(table.columns).index
        rows = [list(row) for row in table.rows]
        for row in rows if PICTURE in table.columns else ():
            row[place(PICTURE)] = row[place(PICTURE)] and wandb.Image(row[place(PICTURE)])
        self.logger.log_table(name, columns=list(table.columns), data=rows, step=step)

    @override
    def checkpoint(self, path: Path) -> None:
        wandb = require("wandb", "wandb", "WandbLogger")
        artifact = wandb.Artifact(f"model-{self.logger.version}", type="model")  # the name that Lightning gives it too
        artifact.add_file(str(path), name="model.ckpt")
        self.logger.experiment.log_artifact(artifact, aliases=["latest", path.stem])


@dataclass(frozen=True)
class TensorBoardBoard(Board):
    """A folder of TensorBoard."""

    logger: TensorBoardLogger

    @property
    @override
    def run(self) -> dict[str, Any]:
        return {"version": Path(self.logger.log_dir).name}

    @override
    def describe(self, command: str, record: Mapping[str, Any]) -> None:
        if command == "fit":
            self.logger.log_hyperparams(dict(record))
        else:  # TensorBoard has one set of hyperparameters a run
            self.logger.experiment.add_text(f"{command}/config", _fenced(yaml.safe_dump(dict(record))))

    @override
    def picture(self, name: str, png: bytes, step: int) -> None:
        self.logger.experiment.add_image(name, np.asarray(_image(png)), step, dataformats="HWC")

    @override
    def table(self, name: str, table: Table, step: int) -> None:
        plain = table.without_pictures()
        rule = ["---"] * len(plain.columns)
        lines = [" | ".join(_cell(cell) for cell in row) for row in (plain.columns, rule, *plain.rows)]
        self.logger.experiment.add_text(name, "\n".join(f"| {line} |" for line in lines), step)
        if table.pictures:
            stacked = np.stack([np.asarray(picture) for picture in table.pictures])
            self.logger.experiment.add_images(f"{name}_pictures", stacked, step, dataformats="NHWC")

    @override
    def checkpoint(self, path: Path) -> None:
        del path  # lies in the folder already


@dataclass(frozen=True)
class MLFlowBoard(Board):
    """A run of MLflow; pictures, tables, the whole configuration and the checkpoint are artifacts."""

    logger: MLFlowLogger

    @property
    @override
    def run(self) -> dict[str, Any]:
        return {"run_id": self._id}

    @override
    def describe(self, command: str, record: Mapping[str, Any]) -> None:
        if command == "fit":  # MLflow takes a parameter once, and 250 characters of it
            self.logger.log_hyperparams(dict(record))
        self.logger.experiment.log_dict(self._id, dict(record), f"{command}.yaml")

    @override
    def picture(self, name: str, png: bytes, step: int) -> None:
        self.logger.experiment.log_image(self._id, _image(png), f"{name}.png")

    @override
    def table(self, name: str, table: Table, step: int) -> None:
        plain = table.without_pictures()
        rows = ["".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) for row in (plain.columns, *plain.rows)]
        text = "".join(f"<tr>{row}</tr>\n" for row in rows)
        self.logger.experiment.log_text(self._id, f"<meta charset=utf-8><table>\n{text}</table>", f"{name}.html")
        for number, picture in enumerate(table.pictures):
            self.logger.experiment.log_image(self._id, picture, f"{name}/{number:02}.png")

    @override
    def checkpoint(self, path: Path) -> None:
        self.logger.experiment.log_artifact(self._id, str(path), "checkpoints")

    @property
    def _id(self) -> str:
        return str(self.logger.run_id)


board_of.register(WandbLogger, WandbBoard)
board_of.register(TensorBoardLogger, TensorBoardBoard)
board_of.register(MLFlowLogger, MLFlowBoard)


def _image(png: bytes) -> Any:
    return require("PIL.Image", "report", "logging pictures").open(io.BytesIO(png)).convert("RGB")


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "/").split())


def _fenced(text: str) -> str:
    return f"```yaml\n{text}```"
