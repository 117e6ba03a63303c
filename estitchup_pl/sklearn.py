"""The classifier as an estimator of scikit-learn: arrays in, classes and calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from lightning.pytorch import Callback
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.callbacks import EStitchup, LabelSoftening
from estitchup_pl.data import EmbeddingDataModule
from estitchup_pl.data.splits import FixedSplit, Split, ThresholdSplit
from estitchup_pl.errors import SplitError
from estitchup_pl.functional import acceptance, select_threshold
from estitchup_pl.model.calibrators import Temperature
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decision, Decisions
from estitchup_pl.model.networks import EmbeddingMLP
from estitchup_pl.model.scaling import Scaling
from estitchup_pl.model.scores import SumOfScores
from estitchup_pl.model.scores.base import mean_moments
from estitchup_pl.stacking import Run, fit_runs
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels

_MODALITY = "x"


class EStitchupClassifier(ClassifierMixin, BaseEstimator):
    """E-Stitchup on arrays of embeddings, with calibrated confidence and a "none" for what it does not know.

    Beside the network that is trained on all rows, ``repeats`` others are trained without some of the classes; on the
    rows that these have not seen the temperature, the score of "none" and its threshold are found (Sec. 4.3). With too
    few classes or rows for that, or ``repeats=0``, every item is accepted.

    Args:
        alpha: Of the Beta distribution that λ is drawn from, above 0; ``None`` for no augmentation.
        softness: Label softening in ``[0, 1]`` (Sec. 2.4); 0 for none.
        epochs: Epochs of a fit at least; more where the rows are few, see ``min_steps``.
        min_steps: Optimizer steps of a fit at least.
        batch_size: Rows of a training batch.
        hidden: Widths of the network's hidden layers.
        scaling: Scaling of the embeddings: ``"none"``, ``"l2"``, ``"standardize"`` or ``"centered_l2"``.
        none_label: What :meth:`predict` says of items that are "none"; ``None`` to give each its likeliest class, which
            is what scikit-learn expects of a classifier.
        repeats: Fits without some classes, at least 0.
        held_out: Share of the classes that each of these does without, in ``(0, 1)``.
        random_state: Seed of everything that is drawn.

    Attributes:
        classes_: The classes, sorted.
        n_features_in_: Columns of the embeddings.
        model_: The fitted :class:`~estitchup_pl.EmbeddingClassifier`.
        threshold_: Threshold of one minus the score of "none"; NaN where none was found.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = EStitchupClassifier(epochs=10, repeats=0, random_state=0).fit(X[:900], y[:900])
        >>> bool(classifier.score(X[900:], y[900:]) > 0.85)
        True
    """

    def __init__(
        self,
        alpha: float | None = 0.4,
        softness: float = 0.0,
        epochs: int = 96,
        min_steps: int = 600,
        batch_size: int = 128,
        hidden: Sequence[int] = (250, 250),
        scaling: Scaling = "standardize",
        none_label: Any = None,
        repeats: int = 3,
        held_out: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.softness = softness
        self.epochs = epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.hidden = hidden
        self.scaling = scaling
        self.none_label = none_label
        self.repeats = repeats
        self.held_out = held_out
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:  # noqa: N803  # scikit-learn's names
        """Fit all networks.

        Args:
            X: Embeddings ``(rows, columns)``, finite.
            y: Class of each row ``(rows,)``.

        Raises:
            ValueError: If shapes or types are wrong.
        """
        embeddings, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        self.classes_ = unique_labels(labels)
        codes = np.searchsorted(self.classes_, labels)
        names = [f"{code:08d}" for code in codes]  # in the order of the classes
        items = pa.table({"id": [str(row) for row in range(len(names))], "label": names})
        store = EmbeddingStore.from_arrays(items, {_MODALITY: embeddings})
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        every = np.arange(len(names))
        whole = Split(every, every[:0], every[:0])
        splits = [whole, *self._without_some_classes(store, whole)]
        runs = [self._run(store, split, f"{number}", seed) for number, split in enumerate(splits)]
        steps = -(-len(names) // self.batch_size)
        fitted = {one.run.name: one for one in fit_runs(runs, max(self.epochs, -(-self.min_steps // steps)))}
        if any(one.diverged for one in fitted.values()):
            raise ValueError("the fit has diverged: scale the embeddings, or look for values far from all others")
        models = [fitted[run.name].run.model.eval() for run in runs]
        self.model_ = models[0]
        if len(models) > 1:
            self.model_.decision = self._decision(store, models, splits)
        self.threshold_ = self.model_.threshold
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:  # noqa: N803
        """Class of each row, or ``none_label`` where one is set and the row is "none", ``(rows,)``.

        Args:
            X: Embeddings ``(rows, columns)``.
        """
        decided = self._decided(X)
        likeliest: npt.NDArray[Any] = self.classes_[decided.probabilities.argmax(dim=1).numpy()]
        if self.none_label is None:
            return likeliest
        return np.where(decided.predicted.numpy() != NONE, likeliest.astype(object), self.none_label)

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:  # noqa: N803
        """Probability of each class, ``(rows, classes)``, rows summing to one as scikit-learn expects.

        The classes' own calibrated probabilities, which need not, are those of ``model_.predict_proba``.

        Args:
            X: Embeddings ``(rows, columns)``.
        """
        probabilities = self._decided(X).probabilities.double().numpy()
        shares: npt.NDArray[np.float64] = np.maximum(probabilities, 1e-12)
        sums: npt.NDArray[np.float64] = shares.sum(axis=1, keepdims=True)
        return np.asarray(shares / sums)

    def none_score(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:  # noqa: N803
        """Score of "none" in ``[0, 1]`` of each row, ``(rows,)``.

        Args:
            X: Embeddings ``(rows, columns)``.
        """
        none_scores: npt.NDArray[np.float64] = self._decided(X).none_scores.numpy()
        return none_scores

    @torch.inference_mode()
    def _decided(self, X: npt.ArrayLike) -> Decisions:  # noqa: N803
        check_is_fitted(self)
        scaled = self.model_.scale(torch.from_numpy(validate_data(self, X, dtype=np.float32, reset=False).copy()))
        decided: Decisions = self.model_.decision(scaled, self.model_.outputs(scaled))
        return decided

    def _without_some_classes(self, store: EmbeddingStore, whole: Split) -> Iterator[Split]:
        labels = StoreLabels.read(store)
        for repeat in range(self.repeats):
            split = ThresholdSplit(FixedSplit(whole), held_out=float(self.held_out), repeat=repeat)
            try:
                parts = split.assign(store, labels)
            except SplitError:
                return  # too few classes have two rows
            if len(labels.present(parts.train)) > 1:
                yield parts

    def _run(self, store: EmbeddingStore, split: Split, name: str, seed: int) -> Run:
        model = EmbeddingClassifier(partial(EmbeddingMLP, hidden=tuple(self.hidden)), scaling=self.scaling)
        data = EmbeddingDataModule(store, FixedSplit(split), batch_size=self.batch_size)
        callbacks: list[Callback] = [] if self.alpha is None else [EStitchup(self.alpha)]
        callbacks += [LabelSoftening(self.softness)] if self.softness else []
        return Run(name, model, data, callbacks, seed)

    def _decision(
        self, store: EmbeddingStore, models: Sequence[EmbeddingClassifier], splits: Sequence[Split]
    ) -> Decision:
        """Calibration, score and threshold on the rows that the fits without some classes have not seen."""
        final = models[0]
        parts = [_Unseen.of(final, one, store, split) for one, split in zip(models[1:], splits[1:], strict=True)]
        logits, labels = torch.cat([part.logits for part in parts]), torch.cat([part.labels for part in parts])
        calibrator = Temperature()
        calibrator.fit(logits, labels)
        means = mean_moments((part.score, part.embeddings, calibrator(part.logits)) for part in parts)
        score = _fitted_score(final, store, splits[0].train)
        for one in (score, *(part.score for part in parts)):
            one.load_state_dict(one.state_dict() | means)
        none_scores = torch.cat([part.score(part.embeddings, calibrator(part.logits)) for part in parts])
        probabilities = calibrator(logits).sigmoid()
        accepted = acceptance(probabilities, none_scores)
        threshold = select_threshold(accepted, probabilities.argmax(dim=1), labels, "intersection")
        return Decision(calibrator, score, float(threshold))


class _Unseen(NamedTuple):
    """Validation rows of a fit without some classes, in the terms of the final fit.

    Attributes:
        embeddings: As that fit sees them ``(rows, dim)``.
        logits: In the order of the final fit's classes, minus infinity for those that it did without.
        labels: Class index or ``NONE``.
        score: Fitted to its training rows.
    """

    embeddings: Tensor
    logits: Tensor
    labels: Tensor
    score: SumOfScores

    @classmethod
    @torch.inference_mode()
    def of(cls, final: EmbeddingClassifier, model: EmbeddingClassifier, store: EmbeddingStore, split: Split) -> Self:
        embeddings = _scaled(model, store, split.val)
        columns = torch.tensor([final.class_names.index(name) for name in model.class_names])
        logits = torch.full((len(embeddings), len(final.class_names)), -torch.inf)
        logits[:, columns] = model(embeddings)
        codes = torch.from_numpy(StoreLabels.read(store).index(final.class_names)[split.val])
        labels = codes.where(torch.isin(codes, columns), NONE)
        return cls(embeddings, logits, labels, _fitted_score(model, store, split.train))


def _fitted_score(model: EmbeddingClassifier, store: EmbeddingStore, rows: npt.NDArray[np.int64]) -> SumOfScores:
    score = SumOfScores()
    score.fit(_scaled(model, store, rows), torch.from_numpy(StoreLabels.read(store).index(model.class_names)[rows]))
    return score


@torch.inference_mode()
def _scaled(model: EmbeddingClassifier, store: EmbeddingStore, rows: npt.NDArray[np.int64]) -> Tensor:
    scaled: Tensor = model.scale(torch.from_numpy(store.gather(rows).astype(np.float32)))
    return scaled
