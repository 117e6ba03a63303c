"""``estitchup export``: a checkpoint for other people's systems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.model import EmbeddingClassifier
from estitchup_pl.serving import export_onnx, push_to_hub, save_pretrained

_DESCRIPTION: Final = """\
Write a fitted classifier for other systems: an ONNX file that decides by itself (a name ending in .onnx), or a folder
in the layout of Hugging Face (config.json, model.safetensors, a model card), which --push_to_hub uploads.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup export`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a missing extra.
        CheckpointError: If the checkpoint cannot be read.
    """
    call = export_parser().parse_call(argv)
    if (call.out is None) == (call.push_to_hub is None):
        raise ConfigError("expected either --out or --push_to_hub")
    model = EmbeddingClassifier.load_from_checkpoint(call.ckpt_path, map_location="cpu")
    metrics = _read_metrics(Path(call.metrics)) if call.metrics else {}
    if call.push_to_hub:
        print("uploaded:", push_to_hub(model, call.push_to_hub, metrics))
        return 0
    out = Path(call.out)
    if out.exists() and not call.overwrite:
        raise ConfigError(f"{out} exists: choose another place, or replace it with --overwrite")
    if out.suffix == ".onnx":
        export_onnx(model, out)
    else:
        save_pretrained(model, out, metrics)
    print("written:", out)
    return 0


def export_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup export", description=_DESCRIPTION)
    parser.add_argument("--ckpt_path", metavar="FILE", required=True, help="checkpoint of a fit")
    parser.add_argument("--out", metavar="PLACE", help="FILE.onnx, or a folder")
    parser.add_argument("--push_to_hub", metavar="OWNER/NAME", help="repository to upload to, made if it is not there")
    parser.add_argument("--metrics", metavar="FILE", help="JSON of figures by name, for the model card")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    return parser


def _read_metrics(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a JSON object of numbers by name ({error})") from error
