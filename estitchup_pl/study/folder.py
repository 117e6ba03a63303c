"""What a study leaves on disk: the one place that knows its files, and the way to read them back.

::

    study.json                       name, methods, trials and the configuration
    trials/<trial>.parquet           each labelled row: row, id, label, part, threshold_part_<repeat>
    runs/<method>/<trial>/run.json   what was chosen and found; written last, so a run is there or it is not
    runs/<method>/<trial>/logits.npy             float16 (test rows, classes), rows ascending
    runs/<method>/<trial>/threshold/<repeat>.npy   float16 (validation rows of a threshold split, classes)
    runs/<method>/<trial>/members/<number>/      the same of further fits that differ in their seed
    runs/<method>/<trial>/curve.parquet          accuracies in the course of training
    runs/<method>/<trial>/selection/<candidate>-<division>.json   values and score of each candidate
    runs/<method>/<trial>/none_scores.npy        float32 scores of "none", where they are not one minus the confidence
    runs/<method>/<trial>/threshold/<repeat>_none_scores.npy   the same of the validation rows of a threshold split
    runs/<method>/<trial>/threshold.json         thresholds, and what a derived method has learnt
    runs/<method>/<trial>/learnt.npz             the arrays among that
    runs/<method>/<trial>/fit-<number>.ckpt      classifier of a final fit, without a decision
    runs/<method>/<trial>/model.ckpt             classifier of the method with its decision
    best.ckpt, best.json             the best classifier, and what it is
    results.parquet                  study, method, trial, split, metric, value

Every figure that a study reports is computed from the logits as they are stored, so it can be computed again. All
logits of a trial have the classes of its final fit, in one order; those of a class that a threshold split has held out
are minus infinity. Empty logits stand for a fit that has diverged. Each file is written by one fit alone, is there
whole or not at all, so several processes can fill one folder, and holds a digest of itself, so what is read is what was
written (:mod:`estitchup_pl.store.sealed`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import DataError
from estitchup_pl.store import sealed

Content = TypeVar("Content")

FORMAT: Final = 4
_ANEW: Final = "`estitchup study` with the same --out makes anew what is missing or damaged"
RESULT_SCHEMA: Final = pa.schema(
    {
        "study": pa.string(),
        "method": pa.string(),
        "trial": pa.int32(),
        "split": pa.string(),
        "metric": pa.string(),
        "value": pa.float64(),
    }
)


@dataclass(frozen=True)
class RunRecord:
    """What is known of one method in one trial, beside its predictions.

    Attributes:
        method: Name of the method.
        trial: Number of the trial.
        class_names: Classes of the final fit, in the order of its logits.
        thresholds: Confidence threshold that each heuristic of Sec. 4.3 found.
        threshold_intervals: How far each can be trusted: ``low`` and ``high`` over resampled unknown classes, and the
            ``none_rows`` and ``none_classes`` that it rests on.
        chosen: Hyperparameters that were chosen, such as ``alpha``.
        selection: Every candidate with its ``score`` on the selection split; empty if there was no choice.
        parameters: What a derived method has learnt, such as ``temperature``.
        train_rows: Rows of the final fit.
        epochs: Epochs of the final fit, 0 where the term means nothing.
        diverged: Whether the loss became infinite or NaN.
    """

    method: str
    trial: int
    class_names: list[str]
    thresholds: dict[str, float]
    chosen: dict[str, Any] = field(default_factory=dict)
    selection: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, float] = field(default_factory=dict)
    threshold_intervals: dict[str, dict[str, float]] = field(default_factory=dict)
    train_rows: int = 0
    epochs: int = 0
    diverged: bool = False


@dataclass(frozen=True)
class RunPredictions:
    """Predictions of one run.

    Attributes:
        rows: Rows of the store, int64 ``(rows,)``, ascending within a split.
        ids: Ids of the items, strings ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        probabilities: Float32 ``(rows, classes)`` in ``[0, 1]``.
        class_names: Names of the classes.
        none_scores: Scores of "none" in ``[0, 1]``, float32 ``(rows,)``; ``None`` where they are the paper's, one minus
            the greatest probability.
    """

    rows: npt.NDArray[np.int64]
    ids: pa.Array
    labels: Tensor
    probabilities: Tensor
    class_names: tuple[str, ...]
    none_scores: Tensor | None = None


def slug(method: str) -> str:
    """Name of a method as part of a path.

    Example:
        >>> slug("Soft E-Mixup")
        'soft-e-mixup'
    """
    return re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")


def threshold_part(repeat: object) -> str:
    """Name of the column that says what part a row plays in one of the threshold splits.

    Example:
        >>> threshold_part(0)
        'threshold_part_0'
    """
    return f"threshold_part_{repeat}"


def stored_probabilities(logits: npt.NDArray[np.float16]) -> Tensor:
    """Probabilities, float32 ``(rows, classes)``, of logits as they are stored."""
    return torch.from_numpy(logits.astype(np.float32)).sigmoid()


def _read(read: Callable[[Path], Content], path: Path) -> Content | None:
    """What a file holds, or ``None`` where there is none."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except DataError as error:
        raise DataError(f"{error}; {_ANEW}") from error


