"""Independent networks as one whose layers are batched matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from estitchup_pl.functional.random_bits import LEVELS
from estitchup_pl.model.networks import KeyedDropout, StackedLinear


class StackedNetwork:
    """Networks of equal layers; their numbers of outputs may differ.

    Args:
        networks: Each a ``nn.Sequential`` of :class:`StackedLinear`, :class:`KeyedDropout` and pointwise layers.
        device: Where the stack is kept.

    Attributes:
        weights: Weight and bias of each layer in turn, ``(runs, in, out)`` and ``(runs, 1, out)``. What a run with
            fewer outputs does not have is zero, and stays so: its gradient is zero as well.
        dropped: Features of each layer that drops some, in order.
    """

    def __init__(self, networks: Sequence[nn.Sequential], device: torch.device) -> None:
        self.layers = list(networks[0])
        self.weights = [_stacked(own).to(device) for own in zip(*map(_weights_of, networks), strict=True)]
        self.dropped = []
        width = 0
        for layer in self.layers:
            if isinstance(layer, StackedLinear):
                width = len(layer.weight)
            elif isinstance(layer, KeyedDropout) and layer.p > 0:
                self.dropped.append(width)

    def forward(self, x: Tensor, weights: Sequence[Tensor], levels: Tensor) -> Tensor:
        """Logits ``(runs, batch, outputs)``.

        Args:
            x: Embeddings ``(runs, batch, dim)``.
            weights: As in :attr:`weights`.
            levels: Random int16 ``(runs, batch, features)``, one for each feature of :attr:`dropped`.
        """
        linear = iter(weights)
        drawn = iter(torch.split(levels, self.dropped, dim=-1))
        for layer in self.layers:
            if isinstance(layer, StackedLinear):
                weight, bias = next(linear), next(linear)
                x = torch.baddbmm(bias, x, weight)
            elif not isinstance(layer, KeyedDropout):
                x = layer(x)
            elif layer.p > 0:
                x = x * dropout_mask(next(drawn), layer.p).to(x.dtype)
        return x

    def load_into(self, network: nn.Sequential, run: int) -> None:
        """Give a network the weights of a run."""
        for own, stacked in zip(_weights_of(network), self.weights, strict=True):
            own.data.copy_(stacked[run].T.reshape(-1, *own.shape[1:])[: len(own)])


def dropout_mask(levels: Tensor, p: float) -> Tensor:
    """Zero with probability ``p`` (to within ``2**-17``), else what makes the mean one."""
    kept = max(1, round((1 - p) * LEVELS))  # of the levels
    return (levels <= kept - LEVELS // 2 - 1).float() * (LEVELS / kept)


def _weights_of(network: nn.Sequential) -> Iterator[nn.Parameter]:
    for layer in network:
        if isinstance(layer, StackedLinear):
            yield from (layer.weight, layer.bias)


def _stacked(weights: Sequence[Tensor]) -> Tensor:
    """Stack weights ``(out, in)`` or biases ``(out,)`` as ``(runs, in or 1, out)``, padded with zeros."""
    rows = nn.utils.rnn.pad_sequence([weight.detach() for weight in weights], batch_first=True)
    return (rows.mT if rows.ndim == 3 else rows.unsqueeze(1)).contiguous()
