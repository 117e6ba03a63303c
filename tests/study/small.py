"""Small studies on the digits, for the tests of whatever takes part in one."""

from __future__ import annotations

from typing import Any

from estitchup_pl.study import SelectionConfig, StudyConfig

STITCH: dict[str, Any] = {"class_path": "EStitchup"}
SOFTEN: dict[str, Any] = {"class_path": "LabelSoftening", "init_args": {"softness": 0.1}}
SMALL_MODEL: dict[str, Any] = {"network": {"class_path": "EmbeddingMLP", "init_args": {"hidden": [16]}}}
SPLIT: dict[str, Any] = {"train_fraction": 0.2, "unknown_classes": ["eight", "nine"]}


def method(kind: str, **init_args: Any) -> dict[str, Any]:
    """Describe a method of a class."""
    return {"class_path": kind, "init_args": init_args}


def scaled(base: str) -> dict[str, Any]:
    """Describe a method whose logits are divided by a temperature."""
    return method("Decided", base=base, calibrator=method("Temperature"))


def digits_config(**options: Any) -> StudyConfig:
    """Make a study of two methods in two trials, a few epochs long."""
    defaults: dict[str, Any] = {
        "store": "digits",
        "name": "small",
        "split": SPLIT,
        "trials": 2,
        "held_out": 2,
        "repeats": 2,
        "epochs": 4,
        "model": {**SMALL_MODEL, "scaling": "standardize"},
        "curve_every": 2,
        "accelerator": "cpu",
        "precision": "32-true",  # the same numbers on every machine
        "selection": SelectionConfig(epochs=2),
        "methods": {"Control": {}, "E-Stitchup": {"callbacks": [STITCH], "grid": {"alpha": [0.2, 0.8]}}},
    }
    return StudyConfig(**{**defaults, **options})
