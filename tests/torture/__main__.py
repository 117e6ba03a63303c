"""``make torture``: attacks every part, and counts what came out.

python tests/torture [PART ...] [--scale 1.0] [--seed 0] [--folder DIR]
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
for name in ("JSONARGPARSE_DEPRECATION_WARNINGS", "HF_HUB_OFFLINE", "WANDB_MODE"):
    os.environ.setdefault(name, {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}.get(name, "off"))
os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "embed"), str(HERE.parent / "study")]
warnings.simplefilter("ignore")

from children import Outcome  # noqa: E402
from parts import PARTS  # noqa: E402


def main() -> int:
    """Run the parts; return 1 if anything ended as it must not."""
    parser = argparse.ArgumentParser(prog="make torture")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="parts to run; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; a temporary one by default")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        for name in options.parts or PARTS:
            folder = (options.folder or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            failed += _report(name, PARTS[name](options.scale, options.seed, folder))
    print("everything ended as it should" if not failed else f"{failed} cases ended as they must not")
    return int(failed > 0)


def _report(part: str, outcomes: Iterator[tuple[str, Outcome]]) -> int:
    """Print what came out, a line for each kind of case as it is done; return how many must not have ended so."""
    began, total = time.monotonic(), collections.Counter[str]()
    for kind, cases in itertools.groupby(outcomes, key=lambda pair: pair[0]):
        verdicts = collections.Counter[str]()
        for _, outcome in cases:
            verdicts[outcome.verdict] += 1
            if not outcome.allowed:
                print(f"  {outcome.verdict.upper()}: {outcome.case}: {outcome.detail}", flush=True)
        print(f"  {kind:<26}" + "".join(f"{verdicts[verdict]:>8} {verdict}" for verdict in verdicts), flush=True)
        total += verdicts
    failed = total.total() - total["right"] - total["refused"]
    ended = f"{total['right']} right, {total['refused']} refused, {failed} failed"
    print(f"{part}: {total.total()} cases, {ended}, {time.monotonic() - began:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
