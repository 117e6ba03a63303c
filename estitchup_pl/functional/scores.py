"""Scores of "none" that rest on the logits alone, and the sum of standardised scores.

Every score is float64 and higher where a row is more likely "none". A class whose logit is ``-inf`` does not exist: its
probability is 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from estitchup_pl.errors import DataError


def squash(values: Tensor) -> Tensor:
    """Map any number into ``[0, 1]``, strictly rising: ``(1 + x / (1 + |x|)) / 2``.

    A sigmoid is 1 from 37 on, and then all rows are equal; this one tells them apart up to 1e15.

    Args:
        values: Float, any shape; infinite ones become 0 and 1.

    Returns:
        Float64 in the same shape.

    Example:
        >>> squash(torch.tensor([-torch.inf, -1.0, 0.0, 3.0, torch.inf]))
        tensor([0.0000, 0.2500, 0.5000, 0.8750, 1.0000], dtype=torch.float64)
    """
    values = values.double()
    tail = 0.5 / (1 + values.abs())
    return torch.where(values < 0, tail, 1 - tail)


def max_logit_score(logits: Tensor) -> Tensor:
    """The greatest logit, negated (Hendrycks et al., 2022).

    Args:
        logits: Float ``(rows, classes)``.

    Returns:
        Score, float64 ``(rows,)``, unbounded.

    Example:
        >>> max_logit_score(torch.tensor([[-3.0, 2.0], [-3.0, -5.0]]))
        tensor([-2.,  3.], dtype=torch.float64)
    """
    return -logits.amax(dim=1).double()


def energy_score(logits: Tensor) -> Tensor:
    """The free energy: minus the log of the summed exponentials of the logits (Liu et al., 2020).

    Args:
        logits: Float ``(rows, classes)``.

    Returns:
        Score, float64 ``(rows,)``, unbounded.

    Example:
        >>> energy_score(torch.tensor([[2.0, -torch.inf]]))
        tensor([-2.], dtype=torch.float64)
    """
    return -logits.double().logsumexp(dim=1)


def entropy_score(logits: Tensor) -> Tensor:
    """Entropy of the softmax of the logits, as a share of its greatest value.

    The softmax, not the sigmoids: where no class is likely each sigmoid is sure of its no, and "none" would look
    certain.

    Args:
        logits: Float ``(rows, classes)``.

    Returns:
        Score in ``[0, 1]``, float64 ``(rows,)``; 0 where there is one class.

    Example:
        >>> entropy_score(torch.tensor([[1.0, 1.0], [50.0, -torch.inf]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    return _as_share(_entropy(_softmax(logits)), logits.shape[1])


def disagreement(members: Tensor) -> Tensor:
    """How far the members of an ensemble are apart: the mutual information of decision and member, as a share.

    It is the entropy of their mean softmax less the mean of their entropies, the generalised Jensen–Shannon divergence
    (Lakshminarayanan et al., 2017): 0 where all say the same and 1 where each is sure of a class of its own.

    Args:
        members: Logits of each member, float ``(members, rows, classes)``.

    Returns:
        Score in ``[0, 1]``, float64 ``(rows,)``; 0 where there is one member.

    Raises:
        DataError: If there is no axis of members.

    Example:
        >>> sure = torch.tensor([[90.0, 0.0]])
        >>> disagreement(torch.stack([sure, sure])), disagreement(torch.stack([sure, sure.flip(1)]))
        (tensor([0.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    if members.ndim != 3:
        raise DataError(
            "disagreement needs the logits of each member of an ensemble, (members, rows, classes), "
            f"got {(*members.shape,)}: use it with an ensemble"
        )
    probabilities = _softmax(members)
    gain = _entropy(probabilities.mean(dim=0)) - _entropy(probabilities).mean(dim=0)
    return _as_share(gain, min(members.shape[0], members.shape[2]))


def mean_logits(members: Tensor) -> Tensor:
    """Logits of the mean of the members' probabilities, computed without rounding to 0 or 1.

    Args:
        members: Logits of each member, float ``(members, rows, classes)``.

    Returns:
        Logits ``(rows, classes)``, in the type of the members.

    Example:
        >>> mean_logits(torch.tensor([[[0.0, 20.0]], [[0.0, 20.0]]]))
        tensor([[ 0., 20.]])
    """
    present, absent = (torch.logsumexp(logsigmoid(sign * members.double()), dim=0) for sign in (1, -1))
    return (present - absent).to(members.dtype)


def moments(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each score over rows, without those that are infinite.

    Args:
        scores: Float ``(scores, rows)``.

    Returns:
        Mean and deviation (divided by the number of rows), float64 ``(scores,)``; 0 without rows.

    Example:
        >>> moments(torch.tensor([[1.0, 3.0, torch.inf]]))
        (tensor([2.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    values = scores.double()
    values = values.where(values.isfinite(), torch.nan)
    mean = values.nanmean(dim=1)
    variance = (values - mean.unsqueeze(1)).square().nanmean(dim=1)
    return mean.nan_to_num(), variance.sqrt().nan_to_num()


def sum_of_z_scores(scores: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Add up scores, each less its mean and divided by its standard deviation.

    Args:
        scores: Float ``(scores, rows)``.
        mean: Mean of each over the rows that standardise it, ``(scores,)``.
        std: Its standard deviation there, ``(scores,)``; taken as 1e-6 where it is less: rounding alone would count.

    Returns:
        Sum, float64 ``(rows,)``; an infinite score adds 1e12.

    Example:
        >>> scores = torch.tensor([[0.5, 1.0], [30.0, 10.0]])
        >>> sum_of_z_scores(scores, torch.tensor([0.5, 20.0]), torch.tensor([0.25, 10.0]))
        tensor([1., 1.], dtype=torch.float64)
    """
    deviations = scores.double() - mean.double().unsqueeze(1)
    return (deviations / std.double().clamp(min=1e-6).unsqueeze(1)).clamp(-1e12, 1e12).sum(dim=0)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis; equal shares where every class has the logit ``-inf``."""
    logits = logits.double()
    impossible = logits.amax(dim=-1, keepdim=True) == -math.inf
    return logits.where(~impossible, 0).softmax(dim=-1)


def _entropy(probabilities: Tensor) -> Tensor:
    terms: Tensor = torch.special.entr(probabilities)
    return terms.sum(dim=-1)


def _as_share(entropy: Tensor, outcomes: int) -> Tensor:
    return (entropy / math.log(max(outcomes, 2))).clamp(0, 1)
