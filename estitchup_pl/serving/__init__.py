"""A fitted classifier in other people's systems: exported to ONNX or safetensors, or behind HTTP."""

from estitchup_pl.serving.asked import Limits
from estitchup_pl.serving.deployed import Deployed
from estitchup_pl.serving.lifetime import serve
from estitchup_pl.serving.onnx_file import export_onnx
from estitchup_pl.serving.pretrained import from_pretrained, push_to_hub, save_pretrained

__all__ = ["Deployed", "Limits", "export_onnx", "from_pretrained", "push_to_hub", "save_pretrained", "serve"]
