"""The decision of one fit in another: what is taken over, what is learnt anew, and where that makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.data.trained_rows import spell_split
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decision
from estitchup_pl.model.scores import LogitScore, NoneScore
from estitchup_pl.model.trained_on import TrainedOn, other_encoder


def read_threshold(checkpoint: str | Path) -> float:
    """Read the threshold that a fit has left in its checkpoint.

    Raises:
        CheckpointError: If the file is not a checkpoint of a classifier, or holds no fitted threshold.
    """
    return float(_read_decided(checkpoint)["decision"]["threshold"])


def _read_decided(checkpoint: str | Path) -> dict[str, Any]:
    """Read a checkpoint that holds a fitted threshold."""
    source = read_checkpoint(checkpoint)
    if source["decision"]["threshold"] is None:
        raise CheckpointError(
            f"{checkpoint}: holds no fitted threshold, or its weights were trained on after it had been fitted; fit it "
            "with OODThreshold among the callbacks, to the end"
        )
    return source


def take_over(checkpoint: str | Path, model: EmbeddingClassifier, data: EmbeddingDataModule | None) -> Decision:
    """Make the decision of a checkpoint that of another fit; its score learns from the training rows at hand.

    Args:
        checkpoint: Checkpoint of the fit that has found calibration, score and threshold.
        model: The classifier that is to decide by them, which knows its data already.
        data: Where its training rows are.

    Raises:
        CheckpointError: If the decision does not fit the classifier: the classes of its fit are not among the model's,
            embeddings were scaled in another way, the store is another, or its split does not divide the training rows.
        ConfigError: If the score has to learn from training rows and there is no data module of this package.
    """
    source = _read_decided(checkpoint)
    try:
        _check_origin(source, model)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: its decision cannot be taken over: {error}") from None
    decision = Decision.unpack(source["decision"]).to(model.device)
    position = {name: place for place, name in enumerate(source["hyper_parameters"]["class_names"])}
    places = torch.tensor([position.get(name, -1) for name in model.class_names], device=model.device)
    if decision.calibrator is not None:
        decision.calibrator.for_classes(places)
    if decision.expectation is not None:
        decision.expectation = decision.expectation.for_classes(places)
    decision.given = frozenset(["calibrator", "score", "threshold"])
    if decision.score is not None:
        learn_from_training_rows(decision.score, model, data)
    return decision


def learn_from_training_rows(score: NoneScore, model: EmbeddingClassifier, data: EmbeddingDataModule | None) -> None:
    """Let a score learn from all training rows, scaled as the network sees them and never augmented.

    Raises:
        ConfigError: If it has something to learn and there is no data module of this package to give the rows.
    """
    if isinstance(score, LogitScore):
        return
    if data is None:
        raise ConfigError(
            f"{type(score).__name__} learns from the training rows as they are, which it takes from an "
            "EmbeddingDataModule: fit with one, or choose a score of the logits alone"
        )
    batches = list(data.training_rows())
    scaled = [model.scale(batch.embeddings.type(model.dtype).to(model.device)) for batch in batches]
    score.to(model.device).fit(torch.cat(scaled), torch.cat([batch.labels for batch in batches]).to(model.device))


def _check_origin(source: Mapping[str, Any], model: EmbeddingClassifier) -> None:
    """Raise :class:`CheckpointError` where a decision comes from a fit that has nothing to do with the model's."""
    hparams = source["hyper_parameters"]
    if strangers := sorted(set(hparams["class_names"]) - set(model.class_names)):
        raise CheckpointError(
            f"{len(strangers)} of its {len(hparams['class_names'])} classes are not among the {len(model.class_names)} "
            f"of this fit: {', '.join(strangers[:5])}; take that of a ThresholdSplit of this fit's split"
        )
    for what in ("modalities", "scaling"):
        own = {"modalities": model.modalities, "scaling": model.scale.kinds}[what]
        if hparams[what] != own:
            raise CheckpointError(f"it was fitted with the {what} {hparams[what]}, this fit has {own}")
    if "trained_on" in source and model.trained_on:
        _check_rows(TrainedOn(**source["trained_on"]), model.trained_on)


def _check_rows(theirs: TrainedOn, own: TrainedOn) -> None:
    """Raise :class:`CheckpointError` where a decision comes from other rows than those that this fit trains on."""
    if differing := other_encoder(theirs.encoders, own.encoders):
        raise CheckpointError(f"it was fitted on embeddings that were made in another way ({differing})")
    if theirs.store and own.store and theirs.store != own.store and not _are_known_to_agree(theirs, own):
        raise CheckpointError(
            "it was fitted on a store with other embeddings: fit it on the store of this fit, or give the threshold as "
            "a number (value). One that has grown is taken where `estitchup embed` made it, which notes the encoders"
        )
    foreign = int((~torch.isin(theirs.digests, own.digests)).sum())
    if foreign:
        raise CheckpointError(
            f"{foreign:,} of the {len(theirs.digests):,} rows that trained beside it are not among the training rows "
            "of this fit: take that of a ThresholdSplit of this fit's split (the same trial of the same store), or "
            "give the threshold as a number (value)"
        )
    if _is_known(theirs.split) and _is_known(own.split) and own.split not in _divided(theirs.split):
        raise CheckpointError(
            f"it was fitted under {spell_split(theirs.split)}, which does not divide the training rows of this fit's "
            f"split, {spell_split(own.split)}, and a model of more or fewer rows is sure in another way: take that of "
            "a ThresholdSplit of this fit's split, or give the threshold as a number (value)"
        )


def _are_known_to_agree(theirs: TrainedOn, own: TrainedOn) -> bool:
    """Whether both say which encoder made each modality, and the same: then a store that differs has grown."""
    named = all(encoder.get("encoder") for encoder in own.encoders.values())
    return named and bool(own.encoders) and theirs.encoders == own.encoders


def _is_known(split: Mapping[str, Any]) -> bool:
    """Whether a split is described with its arguments; rows that a caller gave are not."""
    return split["init_args"] is not None


def _divided(split: Mapping[str, Any]) -> list[Any]:
    """A split, and those whose training rows it divides."""
    inner = split["init_args"].get("split")
    return [split, *(_divided(inner) if isinstance(inner, Mapping) and _is_known(inner) else [])]
