"""The Hugging Face layout: ``config.json``, ``model.safetensors`` and a model card, in a folder or on the hub."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.cli import instantiate_module
from torch import Tensor

from estitchup_pl import __version__
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decision
from estitchup_pl.model.named_classes import only_known_classes
from estitchup_pl.model.packing import check_finite
from estitchup_pl.optional import require
from estitchup_pl.serving.card import model_card
from estitchup_pl.store import sealed
from estitchup_pl.store.files import atomic_path, digest_file

CONFIG_NAME: Final = "config.json"
WEIGHTS_NAME: Final = "model.safetensors"
CARD_NAME: Final = "README.md"
FORMAT: Final = 1

_PARTS: Final = ("calibrator", "score")
_EXPECTATION: Final = "decision.expectation."
_UNLIKELY: Final = "decision.unlikely"


def save_pretrained(model: EmbeddingClassifier, folder: Path | str, metrics: Mapping[str, float] | None = None) -> None:
    """Write a fitted classifier as a folder that needs neither this checkpoint format nor pickles.

    Args:
        model: The classifier.
        folder: The folder; made if it is not there, its three files replaced.
        metrics: Figures for the model card by name, such as those of ``estitchup test``.

    Raises:
        ConfigError: If the classifier has no network yet, or the extra ``hub`` is not installed.
    """
    safetensors = require("safetensors.torch", "hub", "the Hugging Face layout")
    if model.network is None:
        raise ConfigError("the classifier has no network yet: fit it, or load it from a checkpoint")
    folder, decision = Path(folder), model.decision.pack()
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("decision.")}
    for part in _PARTS:
        if decision[part]:
            weights |= {f"decision.{part}.{name}": value for name, value in decision[part].pop("state").items()}
    expectation = decision.pop("expectation") or {}
    weights |= {f"{_EXPECTATION}{name}": value for name, value in expectation.items()}
    if (unlikely := decision.pop("unlikely")) is not None:
        weights[_UNLIKELY] = unlikely
    config = {
        "library": "estitchup_pl",
        "version": __version__,
        "format": FORMAT,
        "hyper_parameters": dict(model.hparams),
        "decision": decision,
    }
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        kept = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        temporary.write_bytes(safetensors.save(kept))  # its own way of writing has errors of its own for a full disk
    with atomic_path(folder / CARD_NAME) as temporary:
        temporary.write_text(model_card(model, metrics or {}), encoding="utf-8")
    sealed.write_json(folder / CONFIG_NAME, {**config, "weights": digest_file(folder / WEIGHTS_NAME)})


def from_pretrained(place: Path | str, **kwargs: Any) -> EmbeddingClassifier:
    """Load what :func:`save_pretrained` wrote, in evaluation mode.

    Args:
        place: The folder, or the name of a repository on the Hugging Face hub, which is downloaded.
        kwargs: Arguments of the classifier that the folder does not hold: a ``network`` of one's own.

    Raises:
        CheckpointError: If a file is missing or damaged, or holds another network, or names a class that is neither
            of this package nor imported already.
        ConfigError: If the extra ``hub`` is not installed.
    """
    safetensors = require("safetensors.torch", "hub", "the Hugging Face layout")
    damaged = require("safetensors", "hub", "the Hugging Face layout").SafetensorError
    folder = Path(place) if Path(place).is_dir() else _download(str(place))
    try:
        config = sealed.read_json(folder / CONFIG_NAME)
        if config["weights"] != digest_file(folder / WEIGHTS_NAME):
            raise CheckpointError(f"{WEIGHTS_NAME} is not the one that {CONFIG_NAME} was written with: export again")
        weights = safetensors.load_file(folder / WEIGHTS_NAME)
        if config["format"] != FORMAT:
            raise CheckpointError(f"{folder}: format {config['format']!r}, this version reads format {FORMAT}")
        model = _made({**config["hyper_parameters"], **kwargs})
        model.configure_model()
        check_finite(weights)
        model.decision = Decision.unpack(_with_states(config["decision"], weights))
        model.load_state_dict({**weights, **model.decision.state_dict(prefix="decision.")})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ArgumentError, damaged) as error:
        raise CheckpointError(
            f"{folder}: not a model that save_pretrained wrote, damaged, or one of another network ({error})"
        ) from error
    return model.eval()


def _made(hparams: dict[str, Any]) -> EmbeddingClassifier:
    """The classifier of hyperparameters, made from its description where a command or a study has left one."""
    with only_known_classes(hparams):
        if hparams.pop("_instantiator", None) is None:
            return EmbeddingClassifier(**hparams)
        return instantiate_module(EmbeddingClassifier, hparams)


def push_to_hub(
    model: EmbeddingClassifier, repository: str, metrics: Mapping[str, float] | None = None, private: bool = True
) -> str:
    """Upload a fitted classifier to the Hugging Face hub; needs a login (``hf auth login``).

    Args:
        model: The classifier.
        repository: Name of the repository, ``owner/name``; made if it is not there.
        metrics: Figures for the model card.
        private: Whether a new repository is private.

    Returns:
        Address of the commit.

    Raises:
        ConfigError: If the classifier has no network yet, or the extra ``hub`` is not installed.
    """
    hub = require("huggingface_hub", "hub", "uploading")
    with hub.utils.SoftTemporaryDirectory() as folder:
        save_pretrained(model, folder, metrics)
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload of a classifier")
    return str(commit.commit_url)


def _download(repository: str) -> Path:
    hub = require("huggingface_hub", "hub", "downloading a model")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except Exception as error:  # the hub's library raises many kinds, and its messages say what to do
        raise CheckpointError(f"{repository}: no such folder, and not to be had from the hub ({error})") from error


def _with_states(decision: Mapping[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """The packed decision with its tensors, which are taken out of the weights."""
    whole = {**decision, "unlikely": weights.pop(_UNLIKELY, None)}
    kept = [name for name in weights if name.startswith(_EXPECTATION)]
    whole["expectation"] = {name.removeprefix(_EXPECTATION): weights.pop(name) for name in kept} or None
    for part in _PARTS:
        prefix = f"decision.{part}."
        state = {name.removeprefix(prefix): weights.pop(name) for name in list(weights) if name.startswith(prefix)}
        if whole[part]:
            whole[part] = {**whole[part], "state": state}
    return whole
