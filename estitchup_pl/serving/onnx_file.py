"""ONNX: the whole decision as one graph, for any runtime."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from estitchup_pl import __version__
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import mean_logits
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decisions
from estitchup_pl.model.networks import decision_logits
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
        ConfigError: If the classifier has no network yet, a part of it cannot be written as ONNX, which is named, or
            the extra ``onnx`` is not installed.
    """
    onnx = require("onnx", "onnx", "export to ONNX")
    require("onnxscript", "onnx", "export to ONNX")
    example = tuple(torch.zeros(_ROWS, dim) for dim in model.modalities.values())
    rows, deployed = torch.export.Dim("rows"), Deployed(model).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own exporter
        try:
            program = torch.onnx.export(
                deployed,
                example,
                input_names=list(model.modalities),
                output_names=list(OUTPUTS),
                dynamic_shapes=(tuple({0: rows} for _ in example),),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # what a network of one's own does in tracing, and what the exporter does not know
            raise ConfigError(
                f"{_untraceable(deployed, example) or 'the model'} cannot be written as ONNX, since its Python code "
                "depends on the numbers or it uses what ONNX does not have: write it with tensor operations alone, or "
                "take the model out as a folder (--out FOLDER) or over HTTP (`estitchup serve`); --debug shows what "
                "PyTorch's exporter says"
            ) from error
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


def _untraceable(deployed: Deployed, example: tuple[Tensor, ...]) -> str | None:
    """Name of the first part that cannot be traced by itself."""
    with torch.no_grad():
        scaled = deployed.scale(torch.cat(example, dim=1))
        logits = decision_logits(deployed.network, scaled)
    decision = deployed.decision
    one = mean_logits(logits) if logits.ndim == 3 else logits
    parts: list[tuple[nn.Module | None, tuple[Tensor, ...]]] = [
        (deployed.network, (scaled,)),
        (decision.calibrator, (one,)),
        (decision.score, (scaled, logits if decision.score and decision.score.of_members else one)),
    ]
    for part, inputs in parts:
        try:
            if part is not None:
                torch.export.export(part, inputs)
        except Exception:
            return type(part).__name__
    return None
