"""``estitchup serve``: decisions over HTTP."""

from __future__ import annotations

import sys
from typing import Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.serving.asked import Limits
from estitchup_pl.serving.lifetime import HOSTS, serve

_DESCRIPTION: Final = """\
Answer requests for decisions over HTTP, until Ctrl-C or SIGTERM: POST /predict takes embeddings by modality and gives
class or "none", confidence, score of "none" and the most likely classes; GET /health, /info and /metrics.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup serve`` with the words after it; return the exit status 0 once a signal has ended it.

    Raises:
        ConfigError: For a wrong call, a port that is not free, or a missing extra.
        CheckpointError: If the checkpoint cannot be read.
    """
    call = serve_parser().parse_call(argv)
    limits = Limits(call.max_items, call.max_bytes, call.max_characters)
    print(f"serving {call.ckpt_path} at http://{call.host}:{call.port}/predict once /health says ok", file=sys.stderr)
    serve(
        call.ckpt_path,
        raw=not call.embeddings_only,
        host=call.host,
        port=call.port,
        accelerator=call.accelerator,
        workers=call.workers,
        limits=limits,
        text_encoder=call.text_encoder,
        image_checkpoint=call.image_checkpoint,
        top_k=call.top_k,
        batch_size=call.batch_size,
        max_requests=call.max_requests,
        batch_timeout=call.batch_timeout,
    )
    print("ended", file=sys.stderr)
    return 0


def serve_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup serve", description=_DESCRIPTION)
    parser.add_argument("--ckpt_path", metavar="FILE", required=True, help="checkpoint of a fit")
    parser.add_argument("--host", choices=HOSTS, default=HOSTS[0], help="address to listen at; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="device")
    parser.add_argument("--workers", type=int, default=1, help="processes on each device, each with a model of its own")
    parser.add_argument("--top_k", type=int, default=5, help="most likely classes in a decision")
    parser.add_argument("--max_requests", type=int, default=64, help="requests that are decided together at most")
    parser.add_argument("--batch_timeout", type=float, default=0.0, help="seconds to wait for more requests")
    parser.add_argument("--batch_size", type=int, default=64, help="raw values that an encoder sees at once")
    parser.add_argument("--embeddings_only", action="store_true", help="take no raw values, and load no encoders")
    parser.add_argument("--text_encoder", metavar="MODEL", help="where the text encoder has moved to")
    parser.add_argument("--image_checkpoint", metavar="FILE", help="where the image encoder's weights have moved to")
    limits = Limits()
    parser.add_argument("--max_items", type=int, default=limits.max_items, help="items in a request")
    parser.add_argument("--max_bytes", type=int, default=limits.max_bytes, help="size of a request")
    parser.add_argument("--max_characters", type=int, default=limits.max_characters, help="length of a text")
    return parser
