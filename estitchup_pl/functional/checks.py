"""Checks of what comes into the evaluation functions; they never guess what may have been meant."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, DataError


def check_probabilities(
    values: Tensor,
    name: str = "probabilities",
    hint: str = "pass the outputs of a sigmoid or softmax, not logits",
) -> None:
    """Refuse anything but floating point numbers in ``[0, 1]``.

    Args:
        values: What is checked.
        name: What the message calls them.
        hint: What to do about a value outside the range.

    Raises:
        DataError: If ``values`` are not floating point, or one lies outside ``[0, 1]`` or is NaN.
    """
    if not values.is_floating_point():
        raise DataError(f"{name}: expected floating point values, got {values.dtype}")
    if values.numel() == 0:
        return
    if bool((values.amin() >= 0) & (values.amax() <= 1)):  # aminmax would copy a slice of columns
        return
    place = tuple(((values >= 0) & (values <= 1)).logical_not().nonzero()[0].tolist())
    value = float(values[place])
    if math.isnan(value):
        hint = "the model has diverged, or the embeddings are broken"
    raise DataError(f"{name}: expected values from 0 to 1, got {value} at index {place}; {hint}")


def check_predictions(probabilities: Tensor, labels: Tensor) -> None:
    """Refuse probabilities and labels that do not fit together.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Raises:
        DataError: If shapes, types or ranges are wrong.
    """
    if probabilities.ndim != 2 or labels.ndim != 1 or len(probabilities) != len(labels) or not probabilities.shape[1]:
        raise DataError(
            "expected probabilities (rows, classes) of at least one class and labels (rows,), got "
            f"{tuple(probabilities.shape)} and {tuple(labels.shape)}; evaluate each run of a stack by itself"
        )
    check_probabilities(probabilities)
    check_labels(labels, probabilities.shape[1])


def check_none_scores(none_scores: Tensor, labels: Tensor) -> None:
    """Refuse "none" scores that are not one number in ``[0, 1]`` a row.

    Raises:
        DataError: If the shapes differ, ``none_scores`` are not floating point, or one lies outside ``[0, 1]``.
    """
    if none_scores.shape != labels.shape:
        raise DataError(
            f"none_scores: expected one a row, {tuple(labels.shape)}, got {tuple(none_scores.shape)}; higher is more "
            'likely "none"'
        )
    check_probabilities(none_scores, "none_scores", 'map an unbounded score into [0, 1], higher for "none"')


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels that are neither ``NONE`` nor the index of a class.

    Raises:
        DataError: If ``labels`` are not int64, or one lies outside ``[NONE, num_classes)``.
    """
    if labels.dtype != torch.int64:
        raise DataError(f"labels: expected int64 class indices, got {labels.dtype}")
    wrong = (labels < NONE) | (labels >= num_classes)
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        raise DataError(
            f'labels: expected {NONE} for "none" or a class index below {num_classes}, '
            f"got {int(labels[place])} at index {place}"
        )


def check_bins(num_bins: int) -> None:
    """Refuse a number of bins below one.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
    """
    if num_bins < 1:
        raise ConfigError(f"num_bins: expected at least 1, got {num_bins}; 10 and 15 are usual")
