"""Linear classifiers in closed form or nearly so: logistic regression, and discriminant analysis with shrinkage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.checks import check_labels
from estitchup_pl.functional.gaussians import check_shrinkage, shrunk_covariance

PENALTIES: Final = tuple(10 ** (-step / 2) for step in range(9))
"""Penalties to choose from, strongest first, in units of the mean squared length of the centred rows."""

HISTORY: Final = 20
"""Steps that L-BFGS remembers."""


class LinearMap(NamedTuple):
    """Scores of a softmax as a linear function of embeddings.

    Attributes:
        weight: Float64 ``(classes, dim)``.
        bias: Float64 ``(classes,)``.
    """

    weight: Tensor
    bias: Tensor


class Precision(NamedTuple):
    """How exactly a fit is made.

    Attributes:
        dtype: Type of its numbers.
        loss: It ends where a step lowers the loss of a row by less than this.
        gradient: It ends where no value of the gradient, in units of the curvature, is greater.
    """

    dtype: torch.dtype
    loss: float
    gradient: float


COMPARED: Final = Precision(torch.float32, 1e-6, 1e-4)
"""Enough to compare penalties by the third digit of the loss; fits that end sooner flatter weak penalties."""

HELD_OUT_ROWS: Final = 1000
"""Rows of other folds that are enough to compare penalties by."""

TEMPERATURES: Final = (0.01, 1e6)
"""Least and greatest temperature; with more columns than rows those of discriminant analysis go into the hundreds."""
_COARSE: Final = 36
"""Steps of the search that goes before the fine one, each a factor of 1.7."""


def log_odds(scores: Tensor) -> Tensor:
    """Log odds of softmax probabilities: the logits whose sigmoids are those probabilities.

    Computed without rounding a probability to 1: the odds of the likeliest class are those against all others.

    Args:
        scores: Float ``(*, classes)`` of at least two classes, before a softmax.

    Returns:
        Float ``(*, classes)``.

    Example:
        >>> scores = torch.tensor([[0.0, 0.0, 50.0]])
        >>> log_odds(scores), log_odds(scores).sigmoid()
        (tensor([[-50.0000, -50.0000,  49.3069]]), tensor([[1.9287e-22, 1.9287e-22, 1.0000e+00]]))
    """
    log_present = scores.log_softmax(-1)
    is_top = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.argmax(-1, keepdim=True), True)
    against_top = log_present.masked_fill(is_top, -torch.inf).logsumexp(-1, keepdim=True)
    log_absent = torch.where(is_top, against_top, torch.log1p(-log_present.exp().masked_fill(is_top, 0)))
    return log_present - log_absent


def fit_logistic_regression(embeddings: Tensor, labels: Tensor, penalty: float, tolerance: float = 1e-8) -> LinearMap:
    """Fit multinomial logistic regression by L-BFGS, in float64.

    It has the least sum of cross-entropies plus ``penalty / 2`` times the sum of squared weights; the bias goes free.
    scikit-learn calls ``1 / penalty`` its ``C``, and ``2 / penalty`` where there are two classes.

    Args:
        embeddings: Float ``(rows, dim)``.
        labels: Class index of each row, int64 ``(rows,)``; each class has at least one.
        penalty: Weight of the squared weights, above 0.
        tolerance: It ends where a step lowers the loss by less than this a row.

    Raises:
        ConfigError: If the penalty is not positive.
        DataError: If shapes or types are wrong, there are fewer than two classes, or a class has no row.

    Example:
        >>> rows, labels = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1])
        >>> fitted = fit_logistic_regression(rows, labels, penalty=0.1)
        >>> (rows.double() @ fitted.weight.T + fitted.bias).argmax(-1)
        tensor([0, 0, 1, 1])
    """
    check_training_rows(embeddings, labels)
    _check_penalties([penalty])
    principal = _Principal.of(embeddings)
    (near,) = _path(principal.rows.to(COMPARED.dtype), labels, [penalty], COMPARED)
    start = near.weight.T.double(), near.bias.double()
    weight, bias = _minimize(
        principal.rows, principal.rows.square(), labels, penalty, *start, Precision(torch.float64, tolerance, 1e-6)
    )
    return principal.back(LinearMap(weight.T, bias - bias.mean()))


def choose_penalty(
    embeddings: Tensor, labels: Tensor, penalties: Sequence[float] | None = None, folds: int = 4
) -> float:
    """Choose the penalty of logistic regression by the cross-entropy of rows that a fit has not seen.

    The rows of each class are dealt out to folds in turn. Each fold is predicted by a fit on the others, which begins
    for each penalty where it ended for the one before; the search ends once the loss rises. Of many rows only as many
    folds are predicted as give a thousand rows. Rows whose class is in no other fold are left out; if there are no
    others, the first penalty is taken.

    Args:
        embeddings: Float ``(rows, dim)``.
        labels: As for :func:`fit_logistic_regression`.
        penalties: Penalties to choose from, above 0, strongest first. Default: nine from the mean squared length of the
            centred rows down to a ten thousandth of it.
        folds: Number of folds, at least 2.

    Raises:
        ConfigError: If there are fewer than two folds, or the penalties are none, not positive or not falling.
        DataError: As for :func:`fit_logistic_regression`.

    Example:
        >>> labels = torch.tensor([0, 1] * 20)
        >>> choose_penalty(torch.arange(40.0)[:, None] % 2, labels, penalties=[10.0, 0.1])  # noiseless: the weak one
        0.1
    """
    check_training_rows(embeddings, labels)
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, got {folds}")
    principal = _Principal.of(embeddings)
    if penalties is None:
        penalties = [float(principal.rows.square().sum(-1).mean()) * share for share in PENALTIES]
    _check_penalties(penalties)
    best, lowest = penalties[0], math.inf
    paths = _fold_losses(principal.rows.to(COMPARED.dtype), labels, penalties, folds)
    for penalty, losses in zip(penalties, paths, strict=False):
        if not sum(losses) < lowest:
            break
        best, lowest = penalty, sum(losses)
    return best


def fit_lda(embeddings: Tensor, labels: Tensor, shrinkage: float | None = None) -> LinearMap:
    """Fit linear discriminant analysis: Gaussians of one covariance, shrunk towards a multiple of the identity.

    Softmax of its scores is the posterior of each class; classes are as frequent as among the rows.

    Args:
        embeddings: Float ``(rows, dim)``.
        labels: As for :func:`fit_logistic_regression`.
        shrinkage: Share of the identity in ``(0, 1]``. Default: the one of Ledoit and Wolf (2004) for the rows less
            the means of their classes.

    Raises:
        ConfigError: If ``shrinkage`` is outside ``(0, 1]``.
        DataError: As for :func:`fit_logistic_regression`, or if all rows of each class are the same.

    Example:
        >>> rows, labels = torch.tensor([[0.0], [2.0], [10.0], [12.0]]), torch.tensor([0, 0, 1, 1])
        >>> fitted = fit_lda(rows, labels, shrinkage=0.5)  # variance 1 within classes
        >>> fitted.weight.flatten(), fitted.bias
        (tensor([ 1., 11.], dtype=torch.float64), tensor([ -1.1931, -61.1931], dtype=torch.float64))
    """
    check_training_rows(embeddings, labels)
    check_shrinkage(shrinkage)
    rows = embeddings.detach().double()
    counts = torch.bincount(labels)
    means = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype, device=rows.device).index_add(0, labels, rows)
    means = means / counts[:, None]
    within = rows - means[labels]
    if not bool(within.any()):
        raise DataError("all rows of each class are the same, so nothing tells how classes spread: add rows")
    weight = torch.linalg.solve(shrunk_covariance(within, shrinkage), means.T).T
    return LinearMap(weight, (counts / len(labels)).double().log() - (weight * means).sum(-1) / 2)


def choose_temperature(
    fit: Callable[[Tensor, Tensor], LinearMap], embeddings: Tensor, labels: Tensor, folds: int = 4
) -> float:
    """Choose what the scores of a linear classifier are divided by, so that its confidence holds on unseen rows.

    The rows of each class are dealt out to folds in turn, and each fold is predicted by a fit on the others. The
    temperature gives the least cross-entropy of whether the likeliest class is right, whose two targets stay off 0 and
    1 as Platt's (1999) do. Rows whose class is in no other fold are left out; if there are no others, it is 1.

    Args:
        fit: Fits the classifier to embeddings ``(rows, dim)`` and labels ``(rows,)``.
        embeddings: Float ``(rows, dim)``.
        labels: As for :func:`fit_logistic_regression`.
        folds: Number of folds, at least 2.

    Returns:
        The temperature, in :data:`TEMPERATURES`.

    Raises:
        ConfigError: If there are fewer than two folds.
        DataError: As for :func:`fit_logistic_regression`.

    Example:
        >>> rows, labels = torch.tensor([[0.0], [0.1], [0.9], [1.0], [0.0], [1.0]]), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> choose_temperature(fit_lda, rows, labels, folds=2) > 1  # half are wrong
        True
    """
    check_training_rows(embeddings, labels)
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, got {folds}")
    fold = _dealt_out(labels, folds)
    said = [_held_out_scores(fit, embeddings, labels, fold == number) for number in range(folds)]
    scores = [(of_fold, right) for of_fold, right in said if len(right)]
    if not scores:
        return 1.0
    right = torch.cat([right for _, right in scores]).double()
    targets = torch.where(right > 0, (right.sum() + 1) / (right.sum() + 2), 1 / ((1 - right).sum() + 2))

    def loss(log_temperature: float) -> float:
        confidence = torch.cat([log_odds(of_fold / math.exp(log_temperature)).amax(-1) for of_fold, _ in scores])
        return float(binary_cross_entropy_with_logits(confidence, targets))

    least, greatest = map(math.log, TEMPERATURES)
    step = (greatest - least) / _COARSE
    near = min((least + step * number for number in range(_COARSE + 1)), key=loss)
    bounds = max(least, near - step), min(greatest, near + step)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def check_training_rows(embeddings: Tensor, labels: Tensor) -> None:
    """Refuse rows that no linear classifier can be fitted on.

    Raises:
        DataError: If shapes or types are wrong, a value is not finite, there are fewer than two classes, or a class
            has no row.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or not embeddings.is_floating_point():
        raise DataError(
            f"expected floating point embeddings (rows, dim) and labels (rows,), got {embeddings.dtype} "
            f"{(*embeddings.shape,)} and {(*labels.shape,)}"
        )
    if len(labels) and int(labels.min()) < 0:
        raise DataError('labels: a classifier is fitted on rows of known classes, and some are "none": leave those out')
    check_labels(labels, len(labels))
    counts = torch.bincount(labels)
    if len(counts) < 2 or not bool(counts.all()):
        missing = f"class {int(counts.argmin())} has no row" if len(counts) > 1 else f"got {len(counts)}"
        raise DataError(f"a linear classifier takes rows of at least two classes, each with a row; {missing}")
    if not bool(embeddings.isfinite().all()):
        row = int((~embeddings.isfinite()).any(-1).nonzero()[0])
        raise DataError(f"embeddings: row {row} has a value that is not finite: the store or its encoder is broken")


