"""Does it pay to choose what is labelled? Rounds of labelling played through on a store whose labels are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch import Callback

from estitchup_pl.batch import NONE
from estitchup_pl.data import EmbeddingDataModule
from estitchup_pl.data.splits import FixedSplit, Split, split_generator
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.acquisition import without_near_copies
from estitchup_pl.labeling.pool import Pool, gathered
from estitchup_pl.labeling.strategies import STRATEGIES, QueryStrategy
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import derive_seed, keyed_generator
from estitchup_pl.stacking import Run, fit_runs
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels

SCHEMA = pa.schema(
    {
        "strategy": pa.string(),
        "trial": pa.int32(),
        "round": pa.int32(),
        "labels": pa.int32(),
        "classes": pa.int32(),
        "accuracy": pa.float64(),
    }
)
"""Columns of what a simulation gives: ``labels`` and ``classes`` are those known in a round, ``accuracy`` the share of
all test rows whose most likely class is right; a row of a class that is not known yet is wrong."""


@dataclass
class Simulation:
    """Rounds of labelling: every strategy begins with the same labels and is told those that it asks for.

    Args:
        store: The store; only its labelled rows play.
        strategies: Names of the strategies, see :data:`~estitchup_pl.labeling.STRATEGIES`.
        initial: Rows that are labelled before the first round, drawn at random.
        per_round: Labels of a round.
        rounds: Number of rounds after the first fit.
        trials: Number of repetitions, each with test rows and first labels of its own.
        test_fraction: Share of the labelled rows that are evaluated and never asked for, in ``(0, 1)``.
        steps: Optimizer steps of each fit at least, in whole epochs; every fit begins anew.
        batch_size: Rows of a training batch.
        callbacks: Makes the callbacks of a fit, such as augmentation.
        model: Makes the classifier of a fit.
        modalities: Modalities that play; all if not given.
        similarity: Items that are more alike than this are asked for once a round, see
            :func:`~estitchup_pl.functional.acquisition.without_near_copies`.
        seed: Seed of everything that is drawn.

    Raises:
        ConfigError: For a strategy that does not exist, or a number that cannot work.
    """

    store: EmbeddingStore
    strategies: Sequence[str] = ("random", "margin", "none_score", "core_set", "typical")
    initial: int = 100
    per_round: int = 100
    rounds: int = 8
    trials: int = 5
    test_fraction: float = 0.3
    steps: int = 1500
    batch_size: int = 32
    callbacks: Sequence[Callable[[], Callback]] = ()
    model: Callable[[], EmbeddingClassifier] = EmbeddingClassifier
    modalities: Sequence[str] | None = None
    similarity: float = 0.98
    seed: int = 0
    _labels: StoreLabels = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("initial", "per_round", "rounds", "trials", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in self.strategies:
            if name not in STRATEGIES:
                raise ConfigError(f"strategies: there is no {name!r}; there are {', '.join(STRATEGIES)}")
        self._labels = StoreLabels.read(self.store)
        needed = self.initial + self.rounds * self.per_round
        pool = len(self._pool(0)[0])
        if needed > pool:
            raise DataError(
                f"{needed} labels would be asked for, and {pool} labelled rows are left beside the test rows: take "
                "fewer rounds, or fewer labels a round"
            )

    def run(self, tick: Callable[[int], None] = lambda rounds: None) -> pa.Table:
        """Play all rounds; see :data:`SCHEMA`.

        Args:
            tick: Told of each round that has ended.
        """
        players = [
            _Player(name, STRATEGIES[name](), trial, *self._pool(trial))
            for trial in range(self.trials)
            for name in self.strategies
        ]
        for player in players:
            first = split_generator("initial labels", player.trial).choice(player.pool, self.initial, replace=False)
            player.answer(first)
        rows: list[dict[str, Any]] = []
        for number in range(self.rounds + 1):
            for player, model in self._fitted(players, number):
                rows.append(self._evaluate(player, model, number))
                if number < self.rounds:
                    player.answer(self._asked(player, model, number))
            tick(1)
        return pa.Table.from_pylist(rows, SCHEMA).sort_by([(name, "ascending") for name in SCHEMA.names[:3]])

    def _pool(self, trial: int) -> tuple[Rows, Rows]:
        """Rows that may be asked for, and rows that are evaluated."""
        shuffled = split_generator("simulation", trial).permutation(self._labels.labelled)
        test = round(self.test_fraction * len(shuffled))
        return np.sort(shuffled[test:]), np.sort(shuffled[:test])

    def _fitted(self, players: Sequence[_Player], number: int) -> Iterator[tuple[_Player, EmbeddingClassifier]]:
        runs = {}
        for player in players:
            split = FixedSplit(Split(player.labelled, player.test, player.test))
            data = EmbeddingDataModule(self.store, split, self.modalities, self.batch_size)
            seed = derive_seed(self.seed, "simulation", player.trial, number)
            name = f"{player.name}, trial {player.trial}, round {number}"
            runs[name] = player, Run(name, self.model(), data, [make() for make in self.callbacks], seed)
        batches = math.ceil((self.initial + number * self.per_round) / self.batch_size)
        for fitted in fit_runs([run for _, run in runs.values()], math.ceil(self.steps / batches)):
            player, run = runs[fitted.run.name]
            if fitted.diverged:
                raise DataError(f"{run.name}: the fit has diverged; lower the learning rate")
            yield player, run.model.eval()

    def _evaluate(self, player: _Player, model: EmbeddingClassifier, number: int) -> dict[str, Any]:
        labels = self._labels.index(model.class_names)[player.test]
        predicted = self._probabilities(model, player.test).argmax(dim=1).numpy()
        return {
            "strategy": player.name,
            "trial": player.trial,
            "round": number,
            "labels": len(player.labelled),
            "classes": len(model.class_names),
            "accuracy": float(np.mean((predicted == labels) & (labels != NONE))),
        }

    def _asked(self, player: _Player, model: EmbeddingClassifier, number: int) -> Rows:
        """Rows that a strategy asks for."""
        model.threshold = 0.5  # nobody has fitted one here: below it "none" is likelier than the likeliest class
        pool = Pool.of_rows(model, self.store, player.unlabelled, player.labelled)
        generator = keyed_generator(self.seed, "simulation", player.name, player.trial, number)
        order = player.strategy.order(pool, 4 * self.per_round, generator)
        distinct = islice(without_near_copies(pool.embeddings, order, self.similarity), self.per_round)
        wanted = dict.fromkeys([*distinct, *order.tolist()])  # copies only where they are all there is
        asked: Rows = player.unlabelled[list(islice(wanted, self.per_round))]
        return asked

    def _probabilities(self, model: EmbeddingClassifier, rows: Rows) -> torch.Tensor:
        return torch.cat([model.predict_proba(part) for part in gathered(model, self.store, rows)])


@dataclass
class _Player:
    """A strategy in one trial, and what it has been told."""

    name: str
    strategy: QueryStrategy
    trial: int
    pool: Rows
    test: Rows
    labelled: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def unlabelled(self) -> Rows:
        rows: Rows = np.setdiff1d(self.pool, self.labelled, assume_unique=True)
        return rows

    def answer(self, rows: Rows) -> None:
        self.labelled = np.union1d(self.labelled, rows)


def labels_needed(table: pa.Table, baseline: str = "random") -> dict[str, float]:
    """Labels that each strategy needs, mean over trials, to reach what the baseline has after its last round.

    Between two rounds the accuracy is taken as a straight line.

    Args:
        table: What :meth:`Simulation.run` gave.
        baseline: Name of the strategy to reach.

    Returns:
        Labels by the name of the strategy; NaN where some trial never reaches it.
    """
    frame: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in table.to_pylist():
        frame.setdefault((row["strategy"], row["trial"]), []).append((row["labels"], row["accuracy"]))
    needed: dict[str, list[float]] = {}
    for (name, trial), points in frame.items():
        goal = sorted(frame[baseline, trial])[-1][1]
        needed.setdefault(name, []).append(_reached(sorted(points), goal))
    return {name: float(np.mean(values)) for name, values in needed.items()}


def _reached(points: Sequence[tuple[int, float]], goal: float) -> float:
    for (labels, accuracy), (more, higher) in pairwise([points[0], *points]):
        if higher >= goal:
            share = (goal - accuracy) / (higher - accuracy) if higher > accuracy else 1.0
            return labels + max(share, 0.0) * (more - labels)
    return math.nan
