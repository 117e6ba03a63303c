"""When the decision is fitted: once a validation, for the weights that are saved, however a fit ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from training import SMALL, by_name, classifier, data, trainer

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.callbacks import Calibration, OODThreshold
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.functional import mean_logits, nonconformity, select_threshold
from estitchup_pl.model.calibrators import (
    Calibrator,
    IsotonicTopLabel,
    LogitNormalization,
    Temperature,
    VectorScaling,
)
from estitchup_pl.model.networks import MemberNetwork
from estitchup_pl.model.scores import (
    Disagreement,
    Energy,
    Entropy,
    Mahalanobis,
    MaxLogit,
    MaxProbability,
    NearestMean,
    NeighborDistance,
    NoneScore,
    RelativeMahalanobis,
    SumOfScores,
)

HELD_OUT = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)


def rows() -> Any:
    return data(split=HELD_OUT, batch_size=16)


def last(folder: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True, **options
    )


def load(path: Path) -> EmbeddingClassifier:
    return EmbeddingClassifier.load_from_checkpoint(path, network=SMALL)


def own_threshold(model: EmbeddingClassifier) -> float:
    """The threshold that the weights of a model have on the validation rows."""
    module = rows()
    module.setup("fit")
    batches = list(module.val_dataloader())
    labels = torch.cat([batch.labels for batch in batches])
    scores = model.predict_proba(by_name(module.store, torch.cat([batch.rows for batch in batches])))
    return float(select_threshold(*scores.max(dim=1), labels))


class StopAt(pl.Callback):
    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        trainer.should_stop = trainer.global_step >= self.batch


class StopLate(EarlyStopping):
    """Stops when the last epoch is over and saved."""

    def __init__(self) -> None:
        super().__init__("train/loss", patience=0, mode="max", check_on_train_epoch_end=True)


@pytest.mark.parametrize(
    ("options", "callbacks"),
    [
        ({"epochs": 7, "check_val_every_n_epoch": 3}, []),
        ({"epochs": 2, "check_val_every_n_epoch": 12}, []),
        ({"epochs": 9, "max_steps": 17, "check_val_every_n_epoch": 2}, []),
        ({"epochs": 9, "check_val_every_n_epoch": 4}, [StopAt(21)]),
        ({"epochs": 9, "check_val_every_n_epoch": 4}, [StopLate()]),
        ({"epochs": 3, "val_check_interval": 2}, []),
    ],
    ids=["epochs", "never before", "steps", "stopped within an epoch", "stopped after an epoch", "within epochs"],
)
def test_the_last_checkpoint_holds_the_threshold_of_its_own_weights(
    tmp_path: Path, options: dict[str, Any], callbacks: list[pl.Callback]
) -> None:
    model, keeper = classifier(), last(tmp_path / "kept")
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[*callbacks, OODThreshold(), keeper], **options)
    run.fit(model, rows())
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["last.ckpt"]
    saved = load(tmp_path / "kept" / "last.ckpt")
    for name, value in model.network.state_dict().items():
        assert torch.equal(saved.network.state_dict()[name], value)
    assert 0 < saved.threshold < 1
    assert saved.threshold == model.threshold == pytest.approx(own_threshold(saved), abs=1e-7)


def test_every_checkpoint_holds_the_threshold_of_its_own_weights_or_none(tmp_path: Path) -> None:
    every = ModelCheckpoint(tmp_path / "all", "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    run = trainer(tmp_path, 5, enable_checkpointing=True, check_val_every_n_epoch=2, callbacks=[OODThreshold(), every])
    run.fit(classifier(), rows())
    fitted = {epoch: load(tmp_path / "all" / f"epoch={epoch}.ckpt") for epoch in range(5)}
    assert [epoch for epoch, model in fitted.items() if model.decision.has_threshold] == [1, 3, 4]
    for epoch in (1, 3, 4):
        assert fitted[epoch].threshold == pytest.approx(own_threshold(fitted[epoch]), abs=1e-7)
    with pytest.raises(CheckpointError, match="trained on after it had been fitted"):
        OODThreshold(checkpoint=tmp_path / "all" / "epoch=2.ckpt")


def test_the_best_checkpoint_is_saved_with_the_validation_that_made_it_the_best(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", "{epoch}", monitor="val/aupr", mode="max")
    run = trainer(tmp_path, 6, enable_checkpointing=True, check_val_every_n_epoch=4, callbacks=[OODThreshold(), best])
    run.fit(classifier(), rows())
    saved = load(Path(best.best_model_path))
    assert saved.threshold == pytest.approx(own_threshold(saved), abs=1e-7)
    assert "epoch=5" in best.best_model_path


def test_a_fit_that_will_not_validate_says_so_at_its_start(tmp_path: Path) -> None:
    for callback in (OODThreshold(), Calibration()):
        with pytest.raises(ConfigError, match=f"{type(callback).__name__} is fitted on validation rows"):
            trainer(tmp_path, callbacks=[callback], limit_val_batches=0).fit(classifier(), rows())
    trainer(tmp_path, callbacks=[OODThreshold(value=0.5)], limit_val_batches=0, epochs=1).fit(classifier(), rows())


def test_few_none_rows_are_a_warning(tmp_path: Path) -> None:
    module = rows()
    with pytest.warns(UserWarning, match=r'rest on (\d+) "none" rows, fewer than 30') as caught:
        trainer(tmp_path, epochs=1, callbacks=[OODThreshold()]).fit(classifier(), module)
    assert any(f"rest on {module.unknown_validation_rows} " in str(warning.message) for warning in caught)


@pytest.mark.parametrize("calibration_first", [True, False])
def test_the_order_of_callbacks_makes_no_difference(tmp_path: Path, calibration_first: bool) -> None:
    score = SumOfScores([NeighborDistance(k=3)])
    parts = [Calibration(), OODThreshold(score=score)]
    model, module = classifier(scaling="l2"), rows()
    run = trainer(tmp_path, 4, callbacks=parts if calibration_first else parts[::-1])
    run.fit(model, module)

    batches = list(module.val_dataloader())
    labels = torch.cat([batch.labels for batch in batches])
    raw = by_name(module.store, torch.cat([batch.rows for batch in batches]))
    temperature = Temperature()
    temperature.fit(model.eval().logits(raw).detach(), labels)
    assert float(model.decision.calibrator.temperature) == pytest.approx(float(temperature.temperature), rel=1e-5)

    trained = by_name(module.store, module.parts.train)
    scaled = [torch.nn.functional.normalize(torch.from_numpy(values), dim=1) for values in trained.values()]
    torch.testing.assert_close(
        model.decision.score.scores[0].bank.float(),
        torch.nn.functional.normalize(torch.cat(scaled, dim=1), dim=1),
        atol=1e-3,
        rtol=1e-3,
    )
    decided = model.predict(raw)
    torch.testing.assert_close(model.decision.unlikely, nonconformity(decided.probabilities, labels), atol=1e-5, rtol=0)
    run.save_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(load(tmp_path / "model.ckpt").decision.unlikely, model.decision.unlikely)
    assert float(decided.none_scores.double().mean()) == pytest.approx(0.5, abs=0.1)  # standardised on these rows
    accepted = (1 - decided.none_scores).float()
    expected = select_threshold(accepted, model.predict_proba(raw).argmax(dim=1), labels)
    assert model.threshold == pytest.approx(float(expected), abs=1e-7)
    assert score.scores[0].bank.numel() == 0  # what the user has made is left alone


def test_what_a_fit_logs_is_judged_by_the_decision_that_it_has_fitted(tmp_path: Path) -> None:
    model, module = classifier(), rows()
    run = trainer(tmp_path, 3, callbacks=[Calibration(), OODThreshold(score=NeighborDistance())])
    run.fit(model, module)
    logged = {name: float(value) for name, value in run.logged_metrics.items() if name.startswith("val/")}
    (again,) = run.validate(model, module, verbose=False)
    assert logged == pytest.approx(again, abs=1e-6)
    plain = classifier()
    run = trainer(tmp_path, 3)
    run.fit(plain, module)
    assert float(run.logged_metrics["val/ece"]) != pytest.approx(logged["val/ece"], abs=1e-4)
    assert float(run.logged_metrics["val/auroc"]) != pytest.approx(logged["val/auroc"], abs=1e-4)


def test_a_number_and_a_calibration_go_together(tmp_path: Path) -> None:
    model = classifier()
    trainer(tmp_path, 2, callbacks=[OODThreshold(value=0.25), Calibration()]).fit(model, rows())
    assert model.threshold == 0.25
    assert model.decision.calibrator is not None


def test_a_calibration_alone_is_kept_and_applied(tmp_path: Path) -> None:
    model, module = classifier(), rows()
    run = trainer(tmp_path, 2, callbacks=[Calibration(Temperature("all"))])
    run.fit(model, module)
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt")
    assert loaded.decision.calibrator.target == "all"
    raw = by_name(module.store, range(20))
    expected = (loaded.logits(raw) / loaded.decision.calibrator.temperature).sigmoid()
    torch.testing.assert_close(loaded.predict_proba(raw), expected.detach().float())
    assert not loaded.decision.has_threshold


class Twins(MemberNetwork):
    """Two networks that begin with other weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(SMALL(in_features, out_features) for _ in range(2))

    def member_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        return torch.stack([part(embeddings) for part in self.parts])


