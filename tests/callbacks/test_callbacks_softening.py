"""Label softening against Sec. 2.4, and its place in the order of callbacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training import classifier, data, trainer

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks import EMixup, LabelSoftening
from estitchup_pl.errors import ConfigError


def test_it_softens_the_targets_of_the_batch() -> None:
    targets = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.95, 0.05, 0.0, 0.0]])
    batch = EmbeddingBatch(torch.zeros(2, 3), targets, torch.zeros(2), torch.zeros(2))
    LabelSoftening(softness=0.1).on_train_batch_start(None, None, batch, 0)
    torch.testing.assert_close(batch.targets, torch.tensor([[0.6, 0.2, 0.5, 0.5], [0.85, 0.0, 0.5, 0.5]]))
    assert targets[0, 0] == 0.7


def test_before_an_augmentation_it_is_an_error(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[LabelSoftening(), EMixup()])
    with pytest.raises(ConfigError, match="put EMixup first"):
        run.fit(classifier(), data())


def test_after_it_is_not(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1, callbacks=[EMixup(), LabelSoftening()]).fit(classifier(), data())


@pytest.mark.parametrize("softness", [-0.1, 1.1])
def test_an_impossible_softness_is_refused(softness: float) -> None:
    with pytest.raises(ConfigError, match="softness"):
        LabelSoftening(softness)
