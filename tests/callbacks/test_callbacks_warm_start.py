"""A fit that begins with another's weights: old classes say what they said, new ones are learnt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from blobs import blobs_store
from torch import Tensor, nn
from training import SMALL, by_name, classifier, data, trainer, weights

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.callbacks import WarmStart
from estitchup_pl.data import EmbeddingDataModule, IdSplit
from estitchup_pl.data.trained_rows import digest_ids
from estitchup_pl.errors import CheckpointError, ConfigError, SplitError
from estitchup_pl.model import LinearHead
from estitchup_pl.model.warm_start import class_axes, warm_start
from estitchup_pl.store import EmbeddingStore

SPLIT = IdSplit(0.7)
BEFORE, AFTER = "fox", "bee"
"""The class that nobody has labelled, when the first fit begins and when the second does."""


def without(name: str, **options: object) -> EmbeddingDataModule:
    """Data in which one class is not labelled."""
    rows = blobs_store()
    label = [None if label == name else label for label in rows.column("label").to_pylist()]
    items = pa.table({"id": rows.column("id"), "label": pa.array(label, pa.string())})
    return data(**{"store": EmbeddingStore.from_arrays(items, arrays(rows)), "split": SPLIT, **options})


def arrays(rows: EmbeddingStore) -> dict[str, npt.NDArray[np.float32]]:
    return by_name(rows, np.arange(len(rows)))


def first_fit(folder: Path, **options: object) -> tuple[Path, EmbeddingClassifier]:
    model, run = classifier(**{"scaling": "standardize", **options}), trainer(folder, epochs=6)
    run.fit(model, without(BEFORE))
    run.save_checkpoint(folder / "first.ckpt")
    return folder / "first.ckpt", model.eval()


def begun(folder: Path, checkpoint: Path, epochs: int = 0, **options: object) -> EmbeddingClassifier:
    """A fit of some epochs from a checkpoint; of none, its beginning."""
    model = classifier(**{"scaling": "standardize", **options})
    trainer(folder, max(epochs, 1), callbacks=[WarmStart(checkpoint)], max_steps=-1 if epochs else 0).fit(
        model, without(AFTER)
    )
    return model.eval()


@pytest.mark.parametrize("network", [SMALL, LinearHead])
def test_before_training_old_classes_have_the_logits_that_they_had(tmp_path: Path, network: object) -> None:
    checkpoint, old = first_fit(tmp_path, network=network)
    new = begun(tmp_path, checkpoint, network=network)
    assert set(old.class_names) - set(new.class_names) == {"bee"}
    assert set(new.class_names) - set(old.class_names) == {"fox"}
    rows = by_name(blobs_store(), np.arange(50))
    scaled = [model.scale(torch.cat([torch.from_numpy(part) for part in rows.values()], 1)) for model in (old, new)]
    assert torch.equal(*scaled)
    shared = sorted(set(old.class_names) & set(new.class_names))
    raw = [model.network[0] if network is LinearHead else model.network for model in (old, new)]
    before, after = (
        layers(rows)[:, [model.class_names.index(name) for name in shared]]
        for layers, rows, model in zip(raw, scaled, (old, new), strict=True)
    )
    torch.testing.assert_close(after, before, atol=0, rtol=0)
    assert before.std() > 0.1


def test_the_rows_of_a_new_class_are_those_of_a_fresh_layer(tmp_path: Path) -> None:
    checkpoint, _ = first_fit(tmp_path)
    new, fresh = begun(tmp_path, checkpoint), classifier(scaling="standardize")
    trainer(tmp_path, max_steps=0).fit(fresh, without(AFTER))
    fox = new.class_names.index("fox")
    for name in ("weight", "bias"):
        assert torch.equal(getattr(new.network[-1], name)[fox], getattr(fresh.network[-1], name)[fox])


def test_a_new_class_is_learnt_and_old_ones_stay_known(tmp_path: Path) -> None:
    checkpoint, _ = first_fit(tmp_path)
    new = begun(tmp_path, checkpoint, epochs=12)
    rows = without(AFTER)
    rows.setup("fit")
    test = rows.parts.test
    labels = rows.labels.index(new.class_names)[test]
    known = labels >= 0
    right = new.predict_proba(by_name(rows.store, test)).argmax(dim=1).numpy() == labels
    fox = labels == new.class_names.index("fox")
    assert right[fox].mean() > 0.9
    assert right[known & ~fox].mean() > 0.9


def test_it_counts_the_rows_of_both_fits_as_trained_on(tmp_path: Path) -> None:
    checkpoint, old = first_fit(tmp_path)
    new = begun(tmp_path, checkpoint, epochs=1)
    assert torch.isin(old.trained_on.digests, new.trained_on.digests).all()
    (metrics,) = trainer(tmp_path).test(new, without(AFTER), verbose=False)
    assert metrics["test/auroc"] > 0
    bees = data(split=IdSplit(0.7, unknown_classes=["bee"]))
    bees.setup("fit")
    trained = np.isin(digest_ids(bees.store, bees.parts.test), old.trained_on.digests.numpy()).sum()
    assert trained > 0  # bees that trained the first fit alone
    with pytest.raises(SplitError, match=f"{trained} of .* rows to test were trained on"):
        trainer(tmp_path).test(new, bees, verbose=False)


def test_a_fit_that_is_resumed_ends_with_the_weights_of_the_uninterrupted_one(tmp_path: Path) -> None:
    checkpoint, _ = first_fit(tmp_path)
    whole = weights(begun(tmp_path, checkpoint, epochs=3))
    model, run = classifier(scaling="standardize"), trainer(tmp_path, 1, callbacks=[WarmStart(checkpoint)])
    run.fit(model, without(AFTER))
    run.save_checkpoint(tmp_path / "second.ckpt")
    resumed, run = classifier(scaling="standardize"), trainer(tmp_path, 3, callbacks=[WarmStart(checkpoint)])
    run.fit(resumed, without(AFTER), ckpt_path=tmp_path / "second.ckpt", weights_only=True)
    for name, value in weights(resumed).items():
        assert torch.equal(value.nan_to_num(7), whole[name].nan_to_num(7)), name


def test_other_inputs_and_other_networks_are_refused(tmp_path: Path) -> None:
    checkpoint, _ = first_fit(tmp_path)

    def begin(rows: dict[str, object] | None = None, **options: object) -> None:
        model = classifier(**{"scaling": "standardize", **options})
        trainer(tmp_path, 1, callbacks=[WarmStart(checkpoint)]).fit(model, without(AFTER, **(rows or {})))

    names = list(blobs_store().modalities)
    with pytest.raises(CheckpointError, match=r"first\.ckpt: no fit can begin with it: .* the modalities"):
        begin({"modalities": names[:1]})
    with pytest.raises(CheckpointError, match="the same order"):
        begin({"modalities": names[::-1]})
    with pytest.raises(CheckpointError, match="it was fitted with the scaling"):
        begin(scaling="l2")
    with pytest.raises(CheckpointError, match=r"another network: network\.0\.weight has the shape"):
        begin(network=partial(SMALL, hidden=(17,)))
    with pytest.raises(ConfigError, match="has a network already"):
        trainer(tmp_path, 1, callbacks=[WarmStart(checkpoint)]).fit(
            EmbeddingClassifier.load_from_checkpoint(checkpoint, network=SMALL), without(BEFORE)
        )


def test_embeddings_of_another_encoder_are_refused_unless_they_are_said_to_be_the_same(tmp_path: Path) -> None:
    one, two = (encoded(tmp_path / name, name) for name in ("one", "two"))
    model, run = classifier(), trainer(tmp_path, 1)
    run.fit(model, data(store=one, split=SPLIT))
    run.save_checkpoint(tmp_path / "one.ckpt")
    run = trainer(tmp_path, 1, callbacks=[WarmStart(tmp_path / "one.ckpt")])
    with pytest.raises(CheckpointError, match=r"made in another way.*encoder 'two', trained on 'one'"):
        run.fit(classifier(), data(store=two, split=SPLIT))
    run = trainer(tmp_path, 1, callbacks=[WarmStart(tmp_path / "one.ckpt")])
    run.fit(classifier(), data(store=two, split=SPLIT, other_encoder=True))


def encoded(folder: Path, encoder: str) -> Path:
    rows = blobs_store()
    items = rows.items.select(["id", "label"])
    info = {name: replace(known, encoder=encoder) for name, known in rows.modalities.items()}
    EmbeddingStore.create(folder, items, arrays(rows), info=info)
    return folder


class Cosine(nn.Module):
    """A network whose classes lie along the second axis of its weight."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.columns = nn.Parameter(torch.randn(width, classes))
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, rows: Tensor) -> Tensor:
        return self.gain * rows @ self.columns


class Pairs(nn.Linear):
    """A network with an output for each pair of classes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes**2)


def test_the_axis_of_the_classes_is_found_in_networks_of_ones_own(tmp_path: Path) -> None:
    assert class_axes(Cosine, 5, 5) == {"columns": 1}
    with pytest.raises(CheckpointError, match=r"weight of the network has the shape \(9, 5\) for 3 classes"):
        class_axes(Pairs, 5, 3)
    model = EmbeddingClassifier(Cosine, class_names=["a", "b"], modalities={"x": 3})
    model.configure_model()
    model.describe_data(["a", "b"], {"x": 3})
    old = model.network.columns.detach().clone()
    run = trainer(tmp_path)
    run.strategy.connect(model)
    run.save_checkpoint(tmp_path / "own.ckpt")
    new = EmbeddingClassifier(Cosine, class_names=["b", "c", "a"], modalities={"x": 3})
    new.configure_model()
    carried = warm_start(new, tmp_path / "own.ckpt")
    assert str(carried) == "2 classes go on, 1 new (c), 0 gone"
    assert torch.equal(new.network.columns[:, [2, 0]], old)