def _there(path: Path, content: Content | None) -> Content:
    if content is None:
        raise DataError(f"{path}: not there; {_ANEW}")
    return content


class StudyFolder:
    """The folder of a study.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def header(self) -> dict[str, Any]:
        """What the study is.

        ``name``, ``methods`` (names in order), ``trials`` (numbers), ``control`` (the method that others are
        compared with), ``epochs``, ``metrics`` (whether a higher value is better, by the name of a metric) and
        ``config``.

        Raises:
            DataError: If this is not the folder of a study, or of one in another format.
        """
        path = self.path / "study.json"
        try:
            header = sealed.read_json(path)
        except FileNotFoundError:
            raise DataError(f"{path}: not there, so this is no study's folder; expected what --out named") from None
        except DataError as error:
            raise DataError(
                f"{error}. It says what the runs beside it were made with: restore it from a copy, or, if you are sure "
                "of the configuration, remove it, and run `estitchup study` with that configuration and the same --out"
            ) from error
        if header.get("format") != FORMAT:
            raise DataError(f"{path}: format {header.get('format')!r}, this version reads format {FORMAT}")
        return header

    def write_header(self, header: dict[str, Any]) -> None:
        """Write ``study.json``."""
        self.path.mkdir(parents=True, exist_ok=True)
        sealed.write_json(self.path / "study.json", {"format": FORMAT, **header})

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table under this name, such as ``results.parquet``."""
        sealed.write_table(self.path / name, table)

    def trial(self, trial: int) -> pa.Table:
        """Rows of a trial: ``row``, ``id``, ``label``, ``part`` (train, test), and its part in each threshold split.

        The latter are called ``threshold_part_0`` and so on (fit, val, null).

        Raises:
            DataError: If they are damaged or not there.
        """
        path = self.path / f"trials/{trial}.parquet"
        return _there(path, _read(sealed.read_table, path))

    def results(self) -> pa.Table:
        """All results, see :data:`RESULT_SCHEMA`.

        Raises:
            DataError: If they are damaged, or the study has not come to its end.
        """
        table = _read(sealed.read_table, path := self.path / "results.parquet")
        if table is None:
            raise DataError(
                f"{path}: not there, so the study has not come to its end; run `estitchup study` with the same --out "
                "to go on"
            )
        return table

    @property
    def best_path(self) -> Path:
        """File of the best classifier."""
        return self.path / "best.ckpt"

    def write_best(self, content: dict[str, Any]) -> None:
        """Write what the best classifier is."""
        sealed.write_json(self.path / "best.json", content)

    def read_best(self) -> dict[str, Any] | None:
        """What :meth:`write_best` wrote, or ``None`` where no classifier is kept."""
        kept = _read(sealed.read_json, self.path / "best.json")
        return kept if self.best_path.exists() else None

    def model_path(self, method: str, trial: int) -> Path:
        """File of the classifier of a method in a trial, where all are kept."""
        return self.run_path(method, trial) / "model.ckpt"

    def run_path(self, method: str, trial: int) -> Path:
        """Folder of a run."""
        return self.path / "runs" / slug(method) / str(trial)

    def has_run(self, method: str, trial: int) -> bool:
        """Whether a run is finished."""
        return (self.run_path(method, trial) / "run.json").exists()

    def write_run(
        self,
        record: RunRecord,
        logits: npt.NDArray[Any] | None = None,
        threshold_logits: Sequence[npt.NDArray[Any]] = (),
        curve: pa.Table | None = None,
    ) -> None:
        """Write a run, its record last."""
        path = self.run_path(record.method, record.trial)
        files = {f"threshold/{repeat}": values for repeat, values in enumerate(threshold_logits)}
        files |= {} if logits is None else {"logits": logits}
        for name, values in files.items():
            self.write_logits(record.method, record.trial, name, values)
        if curve is not None:
            self.write_curve(record.method, record.trial, curve)
        sealed.write_json(path / "run.json", asdict(record))

    def write_curve(self, method: str, trial: int, curve: pa.Table) -> None:
        """Write the accuracies in the course of a run's training."""
        self.write_table(f"{self.run_path(method, trial).relative_to(self.path)}/curve.parquet", curve)

    def write_logits(self, method: str, trial: int, name: str, logits: npt.NDArray[Any]) -> None:
        """Write logits ``(rows, classes)`` of a run as float16, under a name such as ``"threshold/0"``."""
        self._write_array(method, trial, name, logits.astype(np.float16))

    def read_logits(self, method: str, trial: int, name: str) -> npt.NDArray[np.float16] | None:
        """Logits that :meth:`write_logits` wrote, or ``None``."""
        return self._read_array(method, trial, name)

    def write_scores(self, method: str, trial: int, name: str, scores: npt.NDArray[Any]) -> None:
        """Write scores of "none" ``(rows,)`` as float32, under a name such as ``"none_scores"``."""
        self._write_array(method, trial, name, scores.astype(np.float32))

    def read_scores(self, method: str, trial: int, name: str) -> npt.NDArray[np.float32] | None:
        """Scores that :meth:`write_scores` wrote, or ``None``."""
        return self._read_array(method, trial, name)

    def write_arrays(self, method: str, trial: int, name: str, arrays: Mapping[str, Tensor]) -> None:
        """Write arrays of any type by their names."""
        path = self.run_path(method, trial) / f"{name}.npz"
        sealed.write_arrays(path, {key: value.numpy() for key, value in arrays.items()})

    def read_arrays(self, method: str, trial: int, name: str) -> dict[str, Tensor]:
        """Arrays that :meth:`write_arrays` wrote; none if it did not."""
        arrays = _read(sealed.read_arrays, self.run_path(method, trial) / f"{name}.npz") or {}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

    def _write_array(self, method: str, trial: int, name: str, array: npt.NDArray[Any]) -> None:
        sealed.write_array(self.run_path(method, trial) / f"{name}.npy", array)

    def _read_array(self, method: str, trial: int, name: str) -> npt.NDArray[Any] | None:
        return _read(sealed.read_array, self.run_path(method, trial) / f"{name}.npy")

    def write_note(self, method: str, trial: int, name: str, content: Mapping[str, Any]) -> None:
        """Write what a stage of a run has found, such as ``selection`` or ``threshold``."""
        sealed.write_json(self.run_path(method, trial) / f"{name}.json", content)

    def read_note(self, method: str, trial: int, name: str) -> dict[str, Any] | None:
        """What :meth:`write_note` wrote, or ``None``."""
        return _read(sealed.read_json, self.run_path(method, trial) / f"{name}.json")

    def record(self, method: str, trial: int) -> RunRecord:
        """Record of a finished run.

        Raises:
            DataError: If it cannot be read.
        """
        path = self.run_path(method, trial) / "run.json"
        return RunRecord(**_there(path, _read(sealed.read_json, path)))

    def curve(self, method: str, trial: int) -> pa.Table | None:
        """``epoch``, ``accuracy``, ``accuracy_id``, ``accuracy_none`` (at the run's intersection threshold).

        ``None`` for a method that is not trained over epochs.
        """
        return _read(sealed.read_table, self.run_path(method, trial) / "curve.parquet")

    def predictions(self, method: str, trial: int) -> RunPredictions:
        """Predictions of a run's final fit on the test rows of its trial."""
        return self._predictions(self.record(method, trial), "logits", "none_scores", ("part", "train", "test"))

    def threshold_predictions(self, method: str, trial: int) -> RunPredictions:
        """Predictions that the thresholds were found on (Sec. 4.3): those of all threshold splits, one after another.

        A row can come several times, in one split as "none" and in another with its class.
        """
        record = self.record(method, trial)
        parts = [
            self._predictions(
                record, f"threshold/{split}", f"threshold/{split}_none_scores", (threshold_part(split), "fit", "val")
            )
            for split in range(self.repeats(trial))
        ]
        scores = [part.none_scores for part in parts if part.none_scores is not None]
        return RunPredictions(
            np.concatenate([part.rows for part in parts]),
            pa.concat_arrays([part.ids for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.probabilities for part in parts]),
            parts[0].class_names,
            torch.cat(scores) if scores else None,
        )

    def repeats(self, trial: int) -> int:
        """Number of threshold splits of a trial."""
        return sum(name.startswith(threshold_part("")) for name in self.trial(trial).column_names)

    def _predictions(self, record: RunRecord, logits: str, scores: str, parts: tuple[str, str, str]) -> RunPredictions:
        """Predictions on the rows of one part; the parts are those of a column: what trains, and what is predicted."""
        table, (column, fitted, part) = self.trial(record.trial), parts
        known = set(table.filter(pc.equal(table[column], fitted))["label"].unique().to_pylist())
        table = table.filter(pc.equal(table[column], part))
        position = {label: index for index, label in enumerate(record.class_names) if label in known}
        labels = [position.get(label, NONE) for label in table["label"].to_pylist()]
        path = self.run_path(record.method, record.trial) / f"{logits}.npy"
        kept = _there(path, self.read_logits(record.method, record.trial, logits))
        none_scores = self.read_scores(record.method, record.trial, scores)
        return RunPredictions(
            table["row"].to_numpy(),
            table["id"].combine_chunks(),
            torch.tensor(labels, dtype=torch.int64),
            stored_probabilities(kept),
            tuple(record.class_names),
            None if none_scores is None else torch.from_numpy(none_scores),
        )
