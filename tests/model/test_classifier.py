"""The classifier: what it learns, logs, keeps in its checkpoint and refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from blobs import blobs_store
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import BinaryAccuracy
from training import SMALL, by_name, classifier, data, trainer, weights

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.batch import NONE
from estitchup_pl.callbacks import EMixup, OODThreshold
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import CheckpointError, ConfigError, DataError
from estitchup_pl.metrics import AdaptiveCalibrationError, NoneAwareAccuracy
from estitchup_pl.model.calibrators import Temperature
from estitchup_pl.model.decision import Decision
from estitchup_pl.model.scores import NeighborDistance

NAMES = {
    "loss",
    "auroc",
    "aupr",
    "ece",
    "ece_id",
    "correlation",
    "correlation_id",
    "correlation_weighted",
    "accuracy",
    "accuracy_id",
    "accuracy_none",
    "accuracy_accepted",
    "coverage",
    "none_auroc",
    "none_ap",
    "none_fpr95",
    "aurc",
    "augrc",
    "threshold",
}


def test_it_learns_and_logs_under_stable_names(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=60)
    model = classifier(scaling="standardize")
    run.fit(model, data())
    assert set(run.logged_metrics) == {"train/loss"} | {f"val/{name}" for name in NAMES}
    (metrics,) = run.test(model, run.datamodule, verbose=False)
    assert set(metrics) == {f"test/{name}" for name in NAMES}
    assert metrics["test/accuracy_id"] > 0.8
    assert metrics["test/auroc"] > 0.9


def test_test_metrics_are_those_of_scikit_learn(tmp_path: Path) -> None:
    model, rows = classifier(), data(eval_batch_size=50)
    run = trainer(tmp_path, epochs=10)
    run.fit(model, rows)
    model.threshold = torch.tensor(0.4)
    (metrics,) = run.test(model, rows, verbose=False)
    batches = list(rows.test_dataloader())
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    scores = model.predict_proba(by_name(rows.store, torch.cat([batch.rows for batch in batches]))).numpy()
    columns = np.concatenate([scores, 1 - scores.max(1, keepdims=True)], axis=1)
    targets = np.eye(columns.shape[1])[labels]  # NONE is -1, the last column
    for name, reference in (("auroc", roc_auc_score), ("aupr", average_precision_score)):
        assert metrics[f"test/{name}"] == pytest.approx(reference(targets, columns, average="weighted"), abs=1e-6)
    decided = np.where(scores.max(1) > 0.4, scores.argmax(1), NONE)
    assert metrics["test/accuracy"] == pytest.approx((decided == labels).mean())
    assert metrics["test/accuracy_id"] == pytest.approx((decided == labels)[labels != NONE].mean())
    assert metrics["test/accuracy_none"] == pytest.approx((decided == labels)[labels == NONE].mean())
    accepted = scores.max(1) > 0.4
    assert metrics["test/coverage"] == pytest.approx(accepted.mean())
    assert metrics["test/accuracy_accepted"] == pytest.approx((scores.argmax(1) == labels)[accepted].mean())
    for name, reference in (("none_auroc", roc_auc_score), ("none_ap", average_precision_score)):
        assert metrics[f"test/{name}"] == pytest.approx(reference(labels == NONE, columns[:, -1]), abs=1e-6)
    one_hot = torch.from_numpy(targets[:, :-1]).float()
    loss = F.binary_cross_entropy(torch.from_numpy(scores), one_hot).item()
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-5)


def test_a_step_is_adamw_on_binary_cross_entropy_at_the_cycles_rate(tmp_path: Path) -> None:
    before, batches = {}, []

    class Watch(pl.Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            before.update(weights(pl_module.network))

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            batches.append(batch)

    class Linear(nn.Linear):
        pass

    model = classifier(network=Linear)
    trainer(tmp_path, epochs=1, callbacks=[Watch()], limit_train_batches=2, limit_val_batches=0).fit(model, data())
    reference = Linear(12, 5)
    reference.load_state_dict(before)
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=1e-4)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 3e-4 + step * (3e-3 - 3e-4) / 12  # two batches an epoch, up for six
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(reference(batch.embeddings), batch.targets).backward()
        optimizer.step()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], value)


def test_the_learning_rate_cycles_over_twelve_epochs(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        epochs=24,
        callbacks=[LearningRateMonitor("step")],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        limit_val_batches=0,
    )
    run.fit(classifier(), data())
    log = np.genfromtxt(Path(run.log_dir) / "metrics.csv", delimiter=",", names=True)
    rates = log["lrAdamW"][~np.isnan(log["lrAdamW"])]
    per_epoch = len(rates) // 24
    half = 6 * per_epoch
    steps = np.arange(len(rates))
    expected = 3e-4 + 2.7e-3 * (1 - np.abs(steps % (2 * half) - half) / half)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_weights_begin_the_same_whatever_was_drawn_before(tmp_path: Path) -> None:
    models = [classifier(), classifier()]
    for model in models:
        torch.rand(int(torch.randint(1, 9, ())))
        trainer(tmp_path, epochs=1, limit_train_batches=1).fit(model, data())
    first, second = (weights(model) for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_needs_nothing_else(tmp_path: Path) -> None:
    rows = data(split=ThresholdSplit(TrialSplit(0, 0.5), held_out=2))
    model = EmbeddingClassifier(scaling={"title": "standardize"})
    run = trainer(tmp_path, epochs=3, callbacks=[EMixup(), OODThreshold()])
    run.fit(model, rows)
    run.save_checkpoint(tmp_path / "model.ckpt")
    torch.load(tmp_path / "model.ckpt", weights_only=True)
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    assert loaded.class_names == model.class_names
    assert loaded.modalities == {"title": 7, "image": 5}
    assert 0 < loaded.threshold == model.threshold < 1
    embeddings = by_name(rows.store, range(20))
    assert torch.equal(loaded.predict_proba(embeddings), model.predict_proba(embeddings))
    fresh = data(split=None)
    (first,) = trainer(tmp_path).test(loaded, fresh, verbose=False)
    (second,) = run.test(model, rows, verbose=False)
    assert first["test/threshold"] == second["test/threshold"]


def test_what_a_checkpoint_cannot_hold_is_given_again(tmp_path: Path) -> None:
    model = classifier()
    run = trainer(tmp_path, epochs=1)
    run.fit(model, data())
    run.save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"holds another network: network\.0"):
        EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=SMALL)
    ones = {"title": torch.ones(2, 7), "image": torch.ones(2, 5)}
    assert torch.equal(loaded.predict_proba(ones), model.predict_proba(ones))


def test_a_checkpoint_of_other_classes_is_refused_on_resuming(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(), data())
    run.save_checkpoint(tmp_path / "model.ckpt")
    other = data(split=ThresholdSplit(TrialSplit(0, 0.5), held_out=2))
    with pytest.raises(CheckpointError, match="trained on 5 classes, this model has 4"):
        trainer(tmp_path, epochs=2).fit(classifier(), other, ckpt_path=tmp_path / "model.ckpt")


def test_a_checkpoint_of_another_scaling_is_refused_on_resuming(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(scaling="l2"), data())
    run.save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(
        CheckpointError, match=r"with the scaling {'title': 'l2', 'image': 'l2'}, this model has {.*'none'"
    ):
        trainer(tmp_path, epochs=2).fit(classifier(), data(), ckpt_path=tmp_path / "model.ckpt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {}, "pytorch-lightning_version": "2.6.0"}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="not one of an EmbeddingClassifier that has been fitted"):
        EmbeddingClassifier.load_from_checkpoint(
            tmp_path / "x.ckpt", class_names=["a"], modalities={"title": 2}, network=SMALL
        )


def test_without_data_it_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EmbeddingDataModule"):
        classifier().configure_model()
    with pytest.raises(ConfigError, match="no network yet"):
        classifier()(torch.zeros(1, 2))


def test_probabilities_are_those_of_evaluation_and_leave_the_mode_alone() -> None:
    model = classifier(class_names=["a", "b"], modalities={"title": 4})
    model.configure_model()
    model.train()
    model.network[0].eval()
    x = torch.randn(8, 4)
    first, second = model.predict_proba(x), model.predict_proba(x)
    assert model.training
    assert [layer.training for layer in model.network] == [False, True, True, True]
    assert torch.equal(first, second)
    torch.testing.assert_close(first, model.eval()(x).sigmoid().detach())


def known() -> EmbeddingClassifier:
    model = classifier(class_names=["ant", "bee", "cat"], modalities={"title": 4, "image": 2}, scaling="l2")
    model.configure_model()
    return model


def test_predict_names_what_the_decision_says_for_arrays_and_tensors() -> None:
    model = known().train()
    raw = {"title": np.random.default_rng(0).normal(size=(30, 4)), "image": np.ones((30, 2))}
    logits = model.eval().logits(raw)
    model.train()
    probabilities = logits.sigmoid().detach()
    model.threshold = probabilities.amax(dim=1).median()
    answers = model.predict(raw)
    confidence, index = probabilities.max(dim=1)
    names = [
        model.class_names[i] if accepted else "none"
        for i, accepted in zip(index, confidence > model.threshold, strict=True)
    ]
    assert answers.predicted == names
    assert 0 < names.count("none") < 30
    torch.testing.assert_close(answers.confidence, confidence)
    torch.testing.assert_close(answers.none_scores, 1 - confidence.double())
    assert model.training  # dropout was off all the same
    tensors = {name: torch.from_numpy(values).float() for name, values in raw.items()}
    again = model.predict(tensors)
    assert again.predicted == names
    assert torch.equal(again.confidence, answers.confidence)


def test_predict_calibrates_and_scores_scaled_embeddings() -> None:
    model = known()
    bank = torch.nn.functional.normalize(torch.randn(20, 4)), torch.nn.functional.normalize(torch.randn(20, 2))
    score, calibrator = NeighborDistance(k=1), Temperature()
    score.fit(torch.cat(bank, dim=1), torch.zeros(20, dtype=torch.int64))
    calibrator.temperature = torch.tensor(3.0, dtype=torch.float64)
    model.decision = Decision(calibrator, score, 0.998)
    raw = {"title": 7 * bank[0], "image": 0.1 * bank[1]}  # scaled, they are the bank
    answers = model.predict(raw)
    assert answers.none_scores.max() < 1e-3
    torch.testing.assert_close(answers.confidence, (model.eval().logits(raw) / 3).sigmoid().amax(dim=1).detach())
    assert "none" not in answers.predicted
    far = model.predict({"title": -raw["title"], "image": -raw["image"]})
    assert far.predicted.count("none") > 15
    torch.testing.assert_close(model.predict_proba(raw).amax(dim=1), answers.confidence)


@pytest.mark.parametrize("value", [-1, 2.0, float("nan"), torch.tensor(float("inf"))])
def test_an_impossible_threshold_is_refused(value: object) -> None:
    model = known()
    with pytest.raises(ConfigError, match=r"threshold must lie in \[0, 1\]"):
        model.threshold = value
    assert np.isnan(model.threshold)


def test_embeddings_that_are_no_numbers_are_decided_by_nobody() -> None:
    raw = {"title": np.full((2, 4), np.nan), "image": np.ones((2, 2))}
    with pytest.raises(DataError, match="modality 'title', row 0: a number is not finite"):
        known().predict(raw)
    broken = known()
    with torch.no_grad():
        broken.network[0].weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"got nan at index.*the model has diverged"):
        broken.predict({"title": np.ones((2, 4)), "image": np.ones((2, 2))})


def test_a_model_without_a_network_says_so_to_whoever_predicts() -> None:
    with pytest.raises(ConfigError, match="no network yet: fit it"):
        EmbeddingClassifier().predict({})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_wherever_they_are_loaded(tmp_path: Path, value: float) -> None:
    run = trainer(tmp_path, epochs=1)
    model = classifier()
    run.fit(model, data())
    with torch.no_grad():
        model.network[0].weight[3, 5] = value
    run.save_checkpoint(tmp_path / "model.ckpt")
    for load in (
        lambda path: EmbeddingClassifier.load_from_checkpoint(path, network=SMALL),
        lambda path: trainer(tmp_path).test(classifier(), data(), ckpt_path=path, weights_only=True, verbose=False),
        lambda path: trainer(tmp_path).predict(classifier(), data(), ckpt_path=path, weights_only=True),
        lambda path: trainer(tmp_path).fit(classifier(), data(), ckpt_path=path, weights_only=True),
    ):
        with pytest.raises(CheckpointError, match=r"network\.0\.weight: 1 of 192 weights are not finite"):
            load(tmp_path / "model.ckpt")
    with torch.no_grad():
        model.network[0].weight.fill_(float("nan"))
    for evaluate in (run.test, run.predict):
        with pytest.raises(DataError, match=r"got nan at index .* diverged"):
            evaluate(model, data())


def test_without_a_threshold_test_and_predict_say_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, run = classifier(), trainer(tmp_path, epochs=1)
    run.fit(model, data())
    for evaluate, options in ((run.test, {"verbose": False}), (run.predict, {})):
        for threshold, times in ((None, 1), (0.5, 0)):
            model.decision = Decision() if threshold is None else Decision(threshold=threshold)
            caplog.clear()
            with caplog.at_level(logging.INFO):
                evaluate(model, data(), **options)
            assert caplog.text.count("no threshold has been fitted, so every item is accepted") == times


def test_training_on_voids_what_was_fitted_to_the_weights_of_before(tmp_path: Path) -> None:
    for given in (False, True):
        model = classifier()
        trainer(tmp_path, epochs=1).fit(model, data())
        if given:
            model.threshold = 0.5
        else:
            model.decision.threshold = 0.5
        trainer(tmp_path, epochs=1).fit(model, data())
        assert model.decision.has_threshold == given


def test_schedules_step_every_batch_or_every_epoch_as_they_are_meant(tmp_path: Path) -> None:
    for factory, interval in (
        (lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1), "epoch"),
        (lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9), "step"),
    ):
        run = trainer(tmp_path, epochs=1)
        run.fit(classifier(lr_scheduler=factory), data())
        assert run.lr_scheduler_configs[0].interval == interval
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(lr_scheduler=None), data())
    assert run.lr_scheduler_configs == []
    assert run.optimizers[0].param_groups[0]["lr"] == 3e-4


def test_the_cycle_knows_the_length_of_an_epoch_when_steps_are_limited(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=None, max_steps=5)
    run.fit(classifier(), data())
    assert run.lr_scheduler_configs[0].scheduler.total_size == 12 * run.num_training_batches


def test_users_own_loss_metrics_and_network_take_part(tmp_path: Path) -> None:
    class Loss(nn.Module):
        def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return 0 * logits.sum() + 3

    class Network(nn.Sequential):
        def __init__(self, width: int, classes: int) -> None:
            super().__init__(nn.Linear(width, 3), nn.Dropout(0.2), nn.Linear(3, classes))

    model = classifier(network=Network, loss=Loss, more_metrics={"ace": AdaptiveCalibrationError()})
    run = trainer(tmp_path, epochs=1)
    run.fit(model, data())
    assert isinstance(model.network, Network)
    assert run.logged_metrics["train/loss"] == run.logged_metrics["val/loss"] == 3
    assert set(run.logged_metrics) == {"train/loss", "val/ace"} | {f"val/{name}" for name in NAMES}


def test_metrics_replace_the_list_and_more_metrics_one_of_it(tmp_path: Path) -> None:
    options = {
        "metrics": {"one": AdaptiveCalibrationError()},
        "more_metrics": {"ece": AdaptiveCalibrationError(known_only=True)},
    }
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(**options), data())
    assert set(run.logged_metrics) == {"train/loss", "val/loss", "val/threshold", "val/one", "val/ece"}
    assert run.logged_metrics["val/one"] != run.logged_metrics["val/ece"]


def test_a_metrics_own_threshold_stays_what_it_is(tmp_path: Path) -> None:
    class SureAndRight(BinaryAccuracy):
        def update(self, preds: torch.Tensor, target: torch.Tensor) -> None:
            super().update(preds.amax(-1), (preds.argmax(-1) == target).long())

    own, ours = SureAndRight(threshold=0.7), NoneAwareAccuracy(0.7)
    model = classifier(metrics={"own": own, "ours": ours})
    run = trainer(tmp_path, epochs=1, callbacks=[OODThreshold(value=0.2)])
    run.fit(model, data())
    assert model.val_metrics["own"].threshold == 0.7
    assert model.val_metrics["ours"].threshold == pytest.approx(0.2)


def test_a_step_written_in_the_natural_way_trains_the_same_weights(tmp_path: Path) -> None:
    class Natural(EmbeddingClassifier):
        def training_step(self, batch, batch_idx):
            return self.training_loss(self(batch.embeddings), batch)

    trained = []
    for kind in (EmbeddingClassifier, Natural):
        model = kind(network=SMALL, scaling="standardize")
        digits = EmbeddingDataModule("digits", TrialSplit(unknown_classes=("eight", "nine")))
        trainer(tmp_path, epochs=2).fit(model, digits)
        trained.append(weights(model))
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_batches_are_scaled_once_before_callbacks_see_them(tmp_path: Path) -> None:
    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            raw = by_name(trainer.datamodule.store, batch.rows)
            for part, (name, stored) in zip(batch.embeddings.split([7, 5], -1), raw.items(), strict=True):
                mean, std = trainer.datamodule.moments(name)
                torch.testing.assert_close(part.double(), (torch.from_numpy(stored) - mean) / std, atol=1e-5, rtol=1e-5)
            logits = pl_module.eval().logits(raw)
            torch.testing.assert_close(logits, pl_module(batch.embeddings))
            pl_module.train()

    model = classifier(scaling="standardize")
    trainer(tmp_path, epochs=1, callbacks=[Watch()], limit_train_batches=1, limit_val_batches=0).fit(model, data())


def test_a_model_that_was_told_its_data_still_learns_the_moments(tmp_path: Path) -> None:
    rows = data()
    told = {"class_names": ["ant", "bee", "cat", "dog", "eel"], "modalities": {"title": 7, "image": 5}}
    models = [classifier(scaling="standardize"), classifier(scaling="standardize", **told)]
    for model in models:
        trainer(tmp_path, epochs=1, limit_val_batches=0).fit(model, rows)
    assert torch.equal(models[0].scale.mean, models[1].scale.mean)
    assert models[1].scale.mean.abs().min() > 0


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"imag": "l2"}, r"scaling: unknown modality 'imag'.*did you mean 'image'"),
        ("l3", r"must be one of none, l2, standardize, centered_l2, got 'l3'"),
        ({"title": "standardise"}, r"got 'standardise'; did you mean 'standardize'"),
    ],
)
def test_a_scaling_that_does_not_exist_is_refused(tmp_path: Path, scaling: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path).fit(classifier(scaling=scaling), data())


def test_a_loaded_model_is_in_evaluation_mode_until_it_is_fitted_again(tmp_path: Path) -> None:
    model = classifier()
    run = trainer(tmp_path, epochs=1)
    run.fit(model, data())
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=SMALL)
    assert not any(module.training for module in loaded.modules())
    batch = torch.randn(4, 12)
    assert torch.equal(loaded(batch), loaded(batch))
    modes = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            modes.append(all(module.training for module in pl_module.network.modules()))

    trainer(tmp_path, epochs=1, callbacks=[Watch()]).fit(loaded, data())
    assert modes
    assert all(modes)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_every_precision_trains_and_evaluates(tmp_path: Path, precision: str) -> None:
    run = trainer(tmp_path, precision=precision, callbacks=[EMixup()])
    model = classifier(scaling="standardize")
    run.fit(model, data(store=blobs_store(dtype="float16")))
    (metrics,) = run.test(model, run.datamodule, verbose=False)
    assert 0.3 < metrics["test/auroc"] <= 1
    assert model.predict_proba(by_name(run.datamodule.store, range(3))).shape == (3, 5)
