"""The network against hand-written PyTorch, and a stack of it against its members."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.networks import EmbeddingMLP, KeyedDropout, SoftTargetBCE, StackedLinear
from estitchup_pl.model.scaling import ModalityScaling


def test_the_default_network_is_the_papers() -> None:
    kinds = [type(layer) for layer in EmbeddingMLP(10, 4)]
    assert kinds == [StackedLinear, KeyedDropout, nn.ReLU, StackedLinear, KeyedDropout, nn.ReLU, StackedLinear]
    assert [tuple(p.shape) for p in EmbeddingMLP(10, 4).parameters()][::2] == [(250, 10), (250, 250), (4, 250)]
    assert EmbeddingMLP(10, 4)[1].p == 0.3


def test_it_computes_what_plain_layers_compute() -> None:
    network = EmbeddingMLP(6, 3, hidden=(5, 4)).eval()
    x = torch.randn(7, 6)
    weights = list(network.parameters())
    expected = F.linear(F.relu(F.linear(F.relu(F.linear(x, *weights[:2])), *weights[2:4])), *weights[4:])
    torch.testing.assert_close(network(x), expected)


def test_weights_begin_as_those_of_torch_do() -> None:
    torch.manual_seed(0)
    own = StackedLinear(400, 300)
    reference = nn.Linear(400, 300)
    for name in ("weight", "bias"):
        ours, theirs = getattr(own, name), getattr(reference, name)
        assert ours.abs().max() <= 1 / 20
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)


@pytest.mark.parametrize("stack", [(3,), (2, 3)])
def test_run_k_of_a_stack_equals_the_run_alone(stack: tuple[int, ...]) -> None:
    stacked = EmbeddingMLP(6, 3, hidden=(5,), stack=stack).eval()
    x = torch.randn(*stack, 7, 6)
    for k in torch.cartesian_prod(*map(torch.arange, stack)).view(-1, len(stack)).tolist():
        alone = EmbeddingMLP(6, 3, hidden=(5,)).eval()
        alone.load_state_dict({name: value[tuple(k)] for name, value in stacked.state_dict().items()})
        torch.testing.assert_close(stacked(x)[tuple(k)], alone(x[tuple(k)]))


def test_dropout_drops_the_right_share_and_keeps_the_mean() -> None:
    dropout = KeyedDropout(0.3)
    dropout.generator = torch.Generator().manual_seed(1)
    out = dropout(torch.ones(200, 500))
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7], rel=1e-5)  # p is a multiple of 1/65536


def test_dropout_is_a_function_of_its_generator() -> None:
    dropout = KeyedDropout(0.5)
    x = torch.ones(4, 50)
    draws = []
    for seed in (1, 1, 2):
        dropout.generator = torch.Generator().manual_seed(seed)
        draws.append((dropout(x), dropout(x)))
    torch.testing.assert_close(draws[0], draws[1], rtol=0, atol=0)
    assert not torch.equal(draws[0][0], draws[0][1])  # the next layer drops others
    assert not torch.equal(draws[0][0], draws[2][0])


def test_dropout_is_off_in_evaluation_and_leaves_its_input_alone() -> None:
    dropout = KeyedDropout(0.5).eval()
    x = torch.ones(3, 4)
    assert dropout(x) is x
    dropout.train().generator = torch.Generator().manual_seed(1)
    dropout(x)
    assert torch.equal(x, torch.ones(3, 4))


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_an_impossible_dropout_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match="dropout"):
        KeyedDropout(p)


def test_the_loss_is_the_mean_over_batch_and_classes_summed_over_runs() -> None:
    logits, targets = torch.randn(3, 5, 4), torch.rand(3, 5, 4)
    expected = sum(F.binary_cross_entropy_with_logits(logits[k], targets[k]) for k in range(3))
    torch.testing.assert_close(SoftTargetBCE()(logits, targets), expected)
    torch.testing.assert_close(
        SoftTargetBCE()(logits[0], targets[0]), F.binary_cross_entropy(logits[0].sigmoid(), targets[0])
    )


def test_each_modality_is_scaled_its_own_way() -> None:
    scaling = ModalityScaling({"a": 2, "b": 3, "c": 1}, {"a": "l2", "b": "standardize"})
    scaling.mean[2:5], scaling.std[2:5] = torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 4, 5])
    x = torch.tensor([[3.0, 4, 5, 6, 7, 8]])
    torch.testing.assert_close(scaling(x), torch.tensor([[0.6, 0.8, 2, 1, 0.8, 8]]))
    assert torch.equal(x, torch.tensor([[3.0, 4, 5, 6, 7, 8]]))


def test_a_missing_modality_stays_zero() -> None:
    scaling = ModalityScaling({"a": 2, "b": 2}, {"a": "l2", "b": "standardize"})
    scaling.mean.fill_(5)
    assert torch.equal(scaling(torch.zeros(1, 4)), torch.zeros(1, 4))
