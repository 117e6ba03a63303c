"""Linear heads in a study: the logits of the solver on rows with a scaling of their own, the choice made inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer
from small import digits_config, method

from estitchup_pl.functional import choose_penalty
from estitchup_pl.study import StudyFolder, run_study
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.study import Study


def test_a_head_is_scikit_learns_on_centered_rows_with_the_penalty_chosen_on_training_rows(tmp_path: Path) -> None:
    heads = {
        "Logistic regression": method("HeadMethod", scaling="centered_l2"),
        "LDA": method("HeadMethod", solver={"class_path": "LDA"}),
        "LDA chosen": method("HeadMethod", solver={"class_path": "LDA"}, grid={"shrinkage": [0.999, 0.1]}),
    }
    config = digits_config(methods=heads, trials=1, model={})
    folder = StudyFolder(tmp_path)
    run_study(config, folder)
    trials = Study(config, folder).trials
    division = trials.division(FinalFits(), 0)
    labels = trials.labels.index(division.class_names)[division.train]
    parts = [trials.gather(rows) for rows in (division.train, division.evaluated)]
    train, test = (
        np.hstack([Normalizer().transform(part[name] - parts[0][name].mean(0)) for name in part]) for part in parts
    )
    penalty = choose_penalty(torch.from_numpy(train), torch.from_numpy(labels))
    expected = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(train, labels).predict_proba(test)
    kept = {name: folder.predictions(name, 0) for name in heads}
    np.testing.assert_allclose(kept["Logistic regression"].probabilities.numpy(), expected, atol=5e-3)
    assert folder.record("LDA chosen", 0).chosen == {"shrinkage": 0.1}
    assert not torch.equal(kept["LDA"].probabilities, kept["LDA chosen"].probabilities)
