"""Small studies on the blobs and the digits, for the tests of whatever takes part in one."""

from __future__ import annotations

from typing import Any

from estitchup_pl.study import MethodConfig, SelectionConfig, StudyConfig

STITCH: dict[str, Any] = {"class_path": "EStitchup"}
SOFTEN: dict[str, Any] = {"class_path": "LabelSoftening", "init_args": {"softness": 0.1}}


def digits_config(**options: Any) -> StudyConfig:
    """Make a study of two methods in two trials, a few epochs long."""
    defaults: dict[str, Any] = {
        "store": "digits",
        "name": "small",
        "scaling": "standardize",
        "trials": 2,
        "train_fraction": 0.2,
        "unknown_classes": ["eight", "nine"],
        "held_out": 2,
        "epochs": 4,
        "hidden": [16],
        "curve_every": 2,
        "accelerator": "cpu",
        "selection": SelectionConfig(epochs=2),
        "methods": {
            "Control": MethodConfig(),
            "E-Stitchup": MethodConfig([STITCH], {"alpha": [0.2, 0.8]}),
        },
    }
    return StudyConfig(**{**defaults, **options})
