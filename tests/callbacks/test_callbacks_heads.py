"""Heads that are solved at once: the weights are the solver's, and the checkpoint is one like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import blobs_store
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import Normalizer
from training import by_name, classifier, data, trainer, weights

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.callbacks import EMixup, FitHead, LabelSoftening, OODThreshold, WithoutTraining
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import LinearMap
from estitchup_pl.model import LDA, HeadSolver, LinearHead, LogisticRegression

HELD_OUT = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)


def head(**options: object) -> EmbeddingClassifier:
    return classifier(network=LinearHead, **options)


def test_its_probabilities_are_those_of_scikit_learn_on_rows_scaled_alike(tmp_path: Path) -> None:
    model, rows = head(scaling="centered_l2"), data()
    trainer(tmp_path, callbacks=[FitHead(LDA(shrinkage=0.3, temperature=1.0))]).fit(model, rows)
    labels = rows.labels.index(rows.class_names)
    train, test = rows.parts.train, rows.parts.test
    parts = {name: rows.store.gather(np.arange(len(rows.store)), [name]).astype(float) for name in rows.modalities}
    scaled = np.hstack([Normalizer().transform(part - part[train].mean(0)) for part in parts.values()])
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(scaled[train], labels[train])
    got = model.predict_proba(by_name(rows.store, test)).numpy()
    np.testing.assert_allclose(got, expected.predict_proba(scaled[test]), atol=1e-5)


@pytest.mark.parametrize("solver", [LDA(), LogisticRegression(), LogisticRegression(penalty=3.0)])
def test_the_checkpoint_is_saved_tested_and_resumed_with_the_same_weights(tmp_path: Path, solver: HeadSolver) -> None:
    model, rows = head(scaling="l2"), data(split=HELD_OUT)
    run = trainer(tmp_path, 576, callbacks=[FitHead(solver), OODThreshold()], check_val_every_n_epoch=12)
    run.fit(model, rows)
    run.save_checkpoint(tmp_path / "last.ckpt")
    assert (run.current_epoch, run.global_step) == (1, 1)
    assert run.limit_train_batches == 1.0
    assert run.check_val_every_n_epoch == 12
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "last.ckpt", network=LinearHead)
    assert 0 < loaded.threshold < 1
    assert loaded.threshold == model.threshold
    batches = list(rows.training_rows())
    scaled, labels = loaded.scale(torch.cat([batch.embeddings for batch in batches])), batches[0].labels
    for got, expected in zip(loaded.network.parameters(), solver.solve(scaled, labels), strict=True):
        assert torch.equal(got, expected.float())
    (metrics,) = trainer(tmp_path).test(loaded, data(split=None), verbose=False)
    assert metrics["test/auroc"] > 0.7

    resumed = head(scaling="l2")
    again = trainer(tmp_path, 577, callbacks=[FitHead(solver), OODThreshold()])
    again.fit(resumed, data(split=HELD_OUT), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert again.current_epoch == 2
    for name, value in weights(model).items():
        assert torch.equal(weights(resumed)[name], value)
    assert resumed.threshold == model.threshold


def test_a_solver_of_ones_own_solves_on_scaled_rows_and_their_classes(tmp_path: Path) -> None:
    class NearestMean(HeadSolver):
        def solve(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LinearMap:
            means = torch.stack([embeddings[labels == label].mean(0) for label in range(5)])
            return LinearMap(means, -means.square().sum(-1) / 2)

    model, rows = head(scaling="standardize"), data()
    trainer(tmp_path, callbacks=[FitHead(NearestMean())]).fit(model, rows)
    names = np.array(rows.class_names)[rows.labels.index(rows.class_names)[rows.parts.train]]
    scaled = model.scale(torch.from_numpy(rows.store.gather(rows.parts.train)))
    for name, weight in zip(rows.class_names, model.network[0].weight, strict=True):
        torch.testing.assert_close(weight.detach(), scaled[torch.from_numpy(names == name)].mean(0))


def test_a_fit_without_training_leaves_the_weights_and_finds_a_threshold_for_them(tmp_path: Path) -> None:
    model = classifier()
    trainer(tmp_path, epochs=3, callbacks=[OODThreshold()]).fit(model, data(split=HELD_OUT))
    before, threshold = weights(model), model.threshold
    model.threshold = 0.123
    run = trainer(tmp_path, epochs=50, callbacks=[WithoutTraining(), OODThreshold()], check_val_every_n_epoch=12)
    run.fit(model, data(split=HELD_OUT))
    assert run.current_epoch == 1
    assert model.threshold == threshold
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    trainer(tmp_path, epochs=1).fit(model, data(split=HELD_OUT))  # which trains
    assert not torch.equal(weights(model)["network.0.weight"], before["network.0.weight"])


def test_what_would_change_nothing_is_refused(tmp_path: Path) -> None:
    for callback in (EMixup(), LabelSoftening(0.1)):
        run = trainer(tmp_path, callbacks=[FitHead(), callback])
        with pytest.raises(ConfigError, match=f"FitHead trains on no batch, so {type(callback).__name__} would change"):
            run.fit(head(), data())
    with pytest.raises(ConfigError, match=r"fits a LinearHead, and the network is EmbeddingMLP: --model\.network"):
        trainer(tmp_path, callbacks=[FitHead()]).fit(classifier(), data())
    own = data()
    own.setup("fit")
    told = {"class_names": own.class_names, "modalities": own.modalities}
    run = trainer(tmp_path, callbacks=[FitHead()])
    with pytest.raises(ConfigError, match="takes training rows from an EmbeddingDataModule"):
        run.fit(head(**told), own.train_dataloader(), own.val_dataloader())


def test_rows_without_a_modality_take_part(tmp_path: Path) -> None:
    store = blobs_store()
    assert len(store.modalities) == 2
    model = head(scaling="centered_l2")
    trainer(tmp_path, callbacks=[FitHead(LDA())]).fit(model, data(modalities=["image"]))
    assert model.network[0].weight.shape == (5, 5)
