"""What a run is, in nested plain values: enough to tell two runs apart, and to do one again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from inspect import isroutine, signature
from typing import Any, Final

import lightning.pytorch as pl

from estitchup_pl import __version__
from estitchup_pl.callbacks.partners import data_module
from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.data.trained_rows import describe_encoders
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import global_seed

FOUND: Final = "run"
"""Key of a record under which what the data turned out to be stands; everything else is the configuration."""

ORDER: Final = "callbacks_order"
"""Key of the trainer's record under which the names of its callbacks stand in their order."""

BESIDE: Final = (FOUND, "validate", "test")
"""Keys of a record that are no options of ``estitchup fit``."""


def record_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a configuration as loggers show it best: callbacks by their names, so that each option has a column.

    Args:
        config: Content of a configuration file, as ``config.yaml`` holds it.

    Example:
        >>> callback = {"class_path": "estitchup_pl.callbacks.EStitchup", "init_args": {"alpha": 0.2}}
        >>> record = record_of({"trainer": {"callbacks": [callback]}})
        >>> record["trainer"]["callbacks"]["EStitchup"]["init_args"]
        {'alpha': 0.2}
        >>> file_of(record)
        {'trainer': {'callbacks': [{'class_path': 'estitchup_pl.callbacks.EStitchup', 'init_args': {'alpha': 0.2}}]}}
    """
    record = deepcopy(dict(config))
    trainer = record.get("trainer", {})
    if isinstance(trainer.get("callbacks"), list):
        trainer["callbacks"] = _by_name(trainer["callbacks"])
        trainer[ORDER] = list(trainer["callbacks"])  # a server may sort what is named
    return record


def file_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a configuration file that does a recorded fit again: ``estitchup fit --config FILE``.

    Args:
        record: What a logger holds of the fit, such as ``wandb.Api().run(path).config`` or MLflow's ``fit.yaml``. What
            was found, what tests have added, and what W&B adds (``_wandb``, a sweep's values) is passed over.
    """
    options = [name for name in record if name not in BESIDE and not name.startswith("_") and "." not in name]
    config = {name: deepcopy(record[name]) for name in options}
    trainer = config.get("trainer", {})
    if (order := trainer.pop(ORDER, None)) is not None:
        trainer["callbacks"] = [trainer["callbacks"][name] for name in order]
    return config


def what_was_found(model: EmbeddingClassifier, data: EmbeddingDataModule | None) -> dict[str, Any]:
    """What a configuration does not say: the classes, modalities, encoders and rows of the data, and the version."""
    record = {
        "classes": list(model.class_names),
        "modalities": dict(model.modalities),
        "estitchup_pl": __version__,
    }
    if data is not None:
        rows = {name: len(part) for name, part in vars(data.parts).items()}
        record |= {"encoders": describe_encoders(data.store, model.modalities), "rows": rows}
    return record


def described_run(trainer: pl.Trainer, model: EmbeddingClassifier) -> dict[str, Any]:
    """What a run from Python is, in the shape of a configuration; of one's own objects as far as they show it."""
    data = data_module(trainer)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    parts = {
        "network": model.build_network,
        "optimizer": model.build_optimizer,
        "lr_scheduler": model.build_lr_scheduler,
        "loss": model.loss,
        "scaling": model.scaling,
    }
    described = {"class_path": _path(type(model)), "init_args": {name: plain(part) for name, part in parts.items()}}
    record = {
        "seed_everything": global_seed(),
        "trainer": {
            "max_epochs": trainer.max_epochs,
            "precision": str(trainer.precision),
            "callbacks": [plain(callback) for callback in callbacks],
        },
        "model": described,
    }
    if data is not None:
        options = {**plain(data)["init_args"], "store": str(data.store.path or "in memory"), "split": plain(data.split)}
        record["data"] = {"class_path": _path(type(data)), "init_args": options}
    return record_of(record)


def plain(value: Any) -> Any:
    """Describe an object by its class and those arguments of its constructor that it keeps under their names.

    Example:
        >>> from estitchup_pl.callbacks import LabelSoftening
        >>> plain(LabelSoftening(0.2))
        {'class_path': 'estitchup_pl.callbacks.softening.LabelSoftening', 'init_args': {'softness': 0.2}}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, partial):
        return {"class_path": _path(value.func), "init_args": plain(value.keywords)}
    if isinstance(value, type) or isroutine(value):
        return _path(value)
    state = vars(value) if "__dict__" in dir(value) else {}
    try:
        kept = {name: state[name] for name in signature(type(value)).parameters if name in state}
    except ValueError:  # some classes that are not written in Python do not say
        kept = {}
    return {"class_path": _path(type(value)), "init_args": plain(kept)}


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _by_name(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Descriptions by the names of their classes; of two alike the second has a number."""
    named: dict[str, Any] = {}
    for each in objects:
        name = str(each["class_path"]).rpartition(".")[2]
        count = sum(other.partition(" ")[0] == name for other in named)
        named[f"{name} {count + 1}" if count else name] = each
    return named
