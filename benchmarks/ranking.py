"""Exact weighted AUROC + AUPR: time and peak memory against torchmetrics' exact mode.

Both sides score the same probabilities of ``classes - 1`` classes and "none". Times are taken in turns in this
process, peak memory in one fresh process each, above what it held once the data were loaded (Linux only).

    python benchmarks/ranking.py --rows 40000 --classes 172 --repeats 3
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchmetrics
from torch import Tensor
from torchmetrics.classification import MulticlassAUROC, MulticlassAveragePrecision

from estitchup_pl.functional import none_score, weighted_auroc_aupr
from estitchup_pl.metrics import WeightedRanking

Scores = tuple[float, float]


def functions(probabilities: Tensor, labels: Tensor) -> Scores:
    auroc, aupr = weighted_auroc_aupr(probabilities[:, :-1], labels)
    return float(auroc), float(aupr)


def metric(probabilities: Tensor, labels: Tensor) -> Scores:
    ranking = WeightedRanking()
    ranking.update(probabilities[:, :-1], labels, torch.arange(len(labels)))
    scores = ranking.compute()
    return float(scores["auroc"]), float(scores["aupr"])


def reference(probabilities: Tensor, labels: Tensor) -> Scores:
    columns = probabilities.shape[1]
    labels = torch.where(labels < 0, columns - 1, labels)
    scores = []
    for metric_class in (MulticlassAUROC, MulticlassAveragePrecision):
        exact = metric_class(columns, average="weighted", thresholds=None)
        exact.update(probabilities, labels)
        scores.append(float(exact.compute()))
    return scores[0], scores[1]


SIDES: dict[str, Callable[[Tensor, Tensor], Scores]] = {
    "estitchup_pl functions": functions,
    "estitchup_pl metric": metric,
    "torchmetrics exact": reference,
}


def write_data(folder: Path, rows: int, columns: int) -> None:
    """Write confident, mostly right predictions; the last column is the score of "none"."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, columns - 1, (rows,), generator=generator)
    logits = torch.randn(rows, columns - 1, generator=generator) * 2 - 6
    known = labels >= 0
    logits[known, labels[known]] += 5
    probabilities = logits.sigmoid()
    probabilities = torch.cat([probabilities, none_score(probabilities)[:, None]], dim=1)
    np.save(folder / "probabilities.npy", probabilities.numpy())
    np.save(folder / "labels.npy", labels.numpy())


def read_data(folder: Path) -> tuple[Tensor, Tensor]:
    return tuple(torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("probabilities", "labels"))


def resident_mib(field: str) -> float:
    """Read a field of Linux's process status; ``ru_maxrss`` would count the parent's memory before exec too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def report_memory(side: str, folder: Path) -> None:
    """Print the growth of this process's peak memory; meant for a fresh process."""
    probabilities, labels = read_data(folder)
    few = slice(0, 2 * probabilities.shape[1])
    SIDES[side](probabilities[few], labels[few])  # what is loaded on first use is no part of the comparison
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident_mib("VmRSS")
    SIDES[side](probabilities, labels)
    print(resident_mib("VmHWM") - before)


def measure_memory(side: str, folder: Path) -> float:
    command = [sys.executable, __file__, "--memory-of", side, "--data", str(folder)]
    command += ["--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--classes", type=int, default=172, help='columns, "none" among them')
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # torchmetrics announces the memory that exact curves take
    if options.memory_of:
        report_memory(options.memory_of, options.data)
        return

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.rows, options.classes)
        memory = {side: measure_memory(side, folder) for side in SIDES}
        probabilities, labels = read_data(folder)
    seconds = dict.fromkeys(SIDES, float("inf"))
    scores: dict[str, Scores] = {}
    for _ in range(options.repeats):
        for side, score in SIDES.items():
            start = time.perf_counter()
            scores[side] = score(probabilities, labels)
            seconds[side] = min(seconds[side], time.perf_counter() - start)

    print(
        f"{options.rows} x {options.classes}, {options.threads} thread(s), torch {torch.__version__}, "
        f"torchmetrics {torchmetrics.__version__}"
    )
    print(f"{'':24}{'seconds':>9}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}{'AUROC':>11}{'AUPR':>11}")
    base = "torchmetrics exact"
    for side, (auroc, aupr) in scores.items():
        print(
            f"{side:24}{seconds[side]:9.3f}{seconds[side] / seconds[base]:8.3f}"
            f"{memory[side]:10.1f}{memory[side] / memory[base]:8.3f}{auroc:11.7f}{aupr:11.7f}"
        )


if __name__ == "__main__":
    main()