class _Principal(NamedTuple):
    """Rows along their principal axes, where L-BFGS knows the scale of each weight beforehand.

    Attributes:
        rows: Centred and rotated, float64 ``(rows, axes)``; as many axes as rows at most.
        axes: Float64 ``(dim, axes)``.
        mean: Float64 ``(dim,)``.
    """

    rows: Tensor
    axes: Tensor
    mean: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> _Principal:
        rows = embeddings.detach().double()
        mean = rows.mean(0)
        rows = rows - mean
        basis = torch.linalg.qr(rows.T).Q if len(rows) < rows.shape[1] else None
        rows = rows if basis is None else rows @ basis
        axes = torch.linalg.eigh(rows.T @ rows).eigenvectors
        return cls(rows @ axes, axes if basis is None else basis @ axes, mean)

    def back(self, fitted: LinearMap) -> LinearMap:
        """Weights for the embeddings as they came."""
        weight = fitted.weight @ self.axes.T
        return LinearMap(weight, fitted.bias - weight @ self.mean)


def _path(rows: Tensor, labels: Tensor, penalties: Sequence[float], precision: Precision) -> Iterator[LinearMap]:
    """Fit one penalty after the other, each from where the one before has ended."""
    share = torch.bincount(labels) / len(labels)
    weight = torch.zeros(rows.shape[1], len(share), dtype=rows.dtype, device=rows.device)
    bias, squares = share.log().to(rows.dtype), rows.square()
    for penalty in penalties:
        weight, bias = _minimize(rows, squares, labels, penalty, weight, bias, precision)
        bias = bias - bias.mean()  # no probability depends on it
        yield LinearMap(weight.T, bias)


