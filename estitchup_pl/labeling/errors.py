"""Labels that are likely wrong, from predictions of fits that have not seen them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import DataError
from estitchup_pl.functional.confident import label_issues


class OutOfFold(NamedTuple):
    """Predictions of one fit on rows that it has not seen.

    Attributes:
        rows: Rows of the store, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        class_names: Names of the classes.
    """

    rows: npt.NDArray[np.int64]
    labels: Tensor
    probabilities: Tensor
    class_names: Sequence[str]


def likely_errors(folds: Iterable[OutOfFold]) -> pa.Table:
    """Rank the labels of all folds by how likely they are wrong.

    Rows whose class no row of their fit had are left out: nothing is known of them.

    Args:
        folds: Predictions of each fit; a row comes in one of them.

    Returns:
        The labels that are likely wrong, the likeliest first: ``row``, ``label``, ``suggested``, ``quality`` in
        ``[0, 1]`` and ``confidence`` in the suggested class.

    Raises:
        DataError: If a row comes twice, or there is none.
    """
    rows, labels, probabilities, names = _pooled(list(folds))
    issues = label_issues(probabilities, labels)
    found = issues.is_issue.nonzero().squeeze(1)
    found = found[issues.quality[found].argsort(stable=True)]
    suggested = issues.suggested[found]
    text = np.array(names, dtype=object)
    return pa.table(
        {
            "row": rows[found.numpy()],
            "label": pa.array(text[labels[found].numpy()], pa.string()),
            "suggested": pa.array(text[suggested.numpy()], pa.string()),
            "quality": issues.quality[found].double().numpy(),
            "confidence": probabilities[found, suggested].double().numpy(),
        }
    )


def _pooled(folds: Sequence[OutOfFold]) -> tuple[npt.NDArray[np.int64], Tensor, Tensor, list[str]]:
    """Rows, labels and probabilities of all folds, over the classes of all; a class that a fit lacks has 0."""
    if not folds:
        raise DataError("no predictions to look for label errors in")
    names = sorted({name for fold in folds for name in fold.class_names})
    place = {name: index for index, name in enumerate(names)}
    rows, labels, probabilities = [], [], []
    for fold in folds:
        known = fold.labels != NONE
        columns = torch.tensor([place[name] for name in fold.class_names])
        rows.append(fold.rows[known.numpy()])
        labels.append(columns[fold.labels[known]])
        own = fold.probabilities[known]
        probabilities.append(own.new_zeros(len(own), len(names)).index_copy(1, columns, own))
    joined = np.concatenate(rows)
    if len(np.unique(joined)) < len(joined):
        raise DataError(
            "a row is evaluated in several trials, so these are no folds: run the study with --split FoldSplit and as "
            "many trials as folds"
        )
    return joined, torch.cat(labels), torch.cat(probabilities), names
