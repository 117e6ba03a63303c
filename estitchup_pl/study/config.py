"""What a study is: the options of ``estitchup study``, in plain values, and their checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from torchmetrics import Metric

from estitchup_pl.data.splits import SplitProtocol, check_fraction, check_held_out
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.functional import HEURISTICS
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.study.building import Description, Plain, build, describe, spelled_out
from estitchup_pl.study.folder import slug
from estitchup_pl.study.methods import MODEL, Method, Model, NetworkMethod
from estitchup_pl.thresholds import ThresholdRule

PAPER_METHODS: Final = ("Control", "Soft Control", "E-Mixup", "E-Stitchup", "Soft E-Mixup", "Soft E-Stitchup")
"""The six methods of the paper, in the order of its tables."""

CONTROL: Final = PAPER_METHODS[0]

Backend = Literal["loky", "ray", "dask"]
"""Backends of joblib that run workers."""

Keep = Literal["best", "all", "none"]
"""Which classifiers of a study are kept."""

SPLIT: Final = "estitchup_pl.data.TrialSplit"
METHOD: Final = "estitchup_pl.study.NetworkMethod"


@dataclass
class SelectionConfig:
    """How the values of a grid are chosen, in each trial, from its training rows alone (Sec. 3).

    Args:
        fraction: Share of the training rows that validates, in ``(0, 1)``.
        epochs: Epochs of each candidate; those of the study if not given.
        metric: Metric to choose by: any of the study's that needs no threshold, the greatest or least value of it as
            it says of itself (``higher_is_better``).
        strategy: ``"split"``: one random division. ``"hierarchical_bootstrap"`` (Lundgaard et al., 2016): rows to
            fit on are drawn with replacement, the rows not drawn validate, and the score is the mean over
            ``resamples`` such divisions.
        resamples: Number of divisions under ``"hierarchical_bootstrap"``.

    Raises:
        ConfigError: For values that cannot work.
    """

    fraction: float = 0.3
    epochs: int | None = None
    metric: str = "aupr"
    strategy: Literal["split", "hierarchical_bootstrap"] = "split"
    resamples: int = 5

    def __post_init__(self) -> None:
        check_fraction("selection.fraction", self.fraction)
        if self.resamples < 1:
            raise ConfigError(f"selection.resamples must be at least 1, got {self.resamples}")

    @property
    def divisions(self) -> int:
        """Number of fits of each candidate."""
        return 1 if self.strategy == "split" else self.resamples


@dataclass
class WandbConfig:
    """Weights & Biases: one run for each method and trial, and one with the tables and figures.

    Args:
        project: Name of the project.
        mode: ``"offline"`` writes to ``OUT/wandb``, to be sent later with ``wandb sync``.
    """

    project: str = "estitchup"
    mode: Literal["disabled", "offline", "online"] = "disabled"


def paper_methods() -> dict[str, Plain]:
    """Make the six methods of the paper, with a grid for each."""
    softening, softness = [{"class_path": "LabelSoftening"}], {"softness": [0.05, 0.1, 0.2]}
    methods = {"Control": Plain(), "Soft Control": Plain(callbacks=softening, grid=softness)}
    for soft in (False, True):
        for name, augmentation in (("E-Mixup", "EMixup"), ("E-Stitchup", "EStitchup")):
            callbacks, grid = [{"class_path": augmentation}], {"alpha": [0.1, 0.2, 0.4, 0.8]}
            methods[f"Soft {name}" if soft else name] = Plain(
                callbacks=callbacks + (softening if soft else []), grid={**grid, **(softness if soft else {})}
            )
    return methods


@dataclass
class StudyConfig:
    """A study: methods times trials on one store.

    What is an object elsewhere is described here in plain values, as in YAML: ``class_path`` and ``init_args``, or
    arguments alone where there is a default class. The descriptions are checked, and completed by what their classes
    have as defaults.

    Args:
        store: Folder of an embedding store, or ``"digits"``.
        name: Name of the study in its results.
        modalities: Modalities to concatenate; all of the store if not given.
        split: Which rows train and which are evaluated: any split. A :class:`TrialSplit` divides them anew in each
            trial; it is meant where no class is named.
        trials: Number of trials. Where the split has the same rows in each, only the seeds differ.
        held_out: Classes removed from training to find the thresholds: their number, or as a float their share.
        repeats: Threshold splits of a trial; their validation rows are pooled, since a threshold that rests on one
            draw of classes varies much from draw to draw.
        epochs: Epochs of a fit.
        model: Parts of the :class:`EmbeddingClassifier` of all methods: network, optimizer, schedule, loss, scaling.
        batch_size: Rows of a training batch.
        seed: Seed of all fits. The methods of a trial begin with the same weights.
        curve_every: Epochs between two points of the curve of accuracies.
        methods: Description of each method by name; the six of the paper if not given. It is a
            :class:`NetworkMethod` where no class is named.
        more_methods: Further methods, so that one configuration file can add to another.
        metrics: Description of each metric by name; :func:`study_metrics` if not given.
        more_metrics: Metrics beside those, or in the place of those of the same name.
        thresholds: Description of further rules for thresholds by name, beside the two heuristics of Sec. 4.3: any
            :class:`~estitchup_pl.thresholds.ThresholdRule`.
        none_groups: Column of the store's items that parts "none" rows into groups, such as near and far, for what the
            report says of "none".
        control: The method that the others are compared with; if not given the one called Control, or the first.
        selection: How the values of a grid are chosen.
        keep: Classifiers that are kept, each fitted to the training rows of its trial: ``"best"`` is the one of trial 0
            that is best on the validation rows of its threshold splits, in ``best.ckpt``; ``"all"`` are those of every
            method and trial as well.
        stack_size: Fits that are trained at once; ``"auto"`` for what pays on the device.
        workers: Processes that share the fits; on a CPU each has one thread. 1 fits in this process; ``"auto"`` is one
            for each core or GPU, and this process alone where the fits of a stage are too few to pay for starting
            them. Results do not depend on it.
        backend: Who runs the processes: joblib's own ``"loky"``, or the ``"ray"`` or ``"dask"`` of a cluster, whose
            workers all see the folder, the store and the working directory.
        accelerator: As for :class:`lightning.pytorch.Trainer`.
        precision: As for :class:`lightning.pytorch.Trainer`; ``"auto"`` is ``"bf16-mixed"`` where the processor or GPU
            has instructions for it, else ``"32-true"``.
        wandb: Reports to Weights & Biases.

    Raises:
        ConfigError: For values that cannot work.
    """

    store: str
    name: str = "study"
    modalities: list[str] | None = None
    split: dict[str, Any] = field(default_factory=dict)
    trials: int = 5
    held_out: int | float = 5
    repeats: int = 5
    epochs: int = 576
    model: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 128
    seed: int = 0
    curve_every: int = 12
    methods: Mapping[str, Plain] = field(default_factory=paper_methods)
    more_methods: Mapping[str, Plain] = field(default_factory=dict)
    metrics: Mapping[str, Plain] | None = None
    more_metrics: Mapping[str, Plain] = field(default_factory=dict)
    thresholds: Mapping[str, Plain] = field(default_factory=dict)
    none_groups: str | None = None
    control: str = CONTROL
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    keep: Keep = "best"
    stack_size: int | Literal["auto"] = "auto"
    workers: int | Literal["auto"] = "auto"
    backend: Backend = "loky"
    accelerator: str = "auto"
    precision: str = "auto"
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        check_held_out(self.held_out)
        for option in ("trials", "repeats", "epochs", "batch_size", "curve_every"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{option} must be at least 1, got {getattr(self, option)}")
        if self.keep not in get_args(Keep):
            raise ConfigError(f"keep: expected one of {', '.join(get_args(Keep))}, got {self.keep!r}")
        if self.workers != "auto" and self.workers < 1:
            raise ConfigError(f'workers must be at least 1, or "auto", got {self.workers}')
        methods = {**self.methods, **self.more_methods}
        if not methods:
            raise ConfigError("methods: expected at least one, got none")
        if self.control not in methods:
            if self.control != CONTROL:
                raise ConfigError(
                    f"control: there is no method {self.control!r}{did_you_mean(self.control, methods)} "
                    f"(there are: {', '.join(methods)})"
                )
            self.control = next(iter(methods))
        _check_names(methods)
        self.split = describe(SplitProtocol, spelled_out(self.split, SPLIT), "split")
        self.model = describe(Model, spelled_out(self.model, MODEL), "model")
        self.methods = {name: _describe_method(name, given, self.model) for name, given in methods.items()}
        self.more_methods = {}
        self.metrics = None if self.metrics is None else _describe_all(Metric, "metrics", self.metrics)
        self.more_metrics = _describe_all(Metric, "more_metrics", self.more_metrics)
        self.thresholds = _describe_all(ThresholdRule, "thresholds", self.thresholds)
        if taken := set(HEURISTICS) & set(self.thresholds):
            raise ConfigError(f"thresholds: {taken.pop()!r} is the name of a heuristic that is always there")

    @classmethod
    def from_plain(cls, options: Mapping[str, Any]) -> StudyConfig:
        """Make a configuration of plain values, as :meth:`plain` returns them."""
        nested = {"selection": SelectionConfig, "wandb": WandbConfig}
        return cls(**{name: nested[name](**value) if name in nested else value for name, value in options.items()})

    def plain(self) -> dict[str, Any]:
        """Return all options in plain values, which JSON can hold."""
        options: dict[str, Any] = json.loads(json.dumps(asdict(self), default=dict))
        return options

    def build_split(self) -> SplitProtocol:
        """Make the split."""
        split: SplitProtocol = build(SplitProtocol, self.split, "split")
        return split

    def build_model(self) -> EmbeddingClassifier:
        """Make the classifier of a method that says nothing of its own."""
        model: EmbeddingClassifier = build(Model, self.model, "model")()
        return model


def _describe_method(name: str, given: Mapping[str, Any], model: Description) -> Plain:
    """Complete the description of a method; parts of the model that it does not name are those of the study."""
    where = f"methods.{name}"
    described = describe(Method, spelled_out(given, METHOD), where)
    if isinstance(build(Method, described, where), NetworkMethod):
        own = spelled_out(described["init_args"]["model"], model["class_path"])
        accepted = _defaults(own["class_path"], f"{where}.model")
        common = {part: value for part, value in _parts_said(model).items() if part in accepted}
        own["init_args"] = {**common, **own["init_args"]}
        described["init_args"]["model"] = describe(Model, own, f"{where}.model")
    return Plain(described)


def _parts_said(model: Description) -> dict[str, Any]:
    """Parts of a model that are not what its class has by itself."""
    defaults = _defaults(model["class_path"], "model")
    return {part: value for part, value in model["init_args"].items() if value != defaults[part]}


def _defaults(class_path: str, where: str) -> dict[str, Any]:
    arguments: dict[str, Any] = describe(Model, {"class_path": class_path}, where)["init_args"]
    return arguments


def _describe_all(kind: type, option: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Plain]:
    return {name: Plain(describe(kind, Plain.of(one), f"{option}.{name}")) for name, one in given.items()}


def _check_names(methods: Mapping[str, Any]) -> None:
    paths: dict[str, str] = {}
    for name in methods:
        if (other := paths.setdefault(slug(name), name)) != name or not slug(name):
            raise ConfigError(f"methods: {name!r} and {other!r} would share a folder; give them names that differ more")
