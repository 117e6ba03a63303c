"""Fitting a list of runs: in stacks where a program knows what they do, one by one otherwise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from joblib import Parallel, delayed
from lightning.fabric import Fabric
from torch import Tensor
from typing_extensions import override

from estitchup_pl.errors import ConfigError, DivergedError
from estitchup_pl.seeding import run_seed
from estitchup_pl.stacking.compiling import Compile, choose_compile
from estitchup_pl.stacking.device import choose_precision, device_of, keep_freed_memory, one_thread
from estitchup_pl.stacking.program import Program
from estitchup_pl.stacking.recipe import Recipe, read_recipe
from estitchup_pl.stacking.run import FittedRun, Run

CPU_RUNS = 2
"""Runs that a program on a CPU takes at least."""

CPU_WEIGHTS = 1_000_000
"""Weights of all runs that a program on a CPU takes where they are small: more only crowd its caches."""

MEMORY_SHARE = 0.5
"""Share of the free memory that a stack may take."""

PRECISIONS = ("32-true", "bf16-mixed")
"""What a program computes in; runs in other precisions are fitted one by one."""


def fit_runs(
    runs: Sequence[Run],
    max_epochs: int,
    *,
    stack_size: int | Literal["auto"] = "auto",
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: Any = "32-true",
    compile: Compile = "auto",
    workers: int = 1,
) -> Iterator[FittedRun]:
    """Fit runs in stacks; run by run the result is that of a fit of its own.

    Runs whose classes a program knows (:mod:`~estitchup_pl.stacking.recipe`) and that have the same layers are
    trained together. All others are fitted one by one by Lightning's Trainer, without validation.

    Args:
        runs: The runs, see :class:`Run`.
        max_epochs: Epochs of each.
        stack_size: Runs that are fitted at once; ``"auto"`` takes what pays on the device and fits its memory.
        accelerator: As for :class:`lightning.pytorch.Trainer`.
        devices: As for :class:`lightning.pytorch.Trainer`; on several, runs are fitted one by one.
        precision: As for :class:`lightning.pytorch.Trainer`; ``"auto"`` is ``"bf16-mixed"`` where the device has
            instructions for it, else ``"32-true"``.
        compile: ``"graph"`` makes each step one launch on a GPU, ``"inductor"`` also fuses what it is made of (after
            some seconds of compiling), ``"none"`` neither; ``"auto"`` is ``"inductor"`` on a GPU, ``"none"`` on a CPU.
        workers: Processes of one thread each among which the stacks are shared, through joblib; -1 for one a core. On a
            CPU they do more in an hour than threads do. 1 for this process.

    Returns:
        Generator of the runs, each as soon as its stack has ended; with one worker the next stack begins when it is
        asked for more.

    Raises:
        ConfigError: If ``stack_size`` is less than one, two runs have one name, a run to be fitted in another process
            has ``watch``, which could be called there alone, or an option does not exist.
    """
    if stack_size != "auto" and stack_size < 1:
        raise ConfigError(f'stack_size must be at least 1, or "auto", got {stack_size}')
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two runs are called {name!r}: give each a name of its own")
    device = device_of(accelerator)
    fitting = _Fitting(
        max_epochs=max_epochs,
        accelerator=accelerator,
        devices=devices,
        precision=choose_precision(precision, device),
        compile=choose_compile(compile, device),
    )
    if workers == 1:
        return (fitted for batch in fitting.batches(runs, stack_size) for fitted in fitting.fit(batch))
    if watched := [run.name for run in runs if run.watch]:
        raise ConfigError(f"{watched[0]}: has `watch`, which other processes cannot call: fit it with workers=1")
    return fitting.fit_in(workers, fitting.batches(runs, stack_size))


@dataclass(frozen=True)
class _Fitting:
    """How runs are fitted, in whichever process."""

    max_epochs: int
    accelerator: str
    devices: int | str
    precision: Any
    compile: Compile

    def batches(self, runs: Sequence[Run], stack_size: int | Literal["auto"]) -> list[list[Run]]:
        """Put together what is fitted as one program; each of the others alone."""
        device, recipes = self._fabric().device, {run: self._recipe(run) for run in runs}
        known = [(run, recipe) for run, recipe in recipes.items() if recipe]
        shapes = list(dict.fromkeys(recipe.shape for _, recipe in known))
        # Runs of like length side by side, so that few wait for others at the end of an epoch.
        known.sort(key=lambda pair: (shapes.index(pair[1].shape), len(pair[0].data.parts.train)))
        batches = []
        for _, group in groupby(known, key=lambda pair: pair[1].shape):
            waiting = [run for run, _ in group]
            size = affordable(waiting[0], device) if stack_size == "auto" else stack_size
            batches += [waiting[start : start + size] for start in range(0, len(waiting), size)]
        return batches + [[run] for run, recipe in recipes.items() if recipe is None]

    def fit(self, batch: Sequence[Run]) -> list[FittedRun]:
        """Fit a batch in this process."""
        recipes = [(run, recipe) for run in batch if (recipe := self._recipe(run))]
        if not recipes:
            return [fit_alone(run, self._trainer()) for run in batch]
        return fit_stack(recipes, self.max_epochs, self._fabric(), self.compile)

    def fit_in(self, workers: int, batches: Sequence[Sequence[Run]]) -> Iterator[FittedRun]:
        """Fit batches in other processes; what they give is loaded into the runs of this one."""
        runs = {run.name: run for batch in batches for run in batch}
        parallel = Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1)
        for given in parallel(delayed(_fit_in_worker)(self, batch) for batch in batches):
            for name, state, diverged in given:
                prepare(runs[name], torch.device("cpu"))
                runs[name].model.load_state_dict(state)
                yield FittedRun(runs[name], diverged)

    def _recipe(self, run: Run) -> Recipe | None:
        stackable = self.devices in (1, "1", "auto") and self.precision in PRECISIONS
        return read_recipe(run) if stackable else None

    def _fabric(self) -> Fabric:
        precision: Any = self.precision if self.precision in PRECISIONS else "32-true"
        return Fabric(accelerator=self.accelerator, devices=1, precision=precision)

    def _trainer(self) -> dict[str, Any]:
        return {
            "max_epochs": self.max_epochs,
            "accelerator": self.accelerator,
            "devices": self.devices,
            "precision": self.precision,
        }


def _fit_in_worker(fitting: _Fitting, batch: Sequence[Run]) -> list[tuple[str, dict[str, Tensor], bool]]:
    """Name, weights and whether it diverged, of each run of a batch."""
    keep_freed_memory()
    with one_thread():
        return [(one.run.name, one.run.model.state_dict(), one.diverged) for one in fitting.fit(batch)]


def fit_stack(
    stack: Sequence[tuple[Run, Recipe]], max_epochs: int, fabric: Fabric, compile: Compile
) -> list[FittedRun]:
    """Train runs of one shape as one program.

    Args:
        stack: The runs and their recipes.
        max_epochs: Epochs of each.
        fabric: Knows device and precision.
        compile: See :mod:`~estitchup_pl.stacking.compiling`.
    """
    runs, recipes = zip(*sorted(stack, key=lambda pair: pair[1].mixer), strict=True)
    for run in runs:
        prepare(run, fabric.device if run.watch else torch.device("cpu"))
    program = Program(runs, recipes, fabric.device, fabric.autocast, compile)
    running = dict(enumerate(runs))
    for epoch in range(max_epochs):
        program.begin_epoch(epoch, running)
        for _ in range(max(program.steps[position] for position in running)):
            program.step()
        losses = program.mean_losses()
        for position, run in list(running.items()):
            if run.watch:
                program.load_into(run.model, position)
                run.watch(epoch + 1, run.model)
            if not math.isfinite(losses[position]):
                _warn_of_divergence(run, epoch)
                del running[position]
        if not running:
            break
    for position, run in enumerate(runs):
        run.model.cpu()
        program.load_into(run.model, position)
    return [FittedRun(run, position not in running) for position, run in enumerate(runs)]


def fit_alone(run: Run, options: dict[str, Any]) -> FittedRun:
    """Fit one run with Lightning's Trainer, whatever it is made of."""
    watcher = _Watcher(run)
    trainer = pl.Trainer(
        **options,
        callbacks=[*run.callbacks, watcher],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        with run_seed(run.seed):
            trainer.fit(run.model, run.data)
    except DivergedError:
        _warn_of_divergence(run, trainer.current_epoch)
        watcher.diverged = True
    run.model.cpu()
    return FittedRun(run, watcher.diverged)


class _Watcher(pl.Callback):
    """Does for a fit of its own what the loop of a stack does at the end of an epoch."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.diverged = False

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._run.watch:
            self._run.watch(trainer.current_epoch + 1, self._run.model)
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not bool(loss.isfinite()):
            _warn_of_divergence(self._run, trainer.current_epoch)
            self.diverged = trainer.should_stop = True


def prepare(run: Run, device: torch.device) -> None:
    """Divide the rows of a run and build its network, as its Trainer would have."""
    with run_seed(run.seed):
        run.data.setup("fit")
        run.data.describe_to(run.model)
        run.model.configure_model()
    run.model.to(device)


def _warn_of_divergence(run: Run, epoch: int) -> None:
    warnings.warn(
        f"{run.name}: the loss is not finite after epoch {epoch}; this run ends here, the others go on. Lower its "
        "learning rate, or look for embeddings that are not finite",
        stacklevel=2,
    )


def affordable(run: Run, device: torch.device) -> int:
    """Estimate how many runs like this one pay at once on a device."""
    weights, dim = count_weights(run), sum(run.data.modalities.values())
    if device.type != "cuda":
        return max(CPU_RUNS, CPU_WEIGHTS // weights)
    # Weights, gradients, two moments and the products of a step; a batch and what mixing makes of it.
    needed = 4 * (6 * weights + 6 * run.data.batch_size * dim)
    return max(1, int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / needed))


def count_weights(run: Run) -> int:
    """Number of weights that the network of a run has."""
    classes = len(run.data.labels.present(run.data.parts.train))
    with torch.device("meta"):
        network = run.model.build_network(sum(run.data.modalities.values()), classes)
    return sum(weight.numel() for weight in network.parameters())
