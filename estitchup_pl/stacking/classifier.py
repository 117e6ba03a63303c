"""The classifiers of all runs as one LightningModule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import run_seed
from estitchup_pl.stacking.data import StackedBatch, StackedLoader
from estitchup_pl.stacking.network import StackedNetwork
from estitchup_pl.stacking.optimizer import RunOptimizer, StackedOptimizer
from estitchup_pl.stacking.run import Run


class StackedClassifier(pl.LightningModule):
    """Trains several runs at once, each as it would be trained alone.

    The hooks of a run's callbacks and of its classifier are called with that run's own trainer
    (:class:`RunTrainer`), classifier and batches, so callbacks need to know nothing of stacks: ``setup``, and those
    at the start and end of the fit, of training, of an epoch and of a batch. A run whose loss is
    no longer finite, or one whose callback sets ``trainer.should_stop``, takes no further part; the others go on.
    There is no validation during the fit: let a callback predict with ``pl_module.predict_proba`` at the end of an
    epoch, or test the runs one by one afterwards.

    Args:
        runs: The runs, see :class:`Run`.

    Attributes:
        diverged: Names of the runs whose loss was no longer finite at the end of an epoch.

    Raises:
        ConfigError: If two runs have one name, or a run overrides what a stack does for it.
    """

    network: StackedNetwork

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self.runs = tuple(runs)
        self.diverged: list[str] = []
        names = [run.name for run in self.runs]
        for run in self.runs:
            if names.count(run.name) > 1:
                raise ConfigError(f"two runs of a stack are called {run.name!r}: give each a name of its own")
            if type(run.model).training_step is not EmbeddingClassifier.training_step:
                raise ConfigError(
                    f"{run.name}: {type(run.model).__name__} overrides training_step, which a stack cannot call; "
                    "override training_loss, or fit this run alone"
                )
            if any(isinstance(callback, Checkpoint) for callback in run.callbacks):
                raise ConfigError(
                    f"{run.name}: a checkpoint callback would save the whole stack; give it to the trainer, and save "
                    "single runs with save_run"
                )

    def setup(self, stage: str) -> None:
        """Pass on."""
        self._call("setup", stage)

    def configure_model(self) -> None:
        """Build the network of each run, with its own seed, and stack them."""
        if hasattr(self, "network"):
            return
        for run in self.runs:
            with run_seed(run.seed):
                run.model.configure_model()
        self.network = StackedNetwork([run.model.network for run in self.runs if run.model.network is not None])

    def configure_optimizers(self) -> StackedOptimizer:
        """Configure the optimizer and schedule of each run."""
        if self.trainer.accumulate_grad_batches != 1:
            raise ConfigError("a stack of runs takes no accumulate_grad_batches: raise data.batch_size instead")
        for run in self.runs:
            run.model.to(self.device)
        self.network.share_weights()
        self.trainer.fit_loop.setup_data()  # makes Lightning make the loaders, which it does only later
        optimizers = []
        for run, loader in zip(self.runs, self._loader.loaders.values(), strict=True):
            run.trainer.num_training_batches = min(len(loader), int(self.trainer.num_training_batches))
            optimizers.append(RunOptimizer.of(run.name, run.model.configure_optimizers()))
        return StackedOptimizer(self.network.parameters(), optimizers, self.network.share_gradients)

    def training_step(self, batch: StackedBatch, batch_idx: int) -> Tensor:
        """Sum of the losses of all runs that take part: no run's gradient depends on another's."""
        rows = [len(batch[run].rows) if run in batch else 0 for run in range(len(self.runs))]
        self.network.draw_dropout(rows)
        logits = self.network(_stack(batch, rows))
        losses = []
        for run, own in batch.items():
            model = self.runs[run].model
            losses.append(model.training_loss(logits[run, : rows[run], : len(model.class_names)], own))
        self._optimizer.active = batch.keys()
        return torch.stack(losses).sum()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each run by itself."""
        for run in self._optimizer.active if gradient_clip_val else ():
            self.network.share_gradients(run)
            self.clip_gradients(self._optimizer.runs[run].optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_fit_start(self) -> None:
        """Pass on."""
        self._call("on_fit_start")

    def on_train_start(self) -> None:
        """Pass on."""
        self._call("on_train_start")

    def on_train_epoch_start(self) -> None:
        """Pass on."""
        self._call("on_train_epoch_start")

    def on_train_batch_start(self, batch: StackedBatch, batch_idx: int) -> None:
        """Let the callbacks of each run change its batch."""
        for run, own in batch.items():
            self.runs[run].call("on_train_batch_start", own, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: StackedBatch, batch_idx: int) -> None:
        """Pass on, without the outputs, which belong to no single run."""
        for run, own in batch.items():
            self.runs[run].call("on_train_batch_end", None, own, batch_idx)

    def on_train_epoch_end(self) -> None:
        """Pass on, move the schedules that move with epochs, and end the runs that are to end."""
        self._call("on_train_epoch_end")
        running = [position for position in range(len(self.runs)) if position not in self._finished]
        logged = [self.runs[position].trainer.callback_metrics for position in running]
        losses = torch.stack([torch.as_tensor(metrics.get("train/loss", 0.0)) for metrics in logged])
        finite = self.trainer.strategy.reduce(losses, reduce_op="mean").isfinite().tolist()
        for position, is_finite in zip(running, finite, strict=True):
            run = self.runs[position]
            self._optimizer.runs[position].advance("epoch")
            if not is_finite:
                self.diverged.append(run.name)
                rank_zero_warn(
                    f"{run.name}: the loss is not finite after epoch {self.current_epoch}; this run ends here, the "
                    "others go on. Lower its learning rate, or look for embeddings that are not finite"
                )
            if run.trainer.should_stop or not is_finite:
                self._finished.add(position)
        if len(self._finished) == len(self.runs):
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Pass on."""
        self._call("on_train_end", all_runs=True)

    def on_fit_end(self) -> None:
        """Pass on, and make each run's classifier and data module ordinary ones."""
        self._call("on_fit_end", all_runs=True)
        self.network.release()
        for run in self.runs:
            run.model.to("cpu")
            run.detach()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what runs have beside their weights, such as a threshold, and which are finished."""
        checkpoint["buffers"] = [dict(run.model.named_buffers()) for run in self.runs]
        checkpoint["finished"], checkpoint["diverged"] = sorted(self._finished), self.diverged

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring that back."""
        for run, buffers in zip(self.runs, checkpoint["buffers"], strict=True):
            run.model.load_state_dict(buffers, strict=False)
        self._finished.update(checkpoint["finished"])
        self.diverged = list(checkpoint["diverged"])

    def unstack(self, run: int) -> dict[str, Any]:
        """Checkpoint of one run, which ``estitchup test`` takes like that of a fit of its own.

        Args:
            run: Position of the run in the stack.

        Returns:
            Dictionary for :func:`torch.save`, of plain containers and tensors.
        """
        model = self.runs[run].model
        return {
            "pytorch-lightning_version": lightning.__version__,
            "epoch": self.current_epoch,
            "global_step": self.global_step,
            "state_dict": {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
            model.CHECKPOINT_HYPER_PARAMS_NAME: "kwargs",
            model.CHECKPOINT_HYPER_PARAMS_KEY: dict(model.hparams),
        }

    def save_run(self, run: int, path: str | Path) -> None:
        """Write the checkpoint of one run, see :meth:`unstack`."""
        torch.save(self.unstack(run), path)

    @property
    def _finished(self) -> set[int]:
        finished: set[int] = self.trainer.datamodule.finished  # type: ignore[attr-defined]
        return finished

    @property
    def _loader(self) -> StackedLoader:
        loader: StackedLoader = self.trainer.train_dataloader  # type: ignore[assignment]
        return loader

    @property
    def _optimizer(self) -> StackedOptimizer:
        optimizer: StackedOptimizer = self.trainer.optimizers[0]  # type: ignore[assignment]
        return optimizer

    def _call(self, hook: str, *args: Any, all_runs: bool = False) -> None:
        for position, run in enumerate(self.runs):
            if all_runs or position not in self._finished:
                run.call(hook, *args)


def _stack(batch: StackedBatch, rows: Sequence[int]) -> Tensor:
    """Join the embeddings of all runs, ``(runs, batch, dim)``; zeros where a run has fewer rows or none."""
    embeddings = [own.embeddings for own in batch.values()]
    if min(rows) == max(rows):
        return torch.stack(embeddings)
    stacked = embeddings[0].new_zeros(len(rows), max(rows), embeddings[0].shape[-1])
    for run, own in batch.items():
        stacked[run, : rows[run]] = own.embeddings
    return stacked
