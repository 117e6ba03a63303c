"""The classifier: the paper's network, loss, optimizer and schedule, and what is logged about it."""

from __future__ import annotations

import inspect
import math
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchmetrics import MeanMetric, Metric, MetricCollection
from typing_extensions import override

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.errors import CheckpointError, ConfigError, DivergedError
from estitchup_pl.functional import mean_logits
from estitchup_pl.functional.checks import check_probabilities
from estitchup_pl.metrics import NoneMetric, ThresholdMetric, default_metrics
from estitchup_pl.model.checkpoint_io import SEALED, check_seal, seal
from estitchup_pl.model.checkpoints import compare_checkpoint, foreign_hyperparameters, read_checkpoint
from estitchup_pl.model.decision import Decision, Decisions
from estitchup_pl.model.epoch_loss import EpochLoss
from estitchup_pl.model.inputs import Embeddings, in_batches, side_by_side
from estitchup_pl.model.named_classes import only_known_classes
from estitchup_pl.model.networks import EmbeddingMLP, KeyedDropout, MemberNetwork, SoftTargetBCE, decision_logits
from estitchup_pl.model.optimizers import use_plain_kernels
from estitchup_pl.model.packing import check_finite
from estitchup_pl.model.scaling import ModalityScaling, Moments, Scaling, check_scaling
from estitchup_pl.model.schedules import TriangularCycle, build_schedule, lightning_schedule
from estitchup_pl.model.trained_on import TrainedOn
from estitchup_pl.seeding import batch_generator, derive_seed, global_seed

NetworkCallable = Callable[[int, int], nn.Module]
"""Builds a network from the width of the embeddings and the number of classes."""

LossCallable = Callable[[], nn.Module]
"""Builds a loss."""

DECISION = "decision"
"""Attribute of the classifier and key of its checkpoints."""


class Predictions(NamedTuple):
    """What a classifier says about each of some items, in their order.

    Attributes:
        predicted: Name of the class, or ``"none"``.
        confidence: Calibrated probability of the most likely class in ``[0, 1]``, float32 ``(rows,)``.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float64 ``(rows,)``.
        probabilities: Calibrated probability of each class in ``[0, 1]``, float32 ``(rows, classes)``.
    """

    predicted: list[str]
    confidence: Tensor
    none_scores: Tensor
    probabilities: Tensor


_NO_NETWORK: Final = "the classifier has no network yet: fit it, or load it from a checkpoint"

EVALUATED_AT_ONCE: Final = 4096
"""Rows that :meth:`EmbeddingClassifier.predict` evaluates at once."""


