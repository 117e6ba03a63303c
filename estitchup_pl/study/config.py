"""What a study is: the options of ``estitchup study``, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from estitchup_pl.data.splits import check_fraction
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.study.folder import slug

Metric = Literal["aupr", "auroc", "correlation", "ece"]
"""Score that candidates are compared by; of ``ece`` the lowest is best."""

PAPER_METHODS = ("Control", "Soft Control", "E-Mixup", "E-Stitchup", "Soft E-Mixup", "Soft E-Stitchup")
"""The six methods of the paper, in the order of its tables."""


@dataclass
class MethodConfig:
    """One method of a study.

    Args:
        callbacks: What changes the training batches, in this order: ``class_path`` and ``init_args`` of each. A
            class of this package can be named without its module.
        grid: Values to choose from, by the name of an argument of a callback (or of the estimator): the best
            combination is chosen in each trial on a part of its training rows.
        base: Another method whose callbacks, or estimator, and chosen values this one takes over.
        temperature: Divide the logits by a number fitted on the validation rows of the threshold split.
        ensemble: Number of networks, alike but for their seeds, whose probabilities are averaged.
        estimator: A classifier of scikit-learn (``class_path``, ``init_args``) in place of the network.
        copies: Augmented copies of each training row that an estimator is given beside the row itself.

    Raises:
        ConfigError: If these contradict each other.
    """

    callbacks: list[dict[str, Any]] = field(default_factory=list)
    grid: dict[str, list[float]] = field(default_factory=dict)
    base: str | None = None
    temperature: bool = False
    ensemble: int = 1
    estimator: dict[str, Any] | None = None
    copies: int = 4

    @property
    def is_fitted(self) -> bool:
        """Whether it has fits of its own, rather than making something else of another method's logits."""
        return self.base is None or self.ensemble > 1

    def check(self, name: str) -> None:
        """Raise :class:`ConfigError` for values that contradict each other."""
        if self.ensemble < 1 or self.copies < 1:
            raise ConfigError(f"methods.{name}: ensemble and copies must be at least 1")
        if self.base is not None and (self.callbacks or self.grid or self.estimator):
            raise ConfigError(
                f"methods.{name}: takes everything over from its base {self.base!r}, so it can have no callbacks, "
                "grid or estimator of its own; leave out base, or these"
            )
        if not self.is_fitted and not self.temperature:
            raise ConfigError(
                f"methods.{name}: would be the same as its base {self.base!r}; say temperature: true or ensemble: 5"
            )
        for argument, values in self.grid.items():
            if not values:
                raise ConfigError(f"methods.{name}.grid.{argument}: expected at least one value, got none")


@dataclass
class SelectionConfig:
    """How the values of a grid are chosen, in each trial, from its training rows alone (Sec. 3).

    Args:
        fraction: Share of the training rows that validates, in ``(0, 1)``.
        epochs: Epochs of each candidate; those of the study if not given.
        metric: Score to choose by.
        strategy: ``"split"``: one random division. ``"hierarchical_bootstrap"`` (Lundgaard et al., 2016): rows to
            fit on are drawn with replacement, the rows not drawn validate, and the score is the mean over
            ``resamples`` such divisions.
        resamples: Number of divisions under ``"hierarchical_bootstrap"``.
    """

    fraction: float = 0.3
    epochs: int | None = None
    metric: Metric = "aupr"
    strategy: Literal["split", "hierarchical_bootstrap"] = "split"
    resamples: int = 5

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


def paper_methods() -> dict[str, MethodConfig]:
    """Make the six methods of the paper, with a grid for each."""
    alphas, softnesses = [0.1, 0.2, 0.4, 0.8], [0.05, 0.1, 0.2]
    softening: dict[str, Any] = {"class_path": "estitchup_pl.callbacks.LabelSoftening"}
    methods = {"Control": MethodConfig(), "Soft Control": MethodConfig([softening], {"softness": softnesses})}
    for soft in (False, True):
        for name, augmentation in (("E-Mixup", "EMixup"), ("E-Stitchup", "EStitchup")):
            callbacks: list[dict[str, Any]] = [{"class_path": f"estitchup_pl.callbacks.{augmentation}"}]
            grid = {"alpha": list(alphas)}
            if soft:
                callbacks, grid = [*callbacks, softening], {**grid, "softness": list(softnesses)}
            methods[f"Soft {name}" if soft else name] = MethodConfig(callbacks, grid)
    return methods


