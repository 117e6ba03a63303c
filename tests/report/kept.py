"""What a study has kept, read and decided with numpy alone, as somebody would who has the folder only."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from estitchup_pl.study import StudyFolder

Array = npt.NDArray[Any]


class Kept(NamedTuple):
    """Predictions of a run: rows of the trial's table, class names, class index (-1 for none), probabilities."""

    items: list[dict[str, Any]]
    class_names: list[str]
    labels: Array
    probabilities: Array
    thresholds: dict[str, float]

    @property
    def confidence(self) -> Array:
        return self.probabilities.max(axis=1)

    @property
    def predicted(self) -> Array:
        return self.probabilities.argmax(axis=1)

    @property
    def known(self) -> Array:
        return self.labels >= 0

    @property
    def right(self) -> Array:
        return self.predicted == self.labels

    def decided(self, threshold: float) -> Array:
        """Class index of each row, -1 where it is rejected; in float32, as confidences are."""
        return np.where(self.confidence > np.float32(threshold), self.predicted, -1)


def kept(folder: StudyFolder, method: str, trial: int, part: str = "test") -> Kept:
    """Read the test rows of a run, or the rows of its threshold split (``"val"``)."""
    column, fitted, file = {
        "test": ("part", "train", "logits.npy"),
        "val": ("threshold_part_0", "fit", "threshold/0.npy"),
    }[part]
    run = folder.run_path(method, trial)
    record = json.loads((run / "run.json").read_text())
    rows = pq.read_table(folder.path / f"trials/{trial}.parquet").to_pylist()
    items = [row for row in rows if row[column] == part]
    names, known = record["class_names"], {row["label"] for row in rows if row[column] == fitted}
    labels = np.array([names.index(row["label"]) if row["label"] in known else -1 for row in items])
    logits = np.load(run / file).astype(np.float32)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float64)  # float32, as the study has them: ties count
    return Kept(items, names, labels, probabilities, record["thresholds"])
