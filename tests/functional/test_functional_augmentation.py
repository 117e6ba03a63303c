"""Augmentation: the draws follow their distributions, the mixes their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    augmentation,
    e_mixup,
    e_stitchup,
    modality_stitch,
    sample_lambda,
    sample_pairs,
    sample_stitch_mask,
)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
seeds = st.integers(0, 2**32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_batch(
    seed: int, *shape: int, dim: int = 7, classes: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    source = generator(seed)
    embeddings = torch.randn(*shape, dim, generator=source).to(dtype)
    targets = torch.eye(classes, dtype=dtype)[torch.randint(classes, shape, generator=source)]
    lam = sample_lambda(shape, 0.4, generator=source)
    return (
        embeddings,
        targets,
        lam,
        sample_pairs(shape, generator=source),
        sample_stitch_mask(lam, dim, generator=source),
    )


class TestPairs:
    @given(seed=seeds, runs=st.integers(1, 4), batch=st.integers(2, 33))
    def test_is_a_permutation_that_leaves_no_item_in_place(self, seed, runs, batch):
        index = sample_pairs((runs, batch), generator=generator(seed))
        assert index.dtype == torch.int64
        assert torch.equal(index.sort(-1).values, torch.arange(batch).expand(runs, batch))
        assert bool((index != torch.arange(batch)).all())

    @pytest.mark.parametrize("shape", [(1,), (3, 1), (0,), (2, 0), (0, 4)])
    def test_batches_without_a_pair_are_left_as_they_are(self, shape):
        assert torch.equal(sample_pairs(shape), torch.zeros(shape, dtype=torch.int64))

    def test_every_other_item_is_equally_likely(self):
        runs, batch = 20_000, 6
        index = sample_pairs((runs, batch), generator=generator())
        for item in range(batch):
            counts = np.delete(index[:, item].bincount(minlength=batch).numpy(), item)
            assert stats.chisquare(counts).pvalue > 1e-4

    def test_stays_off_the_global_random_state(self):
        before = torch.get_rng_state()
        lam = sample_lambda((8,), 0.4, generator=generator())
        sample_pairs((8,), generator=generator())
        sample_stitch_mask(lam, 5, generator=generator())
        assert torch.equal(torch.get_rng_state(), before)

    def test_depends_on_the_generator_alone(self):
        assert torch.equal(sample_pairs((99,), generator=generator(3)), sample_pairs((99,), generator=generator(3)))
        assert not torch.equal(sample_pairs((99,), generator=generator(3)), sample_pairs((99,), generator=generator(4)))


class TestLambda:
    @pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 8.0])
    def test_follows_the_beta_distribution(self, alpha):
        lam = sample_lambda((20_000,), alpha, generator=generator(), dtype=torch.float64)
        assert stats.kstest(lam.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-4

    def test_tiny_alpha_gives_ends_not_middles(self):
        """A quotient of two underflown gamma draws would be one half."""
        lam = sample_lambda((20_000,), 1e-3, generator=generator())
        inner = ((lam > 1e-3) & (lam < 1 - 1e-3)).double().mean()
        expected = np.diff(stats.beta(1e-3, 1e-3).cdf([1e-3, 1 - 1e-3]))[0]
        assert float(inner) == pytest.approx(expected, abs=2e-3)
        assert float(lam.mean()) == pytest.approx(0.5, abs=0.02)

    def test_each_run_of_a_stack_can_have_its_own_alpha(self):
        lam = sample_lambda((2, 20_000), torch.tensor([[0.1], [10.0]]), generator=generator())
        for values, alpha in zip(lam, (0.1, 10.0), strict=True):
            assert float(values.var()) == pytest.approx(stats.beta(alpha, alpha).var(), rel=0.05)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_has_the_type_asked_for(self, dtype):
        lam = sample_lambda((50,), 0.4, generator=generator(), dtype=dtype)
        assert lam.dtype == dtype
        assert bool(((lam >= 0) & (lam <= 1)).all())

    @pytest.mark.parametrize("alpha", [0.0, -0.5, float("nan"), float("inf"), torch.tensor([0.4, 0.0])])
    def test_refuses_an_impossible_alpha(self, alpha):
        with pytest.raises(ConfigError, match="alpha: expected a positive, finite number"):
            sample_lambda((2,), alpha)


class TestStitchMask:
    def test_is_exact_at_zero_and_one(self):
        mask = sample_stitch_mask(torch.tensor([0.0, 1.0]).repeat(500), 1001, generator=generator())
        assert not bool(mask[0::2].any())
        assert bool(mask[1::2].all())

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_mean_is_lambda(self, dtype):
        lam = torch.linspace(0, 1, 65).to(dtype)
        dim = 20_001
        share = sample_stitch_mask(lam, dim, generator=generator()).double().mean(-1)
        p = lam.double()
        assert bool(((share - p).abs() <= 5 * (p * (1 - p) / dim).sqrt()).all())

    @pytest.mark.parametrize("level", [1, 3, 2**16 - 1])
    def test_resolution_is_one_in_65536(self, level):
        draws, p = 2**23, level / 2**16
        hits = int(sample_stitch_mask(torch.tensor([p]), draws, generator=generator()).sum())
        assert abs(hits - draws * p) <= 5 * (draws * p * (1 - p)) ** 0.5

    @pytest.mark.parametrize("lam", [0.1, 0.5, 0.8])
    def test_all_places_in_a_random_word_are_fair_and_independent(self, lam):
        """Four elements share a 64-bit word: all their 16 joint outcomes occur as often as they should."""
        mask = sample_stitch_mask(torch.tensor([lam]), 4 * 50_000, generator=generator()).view(-1, 4)
        counts = (mask.long() * torch.tensor([8, 4, 2, 1])).sum(-1).bincount(minlength=16).numpy()
        ones = np.array([bin(outcome).count("1") for outcome in range(16)])
        expected = len(mask) * lam**ones * (1 - lam) ** (4 - ones)
        assert stats.chisquare(counts, expected).pvalue > 1e-4

    def test_columns_and_rows_are_uncorrelated(self):
        rows, dim = 3000, 61
        mask = sample_stitch_mask(torch.full((rows,), 0.3), dim, generator=generator()).double()
        for values in (mask, mask[:dim].T):
            correlation = torch.corrcoef(values.T).fill_diagonal_(0)
            assert float(correlation.abs().max()) < 5 / len(values) ** 0.5

    @given(seed=seeds, runs=st.integers(0, 3), batch=st.integers(0, 5), dim=st.integers(0, 9))
    def test_has_one_element_for_each_of_the_embedding(self, seed, runs, batch, dim):
        mask = sample_stitch_mask(torch.rand(runs, batch, generator=generator(seed)), dim)
        assert mask.shape == (runs, batch, dim)
        assert mask.dtype == torch.bool


class TestMixing:
    def test_e_mixup_is_the_weighted_average(self):
        embeddings, targets, lam, index, _ = draw_batch(0, 6)
        mixed, mixed_targets = e_mixup(embeddings, targets, lam, index)
        for i, j in enumerate(index.tolist()):
            torch.testing.assert_close(mixed[i], lam[i] * embeddings[i] + (1 - lam[i]) * embeddings[j])
            torch.testing.assert_close(mixed_targets[i], lam[i] * targets[i] + (1 - lam[i]) * targets[j])

    def test_e_stitchup_takes_what_the_mask_says(self):
        embeddings, targets, lam, index, mask = draw_batch(1, 6)
        stitched, _ = e_stitchup(embeddings, targets, lam, index, mask)
        for i, j in enumerate(index.tolist()):
            for column in range(embeddings.shape[1]):
                assert stitched[i, column] == embeddings[i if mask[i, column] else j, column]

    @given(seed=seeds, batch=st.integers(1, 9), scale=st.sampled_from([1e-30, 1.0, 1e30]))
    def test_a_stitched_value_is_one_of_the_two(self, seed, batch, scale):
        embeddings, targets, lam, index, mask = draw_batch(seed, batch)
        embeddings = embeddings * scale
        stitched, _ = e_stitchup(embeddings, targets, lam, index, mask)
        assert bool(((stitched == embeddings) | (stitched == embeddings[index])).all())

    @given(seed=seeds, batch=st.integers(1, 9))
    def test_targets_are_mixed_alike(self, seed, batch):
        embeddings, targets, lam, index, mask = draw_batch(seed, batch)
        _, mixed = e_mixup(embeddings, targets, lam, index)
        _, stitched = e_stitchup(embeddings, targets, lam, index, mask)
        assert torch.equal(mixed, stitched)
        torch.testing.assert_close(mixed.sum(-1), torch.ones(batch))

    @given(seed=seeds, batch=st.integers(1, 9), dtype=st.sampled_from(FLOATS))
    def test_lambda_one_changes_nothing(self, seed, batch, dtype):
        embeddings, targets, _, index, _ = draw_batch(seed, batch, dtype=dtype)
        lam = torch.ones(batch)
        mask = sample_stitch_mask(lam, embeddings.shape[-1], generator=generator(seed))
        for mixed in (e_mixup(embeddings, targets, lam, index), e_stitchup(embeddings, targets, lam, index, mask)):
            assert torch.equal(mixed[0], embeddings)
            assert torch.equal(mixed[1], targets)

    @given(seed=seeds, dtype=st.sampled_from(FLOATS))
    def test_lambda_zero_gives_the_partner(self, seed, dtype):
        embeddings, targets, _, index, _ = draw_batch(seed, 5, dtype=dtype)
        lam = torch.zeros(5)
        mask = sample_stitch_mask(lam, embeddings.shape[-1], generator=generator(seed))
        for mixed in (e_mixup(embeddings, targets, lam, index), e_stitchup(embeddings, targets, lam, index, mask)):
            assert torch.equal(mixed[0], embeddings[index])
            assert torch.equal(mixed[1], targets[index])

    def test_share_taken_from_the_item_is_lambda(self):
        embeddings, targets, lam, index, mask = draw_batch(2, 40, dim=20_000)
        stitched, _ = e_stitchup(embeddings, targets, lam, index, mask)
        torch.testing.assert_close((stitched == embeddings).float().mean(-1), lam, atol=0.02, rtol=0)

    @given(seed=seeds)
    @settings(max_examples=20)
    def test_a_run_of_a_stack_equals_the_run_alone(self, seed):
        embeddings, targets, lam, index, mask = draw_batch(seed, 2, 3, 5)
        mixed = e_mixup(embeddings, targets, lam, index)
        stitched = e_stitchup(embeddings, targets, lam, index, mask)
        for k in ((i, j) for i in range(2) for j in range(3)):
            alone = e_mixup(embeddings[k], targets[k], lam[k], index[k])
            alone_stitched = e_stitchup(embeddings[k], targets[k], lam[k], index[k], mask[k])
            for many, one in zip((*mixed, *stitched), (*alone, *alone_stitched), strict=True):
                assert torch.equal(many[k], one)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_type_is_kept_and_inputs_are_untouched(self, dtype):
        batch = draw_batch(3, 8, dtype=dtype)
        kept = [value.clone() for value in batch]
        for mixed in (e_mixup(*batch[:4]), e_stitchup(*batch)):
            assert {value.dtype for value in mixed} == {dtype}
        for value, before in zip(batch, kept, strict=True):
            assert torch.equal(value, before)

    @pytest.mark.parametrize("elements", [1, 20, 2**16])
    def test_blocks_have_no_influence(self, monkeypatch, elements):
        monkeypatch.setattr(augmentation, "_BLOCK_ELEMENTS", elements)
        embeddings, targets, lam, index, mask = draw_batch(7, 3, 5)
        stitched, _ = e_stitchup(embeddings, targets, lam, index, mask)
        partner = torch.stack([run[order] for run, order in zip(embeddings, index, strict=True)])
        assert torch.equal(stitched, torch.where(mask, embeddings, partner))

    def test_gradients_go_to_the_elements_taken(self):
        embeddings, targets, lam, index, mask = draw_batch(8, 6)
        embeddings.requires_grad_()
        e_stitchup(embeddings, targets, lam, index, mask)[0].sum().backward()
        expected = mask.float().index_add(0, index, (~mask).float())
        torch.testing.assert_close(embeddings.grad, expected)

    def test_takes_views_and_expanded_tensors(self):
        embeddings, targets, lam, index, mask = draw_batch(4, 6)
        expected = e_stitchup(embeddings, targets, lam, index, mask)
        wide = torch.cat([embeddings, embeddings], dim=1)[:, : embeddings.shape[1]]
        result = e_stitchup(wide, targets.T.contiguous().T, lam, index, mask.T.contiguous().T)
        for got, wanted in zip(result, expected, strict=True):
            assert torch.equal(got, wanted)

    @pytest.mark.parametrize("name", ["targets", "lam", "index"])
    def test_refuses_rows_that_do_not_fit(self, name):
        batch = dict(zip(("embeddings", "targets", "lam", "index"), draw_batch(5, 6), strict=False))
        batch[name] = batch[name][:-1]
        with pytest.raises(DataError, match=rf"{name}: expected one entry for each of the \(6,\) items"):
            e_mixup(**batch)

    def test_refuses_a_mask_that_does_not_fit(self):
        *batch, mask = draw_batch(6, 6)
        for wrong in (mask[:, :-1], mask.float()):
            with pytest.raises(DataError, match="mask: expected bool"):
                e_stitchup(*batch, wrong)


class TestModalityStitch:
    WIDTHS = (3, 1, 4)

    @pytest.mark.parametrize("shape", [(9,), (2, 6), (1,), (0,)])
    def test_equals_taking_each_modality_item_by_item(self, shape):
        embeddings, targets, _, index, _ = draw_batch(0, *shape, dim=sum(self.WIDTHS))
        keep = torch.rand(*shape, len(self.WIDTHS), generator=generator(1)) < 0.5
        stitched, mixed = modality_stitch(embeddings, targets, keep, index, self.WIDTHS)
        for place in np.ndindex(*shape):
            partner = (*place[:-1], int(index[place]))
            parts = zip(embeddings[place].split(self.WIDTHS), embeddings[partner].split(self.WIDTHS), strict=True)
            chosen = [own if kept else other for kept, (own, other) in zip(keep[place], parts, strict=True)]
            assert torch.equal(stitched[place], torch.cat(chosen))
            share = float(keep[place].float().mean())
            torch.testing.assert_close(mixed[place], share * targets[place] + (1 - share) * targets[partner])

    def test_an_item_left_whole_keeps_its_target(self):
        embeddings, targets, _, index, _ = draw_batch(2, 5, dim=sum(self.WIDTHS))
        keep = torch.ones(5, 3, dtype=torch.bool)
        stitched, mixed = modality_stitch(embeddings, targets, keep, index, self.WIDTHS)
        assert torch.equal(stitched, embeddings)
        assert torch.equal(mixed, targets)

    @pytest.mark.parametrize(("modalities", "widths"), [(2, (3, 5)), (3, (3, 1, 5)), (2, (3, 1, 4))])
    def test_refuses_what_does_not_fit(self, modalities, widths):
        embeddings, targets, _, index, _ = draw_batch(0, 4, dim=8)
        keep = torch.ones(4, modalities, dtype=torch.bool)
        if len(widths) == modalities and sum(widths) == 8:
            keep = keep[:-1]
        with pytest.raises(DataError, match="keep and widths"):
            modality_stitch(embeddings, targets, keep, index, widths)
