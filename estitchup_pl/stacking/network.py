"""Independent networks as one whose layers are batched matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.networks import KeyedDropout, StackedLinear


class StackedNetwork(nn.Sequential):
    """Networks of equal depth and width as one; their numbers of outputs may differ.

    Args:
        networks: Each a ``nn.Sequential`` of :class:`StackedLinear`, :class:`KeyedDropout` and modules without
            parameters, such as an :class:`~estitchup_pl.model.networks.EmbeddingMLP`.

    Shape:
        ``(runs, batch, in_features)`` to ``(runs, batch, out_features)``, the largest number of outputs of all.
        Further outputs of a run with fewer are zero and no part of it.

    Raises:
        ConfigError: If the networks cannot be stacked.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(*(_join(layers) for layers in zip(*_layers_of(networks), strict=True)))
        # In tuples, so that they are no part of this module.
        self._networks = tuple(networks)
        self._dropouts = tuple(zip(_dropouts(self), *map(_dropouts, networks), strict=True))
        self._shares: list[list[tuple[nn.Parameter, nn.Parameter]]] = []

    def share_weights(self) -> None:
        """Make the weights of each network views of the stack's, whichever device these are on."""
        self._shares = [[] for _ in self._networks]
        for run, network in enumerate(self._networks):
            for (layer, name), (own, _) in zip(_weights(self), _weights(network), strict=True):
                outputs = getattr(own, name).shape[0]
                setattr(own, name, nn.Parameter(getattr(layer, name).detach()[run, :outputs]))
                self._shares[run].append((getattr(layer, name), getattr(own, name)))

    def share_gradients(self, run: int) -> None:
        """Make the gradients of a network views of the stack's."""
        for stacked, own in self._shares[run]:
            own.grad = None if stacked.grad is None else stacked.grad[run, : own.shape[0]]

    def draw_dropout(self, rows: Sequence[int]) -> None:
        """Let dropout draw from the generators that the networks have, for so many rows of each."""
        idle = [torch.Generator(next(self.parameters()).device)]  # of runs that have had no batch yet
        for layer, *own in self._dropouts:
            layer.generators = [generator for part in own for generator in part.generators or idle]
            layer.rows = rows

    def release(self) -> None:
        """Give the networks weights of their own again, on the CPU."""
        for network in self._networks:
            for own, name in _weights(network):
                setattr(own, name, nn.Parameter(getattr(own, name).detach().to("cpu", copy=True)))


def _layers_of(networks: Sequence[nn.Module]) -> list[list[nn.Module]]:
    for network in networks:
        if type(network).forward is not nn.Sequential.forward or not all(map(_is_stackable, network.children())):
            raise ConfigError(
                f"cannot stack a {type(network).__name__}: expected a nn.Sequential of StackedLinear, KeyedDropout "
                "and modules without parameters, such as EmbeddingMLP; fit runs with other networks one by one"
            )
    layers = [list(network.children()) for network in networks]
    plans = {tuple(map(_plan, some[:-1])) for some in layers}
    if len(plans) > 1 or len(set(map(len, layers))) > 1:
        raise ConfigError("cannot stack networks of different layers: give all runs of a stack the same widths")
    return layers


def _is_stackable(layer: nn.Module) -> bool:
    if isinstance(layer, StackedLinear):
        return layer.weight.ndim == 2
    return not any(True for _ in (*layer.parameters(), *layer.buffers()))


def _plan(layer: nn.Module) -> tuple[Any, ...]:
    shape = layer.weight.shape if isinstance(layer, StackedLinear) else ()
    return type(layer), layer.extra_repr(), *shape


def _join(layers: Sequence[nn.Module]) -> nn.Module:
    first = layers[0]
    if isinstance(first, KeyedDropout):
        return KeyedDropout(first.p)
    if not isinstance(first, StackedLinear):
        return first
    outputs = max(layer.weight.shape[0] for layer in layers if isinstance(layer, StackedLinear))
    joined = StackedLinear(first.weight.shape[1], outputs, stack=(len(layers),)).to(first.weight)
    for own, name in _weights(joined):
        stacked: Tensor = getattr(own, name).detach().zero_()
        for run, layer in enumerate(layers):
            weight: Tensor = getattr(layer, name).detach()
            stacked[run, : len(weight)] = weight
    return joined


def _dropouts(module: nn.Module) -> list[KeyedDropout]:
    return [layer for layer in module.modules() if isinstance(layer, KeyedDropout)]


def _weights(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Find the linear layers and the names of their weights, in order."""
    for layer in module.modules():
        if isinstance(layer, StackedLinear):
            yield from ((layer, "weight"), (layer, "bias"))
