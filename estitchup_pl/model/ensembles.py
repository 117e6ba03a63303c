"""Averages of fitted classifiers, of unlike heads or of seeds, as one classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_module
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.networks import EmbeddingMLP, MemberNetwork
from estitchup_pl.model.packing import class_path
from estitchup_pl.model.scaling import ModalityScaling, Scaling
from estitchup_pl.model.trained_on import TrainedOn


class EnsembleNetwork(MemberNetwork):
    """The mean probability of several networks, as logits, each with a scaling of its own.

    Probabilities are averaged, not logits: those of unlike heads lie on different scales, and a member that is sure of
    itself would outweigh the others.

    Args:
        in_features: Width of the concatenated embeddings.
        out_features: Number of known classes.
        members: Builds each network.
        modalities: Width of each modality, in the order of concatenation.
        scalings: Scaling of each modality by name, for each member.

    Shape:
        ``(*, in_features)`` to ``(*, out_features)``.

    Raises:
        ConfigError: If there are no members, or not as many scalings.

    Example:
        >>> widths, builders = {"title": 4}, [EmbeddingMLP, EmbeddingMLP]
        >>> network = EnsembleNetwork(4, 3, builders, widths, [{"title": "l2"}, {"title": "none"}])
        >>> network(torch.ones(5, 4)).shape, network.member_logits(torch.ones(5, 4)).shape
        (torch.Size([5, 3]), torch.Size([2, 5, 3]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        members: Sequence[Callable[[int, int], nn.Module]],
        modalities: Mapping[str, int],
        scalings: Sequence[Mapping[str, Scaling]],
    ) -> None:
        super().__init__()
        if not members or len(members) != len(scalings):
            raise ConfigError(
                f"an ensemble takes one scaling a member, got {len(members)} members and {len(scalings)} scalings"
            )
        self.members = nn.ModuleList(build(in_features, out_features) for build in members)
        self.scales = nn.ModuleList(ModalityScaling(modalities, scaling) for scaling in scalings)

    @property
    def first_scale(self) -> ModalityScaling:
        """Scaling of the first member."""
        scale = self.scales[0]
        assert isinstance(scale, ModalityScaling)  # as it was made
        return scale

    @override
    def member_logits(self, embeddings: Tensor) -> Tensor:
        """Logits of each member, ``(members, *, out_features)``."""
        scaled = [scale(embeddings) for scale in self.scales]
        return torch.stack([member(one) for member, one in zip(self.members, scaled, strict=True)])


def ensemble_of(
    checkpoints: Sequence[str | Path], networks: Sequence[Mapping[str, Any] | None] | None = None
) -> EmbeddingClassifier:
    """Make one classifier of several that have been fitted; its probabilities are the mean of theirs.

    It has no calibration and no threshold yet: those belong to the mean. A fit with
    :class:`~estitchup_pl.callbacks.WithoutTraining` and ``OODThreshold`` gives it both and leaves a checkpoint that is
    tested, predicted with and taken over like any other. Where all members scale alike the ensemble scales so too;
    where they do not, each scales by itself, and a score of "none" sees the embeddings as the store has them.

    Args:
        checkpoints: Files of fits whose classes and modalities are the same.
        networks: Description of each member's network as YAML has it, ``class_path`` and ``init_args``, for fits that
            were given it as a Python object, which a checkpoint cannot hold; ``None`` for what the checkpoint says.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        CheckpointError: If a file cannot be read, classes or modalities differ, or weights do not fit their network.
        ConfigError: If there are fewer than two, or not as many networks as checkpoints.

    Example:
        >>> models = ["runs/version_0/checkpoints/last.ckpt", "runs/version_1/checkpoints/last.ckpt"]
        >>> ensemble = ensemble_of(models)  # doctest: +SKIP
    """
    networks = [None] * len(checkpoints) if networks is None else networks
    if len(networks) != len(checkpoints):
        raise ConfigError(f"networks: expected one for each of {len(checkpoints)} checkpoints, got {len(networks)}")
    if len(checkpoints) < 2:
        raise ConfigError(f"an ensemble takes at least two checkpoints, got {len(checkpoints)}")
    sources = [read_checkpoint(path) for path in checkpoints]
    for path, source in zip(checkpoints, sources, strict=True):
        _check_alike(path, source, checkpoints[0], sources[0])
    alike = _scale_alike(sources)
    members = [source["hyper_parameters"] for source in sources]
    described = [network or _network(member) for network, member in zip(networks, members, strict=True)]
    unscaled: dict[str, Scaling] = dict.fromkeys(members[0]["modalities"], "none")
    scalings = [unscaled if alike else member["scaling"] for member in members]
    model = _build(described, scalings, members[0], members[0]["scaling"] if alike else unscaled)
    if alike:
        model.scale.load_state_dict(_part(sources[0], "scale."))
    for number, (path, source) in enumerate(zip(checkpoints, sources, strict=True)):
        _load_member(model, number, path, source, alike)
        if "trained_on" in source:
            model.trained_on = TrainedOn(**source["trained_on"]).after(model.trained_on)
    return model.eval()


def scaled_inside(model: EmbeddingClassifier) -> EmbeddingClassifier:
    """Make the same classifier with its scaling inside its network.

    Its decision then sees the embeddings as the store has them, so that a score of "none" can scale them in its own way
    (:class:`~estitchup_pl.model.scores.ScaledScore`).

    Args:
        model: A fitted classifier, whose network its hyperparameters describe.

    Returns:
        A classifier without a decision, in evaluation mode; the model itself where it scales nothing.

    Raises:
        CheckpointError: If its weights do not fit the network that its hyperparameters describe.

    Example:
        >>> model = EmbeddingClassifier(scaling="l2", class_names=["hat", "shoe"], modalities={"photo": 3})
        >>> model.configure_model()
        >>> inside = scaled_inside(model)
        >>> inside.scaling, torch.allclose(inside.logits(torch.ones(1, 3)), model.eval().logits(torch.ones(1, 3)))
        ({'photo': 'none'}, True)
    """
    kinds, network = model.scale.kinds, model.network
    if set(kinds.values()) == {"none"}:
        return model
    hparams = {**model.hparams, "class_names": list(model.class_names), "modalities": dict(model.modalities)}
    several = isinstance(network, EnsembleNetwork)
    described = _network(hparams)["init_args"]["members"] if several else [_network(hparams)]
    members = list(network.members) if isinstance(network, EnsembleNetwork) else [network]
    inside = _build(described, [kinds] * len(members), hparams, dict.fromkeys(kinds, "none"))
    assert isinstance(inside.network, EnsembleNetwork)  # as it has been described
    for own, scale, member in zip(inside.network.members, inside.network.scales, members, strict=True):
        assert member is not None  # it is fitted
        _load_weights(own, member.state_dict(), "the classifier")
        scale.load_state_dict(model.scale.state_dict())
    inside.trained_on = model.trained_on
    return inside.eval()


def _network(hparams: Mapping[str, Any]) -> Mapping[str, Any]:
    """Description of the network of a classifier."""
    return hparams.get("network") or {"class_path": class_path(EmbeddingMLP)}


def _build(
    members: Sequence[Mapping[str, Any]],
    scalings: Sequence[Mapping[str, Scaling]],
    like: Mapping[str, Any],
    scaling: Mapping[str, Scaling],
) -> EmbeddingClassifier:
    """Make an ensemble, described in plain values as the command line describes a classifier in its checkpoint.

    Args:
        members: Description of each network.
        scalings: Scaling of each.
        like: Hyperparameters of a classifier of the same classes and modalities.
        scaling: Scaling before all of them.
    """
    arguments = {"members": list(members), "modalities": like["modalities"], "scalings": list(scalings)}
    hparams = {
        "_class_path": class_path(EmbeddingClassifier),
        "class_names": like["class_names"],
        "modalities": like["modalities"],
        "scaling": scaling,
        "network": {"class_path": class_path(EnsembleNetwork), "init_args": arguments},
    }
    model: EmbeddingClassifier = instantiate_module(EmbeddingClassifier, hparams)
    model.hparams.update({**hparams, "_instantiator": f"{instantiate_module.__module__}.{instantiate_module.__name__}"})
    model.configure_model()
    return model


def _load_member(
    model: EmbeddingClassifier, number: int, path: str | Path, source: Mapping[str, Any], alike: bool
) -> None:
    network = model.network
    assert isinstance(network, EnsembleNetwork)  # as it has been described
    _load_weights(network.members[number], _part(source, "network."), str(path))
    if not alike:
        network.scales[number].load_state_dict(_part(source, "scale."))


def _load_weights(network: nn.Module, weights: Mapping[str, Tensor], place: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{place}: its weights do not fit the network that it describes, {type(network).__name__}; "
            "describe one that was given to the fit as a Python object (networks)"
        ) from error


def _check_alike(path: str | Path, source: Mapping[str, Any], first_path: str | Path, first: Mapping[str, Any]) -> None:
    for what in ("class_names", "modalities"):
        own, expected = source["hyper_parameters"][what], first["hyper_parameters"][what]
        if own != expected or list(own) != list(expected):
            raise CheckpointError(
                f"{path}: its {what.replace('_', ' ')} differ from those of {first_path}, so their outputs cannot be "
                "averaged: fit all members with the same training rows (data.split) and modalities"
            )


def _scale_alike(sources: Sequence[Mapping[str, Any]]) -> bool:
    kinds = [source["hyper_parameters"]["scaling"] for source in sources]
    scales = [_part(source, "scale.") for source in sources]
    return all(kind == kinds[0] for kind in kinds) and all(
        torch.equal(scale[name], scales[0][name]) for scale in scales for name in scales[0]
    )


def _part(source: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """Weights whose names begin with a prefix, without it."""
    weights: dict[str, Tensor] = source["state_dict"]
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
