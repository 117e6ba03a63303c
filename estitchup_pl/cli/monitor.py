"""``estitchup monitor``: a batch of predictions against what was expected."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.report.monitor_page import make_monitor_page
from estitchup_pl.serving.monitoring import Batch, Monitored, monitor, plain
from estitchup_pl.store.files import atomic_path

DRIFT: Final = 3
"""Exit status where something has changed; 1 and 2 are errors."""

_DESCRIPTION: Final = """\
Compare a batch of predictions with the rows that the model's threshold was found on, or with an earlier batch: share of
"none", confidence, score of "none", classes. The exit status is 3 where something has changed, 0 where nothing has.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup monitor`` with the words after it; return 0, or 3 where something has changed.

    Raises:
        ConfigError: For a wrong call, or a missing extra.
        DataError: For predictions that cannot be used.
        CheckpointError: If the checkpoint cannot be read, or says nothing of what is expected.
    """
    call = monitor_parser().parse_call(argv)
    if (call.reference is None) == (call.ckpt_path is None):
        raise ConfigError("expected either --ckpt_path, or --reference with earlier predictions")
    batch = Batch.read(call.predictions)
    reference = Batch.read(call.reference) if call.reference else Batch.of_checkpoint(read_checkpoint(call.ckpt_path))
    found = monitor(batch, reference, call.alpha, call.tolerance)
    print(json.dumps(plain(found), ensure_ascii=False) if call.json else in_words(found))
    if call.out:
        page = make_monitor_page(found, str(call.predictions), str(call.reference or call.ckpt_path))
        with atomic_path(Path(call.out)) as temporary:
            temporary.write_text(page, encoding="utf-8")
        print("written:", call.out, file=sys.stderr)
    return DRIFT if found.has_drifted else 0


def in_words(found: Monitored) -> str:
    """The result as a few lines."""
    lines = [f"{len(found.batch):,} items against {len(found.reference):,} expected ones"]
    for name, difference, adjusted, has_changed in found.findings:
        lines.append(
            f"{'CHANGED' if has_changed else 'as before':<10}{name}: {difference.found:.3f} (95 % interval "
            f"{difference.low:.3f} to {difference.high:.3f}), expected {difference.expected:.3f}; distance "
            f"{difference.distance:.3f}, p {adjusted:.2g}"
        )
    if found.unknown:
        share, low, high = found.unknown
        lines.append(f"unknown items, estimated without labels: {share:.3f} (95 % interval {low:.3f} to {high:.3f})")
    return "\n".join([*lines, *found.advice])


def monitor_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup monitor", description=_DESCRIPTION)
    parser.add_argument("predictions", metavar="FILE", help="file that `estitchup predict` wrote")
    parser.add_argument("--ckpt_path", metavar="FILE", help="checkpoint of the model, for what it expects")
    parser.add_argument("--reference", metavar="FILE", help="predictions of a time when all was well, in its place")
    parser.add_argument("--out", metavar="FILE", help="page to write, .html")
    parser.add_argument("--alpha", type=float, default=0.01, help="share of false alarms that is accepted")
    parser.add_argument("--tolerance", type=float, default=0.05, help="change that does not matter")
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    return parser
