"""The embedded data set: real, complete, and worth training on."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from estitchup_pl.data.digits import CLASSES, UNKNOWN_CLASSES, digits_store, gradient_histograms


def test_rows_are_those_of_scikit_learn_in_its_order():
    pictures, digits = load_digits(return_X_y=True)
    store = digits_store()
    np.testing.assert_array_equal(store.gather(np.arange(len(store)), ["pixels"]), pictures.astype(np.float32) / 16)
    assert store.column("label").to_pylist() == [CLASSES[digit] for digit in digits]
    assert store.column("id").to_pylist()[::1796] == ["digit-0000", "digit-1796"]


def test_store_passes_its_own_verification_and_lacks_no_modality():
    store = digits_store()
    store.verify()
    assert all(all(store.column(f"has_{name}").to_pylist()) for name in store.modalities)
    assert {info.dtype for info in store.modalities.values()} == {"float32"}


def test_known_marks_all_but_the_two_held_out_classes():
    items = digits_store().items.to_pandas()
    assert set(items.label[~items.known]) == set(UNKNOWN_CLASSES)
    assert set(items.label[items.known]) == set(CLASSES) - set(UNKNOWN_CLASSES)


def test_gradient_of_a_vertical_edge_points_right_and_of_a_horizontal_one_down():
    picture = np.zeros((2, 8, 8))
    picture[0, :, 4:] = 1
    picture[1, 4:, :] = 1
    directions = gradient_histograms(picture).reshape(2, 9, 8).sum(1)
    assert (directions[0] > 0).tolist() == [True] + [False] * 7
    assert (directions[1] > 0).tolist() == [False, False, True] + [False] * 5


def test_gradient_halfway_between_two_directions_counts_for_both():
    angle = np.pi / 8  # halfway between direction 0 and direction 1 of eight
    down, right = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    inside = gradient_histograms((np.cos(angle) * right + np.sin(angle) * down)[None])[0].reshape(3, 3, 8)[1, 1]
    assert inside[0] == inside[0].max()
    np.testing.assert_allclose(inside[0], inside[1])
    np.testing.assert_allclose(inside[2:], 0, atol=1e-12)


def test_modalities_together_beat_each_alone_and_tell_unknown_digits():
    store = digits_store()
    labels = store.column("label").to_numpy()
    known = store.column("known").to_numpy()
    train = np.zeros(len(store), bool)
    train[np.random.default_rng(0).permutation(len(store))[:400]] = True

    def scores(modalities):
        rows = store.gather(np.arange(len(store)), modalities)
        model = LogisticRegression(C=10, max_iter=1000).fit(rows[train & known], labels[train & known])
        accuracy = model.score(rows[~train & known], labels[~train & known])
        confidence = model.predict_proba(rows[~train]).max(1)
        return accuracy, roc_auc_score(~known[~train], 1 - confidence)

    pixels, gradients, both = (scores(names) for names in (["pixels"], ["gradients"], None))
    assert both[0] > 0.975
    assert both[0] > pixels[0]
    assert both[1] > max(pixels[1], gradients[1])
