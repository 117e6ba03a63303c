"""The threshold: fitted on held-out classes, kept on the module, applied in test, handed over."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from blobs import blobs_store
from lightning.pytorch import Callback
from training import SMALL, by_name, classifier, data, trainer

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.batch import NONE
from estitchup_pl.callbacks import Calibration, OODThreshold
from estitchup_pl.callbacks.taking_over import read_threshold
from estitchup_pl.data.splits import ColumnSplit, StratifiedSplit, ThresholdSplit, TrialSplit
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.functional import select_threshold, threshold_interval
from estitchup_pl.model.calibrators import VectorScaling
from estitchup_pl.model.scores import Energy, MaxProbability, NeighborDistance, SumOfScores
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.thresholds import BoundedError, Coverage, LeastCost, ThresholdRule

HELD_OUT = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)


@pytest.mark.parametrize("heuristic", ["intersection", "tp_ratio"])
def test_it_is_the_best_of_all_thresholds_on_the_validation_rows(tmp_path: Path, heuristic: str) -> None:
    model, rows = classifier(), data(split=HELD_OUT)
    trainer(tmp_path, epochs=6, callbacks=[OODThreshold(heuristic)]).fit(model, rows)
    batches = list(rows.val_dataloader())
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    scores = model.predict_proba(by_name(rows.store, torch.cat([batch.rows for batch in batches]))).numpy()
    confidence, predicted = scores.max(1), scores.argmax(1)

    def outcome(threshold: float) -> float:
        decided = np.where(confidence > threshold, predicted, NONE)
        right, none = decided == labels, labels == NONE
        if heuristic == "intersection":
            return -abs(right.mean() - right[none].mean())
        false_id = (~right[~none]).sum() + (decided[none] != NONE).sum() + ((~right) & ~none & (decided != NONE)).sum()
        false_none = (decided[none] != NONE).sum() + (decided[~none] == NONE).sum()
        return (right[~none].sum() / max(false_id, 1e-9) + right[none].sum() / max(false_none, 1e-9)) / 2

    best = max(outcome(threshold) for threshold in np.concatenate([[-1], confidence]))
    assert outcome(float(model.threshold)) == pytest.approx(best)


def test_it_is_kept_in_the_checkpoint_and_handed_over(tmp_path: Path) -> None:
    model = classifier()
    run = trainer(tmp_path, epochs=3, callbacks=[OODThreshold()])
    run.fit(model, data(split=HELD_OUT))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    assert 0 < model.threshold < 1
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "scout.ckpt", network=SMALL)
    assert loaded.threshold == model.threshold
    final = classifier()
    whole = data(split=HELD_OUT.split)
    trainer(tmp_path, callbacks=[OODThreshold(checkpoint=tmp_path / "scout.ckpt")]).fit(final, whole)
    assert final.threshold == model.threshold


def test_score_calibration_and_moments_are_handed_over_and_the_bank_is_that_of_all_training_rows(
    tmp_path: Path,
) -> None:
    scout = classifier(scaling="l2")
    score = SumOfScores([MaxProbability(), NeighborDistance(k=3)])
    run = trainer(tmp_path, epochs=3, callbacks=[Calibration(), OODThreshold(score=score)])
    run.fit(scout, data(split=HELD_OUT))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    final, whole = classifier(scaling="l2"), data(split=HELD_OUT.split)
    run = trainer(tmp_path, callbacks=[OODThreshold(checkpoint=tmp_path / "scout.ckpt")])
    run.fit(final, whole)
    run.save_checkpoint(tmp_path / "final.ckpt")
    final = EmbeddingClassifier.load_from_checkpoint(tmp_path / "final.ckpt", network=SMALL)
    assert final.threshold == scout.threshold
    assert torch.equal(final.decision.score.mean, scout.decision.score.mean)
    assert torch.equal(final.decision.calibrator.temperature, scout.decision.calibrator.temperature)
    trained = len(whole.parts.train)
    assert len(final.decision.score.scores[1].bank) == trained > len(scout.decision.score.scores[1].bank)
    answers = final.predict(by_name(whole.store, whole.parts.test))
    accepted = (1 - answers.none_scores).float() > final.threshold
    assert [name != "none" for name in answers.predicted] == accepted.tolist()
    assert 0 < accepted.sum() < len(accepted)


def test_a_calibration_by_class_is_handed_over_by_the_names_of_classes(tmp_path: Path) -> None:
    scout = classifier()
    run = trainer(tmp_path, epochs=3, callbacks=[Calibration(VectorScaling(shrinkage=1)), OODThreshold()])
    run.fit(scout, data(split=HELD_OUT))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    final = classifier()
    trainer(tmp_path, callbacks=[OODThreshold(checkpoint=tmp_path / "scout.ckpt")]).fit(
        final, data(split=HELD_OUT.split)
    )
    theirs = dict(zip(scout.class_names, scout.decision.calibrator.scale.tolist(), strict=True))
    mine = dict(zip(final.class_names, final.decision.calibrator.scale.tolist(), strict=True))
    assert {name: mine[name] for name in theirs} == theirs
    assert len(set(theirs.values())) == len(theirs) == 4
    new = [mine[name] for name in mine.keys() - theirs.keys()]
    assert new == [pytest.approx(np.mean([*theirs.values()]))] * 2


@pytest.mark.parametrize("rule", [Coverage(share=0.8), LeastCost(question=0.1), BoundedError(error=0.5)])
def test_any_rule_of_a_threshold_takes_part(tmp_path: Path, rule: ThresholdRule) -> None:
    model, rows = classifier(), data(split=HELD_OUT)
    trainer(tmp_path, epochs=3, callbacks=[OODThreshold(rule)]).fit(model, rows)
    batches = list(rows.val_dataloader())
    labels = torch.cat([batch.labels for batch in batches])
    scores = model.predict_proba(by_name(rows.store, torch.cat([batch.rows for batch in batches])))
    assert model.threshold == pytest.approx(float(rule(*scores.max(dim=1), labels)), abs=1e-6)
    assert abs(model.threshold - float(select_threshold(*scores.max(dim=1), labels))) > 1e-3


def test_a_rule_that_needs_no_none_row_is_fitted_without_any(tmp_path: Path) -> None:
    model = classifier()
    rows = data(split=ColumnSplit("part"), store=with_parts())
    trainer(tmp_path, callbacks=[OODThreshold(Coverage(share=0.9))]).fit(model, rows)
    assert rows.unknown_validation_rows == 0
    assert model.decision.basis.none_rows == 0
    assert 0 < model.threshold < 1


def with_parts() -> EmbeddingStore:
    store = blobs_store(unlabelled=0)
    parts = pa.array(["train", "val", "test"] * 80)
    arrays = {name: store.gather(np.arange(240), [name]) for name in store.modalities}
    return EmbeddingStore.from_arrays(store.items.select(["id", "label"]).append_column("part", parts), arrays)


def test_it_says_and_keeps_what_it_rests_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, rows = classifier(), data(split=HELD_OUT)
    run = trainer(tmp_path, epochs=3, check_val_every_n_epoch=2, callbacks=[OODThreshold()])
    with caplog.at_level(logging.INFO):
        run.fit(model, rows)
    run.save_checkpoint(tmp_path / "model.ckpt")
    basis = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=SMALL).decision.basis
    unknown = rows.unknown_validation_rows
    assert (basis.none_rows, basis.known_rows) == (unknown, len(rows.parts.val) - unknown)
    batches = list(rows.val_dataloader())
    labels = torch.cat([batch.labels for batch in batches])
    scores = model.predict_proba(by_name(rows.store, rows.parts.val))
    groups = torch.from_numpy(rows.labels.codes[rows.parts.val])
    interval = threshold_interval(select_threshold, *scores.max(dim=1), labels, groups)
    assert (basis.low, basis.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert caplog.text.count(f"threshold {model.threshold:.3f} {basis}") == 1
    assert f'from {unknown} "none" rows' in caplog.text


def test_it_keeps_what_is_decided_about_the_rows_it_rests_on(tmp_path: Path) -> None:
    scout, rows = classifier(), data(split=HELD_OUT)
    run = trainer(tmp_path, epochs=3, callbacks=[OODThreshold()])
    run.fit(scout, rows)
    run.save_checkpoint(tmp_path / "scout.ckpt")
    kept = EmbeddingClassifier.load_from_checkpoint(tmp_path / "scout.ckpt", network=SMALL).decision.expectation
    said = scout.predict(by_name(rows.store, rows.parts.val))
    names = (*scout.class_names, "none")
    assert [names[index] for index in kept.predicted.tolist()] == said.predicted
    assert kept.known.tolist() == (rows.labels.index(scout.class_names)[rows.parts.val] != NONE).tolist()
    torch.testing.assert_close(kept.confidence, said.confidence, atol=1e-6, rtol=0)
    torch.testing.assert_close(kept.none_scores.double(), said.none_scores, atol=1e-6, rtol=0)
    final = classifier()
    trainer(tmp_path, callbacks=[OODThreshold(checkpoint=tmp_path / "scout.ckpt")]).fit(
        final, data(split=HELD_OUT.split)
    )
    names = (*final.class_names, "none")
    assert [names[index] for index in final.decision.expectation.predicted.tolist()] == said.predicted


def written(path: Path, more: float = 0.0) -> EmbeddingStore:
    """The store as a folder, its embeddings moved by so much; ids and labels stay."""
    store = blobs_store()
    arrays = {name: store.gather(np.arange(len(store)), [name]) + np.float32(more) for name in store.modalities}
    return EmbeddingStore.create(path, store.items.select(["id", "label"]), arrays)


def test_the_decision_of_a_threshold_split_of_the_same_rows_is_taken(tmp_path: Path) -> None:
    store = written(tmp_path / "store")
    run = trainer(tmp_path, epochs=1, callbacks=[OODThreshold()])
    run.fit(classifier(), data(split=HELD_OUT, store=store))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    model = classifier()
    again = EmbeddingStore.open(tmp_path / "store")
    callbacks = [OODThreshold(checkpoint=tmp_path / "scout.ckpt")]
    trainer(tmp_path, epochs=1, callbacks=callbacks).fit(model, data(split=HELD_OUT.split, store=again))
    assert model.threshold == run.lightning_module.threshold


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": TrialSplit(0, 0.6, unknown_classes=("ant", "bee", "cat"))}, "classes are not among the 3 of this"),
        ({"split": TrialSplit(1, 0.6)}, "are not among the training rows of this fit"),
        ({"split": TrialSplit(0, 0.9)}, "which does not divide the training rows of this fit's split"),  # all are there
        ({"split": HELD_OUT.split, "store": "another"}, "fitted on a store with other embeddings"),
        ({"split": HELD_OUT.split, "modalities": ["title"]}, "fitted with the modalities"),
        ({"split": HELD_OUT.split, "scaling": "l2"}, "fitted with the scaling"),
        ({"split": HELD_OUT, "calibrate": True}, "Calibration has nothing to fit"),
    ],
)
def test_a_decision_of_a_fit_that_has_nothing_to_do_with_this_one_is_refused(
    tmp_path: Path, options: dict, said: str
) -> None:
    run = trainer(tmp_path, epochs=1, callbacks=[OODThreshold()])
    run.fit(classifier(), data(split=HELD_OUT, store=written(tmp_path / "store")))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    if "store" in options:
        options["store"] = written(tmp_path / "another", 1.0)
    model = classifier(scaling=options.pop("scaling", "none"))
    callbacks = [Calibration()] if options.pop("calibrate", False) else []
    run = trainer(tmp_path, epochs=1, callbacks=[*callbacks, OODThreshold(checkpoint=tmp_path / "scout.ckpt")])
    with pytest.raises((CheckpointError, ConfigError), match=said):
        run.fit(model, data(**options))


def test_it_is_applied_in_test(tmp_path: Path) -> None:
    metrics = {}
    for value in (0.0, 1.0):
        model = classifier()
        run = trainer(tmp_path, callbacks=[OODThreshold(value=value)])
        run.fit(model, data())
        (metrics[value],) = run.test(model, run.datamodule, verbose=False)
    assert metrics[0.0]["test/accuracy_none"] == 0
    assert (metrics[1.0]["test/accuracy_id"], metrics[1.0]["test/accuracy_none"]) == (0, 1)


def test_it_is_logged_with_the_accuracies_it_brings(tmp_path: Path) -> None:
    model = classifier()
    run = trainer(tmp_path, callbacks=[OODThreshold()])
    run.fit(model, data(split=HELD_OUT))
    assert run.logged_metrics["val/threshold"] == model.threshold
    assert run.logged_metrics["val/accuracy_none"] > 0


@pytest.mark.parametrize("callback", [Calibration(), OODThreshold(Coverage(share=0.9))])
def test_what_is_fitted_on_validation_rows_is_refused_where_all_rows_train(tmp_path: Path, callback: Callback) -> None:
    rows = data(split=StratifiedSplit(1), store=blobs_store(unlabelled=0))
    with pytest.raises(ConfigError, match="fitted on validation rows, and all rows train"):
        trainer(tmp_path, callbacks=[callback]).fit(classifier(), rows)


def test_without_none_rows_it_says_so_before_training(tmp_path: Path) -> None:
    rows = data(split=TrialSplit(train_fraction=0.5))
    with pytest.raises(ConfigError, match="Hold classes out"):
        trainer(tmp_path, callbacks=[OODThreshold()]).fit(classifier(), rows)


def test_on_the_test_rows_it_warns_that_the_result_flatters(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the validation rows are the test rows too"):
        trainer(tmp_path, epochs=1, callbacks=[OODThreshold()]).fit(classifier(), data())


def test_a_module_that_returns_no_probabilities_is_told_what_to_return(tmp_path: Path) -> None:
    class Silent(EmbeddingClassifier):
        def validation_step(self, batch, batch_idx):
            return None

    with pytest.raises(ConfigError, match=r"Silent\.validation_step to return"):
        trainer(tmp_path, callbacks=[OODThreshold()]).fit(Silent(network=SMALL), data(split=HELD_OUT))


@pytest.mark.parametrize("options", [{"value": 1.5}, {"value": -0.1}, {"value": float("nan")}])
def test_an_impossible_value_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        OODThreshold(**options)


def test_checkpoints_without_a_threshold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_threshold(tmp_path / "missing.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.ckpt: cannot be read as a checkpoint"):
        read_threshold(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt: a checkpoint, but not one of an EmbeddingClassifier"):
        read_threshold(tmp_path / "other.ckpt")
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(), data())
    run.save_checkpoint(tmp_path / "unfitted.ckpt")
    with pytest.raises(CheckpointError, match="holds no fitted threshold"):
        read_threshold(tmp_path / "unfitted.ckpt")
    with pytest.raises(CheckpointError, match="holds no fitted threshold"):
        OODThreshold(checkpoint=tmp_path / "unfitted.ckpt")


@pytest.mark.parametrize(
    "options",
    [{"checkpoint": "x", "value": 0.5}, {"checkpoint": "x", "score": Energy()}, {"value": 0.5, "score": Energy()}],
)
def test_what_contradicts_itself_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="takes one of checkpoint, value and score"):
        OODThreshold(**options)
