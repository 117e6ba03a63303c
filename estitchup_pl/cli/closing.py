"""What a fit says at its end: rows, metrics, the threshold and what it rests on, the checkpoint, what is next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.data.splits import ThresholdSplit
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.wording import counted


def closing_text(
    model: EmbeddingClassifier, data: EmbeddingDataModule, metrics: Mapping[str, float], checkpoint: str
) -> str:
    """Write the table that stands at the end of a fit, its commands each on one line.

    Args:
        model: The classifier that was fitted.
        data: Its data module.
        metrics: What was logged last, by name; those of the validation are shown.
        checkpoint: File of the checkpoint; empty if none was written.
    """
    validated = {name: value for name, value in sorted(metrics.items()) if name.startswith("val/")}
    lines = [
        ("rows", rows_text(data)),
        *((name, f"{value:.4f}" if math.isfinite(value) else "undefined") for name, value in validated.items()),
        ("threshold", threshold_text(model)),
        ("checkpoint", checkpoint or "none was written (--trainer.enable_checkpointing)"),
        *(("" if number else "next", command) for number, command in enumerate(next_commands(data, checkpoint))),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def rows_text(data: EmbeddingDataModule) -> str:
    """How many rows have trained, of how many classes, and how many have validated."""
    train, val, unknown = len(data.parts.train), len(data.parts.val), data.unknown_validation_rows
    none = f', {unknown:,} of them "none"' if unknown else ""
    validated = f"{val:,} validated{none}" if val else "none is left to validate"
    return f"{train:,} trained, of {counted(len(data.class_names), 'class', 'classes')}; {validated}"


def threshold_text(model: EmbeddingClassifier) -> str:
    """The threshold with its interval and the rows that it rests on, as far as they are known."""
    decision = model.decision
    if not decision.has_threshold:
        return 'none, so nothing is called "none": see --config threshold/fit'
    return f"{decision.threshold:.4f} {decision.basis or 'as given'}"


def next_commands(data: EmbeddingDataModule, checkpoint: str) -> Sequence[str]:
    """What to do with the checkpoint: to take its decision over, or to test and predict with it."""
    if not checkpoint:
        return []
    path = shlex.quote(checkpoint)
    if isinstance(data.split, ThresholdSplit):
        return [f"estitchup fit ... --config threshold/take_over --trainer.callbacks.checkpoint {path}"]
    store = shlex.quote(str(data.store.path or "digits"))
    test = [f"estitchup test --data.store {store} --ckpt_path {path}"] if data.parts.test.size else []
    rows = " --rows unlabelled" if data.labels.unlabelled.size else ""
    return [*test, f"estitchup predict --ckpt_path {path} --store {store}{rows}"]
