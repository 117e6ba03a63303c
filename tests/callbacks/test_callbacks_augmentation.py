"""Augmentations do what their formula says to the batch that training then sees, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training import classifier, data, trainer, weights

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks import Augmentation, EmbeddingAugmentation, EMixup, EStitchup, ModalityStitch
from estitchup_pl.errors import ConfigError
from estitchup_pl.seeding import global_seed, keyed_generator


def batch(size: int = 64, dim: int = 40) -> EmbeddingBatch:
    generator = torch.Generator().manual_seed(0)
    return EmbeddingBatch(
        torch.randn(size, dim, generator=generator), torch.eye(size), torch.arange(size), torch.arange(size)
    )


def mixed(callback: Augmentation, epoch: int = 0, step: int = 0, rank: int = 0, **sizes: int) -> EmbeddingBatch:
    out = batch(**sizes)
    callback.on_train_batch_start(SimpleNamespace(current_epoch=epoch, global_rank=rank), None, out, step)
    return out


def shares(targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Read λ and the partner off mixed one-hot targets."""
    lam = targets.diagonal()
    return lam, (targets - targets.diagonal().diag_embed()).argmax(-1)


def test_e_mixup_averages_embeddings_and_targets_alike() -> None:
    before, after = batch(), mixed(EMixup(alpha=1.0))
    lam, partner = shares(after.targets)
    assert len(lam.unique()) == 64  # one λ a pair
    assert (partner != torch.arange(64)).all()
    expected = lam[:, None] * before.embeddings + (1 - lam)[:, None] * before.embeddings[partner]
    torch.testing.assert_close(after.embeddings, expected)
    torch.testing.assert_close(after.targets.sum(-1), torch.ones(64))


def test_e_stitchup_takes_each_value_from_one_of_the_two_with_probability_lambda() -> None:
    before, after = batch(dim=20_000), mixed(EStitchup(alpha=1.0), dim=20_000)
    lam, partner = shares(after.targets)
    own, other = after.embeddings == before.embeddings, after.embeddings == before.embeddings[partner]
    assert (own | other).all()
    torch.testing.assert_close(own.float().mean(-1), lam, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", [EMixup, EStitchup])
def test_draws_are_a_function_of_epoch_step_and_process(kind: type[EmbeddingAugmentation]) -> None:
    first = mixed(kind())
    torch.rand(9)
    assert torch.equal(first.embeddings, mixed(kind()).embeddings)
    for other in ({"epoch": 1}, {"step": 1}, {"rank": 1}):
        assert not torch.equal(first.embeddings, mixed(kind(), **other).embeddings)


class Noise(Augmentation):
    def augment(self, embeddings, targets, generator):
        return embeddings + torch.empty_like(embeddings).normal_(generator=generator), targets


def test_an_augmentation_that_pairs_nothing_draws_by_the_same_key() -> None:
    first = mixed(Noise())
    expected = torch.empty(64, 40).normal_(generator=keyed_generator(global_seed(), "Noise", 0, 0, 0))
    torch.testing.assert_close(first.embeddings - batch().embeddings, expected)
    assert torch.equal(first.targets, batch().targets)
    for other in ({"epoch": 1}, {"step": 1}, {"rank": 1}):
        assert not torch.equal(first.embeddings, mixed(Noise(), **other).embeddings)


def test_the_seed_of_the_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = mixed(EMixup())
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert not torch.equal(first.targets, mixed(EMixup()).targets)


@pytest.mark.parametrize("kind", [EMixup, EStitchup])
def test_a_batch_of_one_is_left_as_it_is_and_odd_batches_are_fine(kind: type[EmbeddingAugmentation]) -> None:
    one = mixed(kind(), size=1)
    assert torch.equal(one.embeddings, batch(size=1).embeddings)
    assert torch.equal(one.targets, batch(size=1).targets)
    assert mixed(kind(), size=3).embeddings.isfinite().all()


@pytest.mark.parametrize("kind", [EMixup, EStitchup])
def test_fields_are_rebound_and_never_written_to(kind: type[EmbeddingAugmentation]) -> None:
    seen = batch()
    kept = (seen.embeddings, seen.targets)
    kind().on_train_batch_start(SimpleNamespace(current_epoch=0, global_rank=0), None, seen, 0)
    assert torch.equal(kept[0], batch().embeddings)
    assert torch.equal(kept[1], batch().targets)
    assert seen.embeddings is not kept[0]


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_an_impossible_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        EMixup(alpha)


def test_training_sees_the_mixed_batch_and_evaluation_does_not(tmp_path: Path) -> None:
    class Ones(EmbeddingAugmentation):
        def mix(self, embeddings, targets, lam, index, generator):
            return torch.full_like(embeddings, 5.0), targets

    seen: dict[str, set[float]] = {"train": set(), "val": set()}

    class Network(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen["train" if self.training else "val"].update(x.unique().tolist())
            return super().forward(x)

    trainer(tmp_path, epochs=1, callbacks=[Ones()]).fit(classifier(network=Network), data())
    assert seen["train"] == {5.0}
    assert len(seen["val"]) > 100


def stitching(widths: dict[str, int], alpha: float = 1.0) -> ModalityStitch:
    callback = ModalityStitch(alpha)
    callback.on_train_start(None, classifier(modalities=widths))
    return callback


def test_modality_stitch_takes_modalities_whole_and_weighs_targets_by_what_was_kept() -> None:
    widths = {"title": 7, "image": 3, "price": 2}
    before, after = batch(size=500, dim=12), mixed(stitching(widths), size=500, dim=12)
    own = torch.stack([part.all(-1) for part in (after.embeddings == before.embeddings).split([7, 3, 2], -1)], -1)
    lam, partner = shares(after.targets)
    other = after.embeddings == before.embeddings[partner]
    assert (own.repeat_interleave(torch.tensor([7, 3, 2]), -1) | other)[lam < 1].all()
    torch.testing.assert_close(own.float().mean(-1), lam)
    assert set((3 * lam).round().int().tolist()) == {0, 1, 2, 3}
    assert torch.equal(mixed(stitching(widths), dim=12).targets, mixed(stitching(widths), dim=12).targets)


def test_modality_stitch_learns_the_modalities_in_a_fit_and_refuses_one_alone(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1, callbacks=[ModalityStitch()]).fit(classifier(), data())
    with pytest.raises(ConfigError, match="at least two modalities"):
        trainer(tmp_path, epochs=1, callbacks=[ModalityStitch()]).fit(classifier(), data(modalities=["title"]))
    with pytest.raises(ConfigError, match="when a fit begins"):
        mixed(ModalityStitch())


@pytest.mark.parametrize("kind", [ModalityStitch, Noise])
def test_a_resumed_fit_is_bit_exact(kind: type[Augmentation], tmp_path: Path) -> None:
    whole, half, resumed = (classifier() for _ in range(3))
    trainer(tmp_path, epochs=4, callbacks=[kind()]).fit(whole, data())
    first = trainer(tmp_path, epochs=2, callbacks=[kind()])
    first.fit(half, data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, epochs=4, callbacks=[kind()]).fit(
        resumed, data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name