def _minimize(
    rows: Tensor, squares: Tensor, labels: Tensor, penalty: float, weight: Tensor, bias: Tensor, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Minimize from given weights ``(axes, classes)``, in units of the curvature that the loss has there."""
    probabilities = torch.softmax(rows @ weight + bias, dim=-1)
    curvature = probabilities * (1 - probabilities)
    unit = (squares.T @ curvature + penalty).rsqrt()
    bias_unit = curvature.sum(0).clamp(min=1e-3).rsqrt()
    scaled = [(weight / unit).requires_grad_(), (bias / bias_unit).requires_grad_()]
    optimizer = torch.optim.LBFGS(
        scaled,
        max_iter=2000,
        tolerance_grad=precision.gradient,
        tolerance_change=precision.loss * len(labels),
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight = scaled[0] * unit
        scores = torch.addmm(scaled[1] * bias_unit, rows, weight)
        total = cross_entropy(scores, labels, reduction="sum") + penalty / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return scaled[0].detach() * unit, scaled[1].detach() * bias_unit


def _fold_losses(rows: Tensor, labels: Tensor, penalties: Sequence[float], folds: int) -> Iterator[tuple[float, ...]]:
    """Sum of the losses of each fold's rows, for one penalty after the other."""
    fold = _dealt_out(labels, folds)
    predicted = range(min(folds, math.ceil(HELD_OUT_ROWS * folds / len(labels))))
    return zip(*(_held_out_losses(rows, labels, fold == number, penalties) for number in predicted), strict=True)


def _dealt_out(labels: Tensor, folds: int) -> Tensor:
    """Fold of each row, the rows of each class in turn."""
    fold = torch.empty_like(labels)
    fold[labels.argsort(stable=True)] = torch.arange(len(labels), device=labels.device) % folds
    return fold


def _held_out_scores(
    fit: Callable[[Tensor, Tensor], LinearMap], rows: Tensor, labels: Tensor, held_out: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores of the held out rows of classes that other rows have, and whether the greatest is the right one's."""
    known = torch.unique(labels[~held_out])
    held_out_known = held_out & torch.isin(labels, known)
    nothing = rows.new_zeros(0, len(known)), held_out[:0]
    if len(known) < 2 or not bool(held_out_known.any()):
        return nothing
    codes = torch.searchsorted(known, labels.contiguous())
    try:
        fitted = fit(rows[~held_out], codes[~held_out])
    except DataError:  # these few rows do not say how classes spread
        return nothing
    scores = rows[held_out_known].double() @ fitted.weight.T + fitted.bias
    return scores, scores.argmax(-1) == codes[held_out_known]


def _held_out_losses(rows: Tensor, labels: Tensor, held_out: Tensor, penalties: Sequence[float]) -> Iterator[float]:
    known = torch.unique(labels[~held_out])
    held_out_known = held_out & torch.isin(labels, known)
    if len(known) < 2 or not bool(held_out_known.any()):
        yield from itertools.repeat(0.0, len(penalties))
        return
    codes = torch.searchsorted(known, labels.contiguous())
    for fitted in _path(rows[~held_out], codes[~held_out], penalties, COMPARED):
        scores = rows[held_out_known] @ fitted.weight.T + fitted.bias
        yield float(cross_entropy(scores, codes[held_out_known], reduction="sum"))


def _check_penalties(penalties: Sequence[float]) -> None:
    if not penalties or not all(penalty > 0 for penalty in penalties):
        raise ConfigError(f"a penalty must be positive, got {', '.join(map(str, penalties)) or 'none'}")
    if any(weaker >= stronger for stronger, weaker in itertools.pairwise(penalties)):
        raise ConfigError(f"penalties must fall, the strongest first, got {', '.join(map(str, penalties))}")