class EmbeddingClassifier(pl.LightningModule):
    """Classifier on embeddings, trained with binary cross-entropy on soft targets (Secs. 3.3, 3.4).

    It owns what it has been trained on: classes, modalities and their scaling. A data module tells them when a
    fit begins (:meth:`describe_data`), and they are kept in the checkpoint, so that testing and predicting need
    nothing but the checkpoint and data. How its outputs become decisions lies here too (:attr:`decision`): calibration,
    score of "none" and the threshold, set by callbacks such as ``Calibration`` and ``OODThreshold``; until then
    everything is accepted.

    Batches are scaled on their way to the device, before callbacks see them: the steps and ``model(x)`` take
    scaled embeddings, :meth:`logits` and :meth:`predict_proba` embeddings as they are in the store.

    Subclass it and override :meth:`training_step` or any other hook of Lightning's.

    Args:
        network: Called with the width of the embeddings and the number of classes; maps embeddings to logits.
        optimizer: Called with the parameters. Default: AdamW with decoupled weight decay 1e-4.
        lr_scheduler: Called with the optimizer; ``None`` for a constant rate. Default: the triangular cycle.
            Cyclic and one-cycle schedules step every batch, all others every epoch.
        loss: Called with nothing; a module that maps logits and targets, both ``(*stack, batch, classes)``, to a
            scalar. Default: binary cross-entropy, mean over batch and classes.
        metrics: Metrics of an evaluation by name, logged as ``val/<name>`` and ``test/<name>``. Each takes
            ``preds`` ``(batch, classes)``, ``target`` ``(batch,)`` with ``NONE`` and, if it wishes, ``rows`` and
            ``none_scores``. Default: :func:`~estitchup_pl.metrics.default_metrics`.
        more_metrics: Metrics beside those, or in the place of those of the same name.
        scaling: ``"none"``, ``"l2"``, ``"standardize"`` or ``"centered_l2"`` (these two by the training rows), for
            all modalities or by name.
        class_names: Known classes, in the order of the network's outputs. Default: from the data module.
        modalities: Width of each modality, in the order of concatenation. Default: from the data module.

    Attributes:
        decision: Calibration, score of "none" and threshold.
        scale: The scaling of the concatenated embeddings, ``(batch, dim)`` to the same.
        network: The network, once a fit or a checkpoint has told its size.
        trained_on: Which rows have trained it, and how they were chosen.

    Raises:
        ConfigError: If a scaling does not exist.
    """

    def __init__(
        self,
        network: NetworkCallable = EmbeddingMLP,
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=3e-4, weight_decay=1e-4, fused=True),
        lr_scheduler: LRSchedulerCallable | None = TriangularCycle,
        loss: LossCallable = SoftTargetBCE,
        metrics: Mapping[str, Metric] | None = None,
        more_metrics: Mapping[str, Metric] | None = None,
        scaling: Scaling | Mapping[str, Scaling] = "none",
        class_names: Sequence[str] | None = None,
        modalities: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # as they are before the data are known; Dashboard logs the whole run
        for name in [name for name, value in self.hparams.items() if not _is_plain(value)]:
            del self.hparams[name]  # a checkpoint holds plain values only; what is left out is given again
        self.build_network = network
        self.build_optimizer = optimizer
        self.build_lr_scheduler = lr_scheduler
        self.loss = loss()
        check_scaling(scaling)
        self.scaling = scaling
        self.class_names = tuple(class_names or ())
        self.modalities = dict(modalities or {})
        self.scale = ModalityScaling(self.modalities, scaling if self.modalities else "none")
        self.trained_on: TrainedOn | None = None
        self.network: nn.Module | None = None
        self.decision = Decision()
        self._epoch_loss = EpochLoss()
        chosen = default_metrics() if metrics is None else metrics
        self.val_metrics = MetricCollection({**chosen, **(more_metrics or {})})
        self.test_metrics = self.val_metrics.clone()
        self.val_loss = MeanMetric()
        self.test_loss = MeanMetric()

    @property
    def threshold(self) -> float:
        """Threshold in ``[0, 1]``: an item is accepted only above it (Sec. 2.5); NaN where none has been fitted.

        One that is set stays when the classifier is trained on, unlike one that a fit has found.

        Raises:
            ConfigError: If it is set to a value outside ``[0, 1]``.
        """
        return self.decision.threshold

    @threshold.setter
    def threshold(self, value: float | Tensor) -> None:
        self.decision.threshold = value
        self.decision.given |= {"threshold"}

    @override
    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load a fitted classifier, in evaluation mode; a fit that goes on with it trains it as usual.

        Args:
            checkpoint_path: File that a fit has written.
            kwargs: As Lightning takes them: ``map_location``, and arguments that the checkpoint does not hold.

        Raises:
            CheckpointError: If it is not a checkpoint of this class, holds another network, or names a class that is
                neither of this package nor imported already.
        """
        local = isinstance(checkpoint_path, str | Path) and "://" not in str(checkpoint_path)
        hparams = read_checkpoint(checkpoint_path)["hyper_parameters"] if local else {}
        options = {"weights_only": True, **kwargs}
        try:
            with only_known_classes(hparams):
                return super().load_from_checkpoint(checkpoint_path, **options).eval()
        except ArgumentError as error:
            raise CheckpointError(f"{checkpoint_path}: {foreign_hyperparameters(error)}") from error

    def describe_data(
        self,
        class_names: Sequence[str],
        modalities: Mapping[str, int],
        moments: Moments | None = None,
        trained_on: TrainedOn | None = None,
    ) -> None:
        """Take over what the data are, where a checkpoint or the constructor has not said it before.

        Args:
            class_names: Known classes, in the order of the network's outputs.
            modalities: Width of each modality, in the order of concatenation.
            moments: Computes mean and standard deviation of a modality over the training rows; called for
                those whose scaling is learnt. ``None`` where nothing is trained: a checkpoint brings them.
            trained_on: The rows that a fit trains on, added to those of the fits before it.

        Raises:
            ConfigError: If ``scaling`` names an unknown modality.
        """
        if not self.class_names:
            self.class_names = tuple(class_names)
        if not self.modalities:
            self.modalities = dict(modalities)
            self.scale = ModalityScaling(self.modalities, self.scaling)
        if moments and not self.scale.is_fitted:
            self.scale.fit(moments)
        if trained_on:
            self.trained_on = trained_on.after(self.trained_on)
        self.hparams.update(
            class_names=list(self.class_names), modalities=dict(self.modalities), scaling=dict(self.scale.kinds)
        )

    def group_none(self, groups: Mapping[str, Tensor]) -> None:
        """Let the metrics of "none" speak of groups of its rows too.

        Args:
            groups: Row numbers of each group by name, int64 ``(rows of the group,)``.
        """
        for metric in (*self.val_metrics.values(), *self.test_metrics.values()):
            if isinstance(metric, NoneMetric):
                metric.groups = groups

    @override
    def setup(self, stage: str) -> None:
        # Lightning notes that a data module could have this hook as well; the scaling is the model's alone.
        warnings.filterwarnings("ignore", "You have overridden `on_after_batch_transfer` in `LightningModule` but")
        if stage == "fit" and not self.training:  # as it comes from a checkpoint
            self.train()

    @override
    def configure_model(self) -> None:
        if self.network is not None:
            return
        if not self.class_names or not self.modalities:
            raise ConfigError(
                "the classifier does not know its classes and modalities: fit it with an EmbeddingDataModule, "
                "load it from a checkpoint, or construct it with class_names and modalities"
            )
        # Seeded by the run, so that weights do not depend on what was drawn before (nor on the rank).
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(global_seed(), "network"))
            self.network = self.build_network(sum(self.modalities.values()), len(self.class_names))

    def configure_optimizers(self) -> Optimizer | OptimizerLRSchedulerConfig:
        """Build optimizer and schedule from their factories."""
        optimizer = self.build_optimizer(self.parameters())
        if self.trainer.gradient_clip_val and str(self.trainer.precision).endswith("-mixed"):
            use_plain_kernels(optimizer)
        if self.build_lr_scheduler is None:
            return optimizer
        scheduler = build_schedule(self.build_lr_scheduler, optimizer, self.trainer)
        if isinstance(scheduler, TriangularCycle):
            scheduler.set_steps_per_epoch(self._steps_per_epoch())
        plan: Any = lightning_schedule(scheduler, self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": plan}

    @override
    def on_after_batch_transfer(self, batch: EmbeddingBatch, dataloader_idx: int) -> EmbeddingBatch:
        batch.embeddings = self.scale(batch.embeddings)
        return batch

    @override
    def forward(self, scaled: Tensor) -> Tensor:
        """Logits ``(*stack, batch, classes)`` of scaled embeddings ``(*stack, batch, dim)``, as batches hold them."""
        if self.network is None:
            raise ConfigError(_NO_NETWORK)
        logits: Tensor = self.network(scaled)
        return logits

    def outputs(self, scaled: Tensor) -> Tensor:
        """What the decision takes of scaled embeddings: see :func:`~estitchup_pl.model.networks.decision_logits`."""
        return decision_logits(self.network if isinstance(self.network, MemberNetwork) else self, scaled)

    def logits(self, embeddings: Embeddings | Mapping[str, Embeddings]) -> Tensor:
        """Logits ``(rows, classes)`` of embeddings as the store has them.

        Args:
            embeddings: Tensor or array ``(rows, dim)`` of each modality by its name; of a single modality also
                without the name.

        Raises:
            DataError: If a modality is missing, unknown, unnamed among several, or of another width.
        """
        joined = side_by_side(embeddings, self.modalities).type(self.dtype).to(self.device)
        logits: Tensor = self(self.scale(joined))
        return logits

    def predict_proba(self, embeddings: Embeddings | Mapping[str, Embeddings]) -> Tensor:
        """Calibrated probability of each class in ``[0, 1]``, ``(rows, classes)``; rows need not sum to one.

        Dropout is off here, whatever mode the module is in.

        Args:
            embeddings: As for :meth:`logits`.

        Raises:
            DataError: As for :meth:`predict`.
        """
        return self.predict(embeddings).probabilities

    @torch.inference_mode()
    def predict(
        self, embeddings: Embeddings | Mapping[str, Embeddings], batch_size: int = EVALUATED_AT_ONCE
    ) -> Predictions:
        """Class or "none" of each item, as ``estitchup predict`` decides.

        Dropout is off here, whatever mode the module is in, and as before afterwards. Results are on the CPU.

        Args:
            embeddings: Tensor or array ``(rows, dim)`` of each modality by its name, as the store has them; of a
                single modality also without the name. Rows of zeros stand for items that lack a modality.
            batch_size: Rows that are on the model's device at once.

        Raises:
            ConfigError: If the model has not been fitted, or ``batch_size`` is below 1.
            DataError: If a modality is missing, unknown, unnamed among several, of another width, or holds a number
                that is not finite.

        Example:
            >>> model = EmbeddingClassifier(class_names=["hat", "shoe"], modalities={"photo": 3})
            >>> model.configure_model()
            >>> model.threshold = 1.0
            >>> model.predict(torch.zeros(2, 3)).predicted
            ['none', 'none']
        """
        if self.network is None:
            raise ConfigError(_NO_NETWORK)
        with _in_evaluation_mode(self):
            batches = in_batches(embeddings, self.modalities, batch_size)
            decided = [self._decided(batch) for batch in batches]
        probabilities, none_scores, index = (torch.cat(column) for column in zip(*decided, strict=True))
        names = (*self.class_names, "none")  # NONE, which is -1, finds the last
        predicted = [names[place] for place in index.tolist()]
        return Predictions(predicted, probabilities.amax(dim=1), none_scores, probabilities)

    def on_train_epoch_start(self) -> None:
        """Seed the global generator, for layers of users' own networks that draw from it; begin the mean loss."""
        seed = derive_seed(global_seed(), "epoch", self.current_epoch, self.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":  # torch.manual_seed queues a call with a traceback where there is no GPU
            torch.cuda.manual_seed(seed)
        self._epoch_loss = EpochLoss()

    def on_train_batch_start(self, batch: EmbeddingBatch, batch_idx: int) -> None:
        """Give the dropout layers this batch's generator; void a decision that belongs to the weights of before."""
        if self.decision.is_fitted:
            self.decision = self.decision.given_parts()
        place = (self.current_epoch, batch_idx, self.global_rank)
        self._set_dropout_generator(batch_generator("dropout", *place, device=self.device))

    def on_train_end(self) -> None:
        """Take the generator away: it cannot be copied or pickled."""
        self._set_dropout_generator(None)

    def training_step(self, batch: EmbeddingBatch, batch_idx: int) -> Tensor:
        """Loss of a batch, as the callbacks have left it."""
        return self.training_loss(self(batch.embeddings), batch)

    def training_loss(self, logits: Tensor, batch: EmbeddingBatch) -> Tensor:
        """Loss of a batch's logits ``(*stack, batch, classes)``, a scalar; counts into the mean of the epoch."""
        loss: Tensor = self.loss(logits, batch.targets)
        self._epoch_loss.add(loss, batch.rows)  # Lightning's own mean of an epoch takes a tenth of a step
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch.

        Raises:
            DivergedError: If it is not finite, before anything of the epoch is saved.
        """
        self._refuse_divergence()
        self.log("train/loss", self._epoch_loss.mean(), sync_dist=True)

    def on_validation_start(self) -> None:
        """Leave the validation of a fit that has diverged: metrics of NaN would only hide it.

        Raises:
            DivergedError: If the loss of a batch was not finite.
        """
        if self.trainer.state.fn == "fit":
            self._refuse_divergence()

    def validation_step(self, batch: EmbeddingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Evaluate a batch; return ``logits`` as :meth:`outputs` has them and what :class:`Decisions` holds."""
        return self._evaluate(batch, self.val_metrics, self.val_loss)

    def test_step(self, batch: EmbeddingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Evaluate a batch; return ``logits`` as :meth:`outputs` has them and what :class:`Decisions` holds."""
        return self._evaluate(batch, self.test_metrics, self.test_loss)

    def predict_step(self, batch: EmbeddingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return ``rows`` ``(batch,)``, ``logits`` as :meth:`outputs` has them and what :class:`Decisions` holds."""
        logits = self.outputs(batch.embeddings)
        decided = self.decision(batch.embeddings, logits)
        check_probabilities(decided.probabilities)
        return {"rows": batch.rows, "logits": logits, **decided._asdict()}

    def on_test_start(self) -> None:
        """Say where nothing can be rejected."""
        self._announce_missing_threshold()

    def on_predict_start(self) -> None:
        """Say where nothing can be rejected."""
        self._announce_missing_threshold()

    def judge_validation_again(self, batch: EmbeddingBatch, logits: Tensor) -> None:
        """Count the rows of a validation anew, since the decision has been fitted on them; for callbacks.

        Args:
            batch: All rows that this process has validated; without targets, whose loss stays.
            logits: What :meth:`outputs` has returned for them.
        """
        self.val_metrics.reset()
        self._judge(batch, logits, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/…`` once every process has evaluated its rows."""
        self._log_evaluation("val", self.val_metrics, self.val_loss)

    def on_test_epoch_end(self) -> None:
        """Log ``test/…`` once every process has evaluated its rows."""
        self._log_evaluation("test", self.test_metrics, self.test_loss)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self._refuse_divergence()  # where a checkpoint is saved within an epoch
        if self.trained_on:
            checkpoint["trained_on"] = asdict(self.trained_on)
        checkpoint[DECISION] = self.decision.pack()
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: weights[name] for name in weights if not name.startswith(f"{DECISION}.")}
        seal(checkpoint)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # What the constructor is given beside a checkpoint stands among its hyper_parameters by now.
        check_seal(checkpoint, set(SEALED) - {self.CHECKPOINT_HYPER_PARAMS_KEY})
        compare_checkpoint(checkpoint, self.class_names, self.scale.kinds, self._weights())
        check_finite(checkpoint["state_dict"])
        if _is_plain(described := checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]):
            self.hparams.update({**described, **self.hparams})  # what is loaded and saved again loads once more
        self.decision = Decision.unpack(checkpoint[DECISION]).to(self.device)
        decision = {f"{DECISION}.{name}": value for name, value in self.decision.state_dict().items()}
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **decision}
        if "trained_on" in checkpoint:
            earlier = TrainedOn(**checkpoint["trained_on"])
            goes_on = self._trainer is not None and self.trainer.training
            self.trained_on = self.trained_on.after(earlier) if self.trained_on and goes_on else earlier

    def _refuse_divergence(self) -> None:
        """Raise :class:`DivergedError` if the loss of a batch was not finite, in any process."""
        total = self.trainer.strategy.reduce(self._epoch_loss.total().to(self.device))
        self._epoch_loss.check(self.current_epoch)
        if not bool(torch.as_tensor(total).isfinite()):
            raise DivergedError(f"the loss is not finite in epoch {self.current_epoch}, in another process")

    def _steps_per_epoch(self) -> int:
        self.trainer.fit_loop.setup_data()  # makes Lightning count the batches, which it does only later
        return math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    def _set_dropout_generator(self, generator: torch.Generator | None) -> None:
        for module in self.network.modules() if self.network else ():
            if isinstance(module, KeyedDropout):
                module.generator = generator

    def _weights(self) -> dict[str, Tensor]:
        """State of everything but the decision, which a checkpoint holds under a key of its own."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(f"{DECISION}.")}

    def _announce_missing_threshold(self) -> None:
        if not self.decision.has_threshold:
            rank_zero_info(
                'no threshold has been fitted, so every item is accepted and none is "none": fit one with OODThreshold '
                "(configs/threshold/fit.yaml)"
            )

    def _decided(self, embeddings: Tensor) -> Decisions:
        """Decide about a batch as the store has it; checked, and on the CPU."""
        scaled = self.scale(embeddings.type(self.dtype).to(self.device))
        decided: Decisions = self.decision(scaled, self.outputs(scaled))
        check_probabilities(decided.probabilities)
        return Decisions(*(values.cpu() for values in decided))

    def _evaluate(self, batch: EmbeddingBatch, metrics: MetricCollection, loss: MeanMetric) -> dict[str, Tensor]:
        logits = self.outputs(batch.embeddings)
        decided = self._judge(batch, logits, metrics)
        rows = len(batch.rows)  # none, where a process has fewer rows than the others have batches
        mean = mean_logits(logits) if logits.ndim == 3 else logits
        loss.update(self.loss(mean, batch.targets.float()) if rows else logits.new_zeros(()), weight=rows)
        return {"logits": logits, **decided._asdict()}

    def _judge(self, batch: EmbeddingBatch, logits: Tensor, metrics: MetricCollection) -> Decisions:
        """Decide about rows and count them into metrics; of the paper's score these know how to rank exact values."""
        decided: Decisions = self.decision(batch.embeddings, logits)
        none_scores = decided.none_scores if self.decision.score else None
        metrics.update(decided.probabilities, batch.labels, rows=batch.rows, none_scores=none_scores)
        return decided

    def _log_evaluation(self, stage: str, metrics: MetricCollection, loss: MeanMetric) -> None:
        for metric in metrics.values():
            if isinstance(metric, ThresholdMetric):
                metric.threshold = self.threshold
        values = {"loss": loss.compute(), **metrics.compute(), "threshold": torch.tensor(self.threshold)}
        # Every process has the values of all rows; sync_dist, which averages what is equal, says so to Lightning.
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=True)
        loss.reset()
        metrics.reset()


@contextmanager
def _in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluate with a module, then put each of its parts back: one that was frozen stays in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


paper_optimizer: Final = inspect.signature(EmbeddingClassifier).parameters["optimizer"].default
"""The default optimizer under a name by which pickle finds it; in the signature jsonargparse reads its arguments."""
paper_optimizer.__qualname__ = "paper_optimizer"


def _is_plain(value: object) -> bool:
    """Tell whether a checkpoint can hold this and still load with ``weights_only=True``."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)
