"""Confident learning, held against a loop over the definition and against errors that were planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from estitchup_pl.errors import DataError
from estitchup_pl.functional.confident import label_issues


def written_out(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """The class that each row is confidently of, or its label (Northcutt et al., 2021, eq. 1)."""
    thresholds = {
        label: np.mean([row[label] for row, own in zip(probabilities, labels, strict=True) if own == label])
        for label in set(labels.tolist())
    }
    suggested = []
    for row, own in zip(probabilities, labels, strict=True):
        confident = [label for label, limit in thresholds.items() if row[label] >= limit]
        suggested.append(max(confident, key=lambda label: row[label]) if confident else int(own))
    return suggested


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_suggestions_and_qualities_are_those_of_the_definition(seed: int, precision: type) -> None:
    source = np.random.default_rng(seed)
    probabilities, labels = source.random((80, 5)).astype(precision), source.integers(0, 4, 80)  # the last has no row
    issues = label_issues(torch.from_numpy(probabilities), torch.from_numpy(labels))
    expected = written_out(probabilities, labels)
    assert issues.suggested.tolist() == expected
    assert issues.is_issue.tolist() == [a != b for a, b in zip(expected, labels.tolist(), strict=True)]
    own = probabilities[np.arange(80), labels]
    others = np.where(np.arange(5) == labels[:, None], -1, probabilities).max(axis=1)
    np.testing.assert_allclose(issues.quality, (1 + own - others) / 2, rtol=1e-6, atol=1e-7)


def test_planted_errors_come_first() -> None:
    source = np.random.default_rng(0)
    true = source.integers(0, 5, 400)
    given = true.copy()
    wrong = source.choice(400, 30, replace=False)
    given[wrong] = (given[wrong] + source.integers(1, 5, 30)) % 5
    probabilities = np.clip(np.eye(5)[true] * 0.8 + source.random((400, 5)) * 0.15, 0, 1)
    issues = label_issues(torch.from_numpy(probabilities), torch.from_numpy(given))
    assert set(issues.quality.argsort()[:30].tolist()) == set(wrong.tolist())
    found = issues.is_issue.nonzero().squeeze(1)
    assert set(found.tolist()) <= set(wrong.tolist())
    assert len(found) >= 20  # the others are right too, but not confidently
    assert issues.suggested[found].tolist() == true[found].tolist()
    assert 0 <= float(issues.quality.amin()) <= float(issues.quality.amax()) <= 1


def test_a_row_without_a_label_is_refused() -> None:
    with pytest.raises(DataError, match="leave those out"):
        label_issues(torch.rand(2, 3), torch.tensor([0, -1]))
