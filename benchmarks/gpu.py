"""Everything that is to be measured on one GPU, in one go of under four minutes; prints it for ``docs/performance.md``.

Runs have the size of the fashion study: 4,444 rows of 1,792 columns and 126 classes, kept on the GPU::

    python benchmarks/gpu.py
"""

from __future__ import annotations

import argparse
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import lightning
import torch
from epoch import make_store
from stack import make_program, make_run, train
from torch.utils._python_dispatch import TorchDispatchMode

from estitchup_pl import EmbeddingStore
from estitchup_pl.functional import random_bits
from estitchup_pl.stacking import fit_runs
from estitchup_pl.stacking.compiling import Compile


class Operations(TorchDispatchMode):
    """Counts what is dispatched."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(store: EmbeddingStore, size: int, device: str) -> int:
    program = make_program(store, size, device)
    train(program, 0)
    program.begin_epoch(1, range(size))
    with Operations() as counted:
        program.step()
    return counted.count


def same_numbers(device: str) -> bool:
    """Whether the CPU's stream is the device's, by its kernel and by plain arithmetic."""
    key, counter = torch.tensor([[1, -2], [2**40, 3]]), torch.tensor([4, 5, 6])
    expected = random_bits.random_words(key, counter, 1001)
    draws = (random_bits.random_words, random_bits.philox_words)
    return all(torch.equal(draw(key.to(device), counter.to(device), 1001).cpu(), expected) for draw in draws)


def difference(store: EmbeddingStore, options: argparse.Namespace) -> str:
    """Runs of one stack against the same runs one by one without a compiler: norm of the difference, and largest."""
    together, alone = ([make_run(store, position) for position in range(6)] for _ in range(2))
    accelerator = "cpu" if options.on_cpu else "gpu"
    for runs, size, compile in ((together, 6, options.compile[0]), (alone, 1, "none")):
        list(fit_runs(runs, 2, stack_size=size, accelerator=accelerator, compile=compile))
    pairs = [
        (one.detach(), two.detach())
        for own, single in zip(together, alone, strict=True)
        for one, two in zip(own.model.parameters(), single.model.parameters(), strict=True)
    ]
    norm = max(float((one - two).norm() / two.norm()) for one, two in pairs)
    largest = max(float((one - two).abs().max() / two.abs().max()) for one, two in pairs)
    return f"{norm:.1e} of a tensor's norm; single weights {largest:.1e} of the largest"


def step_time(store: EmbeddingStore, options: argparse.Namespace, compile: Compile, precision: str) -> str:
    autocast = (lambda: torch.autocast(options.device, torch.bfloat16)) if precision == "bf16" else nullcontext
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    start = time.perf_counter()
    program = make_program(store, options.runs, options.device, compile, autocast)
    train(program, 0)
    begun = time.perf_counter() - start
    step = min(train(program, epoch) for epoch in range(1, options.timed + 1)) / max(program.steps)
    whole = step * max(program.steps) * options.epochs
    return f"{step * 1000:.3f} ms a step, begun in {begun:.1f} s; {options.epochs} epochs would take {whole:.1f} s"


def whole_study(store: EmbeddingStore, options: argparse.Namespace, precision: str) -> str:
    torch.set_float32_matmul_precision("highest")
    runs = [make_run(store, position) for position in range(options.runs)]
    start = time.perf_counter()
    fitted = fit_runs(
        runs,
        options.epochs,
        stack_size=options.runs,
        accelerator="cpu" if options.on_cpu else "gpu",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        compile=options.compile[0],
    )
    diverged = sum(one.diverged for one in fitted)
    return f"{time.perf_counter() - start:.1f} s in all, {diverged} diverged"


def kernels(store: EmbeddingStore, options: argparse.Namespace) -> str:
    torch.set_float32_matmul_precision("highest")
    program = make_program(store, options.runs, options.device, options.compile[0])
    train(program, 0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        train(program, 1)
    return "\n" + profile.key_averages().table(sort_by="cuda_time_total", row_limit=24, max_name_column_width=60)


def shown(name: str, measure: Callable[..., object], *arguments: object) -> None:
    """Print what is measured; what fails does not keep the rest from being measured."""
    try:
        print(f"{name}: {measure(*arguments)}", flush=True)
    except Exception:
        print(f"{name}: failed\n{traceback.format_exc(limit=-6)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4444, help="training rows of a run")
    parser.add_argument("--dims", type=int, nargs="+", default=[1792, 4864])
    parser.add_argument("--classes", type=int, default=126)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=576, help="epochs of the whole study")
    parser.add_argument("--timed", type=int, default=8, help="epochs that are timed")
    parser.add_argument("--compile", nargs="+", default=["inductor", "graph", "none"], help="how a step is launched")
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "bf16"])
    parser.add_argument("--whole", nargs="+", default=["float32", "bf16"], help="precisions to fit all epochs in")
    parser.add_argument("--on_cpu", action="store_true", help="try the script where there is no GPU; measures nothing")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if not torch.cuda.is_available() and not options.on_cpu:
        raise SystemExit("there is no GPU here, so there is nothing to measure")
    options.device = "cpu" if options.on_cpu else "cuda"
    name = "CPU" if options.on_cpu else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, lightning {lightning.__version__}", flush=True)
    shown("the CPU draws what the device draws", same_numbers, options.device)
    stores = {dim: make_store(round(options.rows / 0.9), dim, options.classes) for dim in options.dims}
    first = stores[options.dims[0]]
    for dim, store in stores.items():
        for precision in options.precisions:
            name = f"{dim} columns, {options.compile[0]}, {precision}"
            shown(name, step_time, store, options, options.compile[0], precision)
    for precision in options.whole:
        name = f"{options.dims[0]} columns, {options.runs} runs of {options.epochs} epochs, {precision}"
        shown(name, whole_study, first, options, precision)
    for size in (6, 30):
        shown(f"operations of a step of {size} runs", operations, first, size, options.device)
    shown("runs of a stack against each alone, float32", difference, first, options)
    for compile in options.compile[1:]:
        shown(f"{options.dims[0]} columns, {compile}, float32", step_time, first, options, compile, "float32")
    if not options.on_cpu:
        shown(f"an epoch, {options.dims[0]} columns, float32", kernels, first, options)
        print(f"at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory")


if __name__ == "__main__":
    main()
