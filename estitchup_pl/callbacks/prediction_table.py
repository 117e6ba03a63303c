"""The columns of a file of predictions: what a model says of each row, and what is known of the item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from estitchup_pl.model.decision import Decision
from estitchup_pl.store.gaps import Gaps

_SAID: Final = {
    "predicted": pa.string(),
    "confidence": pa.float32(),
    "none_score": pa.float64(),
    "threshold": pa.float32(),
    "top_classes": pa.list_(pa.string()),
    "top_probabilities": pa.list_(pa.float32()),
}
_SET: Final = {"prediction_set": pa.list_(pa.string())}
_KNOWN: Final = {"trained_on": pa.bool_(), "problem": pa.string()}


def part_schema(decision: Decision) -> pa.Schema:
    """Columns of what is said of rows, by number; prediction sets only where something is known to find them by."""
    return pa.schema({"row": pa.int64(), **_SAID, **(_SET if decision.unlikely is not None else {})})


def file_schema(part: pa.Schema, ids: pa.DataType) -> pa.Schema:
    """Columns of the file that is made of such parts, with the type of the ids."""
    return pa.schema([pa.field("id", ids), *list(part)[1:], *(pa.field(*column) for column in _KNOWN.items())])


def said_of_rows(
    prediction: Mapping[str, Tensor], decision: Decision, class_names: Sequence[str], top_k: int, level: float
) -> pa.Table:
    """Make a table of what a model has predicted.

    Args:
        prediction: ``rows``, ``probabilities``, ``none_scores`` and ``predicted``, as ``predict_step`` returns them.
        decision: The decision that has made it.
        class_names: Known classes.
        top_k: Number of most likely classes.
        level: Share of items of known classes whose set is to hold their class.

    Returns:
        Columns of :func:`part_schema`.
    """
    names = (*class_names, "none")  # NONE, which is -1, finds the last
    probabilities = prediction["probabilities"]
    top = probabilities.topk(min(top_k, probabilities.shape[-1]), dim=-1)
    width, schema = top.indices.shape[-1], part_schema(decision)
    threshold = decision.threshold if decision.has_threshold else None
    columns = {
        "row": prediction["rows"].cpu().numpy(),
        "predicted": [names[index] for index in prediction["predicted"].tolist()],
        "confidence": top.values[:, 0].cpu().numpy(),
        "none_score": prediction["none_scores"].cpu().numpy(),
        "threshold": pa.array([threshold] * len(probabilities), pa.float32()),
        "top_classes": _lists(pa.array([names[index] for index in top.indices.flatten().tolist()]), width),
        "top_probabilities": _lists(pa.array(top.values.flatten().cpu().numpy()), width),
    }
    if decision.unlikely is not None:
        columns["prediction_set"] = _sets(probabilities, decision.sets(probabilities, level), names)
    return pa.table(columns, schema=schema)


def with_items(
    batch: pa.RecordBatch, ids: pa.Array, gaps: Gaps, trained: npt.NDArray[np.bool_] | None
) -> list[pa.Array]:
    """Columns of the file for a batch of a part.

    Args:
        batch: What is said of some rows.
        ids: Their ids.
        gaps: What the items of the store lack. Of one that lacks everything nothing is said.
        trained: Which of the rows have trained the model; ``None`` where that is not known.
    """
    said, rows = batch.columns[1:], batch.column("row").to_numpy()
    empty = gaps.empty[rows]
    if empty.any():
        places = pa.array(np.arange(len(rows)), mask=empty)
        said = [column.take(places) for column in said]
    known = pa.nulls(len(ids), pa.bool_()) if trained is None else pa.array(trained)
    return [ids, *said, known, pa.array([gaps.problems.get(row) for row in rows.tolist()], pa.string())]


def _sets(probabilities: Tensor, holds: Tensor, names: Sequence[str]) -> pa.Array:
    """The classes of each set, most likely first."""
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    kept = holds.gather(1, order)
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(dim=1).cumsum(0).cpu()])
    classes = pa.array([names[index] for index in order[kept].tolist()], pa.string())
    return pa.ListArray.from_arrays(pa.array(ends.numpy().astype(np.int32)), classes)


def _lists(values: pa.Array, width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(values, width).cast(pa.list_(values.type))


def value_counts(column: pa.Array) -> dict[str, int]:
    """How often each value of a column is there, null left out.

    Example:
        >>> value_counts(pa.array(["hat", None, "hat"]))
        {'hat': 2}
    """
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}
