"""What users write themselves, each in a file of ten to thirty lines: it runs in ``estitchup fit`` and in a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Run, runner

from estitchup_pl.study import StudyFolder

AUGMENTATION = '''
import torch

from estitchup_pl.callbacks import Augmentation


class Noise(Augmentation):
    """Adds noise to each embedding by itself: it pairs nothing."""

    def __init__(self, sigma: float = 0.1):
        self.sigma = sigma

    def augment(self, embeddings, targets, generator):
        noise = torch.randn(embeddings.shape, generator=generator, device=embeddings.device)
        return embeddings + self.sigma * noise, targets
'''

METRIC = '''
import torch

from estitchup_pl.metrics import RowMetric


class Brier(RowMetric):
    """Mean squared distance of the probabilities to the one-hot targets; zeros for "none"."""

    higher_is_better = False

    def __init__(self, power: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def compute(self):
        probabilities, labels = self.predictions()
        targets = torch.eye(probabilities.shape[1] + 1, probabilities.shape[1])[labels]
        return ((probabilities - targets).abs() ** self.power).sum(1).mean()
'''

SPLIT = '''
from dataclasses import dataclass

from estitchup_pl.data import Split, SplitProtocol


@dataclass
class Interleaved(SplitProtocol):
    """Every n-th labelled row is evaluated; those of some classes always are."""

    every: int = 3

    def assign(self, store, labels):
        rows = labels.labelled
        is_test = (rows % self.every == 0) | (labels.codes[rows] == 0)
        return Split(rows[~is_test], rows[is_test], rows[is_test])
'''

NETWORK = '''
import torch
from torch import nn


class Cosine(nn.Module):
    """Cosines to one direction a class: no stack of layers that could be stacked."""

    def __init__(self, in_features: int, out_features: int, scale: float = 10.0):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(out_features, in_features))
        self.scale = scale

    def forward(self, x):
        return self.scale * nn.functional.normalize(x, dim=-1) @ nn.functional.normalize(self.directions, dim=-1).T


class Focal(nn.Module):
    """Binary cross-entropy that looks at what is hard."""

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, targets):
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (loss * (targets - logits.sigmoid()).abs() ** self.gamma).mean()
'''

CLASSIFIER = {"class_path": "estitchup_pl.EmbeddingClassifier"}
DATA = {"class_path": "estitchup_pl.EmbeddingDataModule"}
INTERLEAVED = {"class_path": "my_plugins.Interleaved", "init_args": {"every": 4}}
OWN_MODEL = {"network": {"class_path": "my_plugins.Cosine"}, "loss": {"class_path": "my_plugins.Focal"}}

PARTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "augmentation": (
        AUGMENTATION,
        {"trainer": {"callbacks": [{"class_path": "my_plugins.Noise", "init_args": {"sigma": 0.2}}]}},
        {"methods": {"Own": {"callbacks": ["my_plugins.Noise"], "grid": {"sigma": [0.1, 0.3]}}}},
    ),
    "metric": (
        METRIC,
        {"model": {**CLASSIFIER, "init_args": {"more_metrics": {"brier": {"class_path": "my_plugins.Brier"}}}}},
        {"more_metrics": {"brier": "my_plugins.Brier"}, "selection": {"epochs": 1, "metric": "brier"}},
    ),
    "split": (
        SPLIT,
        {"data": {**DATA, "init_args": {"store": "digits", "split": INTERLEAVED}}},
        {"split": INTERLEAVED},
    ),
    "network": (
        NETWORK,
        {"model": {**CLASSIFIER, "init_args": OWN_MODEL}},
        {
            "methods": {
                "Own": {
                    "model": OWN_MODEL,
                    "grid": {"loss.gamma": [1.0, 3.0], "batch_size": [32]},
                }
            }
        },
    ),
}

STUDY = {
    "store": "digits",
    "trials": 1,
    "held_out": 2,
    "repeats": 1,
    "epochs": 2,
    "curve_every": 1,
    "accelerator": "cpu",
    "split": {"train_fraction": 0.2, "unknown_classes": ["nine"]},
    "model": {"network": {"class_path": "EmbeddingMLP", "init_args": {"hidden": [8]}}, "scaling": "standardize"},
    "selection": {"epochs": 1},
    "methods": {"Control": {}, "Own": {"callbacks": ["EStitchup"], "grid": {"alpha": [0.2, 0.8]}}},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_ones_own_runs_in_fit_and_in_a_study(part: str, run: Run, tmp_path: Path):
    code, fit, study = PARTS[part]
    assert 10 <= len(code.strip().splitlines()) <= 30
    (tmp_path / "my_plugins.py").write_text(code)
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(fit))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, **study}))

    status, _, err = run(
        *("fit", "--config", "fit.yaml", "--data.store", "digits", "--trainer.max_epochs", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    )
    assert status == 0, err
    logged = (tmp_path / "runs" / "version_0" / "metrics.csv").read_text()
    status, out, err = run("study", "--config", "study.yaml", "--out", "out")
    assert status == 0, err
    folder = StudyFolder(tmp_path / "out")
    record = folder.record(list(folder.header["methods"])[-1], 0)
    if part == "augmentation":
        assert record.chosen["sigma"] in (0.1, 0.3)
    if part == "metric":
        assert "val/brier" in logged
        assert folder.results()["metric"].to_pylist().count("brier") == 2
        assert "brier" in out
        assert record.chosen["alpha"] == min(record.selection, key=lambda entry: entry["score"])["alpha"]
    if part == "split":
        table = folder.trial(0).to_pylist()
        assert all((row["row"] % 4 == 0) <= (row["part"] == "test") for row in table)
        assert all((row["part"] == "test") <= (row["threshold_part_0"] is None) for row in table)
    if part == "network":
        assert record.chosen["loss.gamma"] in (1.0, 3.0)
        assert not record.diverged
