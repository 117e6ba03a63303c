"""ONNX: the whole decision as one graph, for any runtime."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Final

import torch

from estitchup_pl import __version__
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decisions
from estitchup_pl.optional import require
from estitchup_pl.serving.deployed import Deployed
from estitchup_pl.store.files import atomic_path

OUTPUTS: Final = Decisions._fields
"""Names of the outputs."""

_ROWS: Final = 3  # of the example that the graph is traced with; any number of rows can be given


def export_onnx(model: EmbeddingClassifier, path: Path) -> None:
    """Write a fitted classifier as an ONNX file.

    The graph takes float32 ``(rows, dim)`` of each modality by its name, as the store has them, and gives
    ``probabilities`` ``(rows, classes)``, ``none_scores`` ``(rows,)`` and ``predicted`` ``(rows,)``, -1 for "none".
    Its metadata hold ``class_names`` and ``modalities`` (JSON), ``threshold`` and the ``version`` of this package.

    Args:
        model: The classifier, on the CPU.
        path: The file to write; whole or not at all.

    Raises:
        ConfigError: If the classifier has no network yet, a part of it cannot be written as ONNX, or the extra
            ``onnx`` is not installed.
    """
    onnx = require("onnx", "onnx", "export to ONNX")
    require("onnxscript", "onnx", "export to ONNX")
    example = tuple(torch.zeros(_ROWS, dim) for dim in model.modalities.values())
    rows = torch.export.Dim("rows")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own exporter
        try:
            program = torch.onnx.export(
                Deployed(model).eval(),
                example,
                input_names=list(model.modalities),
                output_names=list(OUTPUTS),
                dynamic_shapes=(tuple({0: rows} for _ in example),),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigError(f"a part of the model cannot be written as ONNX: {error}") from error
    assert program is not None  # as it is where no file is named
    proto = program.model_proto
    facts = {
        "class_names": json.dumps(list(model.class_names), ensure_ascii=False),
        "modalities": json.dumps(model.modalities),
        "threshold": str(model.threshold),
        "version": __version__,
    }
    onnx.helper.set_model_props(proto, facts)
    with atomic_path(path) as temporary:
        onnx.save(proto, temporary)