@pytest.mark.parametrize(
    "score", [Disagreement(), SumOfScores([MaxProbability(), Disagreement()])], ids=["alone", "in a sum"]
)
def test_members_of_an_ensemble_are_compared_by_what_each_says(tmp_path: Path, score: NoneScore) -> None:
    model, module = classifier(network=Twins), rows()
    run = trainer(tmp_path, 3, callbacks=[Calibration(), OODThreshold(score=score)])
    run.fit(model, module)
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=Twins)
    raw = by_name(module.store, module.parts.val)
    scaled = torch.cat([torch.from_numpy(values) for values in raw.values()], dim=1)
    members = loaded.network.member_logits(scaled).detach()
    mean, temperature = mean_logits(members), loaded.decision.calibrator.temperature
    answers = loaded.predict(raw)
    torch.testing.assert_close(answers.confidence, (mean / temperature).sigmoid().amax(dim=1).float())
    torch.testing.assert_close(answers.none_scores, loaded.decision.score(scaled, (members / temperature).float()))
    labels = torch.from_numpy(module.labels.index(model.class_names)[module.parts.val])
    alone = Temperature()
    alone.fit(mean, labels)
    assert float(temperature) == pytest.approx(float(alone.temperature), rel=1e-5)
    accepted = (1 - answers.none_scores).float()
    expected = select_threshold(accepted, mean.argmax(dim=1), labels)
    assert loaded.threshold == pytest.approx(float(expected), abs=1e-6)


