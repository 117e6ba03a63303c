"""How long commands take to answer: help, and a fit's first step as a ratio to ``import lightning.pytorch``.

    python benchmarks/startup.py --turns 5

Each turn starts new processes, one after the other, so that the ratio is of numbers measured side by side.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from estitchup_pl.store import EmbeddingStore

IMPORT = "import lightning.pytorch"
FIT = """
import sys, time
from estitchup_pl.cli import main
sys.argv = ["estitchup"]
main(["fit", "--data.store=store", "--trainer.callbacks+=first_step.FirstStep", "--trainer.accelerator=cpu",
      "--trainer.devices=1", "--trainer.logger=false", "--trainer.enable_progress_bar=false"])
"""
FIRST_STEP = """
import os
import lightning.pytorch as pl

class FirstStep(pl.Callback):
    def on_train_batch_end(self, *arguments):
        os._exit(0)
"""
HELP = "import sys; from estitchup_pl.cli import main; sys.exit(main(['{command}', '--help']))"


def seconds(code: str, folder: Path) -> float:
    """Time of a new process that runs ``code`` in ``folder``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
        items = pa.table({"id": [str(row) for row in range(1000)], "label": ["hat", "shoe"] * 500})
        EmbeddingStore.create(folder / "store", items, {"e": rows})
        (folder / "first_step.py").write_text(FIRST_STEP)
        seconds(FIT, folder)  # bytecode, and the files in the page cache
        pairs = [(seconds(IMPORT, folder), seconds(FIT, folder)) for _ in range(turns)]
        helps = {
            command: seconds(HELP.format(command=command), folder) for command in ("fit", "embed", "study", "store")
        }
    imports, fits = zip(*pairs, strict=True)
    print(f"import lightning.pytorch      {statistics.median(imports):6.2f} s")
    print(f"estitchup fit, first step     {statistics.median(fits):6.2f} s")
    print(f"ratio                         {statistics.median(fit / base for base, fit in pairs):6.2f}")
    for command, spent in helps.items():
        print(f"estitchup {command + ' --help':<20}{spent:6.2f} s")


if __name__ == "__main__":
    main()
