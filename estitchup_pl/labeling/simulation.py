"""Does it pay to choose what is labelled? Rounds of labelling played through on a store whose labels are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning.pytorch import Callback

from estitchup_pl.batch import NONE
from estitchup_pl.data import EmbeddingDataModule
from estitchup_pl.data.splits import FixedSplit, Split, SplitProtocol, TrialSplit, split_generator
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.acquisition import without_near_copies
from estitchup_pl.labeling.pool import Pool, gathered
from estitchup_pl.labeling.rounds import RoundsFolder
from estitchup_pl.labeling.strategies import STRATEGIES, QueryStrategy
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import derive_seed, keyed_generator
from estitchup_pl.stacking import Run, fit_runs
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows, StoreLabels

SCHEMA: Final = pa.schema(
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

_ROUND: Final = SCHEMA.append(pa.field("asked", pa.list_(pa.int64())))
"""Columns of a round as it is kept: also the rows that a strategy asks for at its end."""


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
        split: What divides the labelled rows: its training rows may be asked for, its test rows are evaluated, but for
            those of classes of which no row may be asked for.
        initial_classes: Classes that the first labels are of, drawn at random, so that the others have yet to appear;
            all if not given.
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
    split: SplitProtocol = field(default_factory=lambda: TrialSplit(train_fraction=0.7))
    initial_classes: int | None = None
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
        needed, pool = self.initial + self.rounds * self.per_round, self._pool(0)[0]
        if needed > len(pool):
            raise DataError(
                f"{needed} labels would be asked for, and {len(pool)} labelled rows are left beside the test rows: "
                "take fewer rounds, or fewer labels a round"
            )
        self._first_labels(pool, 0)

    def run(self, folder: RoundsFolder | None = None, tick: Callable[[int], None] = lambda rounds: None) -> pa.Table:
        """Play all rounds; see :data:`SCHEMA`.

        Args:
            folder: Where each round is kept as soon as it has ended; those that are there are not played again.
            tick: Told of each round that has ended.
        """
        tables = [table for trial in range(self.trials) for table in self._played(trial, folder, tick)]
        table = pa.concat_tables(tables).select(SCHEMA.names)
        return pa.concat_tables([table.filter(pc.equal(table["strategy"], name)) for name in self.strategies])

    def _played(self, trial: int, folder: RoundsFolder | None, tick: Callable[[int], None]) -> Iterator[pa.Table]:
        """The rounds of a trial."""
        pool, test = self._pool(trial)
        first = self._first_labels(pool, trial)
        players = {name: _Player(name, STRATEGIES[name](), trial, pool, test, first) for name in self.strategies}
        for number in range(self.rounds + 1):
            table = folder.read(trial, number) if folder else None
            if table is None:
                table = self._round(list(players.values()), number)
                if folder:
                    folder.write(trial, number, table)
            for row in table.to_pylist():
                players[row["strategy"]].answer(np.array(row["asked"], dtype=np.int64))
            tick(1)
            yield table

    def _round(self, players: Sequence[_Player], number: int) -> pa.Table:
        rows = []
        for player, model in self._fitted(players, number):
            asked = self._asked(player, model, number).tolist() if number < self.rounds else []
            rows.append({**self._evaluate(player, model, number), "asked": asked})
        return pa.Table.from_pylist(rows, _ROUND)

    def _pool(self, trial: int) -> tuple[Rows, Rows]:
        """Rows that may be asked for, and rows that are evaluated."""
        parts = self.split.for_trial(trial).assign(self.store, self._labels)
        codes = self._labels.codes
        return parts.train, parts.test[np.isin(codes[parts.test], codes[parts.train])]

    def _first_labels(self, pool: Rows, trial: int) -> Rows:
        """Rows that are labelled at the beginning."""
        generator, codes = split_generator("initial labels", trial), self._labels.codes[pool]
        names = np.unique(codes)
        if self.initial_classes is not None:
            pool = pool[np.isin(codes, generator.permutation(names)[: self.initial_classes])]
        if self.initial > len(pool):
            raise DataError(
                f"initial: {self.initial} labels are wanted, and the {self.initial_classes} classes that they may be "
                f"of have {len(pool)} rows: take fewer, or more classes"
            )
        first: Rows = np.sort(generator.choice(pool, self.initial, replace=False))
        return first

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
    labelled: Rows

    @property
    def unlabelled(self) -> Rows:
        rows: Rows = np.setdiff1d(self.pool, self.labelled, assume_unique=True)
        return rows

    def answer(self, rows: Rows) -> None:
        self.labelled = np.union1d(self.labelled, rows)
