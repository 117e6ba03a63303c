"""The downstream network (Sec. 3.3) and its parts, each over any leading ``*stack`` of runs."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.augmentation import MASK_BITS, random_levels
from estitchup_pl.functional.scores import mean_logits


class StackedLinear(nn.Module):
    """A linear layer for each run of a stack, as one batched matrix product.

    With an empty stack it is ``nn.Linear``, with the same parameters and the same initialisation.

    Args:
        in_features: Size of the last input axis.
        out_features: Size of the last output axis.
        stack: Leading shape of the parameters.

    Shape:
        ``(*stack, batch, in_features)`` to ``(*stack, batch, out_features)``.
    """

    def __init__(self, in_features: int, out_features: int, stack: Sequence[int] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*stack, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(*stack, out_features))
        bound = 1 / math.sqrt(in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(*stack, batch, in_features)`` to ``(*stack, batch, out_features)``."""
        if self.weight.ndim == 2:
            return F.linear(x, self.weight, self.bias)
        if self.weight.ndim == x.ndim == 3:
            return torch.baddbmm(self.bias.unsqueeze(-2), x, self.weight.mT)
        return x @ self.weight.mT + self.bias.unsqueeze(-2)


class KeyedDropout(nn.Module):
    """Dropout whose mask comes from a generator that can be set for each batch.

    PyTorch's own dropout draws from the global generator, which a resumed fit cannot bring back. Without a
    generator (outside a fit by Lightning) it does the same as PyTorch's. One draw costs 16
    random bits: ``p`` is rounded to a multiple of 1/65536, which takes less than half the time of PyTorch's.

    Args:
        p: Probability that an element is dropped, in ``[0, 1)``.

    Attributes:
        generator: Source of the mask, on the device of the batch; ``None`` for the global one.

    Raises:
        ConfigError: If ``p`` is outside ``[0, 1)``.
    """

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {p}")
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of ``(*stack, batch, features)`` in training, scaling the others by ``1 / (1 - p)``."""
        if not self.training or self.p == 0:
            return x
        if self.generator is None:
            return F.dropout(x, self.p)
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        kept = max(1, round((1 - self.p) * 2**MASK_BITS))  # of the levels
        levels = random_levels(x.numel(), generator=self.generator, device=x.device).view(x.shape)
        return levels.le_(kept - 2 ** (MASK_BITS - 1) - 1).to(x.dtype).mul_(2**MASK_BITS / kept)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


class EmbeddingMLP(nn.Sequential):
    """The paper's downstream classifier: two hidden layers of 250, each with Dropout, then ReLU (Sec. 3.3).

    The output is the logit of each class; :func:`torch.sigmoid` of it is the probability (the paper's binomial
    output transformation), so that every class may get a low one.

    Args:
        in_features: Width of the concatenated embeddings.
        out_features: Number of known classes.
        hidden: Width of each hidden layer.
        dropout: Probability of the dropout after each hidden layer, in ``[0, 1)``.
        stack: Leading shape of a stack of independent networks.

    Shape:
        ``(*stack, batch, in_features)`` to ``(*stack, batch, out_features)``.

    Example:
        >>> EmbeddingMLP(12, 3)(torch.zeros(5, 12)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (250, 250),
        dropout: float = 0.3,
        stack: Sequence[int] = (),
    ) -> None:
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        for width, next_width in itertools.pairwise(widths):
            layers += [StackedLinear(width, next_width, stack), KeyedDropout(dropout), nn.ReLU()]
        super().__init__(*layers, StackedLinear(widths[-1], out_features, stack))


class MemberNetwork(nn.Module, ABC):
    """A network of several members, whose output is the mean of their probabilities; implement :meth:`member_logits`.

    Scores of "none" such as ``Disagreement`` see what each member says.
    """

    @abstractmethod
    def member_logits(self, embeddings: Tensor) -> Tensor:
        """Logits of each member, ``(members, batch, classes)``, of scaled embeddings ``(batch, dim)``."""

    @override
    def forward(self, embeddings: Tensor) -> Tensor:
        return mean_logits(self.member_logits(embeddings))


def decision_logits(network: nn.Module, scaled: Tensor) -> Tensor:
    """What a decision takes of a network's answer to scaled embeddings ``(rows, dim)``, float32.

    Returns:
        Logits ``(rows, classes)``; of a :class:`MemberNetwork` those of each member, ``(members, rows, classes)``.
    """
    logits: Tensor = network.member_logits(scaled) if isinstance(network, MemberNetwork) else network(scaled)
    return logits.float()


class SoftTargetBCE(nn.Module):
    """Binary cross-entropy against soft targets: mean over batch and classes, summed over the runs of a stack.

    Summing keeps the runs independent: no run's gradient depends on how many others there are.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits against targets in ``[0, 1]``, both ``(*stack, batch, classes)``; a scalar."""
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return loss.mean(dim=(-2, -1)).sum()