def test_members_are_not_compared_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Disagreement compares the members of an ensemble"):
        trainer(tmp_path, callbacks=[OODThreshold(score=Disagreement())]).fit(classifier(), rows())


@pytest.mark.parametrize(
    "part",
    [
        *(MaxProbability(), MaxLogit(), Energy(), Entropy(), NearestMean(), NeighborDistance(k=2, max_rows=30)),
        *(Mahalanobis(), RelativeMahalanobis(shrinkage=0.5), SumOfScores([Energy(), NearestMean(), MaxProbability()])),
        *(Temperature(), Temperature("all"), VectorScaling(), IsotonicTopLabel(), LogitNormalization()),
    ],
    ids=repr,
)
def test_every_score_and_calibrator_is_fitted_saved_and_decides(tmp_path: Path, part: NoneScore | Calibrator) -> None:
    calibrates = isinstance(part, Calibrator)
    callbacks = [Calibration(part), OODThreshold()] if calibrates else [OODThreshold(score=part)]
    model, module = classifier(scaling="standardize"), rows()
    run = trainer(tmp_path, 3, callbacks=callbacks)
    run.fit(model, module)
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt")
    kept = loaded.decision.calibrator if calibrates else loaded.decision.score
    assert repr(kept) == repr(part)
    assert kept.is_fitted
    raw = by_name(module.store, module.parts.test)
    answers, again = model.predict(raw), loaded.predict(raw)
    assert answers.predicted == again.predicted
    assert torch.equal(answers.none_scores, again.none_scores)
    plain = (1 - loaded.logits(raw).double().sigmoid()).amin(dim=1)
    if not isinstance(part, MaxProbability):
        assert not torch.allclose(answers.none_scores, plain, atol=1e-3)
    (metrics,) = run.test(loaded, module, verbose=False)
    truth = torch.from_numpy(module.labels.index(model.class_names)[module.parts.test])
    names = [*model.class_names, "none"]
    right = [names[label] == predicted for label, predicted in zip(truth, answers.predicted, strict=True)]
    assert metrics["test/accuracy"] == pytest.approx(sum(right) / len(right))
    everything = run.predict(loaded, data(split=None, predict_rows="test"))
    assert torch.cat([batch["predicted"] for batch in everything]).tolist() == [
        names.index(predicted) if predicted != "none" else -1 for predicted in answers.predicted
    ]
