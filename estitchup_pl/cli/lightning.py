"""``estitchup fit | validate | test | predict``: LightningCLI over this package's classes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from typing_extensions import override

from estitchup_pl.callbacks import FitCheckpoint, PredictionWriter, WarmStart
from estitchup_pl.callbacks.prediction_summary import PredictionSummary
from estitchup_pl.cli.closing import closing_text
from estitchup_pl.cli.interruption import EndFitInOrder, EndInOrder
from estitchup_pl.cli.parser import CommandParser, explained
from estitchup_pl.dashboards import Dashboard
from estitchup_pl.dashboards.joining import join
from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.errors import CheckpointError, ConfigError, WriteError
from estitchup_pl.model.checkpoint_io import AtomicCheckpointIO
from estitchup_pl.model.checkpoints import check_names, foreign_hyperparameters, read_checkpoint
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.named_classes import named_class, only_known_classes
from estitchup_pl.store.files import CANNOT_WRITE

TRAINER_DEFAULTS = {
    "max_epochs": 576,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,  # a table of modules and FLOPs says nothing of a small head
    "log_every_n_steps": 1,  # everything is logged once an epoch; small data has fewer batches than Lightning's 50
    "logger": {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "runs", "name": None},
    },
}

HARMLESS_WARNINGS = (
    r"Be aware that when using `ckpt_path`, callbacks used to create",  # only the model is wanted outside fit
    r"The dirpath has changed from",  # a resumed fit writes to a folder of its own
)


class _TrainingParser(CommandParser, LightningArgumentParser):
    """The parser of the commands that LightningCLI runs."""


class _ConfigSaver(SaveConfigCallback):
    """Saves a run's configuration; where it cannot be written, that is said as of any other file."""

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.save_to_log_dir = trainer.log_dir is not None  # a logger may keep all of it elsewhere, as MLflow does
        try:
            super().setup(trainer, pl_module, stage)
        except TypeError as error:  # the parser's own, for a place that cannot be written to
            raise WriteError(f"the configuration cannot be saved: {error}") from error


class EstitchupCLI(LightningCLI):
    """LightningCLI with this package's model, data module and defaults, for one command.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``; the arguments come from ``sys.argv``, which
            Lightning uses again to start further processes.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        super().__init__(
            EmbeddingClassifier,
            EmbeddingDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            parser_class=_TrainingParser,
            parser_kwargs={"prog": "estitchup"},
            trainer_defaults=TRAINER_DEFAULTS
            | {
                "enable_checkpointing": command == "fit",
                "callbacks": [EndFitInOrder() if command == "fit" else EndInOrder()],
            },
            auto_configure_optimizers=False,
            save_config_callback=_ConfigSaver,
            save_config_kwargs={
                "overwrite": True,  # loggers without a folder for each run share one config.yaml
                "config_filename": "config.yaml" if command == "fit" else f"{command}.yaml",
            },
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Offer the one command that was asked for: building the parsers of all four takes four times as long."""
        return {self._command: super().subcommands()[self._command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Set this package's classes as defaults and add what only one command needs."""
        data: dict[str, Any] = {"class_path": "estitchup_pl.data.EmbeddingDataModule"}
        if self._command == "fit":  # the other commands take the checkpoint's split where none is named
            data["init_args"] = {"split": {"class_path": "estitchup_pl.data.StratifiedSplit"}}
        parser.set_defaults({"model": {"class_path": "estitchup_pl.model.EmbeddingClassifier"}, "data": data})
        if self._command == "fit":
            parser.add_lightning_class_args(FitCheckpoint, "checkpoint")
            parser.add_argument(
                "--warm_start", type=str | None, help="checkpoint whose weights the fit begins with, class by class"
            )
        if self._command == "predict":
            parser.add_lightning_class_args(PredictionWriter, "predictions")
        else:
            parser.add_lightning_class_args(Dashboard, "dashboard")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, explaining what is wrong with it."""
        with explained(self._parser(self._command), sys.argv[2:]):
            super().parse_arguments(parser, args)

    @override
    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Make the trainer, which replaces checkpoints within their own folder unless a plugin says otherwise."""
        chosen = self._get(self.config_init, "trainer", default={}).get("plugins") or []
        plugins = chosen if isinstance(chosen, list) else [chosen]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins = [*plugins, AtomicCheckpointIO()]
        trainer = super().instantiate_trainer(plugins=plugins, **options)
        if checkpoint := self._get(self.config_init, "warm_start"):
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            callbacks.insert(0, WarmStart(checkpoint))
        return trainer

    def instantiate_classes(self) -> None:
        """Instantiate all classes; an error of ours comes out as it is, not wrapped in the parser's own."""
        with explained():
            super().instantiate_classes()
        if self._command != "predict":
            text = self._parser(self._command).dump(self.config[self._command], skip_none=False)
            self._get(self.config_init, "dashboard").config = yaml.safe_load(text)

    def after_fit(self) -> None:
        """Say what has come of the fit (Lightning calls it, where a fit has come to its end)."""
        checkpoint, model, data = self.trainer.checkpoint_callback, self.model, self.datamodule
        if not self.trainer.is_global_zero or not isinstance(data, EmbeddingDataModule):
            return
        path = checkpoint.stable_path if isinstance(checkpoint, FitCheckpoint) else ""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if isinstance(model, EmbeddingClassifier):
            print(closing_text(model, data, metrics, path))

    def before_instantiate_classes(self) -> None:
        """Keep predictions out of memory (they go to the file batch by batch); evaluate in the run of the fit."""
        config = self.config[self._command]
        if self._command == "predict":
            config["return_predictions"] = False
        elif self._command != "fit":
            join(config["trainer"]["logger"], read_checkpoint(config["ckpt_path"]))

    def _parse_ckpt_path(self) -> None:
        """Read the model's description from the checkpoint (Lightning's doing), once it is known to be ours."""
        checkpoint = self.config[self._command].get("ckpt_path")
        if checkpoint is None and self._command != "fit":
            raise ConfigError(f"`estitchup {self._command}` needs the checkpoint of a fit: --ckpt_path FILE")
        if checkpoint is None or (self._command == "fit" and not Path(checkpoint).exists() and "." not in checkpoint):
            return  # last, best and the like
        hparams = read_checkpoint(checkpoint)["hyper_parameters"]
        try:
            with only_known_classes(hparams):
                check_names(hparams, named_class(hparams.get("_class_path", "estitchup_pl.EmbeddingClassifier")))
                super()._parse_ckpt_path()
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint}: {error}") from None
        except ConfigError as error:
            raise CheckpointError(f"{checkpoint}: {foreign_hyperparameters(error)}") from error


def main(argv: list[str]) -> int:
    """Run ``estitchup`` with the command and arguments in ``argv``."""
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message)
    sys.argv[1:] = argv
    try:
        ran = EstitchupCLI(argv[0])
    except OSError as error:  # loggers and the like write where they please
        if error.errno not in CANNOT_WRITE:
            raise
        raise WriteError(
            f"{error.filename or 'a file of this run'}: cannot be written ({error.strerror}). Free some space and run "
            "the command again; a fit goes on with --ckpt_path and its last checkpoint"
        ) from error
    for summary in _summaries(ran.trainer):
        print(summary)
    return 0


def _summaries(trainer: Trainer) -> list[PredictionSummary]:
    """What the files of a prediction hold, on the first process."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    writers = [callback for callback in callbacks if isinstance(callback, PredictionWriter)]
    return [writer.summary for writer in writers if writer.summary]
