"""``make torture``: attacks every part, and counts what came out.

python tests/torture [PART ...] [--scale 1.0] [--seed 0] [--jobs 2] [--only KIND ...] [--folder DIR]
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
for name in ("JSONARGPARSE_DEPRECATION_WARNINGS", "HF_HUB_OFFLINE", "WANDB_MODE"):
    os.environ.setdefault(name, {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}.get(name, "off"))
os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "embed"), str(HERE.parent / "study")]
warnings.simplefilter("ignore")

from children import fork  # noqa: E402
from commands_at_work import checkpoint  # noqa: E402
from parts import PARTS, Kind  # noqa: E402

Counts = collections.Counter[str]


def main() -> int:
    """Run the parts; return 1 if anything ended as it must not."""
    parser = argparse.ArgumentParser(prog="make torture")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="parts to run; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="kinds that run at a time")
    parser.add_argument("--only", nargs="+", default=[""], help="kinds whose names hold one of these")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        failed = sum(
            _part(name, (options.folder or Path(temporary)) / name, options) for name in options.parts or PARTS
        )
    print("everything ended as it should" if not failed else f"{failed} cases ended as they must not")
    return int(failed > 0)


def _part(part: str, folder: Path, options: argparse.Namespace) -> int:
    """Run the kinds of a part side by side; return how many cases must not have ended so."""
    began, running = time.monotonic(), dict[int, tuple[str, Path]]()
    waiting = [name for name in PARTS[part] if any(words in name for words in options.only)]
    if part != "inputs":
        checkpoint()  # made once, for all
    total = Counts()
    while waiting or running:
        if waiting and len(running) < options.jobs:
            name = waiting.pop(0)
            place = folder / name.translate(str.maketrans(" ", "-", ",()"))
            place.mkdir(parents=True)
            running[fork(partial(_kind, name, PARTS[part][name], place, options))] = (name, place)
        else:
            name, place = running.pop(os.wait()[0])
            counts = place.with_suffix(".json")
            total += Counts(json.loads(counts.read_text())) if counts.exists() else Counts({f"{name} broke off": 1})
    failed = total.total() - total["right"] - total["refused"]
    ended = f"{total['right']} right, {total['refused']} refused, {failed} failed"
    print(f"{part}: {total.total()} cases, {ended}, {time.monotonic() - began:.0f} s", flush=True)
    return failed


def _kind(name: str, run: Kind, place: Path, options: argparse.Namespace) -> None:
    """Run the cases of a kind, say what must not be as it comes, and then how they ended."""
    began, counts = time.monotonic(), Counts()
    for outcome in run(options.scale, options.seed, place):
        counts[outcome.verdict] += 1
        if not outcome.allowed:
            print(f"  {outcome.verdict.upper()}: {outcome.case}: {outcome.detail}", flush=True)
    ended = "".join(f"{number:>7} {verdict}" for verdict, number in counts.items())
    print(f"  {name:<26}{time.monotonic() - began:>7.0f} s{ended}", flush=True)
    place.with_suffix(".json").write_text(json.dumps(counts))


if __name__ == "__main__":
    sys.exit(main())