@dataclass
class StudyConfig:
    """A study: methods times trials on one store.

    Args:
        store: Folder of an embedding store, or ``"digits"``.
        name: Name of the study in its results.
        modalities: Modalities to concatenate; all of the store if not given.
        scaling: ``"none"``, ``"l2"`` or ``"standardize"``, for all modalities or by name.
        trials: Number of trials; each divides the rows anew, in the same way for all methods.
        train_fraction: Share of the labelled rows that trains, in ``(0, 1)``.
        unknown_classes: Classes that are never trained on; all their rows are evaluated, as "none".
        held_out: Classes removed from training to find the thresholds.
        epochs: Epochs of a fit.
        batch_size: Rows of a training batch.
        hidden: Widths of the hidden layers.
        dropout: Dropout of each hidden layer.
        seed: Seed of all fits. The methods of a trial begin with the same weights.
        curve_every: Epochs between two points of the curve of accuracies.
        methods: The methods, by name; the six of the paper if not given.
        more_methods: Further methods, so that one configuration file can add to another.
        control: The method that the others are compared with; the first one if there is none of this name.
        selection: How the values of a grid are chosen.
        stack_size: Fits that are trained at once; ``"auto"`` for what pays on the device.
        accelerator: As for :class:`lightning.pytorch.Trainer`.
        precision: As for :class:`lightning.pytorch.Trainer`.
        wandb: Reports to Weights & Biases.

    Raises:
        ConfigError: For values that cannot work.
    """

    store: str
    name: str = "study"
    modalities: list[str] | None = None
    scaling: str | dict[str, str] = "none"
    trials: int = 5
    train_fraction: float = 0.1
    unknown_classes: list[str] = field(default_factory=list)
    held_out: int = 5
    epochs: int = 576
    batch_size: int = 128
    hidden: list[int] = field(default_factory=lambda: [250, 250])
    dropout: float = 0.3
    seed: int = 0
    curve_every: int = 12
    methods: dict[str, MethodConfig] = field(default_factory=paper_methods)
    more_methods: dict[str, MethodConfig] = field(default_factory=dict)
    control: str = "Control"
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    stack_size: int | Literal["auto"] = "auto"
    accelerator: str = "auto"
    precision: str = "32-true"
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        self.methods = {**self.methods, **self.more_methods}
        self.more_methods = {}
        for option in ("trials", "epochs", "batch_size", "curve_every"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{option} must be at least 1, got {getattr(self, option)}")
        check_fraction("selection.fraction", self.selection.fraction)
        if self.selection.resamples < 1:
            raise ConfigError(f"selection.resamples must be at least 1, got {self.selection.resamples}")
        if not self.methods:
            raise ConfigError("methods: expected at least one, got none")
        if self.control not in self.methods:
            self.control = next(iter(self.methods))
        _check_names(self.methods)

    def source(self, method: str) -> MethodConfig:
        """Method that says what a fit of ``method`` is: itself or its base."""
        return self.methods[self.methods[method].base or method]

    @property
    def fitted_methods(self) -> list[str]:
        """Methods that have fits of their own."""
        return [name for name, method in self.methods.items() if method.is_fitted]


def _check_names(methods: Mapping[str, MethodConfig]) -> None:
    paths: dict[str, str] = {}
    for name, method in methods.items():
        method.check(name)
        if (other := paths.setdefault(slug(name), name)) != name or not slug(name):
            raise ConfigError(f"methods: {name!r} and {other!r} would share a folder; give them names that differ more")
        if method.base is not None and method.base not in methods:
            raise ConfigError(
                f"methods.{name}.base: there is no method {method.base!r}{did_you_mean(method.base, methods)}"
            )
        if method.base is not None and methods[method.base].base is not None:
            raise ConfigError(
                f"methods.{name}.base: {method.base!r} has a base itself; name {methods[method.base].base!r}"
            )
