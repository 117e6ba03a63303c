"""An ensemble of unlike heads is the mean of its members' probabilities, in one checkpoint like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import SMALL, by_name, classifier, data, trainer, weights

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.callbacks import Calibration, FitHead, OODThreshold, WithoutTraining
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import CheckpointError, ConfigError, SplitError
from estitchup_pl.functional import disagreement
from estitchup_pl.model import LDA, Disagreement, EnsembleNetwork, LinearHead, ensemble_of

HELD_OUT = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)
MLP = {"class_path": "estitchup_pl.model.EmbeddingMLP", "init_args": {"hidden": [16]}}
HEAD = {"class_path": "estitchup_pl.model.LinearHead"}


def fitted(path: Path, split: Any = HELD_OUT, **options: Any) -> EmbeddingClassifier:
    """Fit a small network and keep its checkpoint."""
    model = classifier(**options)
    callbacks = [FitHead(LDA())] if options.get("network") is LinearHead else []
    run = trainer(path.parent, epochs=3, callbacks=callbacks)
    run.fit(model, data(split=split))
    run.save_checkpoint(path)
    return model.eval()


@pytest.mark.parametrize("scalings", [("centered_l2", "standardize"), ("standardize", "standardize")])
def test_probabilities_are_the_mean_of_the_members_and_survive_the_checkpoint(
    tmp_path: Path, scalings: tuple[Any, Any]
) -> None:
    paths = [tmp_path / "head.ckpt", tmp_path / "network.ckpt"]
    members = [
        fitted(paths[0], network=LinearHead, scaling=scalings[0]),
        fitted(paths[1], network=SMALL, scaling=scalings[1]),
    ]
    ensemble, rows = ensemble_of(paths, [HEAD, MLP]), data(split=HELD_OUT)
    raw = by_name(rows.store, np.arange(40))
    expected = torch.stack([member.predict_proba(raw) for member in members]).mean(0)
    torch.testing.assert_close(ensemble.predict_proba(raw), expected)
    assert ensemble.scale.kinds == dict.fromkeys(
        ("title", "image"), "none" if scalings[0] != scalings[1] else scalings[0]
    )

    before = weights(ensemble)
    run = trainer(tmp_path, epochs=9, callbacks=[WithoutTraining(), Calibration(), OODThreshold()])
    run.fit(ensemble, rows)
    assert all(torch.equal(value, before[name]) for name, value in weights(ensemble).items() if name in before)
    run.save_checkpoint(tmp_path / "ensemble.ckpt")
    for _ in range(2):  # what is loaded and saved again loads once more
        loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "ensemble.ckpt")
        assert loaded.threshold == ensemble.threshold
        torch.testing.assert_close(loaded.predict_proba(raw), ensemble.predict_proba(raw))
        assert loaded.predict(raw).predicted == ensemble.predict(raw).predicted
        again = trainer(tmp_path, epochs=9, callbacks=[WithoutTraining(), Calibration(), OODThreshold()])
        again.fit(loaded, data(split=HELD_OUT))
        again.save_checkpoint(tmp_path / "ensemble.ckpt")
    (metrics,) = trainer(tmp_path).test(loaded, data(split=None), verbose=False)
    assert metrics["test/threshold"] == pytest.approx(ensemble.threshold)
    assert len(loaded.trained_on.digests) == len(rows.parts.train)


def test_a_decision_of_an_ensemble_is_taken_over_by_one_of_final_fits(tmp_path: Path) -> None:
    scouts = [tmp_path / "scout-0.ckpt", tmp_path / "scout-1.ckpt"]
    for path in scouts:
        fitted(path)
    scout = ensemble_of(scouts, [MLP, MLP])
    run = trainer(tmp_path, callbacks=[WithoutTraining(), OODThreshold()])
    run.fit(scout, data(split=HELD_OUT))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    finals = [tmp_path / "final-0.ckpt", tmp_path / "final-1.ckpt"]
    for path in finals:
        fitted(path, split=HELD_OUT.split)
    final = ensemble_of(finals, [MLP, MLP])
    takes_over = OODThreshold(checkpoint=tmp_path / "scout.ckpt")
    trainer(tmp_path, callbacks=[WithoutTraining(), takes_over]).fit(final, data(split=HELD_OUT.split))
    assert final.threshold == scout.threshold > 0


def test_how_far_its_members_are_apart_can_be_its_score(tmp_path: Path) -> None:
    paths = [tmp_path / "0.ckpt", tmp_path / "1.ckpt"]
    members = [fitted(paths[0], network=LinearHead), fitted(paths[1], network=SMALL, scaling="standardize")]
    ensemble, rows = ensemble_of(paths, [HEAD, MLP]), data(split=HELD_OUT)
    run = trainer(tmp_path, callbacks=[WithoutTraining(), OODThreshold(score=Disagreement())])
    run.fit(ensemble, rows)
    run.save_checkpoint(tmp_path / "ensemble.ckpt")
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "ensemble.ckpt")
    raw = by_name(rows.store, np.arange(40))
    expected = disagreement(torch.stack([member.logits(raw).detach() for member in members]))
    torch.testing.assert_close(loaded.predict(raw).none_scores, expected, rtol=1e-4, atol=1e-6)


def test_rows_that_trained_any_member_are_refused_in_test(tmp_path: Path) -> None:
    paths = [tmp_path / "0.ckpt", tmp_path / "1.ckpt"]
    splits = [TrialSplit(trial, 0.5, ("fox",)) for trial in (0, 1)]
    for path, split in zip(paths, splits, strict=True):
        fitted(path, split=split)
    ensemble = ensemble_of(paths, [MLP, MLP])
    for split in splits:
        with pytest.raises(SplitError, match="were trained on"):
            trainer(tmp_path).test(ensemble, data(split=split), verbose=False)


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    first, other, classes = (tmp_path / f"{name}.ckpt" for name in ("first", "other", "classes"))
    fitted(first)
    fitted(classes, split=TrialSplit(0, 0.5, ("ant",)))
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(), data(split=HELD_OUT, modalities=["title"]))
    run.save_checkpoint(other)
    with pytest.raises(ConfigError, match="at least two checkpoints, got 1"):
        ensemble_of([first])
    with pytest.raises(ConfigError, match="expected one for each of 2 checkpoints, got 1"):
        ensemble_of([first, first], [MLP])
    with pytest.raises(CheckpointError, match=r"classes\.ckpt: its class names differ from those of .*first\.ckpt"):
        ensemble_of([first, classes], [MLP, MLP])
    with pytest.raises(CheckpointError, match=r"other\.ckpt: its modalities differ"):
        ensemble_of([first, other], [MLP, MLP])
    with pytest.raises(CheckpointError, match=r"first\.ckpt: its weights do not fit .*EmbeddingMLP; .*\(networks\)"):
        ensemble_of([first, first])
    with pytest.raises(ConfigError, match="got 1 members and 0 scalings"):
        EnsembleNetwork(2, 2, [LinearHead], {"title": 2}, [])
