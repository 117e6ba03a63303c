"""From the fits of a method in one trial to one classifier with its decision, as a checkpoint holds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.data.trained_rows import describe_split
from estitchup_pl.functional import Heuristic, ThresholdInterval, nonconformity
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import ThresholdBasis
from estitchup_pl.model.expectation import Expectation
from estitchup_pl.model.inputs import side_by_side
from estitchup_pl.model.saving import described, save_classifier
from estitchup_pl.study.building import build
from estitchup_pl.study.choosing import Chosen
from estitchup_pl.study.derived import DerivedMethod, Member
from estitchup_pl.study.methods import FittedMethod, Model, RowsMethod, TrainingRows
from estitchup_pl.study.stage import Fit
from estitchup_pl.study.study import Study
from estitchup_pl.study.thresholds import Thresholds


def check_classifier(study: Study, name: str) -> None:
    """Refuse before any fit what cannot become a classifier; of a choice only what is chosen has to.

    Raises:
        ConfigError: If the fits of the method are no classifiers of this package.
    """
    method = study.methods[name]
    if isinstance(method, FittedMethod):
        method.description(study.config.model)
    elif isinstance(method, DerivedMethod) and not isinstance(method, Chosen):
        for member in method.members:
            check_classifier(study, member.method)


def fits_of(study: Study, name: str, trial: int) -> list[Member]:
    """The fits that the classifier of a method is made of in a trial, each once; its thresholds are found already."""
    method = study.methods[name]
    if not isinstance(method, DerivedMethod):
        return [Member(name)]
    used = method.used(study.learnt(name, trial))
    nested = ([one] if one.number else fits_of(study, one.method, trial) for one in used)
    return list(dict.fromkeys(fit for fits in nested for fit in fits))


def fit_path(study: Study, member: Member, trial: int) -> Path:
    """File of the classifier of one fit, which has no decision yet."""
    return study.folder.run_path(member.method, trial) / f"fit-{member.number}.ckpt"


def keep_fit(study: Study, fit: Fit) -> None:
    """Write the classifier of a final fit, with the split of its trial."""
    job = fit.job
    method = study.method(job.method, job.values)
    if isinstance(method, RowsMethod):
        model = solved(study, method, job.trial, study.seed(job))
    else:
        assert fit.model is not None  # there is one of every network
        model = described(fit.model, method.description(study.config.model))
    if model.trained_on is not None:
        split = describe_split(study.config.build_split().for_trial(job.trial))
        model.trained_on = replace(model.trained_on, split=split)
    save_classifier(model, fit_path(study, Member(job.method, job.number), job.trial))


def trial_data(study: Study, trial: int, batch_size: int | None = None) -> EmbeddingDataModule:
    """Data module of the final fits of a trial."""
    config = study.config
    split = config.build_split().for_trial(trial)
    data = EmbeddingDataModule(study.trials.store, split, config.modalities, batch_size or config.batch_size)
    data.setup("fit")
    return data


def solved(study: Study, method: RowsMethod, trial: int, seed: int) -> EmbeddingClassifier:
    """Fit a method without epochs to the training rows of a trial."""
    data, description = trial_data(study, trial), method.description(study.config.model)
    model: EmbeddingClassifier = build(Model, description, "model")()
    data.describe_to(model)
    rows = study.trials.training_rows(trial)
    embeddings: Tensor = model.scale(side_by_side(study.trials.gather(rows), model.modalities))
    labels = torch.from_numpy(study.trials.labels.index(model.class_names)[rows])
    model.network = method.network(TrainingRows(embeddings, labels, model.class_names), seed)
    return described(model, description)


def classifier_of(study: Study, name: str, trial: int, heuristic: Heuristic = "intersection") -> EmbeddingClassifier:
    """Make the classifier of a method of its fits in a trial, with its threshold and what sets and intervals need.

    Args:
        study: The study, in which the classifiers of all :func:`fits_of` the method are kept.
        name: Name of the method.
        trial: The trial.
        heuristic: Which of the two thresholds of Sec. 4.3 it decides by.

    Raises:
        ConfigError: If the method cannot become one classifier.
    """
    model = EmbeddingClassifier.load_from_checkpoint(_assemble(study, name, trial), map_location="cpu")
    stage, found = Thresholds(), study.found(name, trial) or {}
    interval = ThresholdInterval(**found["threshold_intervals"][heuristic])
    rows = sum(len(stage.labels(study, trial, split)) for split in range(study.config.repeats))
    model.decision.threshold = found["thresholds"][heuristic]
    model.decision.basis = ThresholdBasis(interval.none_rows, rows - interval.none_rows, interval.low, interval.high)
    probabilities, labels = stage.pooled(study, name, trial)
    none_scores = 1 - stage.accepted(study, name, trial, probabilities)
    model.decision.unlikely = nonconformity(probabilities, labels)
    model.decision.expectation = Expectation.of(probabilities, none_scores, model.threshold, labels)
    return model


def _assemble(study: Study, name: str, trial: int) -> Path:
    """Make the classifier of a method of those that it is derived from, in a file."""
    method = study.methods[name]
    if not isinstance(method, DerivedMethod):
        return fit_path(study, Member(name), trial)
    learnt = study.learnt(name, trial)
    members = [
        fit_path(study, one, trial) if one.number else _assemble(study, one.method, trial)
        for one in method.used(learnt)
    ]
    path = study.folder.run_path(name, trial) / "derived.ckpt"
    save_classifier(method.classifier(members, learnt, trial_data(study, trial)), path)
    return path
