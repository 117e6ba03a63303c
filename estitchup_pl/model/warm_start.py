"""A fit that begins with the weights of another one, whose classes may be others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from estitchup_pl.errors import CheckpointError
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.trained_on import TrainedOn


@dataclass(frozen=True)
class CarriedOver:
    """What a warm start has made of the classes.

    Attributes:
        kept: Classes whose weights are those of the checkpoint.
        new: Classes that begin with weights of chance.
        gone: Classes of the checkpoint that are no longer there.
    """

    kept: Sequence[str]
    new: Sequence[str]
    gone: Sequence[str]

    def __str__(self) -> str:
        parts = [f"{len(self.kept)} classes go on"]
        for names, what in ((self.new, "new"), (self.gone, "gone")):
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            parts.append(f"{len(names)} {what}" + f" ({shown})" * bool(names))
        return ", ".join(parts)


def warm_start(model: EmbeddingClassifier, checkpoint: str | Path) -> CarriedOver:
    """Give a new classifier the weights of a checkpoint: the output layer class by class, everything else as it is.

    The output layer keeps the weights of each class that both have, by its name; those of new classes stay as they were
    drawn, and those of classes that are gone are left out. So what the network says of an old class is unchanged. The
    learnt scaling is the checkpoint's too: under another one the old weights would no longer mean what they did. Rows
    that trained the checkpoint count as trained on. Its decision is not taken over; it belongs to its own weights.

    Args:
        model: The classifier, which knows its data and has a network that nothing has trained.
        checkpoint: Checkpoint of the earlier fit.

    Raises:
        CheckpointError: If the file is no checkpoint of a classifier, or was fitted on other modalities, with another
            scaling, or with another network.
    """
    source = read_checkpoint(checkpoint)
    hparams, state = source["hyper_parameters"], source["state_dict"]
    old_names, names = list(hparams["class_names"]), list(model.class_names)
    fresh = {name: value for name, value in model.state_dict().items() if name.startswith("network.")}
    old = {name: value for name, value in state.items() if name.startswith("network.")}
    try:
        _check_inputs(hparams["modalities"], hparams["scaling"], model)
        axes = class_axes(model.build_network, sum(model.modalities.values()), len(names))
        weights = carried_over(old, fresh, {f"network.{name}": axis for name, axis in axes.items()}, old_names, names)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: no fit can begin with it: {error}") from None
    scale = {name: value for name, value in state.items() if name.startswith("scale.")}
    model.load_state_dict(model.state_dict() | scale | weights)
    if "trained_on" in source:
        earlier = TrainedOn(**source["trained_on"])
        model.trained_on = model.trained_on.after(earlier) if model.trained_on else earlier
    return CarriedOver(
        [name for name in names if name in old_names],
        [name for name in names if name not in old_names],
        [name for name in old_names if name not in names],
    )


def class_axes(build_network: Callable[[int, int], nn.Module], width: int, classes: int) -> dict[str, int]:
    """Find the weights of a network that have an entry for each class.

    Args:
        build_network: Builds it from the width of the embeddings and the number of classes.
        width: Width of the embeddings.
        classes: Number of classes.

    Returns:
        The axis of the classes, by the name of the weight.

    Raises:
        CheckpointError: If a weight grows with the classes in another way than by an entry for each.

    Example:
        >>> from estitchup_pl.model import EmbeddingMLP
        >>> class_axes(EmbeddingMLP, 12, 3)
        {'6.weight': 0, '6.bias': 0}
    """
    with torch.device("meta"):
        own, larger = (build_network(width, count).state_dict() for count in (classes, classes + 1))
    axes = {}
    for name, value in own.items():
        grown = [axis for axis, size in enumerate(larger[name].shape) if size != value.shape[axis]]
        if grown:
            if len(grown) > 1 or value.shape[grown[0]] != classes:
                raise CheckpointError(
                    f"{name} of the network has the shape {tuple(value.shape)} for {classes} classes and "
                    f"{tuple(larger[name].shape)} for one more, so no entry of it belongs to one class: begin anew"
                )
            axes[name] = grown[0]
    return axes


def carried_over(
    old: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    axes: Mapping[str, int],
    old_names: Sequence[str],
    names: Sequence[str],
) -> dict[str, Tensor]:
    """Take the weights of a network over into one for other classes.

    Args:
        old: Weights of the old network, by name.
        fresh: Weights of the new one, of which those of new classes are taken.
        axes: Axis of the classes of each weight that has one, see :func:`class_axes`.
        old_names: Classes of the old network, in the order of its outputs.
        names: Classes of the new one.

    Raises:
        CheckpointError: If the networks differ in more than their classes.

    Example:
        >>> old, fresh = torch.tensor([1.0, 2.0]), torch.tensor([7.0, 8.0, 9.0])
        >>> carried_over({"bias": old}, {"bias": fresh}, {"bias": 0}, ["hat", "shoe"], ["bag", "hat", "shoe"])
        {'bias': tensor([7., 1., 2.])}
    """
    kept = [name for name in names if name in old_names]
    places = torch.tensor([names.index(name) for name in kept], dtype=torch.int64)
    old_places = torch.tensor([old_names.index(name) for name in kept], dtype=torch.int64)
    weights = {}
    for name in dict.fromkeys([*fresh, *old]):
        _check_shapes(name, old, fresh, axes.get(name), len(old_names))
        value, own = old[name].to(fresh[name]), fresh[name]
        if (axis := axes.get(name)) is not None:
            places, old_places = places.to(own.device), old_places.to(own.device)
            value = own.index_copy(axis, places, value.index_select(axis, old_places))
        weights[name] = value
    return weights


def _check_inputs(modalities: Mapping[str, int], scaling: Mapping[str, str], model: EmbeddingClassifier) -> None:
    if list(modalities.items()) != list(model.modalities.items()):
        raise CheckpointError(
            f"it was fitted on the modalities {dict(modalities)}, this fit has {model.modalities}: choose the same, in "
            "the same order (data.modalities), embedded in the same way"
        )
    if scaling != model.scale.kinds:
        raise CheckpointError(
            f"it was fitted with the scaling {dict(scaling)}, this fit has {model.scale.kinds}: choose the same "
            "(model.scaling)"
        )


def _check_shapes(
    name: str, old: Mapping[str, Tensor], fresh: Mapping[str, Tensor], axis: int | None, classes: int
) -> None:
    found, own = (tuple(weights[name].shape) if name in weights else None for weights in (old, fresh))
    expected = own if own is None or axis is None else (*own[:axis], classes, *own[axis + 1 :])
    if found is None or found != expected:
        raise CheckpointError(
            f"it holds another network: {name} has the shape {found} there, and {expected} were expected; choose the "
            "network that it was fitted with (model.network)"
        )
