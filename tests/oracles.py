"""Slow and obvious formulas that the functional layer is compared with: NumPy, SciPy, scikit-learn, plain loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats
from sklearn import covariance
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

NONE = -1
Array = NDArray[np.generic]


def mix(values: Array, lam: Array, index: Array) -> Array:
    mixed = np.empty(values.shape)
    for place in np.ndindex(*lam.shape):
        partner = values[(*place[:-1], index[place])].astype(float)
        share = float(lam[place])
        mixed[place] = share * values[place].astype(float) + (1 - share) * partner
    return mixed


def e_mixup(embeddings: Array, targets: Array, lam: Array, index: Array) -> tuple[Array, Array]:
    return mix(embeddings, lam, index), mix(targets, lam, index)


def e_stitchup(embeddings: Array, targets: Array, lam: Array, index: Array, mask: Array) -> tuple[Array, Array]:
    stitched = np.empty(embeddings.shape)
    for *place, column in np.ndindex(*embeddings.shape):
        row = tuple(place)
        source = row if mask[(*row, column)] else (*row[:-1], index[row])
        stitched[(*row, column)] = embeddings[(*source, column)]
    return stitched, mix(targets, lam, index)


def modality_stitch(
    embeddings: Array, targets: Array, keep: Array, index: Array, widths: Sequence[int]
) -> tuple[Array, Array]:
    mask = np.repeat(keep, widths, axis=-1)
    return e_stitchup(embeddings, targets, keep.mean(axis=-1), index, mask)


def soften_labels(targets: Array, softness: float) -> Array:
    softened = np.empty(targets.shape)
    for place in np.ndindex(*targets.shape[:-1]):
        zeros = np.sum(targets[place] == 0)
        softened[place] = [1 / zeros if value == 0 else max(float(value) - softness, 0.0) for value in targets[place]]
    return softened


def top_label(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    predicted = [int(np.argmax(row)) for row in probabilities]
    confidence = [row[column] for row, column in zip(probabilities, predicted, strict=True)]
    return np.array(confidence), np.array(predicted, int) == labels


def reliability_bins(confidence: Array, correct: Array, num_bins: int = 10) -> tuple[Array, Array, Array]:
    edges = [confidence.dtype.type((k + 1) / num_bins) for k in range(num_bins)]
    members: list[list[int]] = [[] for _ in range(num_bins)]
    for row, value in enumerate(confidence):
        members[next(k for k, edge in enumerate(edges) if value < edge or k == num_bins - 1)].append(row)
    return summarise(confidence, correct, members)


def summarise(confidence: Array, correct: Array, members: list[list[int]]) -> tuple[Array, Array, Array]:
    means = [
        [float(np.mean(v[rows], dtype=float)) if rows else np.nan for rows in members] for v in (confidence, correct)
    ]
    return np.array([len(rows) for rows in members]), np.array(means[0]), np.array(means[1])


def calibration_error(counts: Array, confidence: Array, accuracy: Array) -> float:
    bins = [bin_ for bin_ in zip(counts.tolist(), confidence, accuracy, strict=True) if bin_[0] > 0]
    rows = sum(count for count, *_ in bins)
    return sum(count * abs(conf - acc) for count, conf, acc in bins) / rows if rows else np.nan


def correlation(counts: Array, confidence: Array, accuracy: Array) -> float:
    filled = counts > 0
    if len(set(accuracy[filled].tolist())) < 2:
        return np.nan
    return float(np.corrcoef(confidence[filled], accuracy[filled])[0, 1])


def expected_calibration_error(confidence: Array, correct: Array, num_bins: int = 15) -> float:
    return calibration_error(*reliability_bins(confidence, correct, num_bins))


def confidence_accuracy_correlation(confidence: Array, correct: Array, num_bins: int = 10) -> float:
    return correlation(*reliability_bins(confidence, correct, num_bins))


def adaptive_calibration_error(confidence: Array, correct: Array, num_bins: int = 15) -> float:
    members: list[list[int]] = [[] for _ in range(num_bins)]
    for row, rank in enumerate(stats.rankdata(confidence)):
        members[int(Fraction(rank - 1) * num_bins / len(confidence))].append(row)
    return calibration_error(*summarise(confidence, correct, members))


def classwise_calibration_error(probabilities: Array, labels: Array, num_bins: int = 15) -> Array:
    columns = enumerate(probabilities.T)
    return np.array([expected_calibration_error(column, labels == k, num_bins) for k, column in columns])


def over_last_axis(function: Callable[..., float], bins: Sequence[Array]) -> Array:
    return np.array([function(*row) for row in zip(*bins, strict=True)])


def none_score(probabilities: Array) -> Array:
    return np.array([1 - max(row) for row in probabilities], probabilities.dtype)


def acceptance(probabilities: Array, none_scores: Array | None = None) -> Array:
    if none_scores is not None:
        return np.array([1 - float(score) for score in none_scores], np.float32)
    return np.array([max(row) for row in probabilities], probabilities.dtype)


def reject(probabilities: Array, threshold: float, none_scores: Array | None = None) -> Array:
    accepted = acceptance(probabilities, none_scores)
    limit = -1.0 if np.isnan(threshold) else accepted.dtype.type(threshold)
    decisions = [int(np.argmax(row)) if own > limit else NONE for row, own in zip(probabilities, accepted, strict=True)]
    return np.array(decisions, int)


def count_decisions(decided: Array, labels: Array) -> dict[str, int]:
    """Count what Secs. 3.5 and 4.3 speak of, row by row."""
    counts = dict.fromkeys(("right_id", "right_none", "fp_id", "fn_id", "fp_none", "fn_none"), 0)
    for decision, label in zip(decided.tolist(), labels.tolist(), strict=True):
        kind, claimed = ("none" if value == NONE else "id" for value in (label, decision))
        if decision == label:
            counts[f"right_{kind}"] += 1
        else:
            counts[f"fn_{kind}"] += 1
            counts[f"fp_{claimed}"] += 1
    return counts


def accuracies(decided: Array, labels: Array) -> tuple[float, float, float]:
    counts, none = count_decisions(decided, labels), int(np.sum(labels == NONE))
    shares = (
        (counts["right_id"] + counts["right_none"], len(labels)),
        (counts["right_id"], len(labels) - none),
        (counts["right_none"], none),
    )
    return tuple(right / rows if rows else np.nan for right, rows in shares)  # type: ignore[return-value]


def ratios(decided: Array, labels: Array) -> tuple[float, float]:
    counts = count_decisions(decided, labels)
    pairs = [(counts[f"right_{kind}"], counts[f"fp_{kind}"] + counts[f"fn_{kind}"]) for kind in ("id", "none")]
    return tuple(right / wrong if wrong else np.inf if right else np.nan for right, wrong in pairs)  # type: ignore[return-value]


def none_aware_accuracy(
    probabilities: Array, labels: Array, threshold: float, none_scores: Array | None = None
) -> tuple[float, float, float]:
    return accuracies(reject(probabilities, threshold, none_scores), labels)


def threshold_curves(confidence: Array, predicted: Array, labels: Array, thresholds: Array) -> tuple[Array, ...]:
    grid = thresholds.astype(confidence.dtype)
    rows = []
    for threshold in grid:
        decided = np.where(confidence > threshold, predicted, NONE)
        rows.append((float(threshold), *accuracies(decided, labels), *ratios(decided, labels)))
    return tuple(np.array(rows).T)


def threshold_losses(confidence: Array, predicted: Array, labels: Array, heuristic: str) -> list[tuple[float, float]]:
    """Every way to part the rows: the greatest confidence that is rejected (or 0) and the loss, ascending."""
    losses = []
    for limit in sorted({0.0, *confidence.tolist()}):
        decided = np.where(confidence > limit, predicted, NONE)
        overall, _, none = (Fraction(value).limit_denominator(10_000) for value in accuracies(decided, labels))
        losses.append((limit, abs(overall - none) if heuristic == "intersection" else -sum(ratios(decided, labels))))
    return losses


def cost_of(
    decided: Array, labels: Array, wrong_class: float, missed_none: float, question: float, none_share: float | None
) -> float:
    known, none = int(np.sum(labels != NONE)), int(np.sum(labels == NONE))
    total = 0.0
    for decision, label in zip(decided.tolist(), labels.tolist(), strict=True):
        cost = question if decision == NONE else missed_none if label == NONE else wrong_class * (decision != label)
        weight = 1.0 if none_share is None else none_share / none if label == NONE else (1 - none_share) / known
        total += weight * cost
    return total


def costs_of_cuts(confidence: Array, predicted: Array, labels: Array, *costs: Any) -> list[tuple[float, float]]:
    """Every way to part the rows and what it costs, as :func:`threshold_losses`."""
    decisions = [
        (limit, np.where(confidence > limit, predicted, NONE)) for limit in sorted({0.0, *confidence.tolist()})
    ]
    return [(limit, cost_of(decided, labels, *costs)) for limit, decided in decisions]


def coverage_threshold(confidence: Array, predicted: Array, labels: Array, coverage: float, known_only: bool) -> float:
    own = confidence[labels != NONE] if known_only else confidence
    limits = sorted({0.0, *own.tolist()})
    # In whole rows, as 0.95 of 20 is 19 and no more.
    enough = [limit for limit in limits if np.sum(own > limit) >= np.ceil(round(coverage * len(own), 6))]
    return midway(limits, max(enough) if enough else limits[0], confidence.dtype.type)


def bounded_error_threshold(
    confidence: Array, predicted: Array, labels: Array, error: float, level: float, known_only: bool
) -> float:
    """Clopper and Pearson's upper bound, from few accepted rows to more until it exceeds the error."""
    kept = (labels != NONE) | (not known_only)
    confidence, right = confidence[kept], (predicted == labels)[kept]
    least = next(rows for rows in range(1, 1000) if (1 - error) ** rows <= 1 - level + 1e-12)
    limits, lowest = sorted({0.0, *confidence.tolist()}), 1.0
    for limit in reversed(limits):
        accepted = confidence > limit
        rows, wrong = int(accepted.sum()), int((accepted & ~right).sum())
        if rows < least or rows < min(least + len(confidence) // 10, len(confidence)):
            continue
        if wrong == rows or stats.beta.ppf(level, wrong + 1, rows - wrong) > error:
            break
        lowest = midway(limits, limit, confidence.dtype.type)
    return lowest


def columns_of(probabilities: Array, labels: Array, none_scores: Array | None = None) -> list[tuple[Array, Array]]:
    """Scores and positives of each class and, last, of "none": by default minus the greatest probability."""
    scores = [*probabilities.T, -probabilities.max(axis=1) if none_scores is None else none_scores]
    return [(column, labels == k) for k, column in zip([*range(len(scores) - 1), NONE], scores, strict=True)]


def ranking_scores(probabilities: Array, labels: Array, none_scores: Array | None = None) -> tuple[Array, Array, Array]:
    auroc, aupr, support = [], [], []
    for scores, positive in columns_of(probabilities, labels, none_scores):
        auroc.append(roc_auc_score(positive, scores) if len(set(positive)) == 2 else np.nan)
        aupr.append(average_precision_score(positive, scores) if positive.any() else np.nan)
        support.append(int(positive.sum()))
    return np.array(auroc), np.array(aupr), np.array(support)


def weighted_mean(values: Array, support: Array) -> float:
    defined = ~np.isnan(values) & (support > 0)
    return float(np.average(values[defined], weights=support[defined])) if defined.any() else np.nan


def weighted_auroc_aupr(probabilities: Array, labels: Array, none_scores: Array | None = None) -> tuple[float, float]:
    auroc, aupr, support = ranking_scores(probabilities, labels, none_scores)
    return weighted_mean(auroc, support), weighted_mean(aupr, support)


def row_scores(probabilities: Array, labels: Array, none_scores: Array | None = None) -> tuple[Array, Array]:
    auroc, precision = np.empty(len(labels)), np.empty(len(labels))
    for scores, positive in columns_of(probabilities, labels, none_scores):
        for row in np.nonzero(positive)[0]:
            others = scores[~positive]
            wins = np.sum(scores[row] > others) + np.sum(scores[row] == others) / 2
            auroc[row] = wins / len(others) if len(others) else np.nan
            precision[row] = positive[scores >= scores[row]].mean()
    return auroc, precision


def none_detection(none_scores: Array, labels: Array) -> tuple[float, float, float]:
    is_none = labels == NONE
    if len(set(is_none.tolist())) < 2:
        return np.nan, np.nan, np.nan
    false_positives, true_positives, _ = roc_curve(is_none, none_scores, drop_intermediate=False)
    fpr95 = false_positives[true_positives >= 0.95 - 1e-12][0]
    return roc_auc_score(is_none, none_scores), average_precision_score(is_none, none_scores), fpr95


def none_detection_of(probabilities: Array, labels: Array, none_scores: Array | None = None) -> tuple[float, ...]:
    scores = 1 - probabilities.astype(float).max(axis=1) if none_scores is None else none_scores
    return none_detection(scores, labels)


def accepted_accuracy(acceptance: Array, correct: Array, threshold: float) -> tuple[float, float]:
    accepted = [
        row for row, value in enumerate(acceptance) if np.isnan(threshold) or value > value.dtype.type(threshold)
    ]
    accuracy = float(np.mean(correct[accepted])) if accepted else np.nan
    return accuracy, len(accepted) / len(correct) if len(correct) else np.nan


def risk_coverage(acceptance: Array, correct: Array) -> tuple[Array, Array]:
    points = []
    for least in sorted(set(acceptance.tolist()), reverse=True):
        accepted = acceptance >= least
        points.append((accepted.mean(), 1 - correct[accepted].mean()))
    return tuple(np.array(points).reshape(-1, 2).T)


def risk_areas(acceptance: Array, correct: Array) -> tuple[float, float]:
    """Accept one row after the other; of equal ones each a share of all their errors, the mean over their orders."""
    rows, errors, curve = len(acceptance), 0.0, []
    if rows < 2:
        return np.nan, np.nan
    for row in np.argsort(-acceptance.astype(float), kind="stable"):
        errors += 1 - correct[acceptance == acceptance[row]].mean()
        curve.append((errors / (len(curve) + 1), errors / rows))
    coverage = np.arange(1, rows + 1) / rows
    aurc, augrc = (np.trapezoid(values, coverage) / (1 - 1 / rows) for values in np.array(curve).T)
    return aurc, augrc


def over_decisions(
    oracle: Callable[..., Any], probabilities: Array, labels: Array, none_scores: Array | None, *more: Any
) -> Any:
    return oracle(acceptance(probabilities, none_scores), top_label(probabilities, labels)[1], *more)


def brier_score(probabilities: Array, labels: Array) -> float:
    known = labels != NONE
    targets = np.eye(probabilities.shape[1])[labels[known]]
    return float(np.mean(((probabilities[known] - targets) ** 2).sum(axis=1))) if known.any() else np.nan


def negative_log_likelihood(probabilities: Array, labels: Array) -> float:
    known = labels != NONE
    if not known.any():
        return np.nan
    margin = 2.0**-23
    targets, clipped = np.eye(probabilities.shape[1])[labels[known]], probabilities[known].astype(float)
    likelihood = np.where(targets, np.clip(clipped, margin, 1 - margin), 1 - np.clip(clipped, margin, 1 - margin))
    return float(-np.log(likelihood).sum(axis=1).mean())


def weighted_correlation(counts: Array, confidence: Array, accuracy: Array) -> float:
    """Pearson's correlation of the rows, each with the mean confidence and accuracy of its bin."""
    rows = [np.repeat(values, counts.astype(int)) for values in (confidence, accuracy)]
    if not len(rows[0]) or min(len(set(values.tolist())) for values in rows) < 2:
        return np.nan
    return float(np.corrcoef(*rows)[0, 1])


def binned_correlation(bins: Sequence[Array], weighted: bool) -> Array:
    return over_last_axis(weighted_correlation if weighted else correlation, bins)


def temperature_loss(logits: Array, labels: Array, temperature: float) -> float:
    scaled, targets = logits.astype(float) / temperature, np.eye(logits.shape[1])[labels]
    return float(np.mean(np.logaddexp(0, scaled) - targets * scaled))


def fit_temperature(logits: Array, labels: Array, lowest: float, highest: float) -> float:
    """Where the slope of the loss over the inverse of the temperature is zero, or the nearer end."""
    logits, targets = logits.astype(float), np.eye(logits.shape[1])[labels]

    def slope(inverse: float) -> float:
        return float(np.mean(logits * (special.expit(logits * inverse) - targets)))

    low, high = 1 / highest, 1 / lowest
    if slope(low) >= 0:
        return highest
    return 1 / optimize.brentq(slope, low, high, xtol=1e-12) if slope(high) > 0 else lowest


def top_temperature_terms(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Logit of the top class and whether it is right, as the two columns of a problem with one class."""
    known = labels != NONE
    right = np.argmax(logits[known], axis=1) == labels[known]
    return logits[known].max(axis=1), right


def fit_top_temperature(logits: Array, labels: Array, lowest: float, highest: float) -> float:
    top, right = (values.astype(float) for values in top_temperature_terms(logits, labels))

    def slope(inverse: float) -> float:
        return float(np.mean(top * (special.expit(top * inverse) - right)))

    low, high = 1 / highest, 1 / lowest
    if slope(low) >= 0:
        return highest
    return 1 / optimize.brentq(slope, low, high, xtol=1e-12) if slope(high) > 0 else lowest


def affine(values: Array, pair: tuple[Array, Array]) -> Array:
    return values * pair[0] + pair[1]


def cross_entropy(mapped: Array, targets: Array) -> float:
    return float(np.sum(np.logaddexp(0, mapped) - targets * mapped))


def pulled_loss(
    logits: Array, labels: Array, shrinkage: float, temperature: float, scale: Array, shift: Array
) -> Array:
    """What each class adds to the loss of vector scaling, with its factor and shift."""
    known = labels != NONE
    logits, targets = logits[known].astype(float), np.eye(logits.shape[1])[labels[known]]
    entropy = [cross_entropy(a * z + b, t) for a, b, z, t in zip(scale, shift, logits.T, targets.T, strict=True)]
    return np.array(entropy) + shrinkage / 2 * ((temperature * scale - 1) ** 2 + shift**2)


def least_pulled_loss(logits: Array, labels: Array, shrinkage: float, temperature: float) -> Array:
    losses = []
    for k in range(logits.shape[1]):

        def loss(values: Array, k: int = k) -> float:
            scale, shift = np.full((2, logits.shape[1]), 0.0)
            scale[k], shift[k] = values
            return float(pulled_loss(logits, labels, shrinkage, temperature, scale, shift)[k])

        start, options = [1 / temperature, 0.0], {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000}
        bounds = [(1e-3 / temperature, 1e3 / temperature), (-1e3, 1e3)]
        losses.append(optimize.minimize(loss, start, method="Nelder-Mead", bounds=bounds, options=options).fun)
    return np.array(losses)


def isotonic(top: Array, right: Array, at: Array) -> Array:
    """The rising function nearest to ``right``, by its min-max formula, linear between the values of ``top``."""
    knots = np.unique(top)
    sums, counts = (np.array([np.sum(v[top == knot]) for knot in knots]) for v in (right, np.ones(len(right))))
    places = range(len(knots))
    means = {(a, b): sums[a : b + 1].sum() / counts[a : b + 1].sum() for a in places for b in places if a <= b}
    values = [max(min(means[a, b] for b in places if b >= i) for a in places if a <= i) for i in places]
    return np.interp(at, knots, values)


def apply_isotonic(logits: Array, fitted: tuple[Array, Array, Array]) -> Array:
    """Confidence first, then every logit moved by the same number, in exact arithmetic as far as doubles go."""
    knots, accuracy, rows = fitted
    moved = []
    for row in logits.astype(float):
        expected = (rows * np.interp(row.max(), knots, accuracy) + 2 * special.expit(row.max())) / (rows + 2)
        moved.append(row - row.max() + special.logit(expected))
    return np.array(moved).reshape(logits.shape)


def normalize_logits(logits: Array, norm: int) -> Array:
    rows = []
    for row in logits.astype(float):
        centered = row - row.mean()
        tied = np.ptp(row) == 0
        rows.append(row if norm == 0 else centered * 0 if tied else centered / np.linalg.norm(centered, ord=norm))
    return np.array(rows).reshape(logits.shape)


def unit_length(rows: Array) -> Array:
    return np.array([row / (np.sqrt(np.sum(row.astype(float) ** 2)) or 1.0) for row in rows]).reshape(rows.shape)


def cosine(left: Array, right: Array) -> float:
    return float(np.dot(*unit_length(np.stack([left, right]))))


def k_nearest(queries: Array, bank: Array, k: int) -> tuple[Array, Array]:
    found = [sorted((-float(query @ row), place) for place, row in enumerate(bank))[:k] for query in queries]
    shape = len(queries), min(k, len(bank))
    cosines = np.array([[-value for value, _ in row] for row in found]).reshape(shape)
    return cosines, np.array([[place for _, place in row] for row in found], int).reshape(shape)


def neighbor_distance(embeddings: Array, bank: Array, k: int) -> Array:
    cosines = [sorted((cosine(row, kept) for kept in bank), reverse=True)[:k] for row in embeddings]
    return np.array([np.mean([(1 - value) / 2 for value in row]) for row in cosines])


def class_means(embeddings: Array, labels: Array) -> Array:
    rows = unit_length(embeddings)
    return unit_length(np.array([rows[labels == k].mean(axis=0) for k in sorted(set(labels.tolist()))]))


def nearest_mean_distance(embeddings: Array, means: Array) -> Array:
    return np.array([min((1 - cosine(row, mean)) / 2 for mean in means) for row in embeddings])


def gaussians(embeddings: Array, labels: Array, shrinkage: float | None) -> tuple[Array, Array]:
    """Mean of each class, and the inverse of the covariance that they share, by scikit-learn."""
    means = {k: embeddings[labels == k].astype(float).mean(axis=0) for k in sorted(set(labels.tolist()))}
    centered = np.array([row - means[k] for row, k in zip(embeddings.astype(float), labels.tolist(), strict=True)])
    return np.array(list(means.values())), np.linalg.inv(shrunk_covariance(centered, shrinkage))


def shrunk_covariance(centered: Array, shrinkage: float | None) -> Array:
    centered = centered.astype(float)
    if not centered.any():
        return np.eye(centered.shape[1])
    if shrinkage is None:
        shrinkage = max(covariance.ledoit_wolf_shrinkage(centered, assume_centered=True), 1e-6)
    return covariance.ShrunkCovariance(shrinkage=shrinkage, assume_centered=True).fit(centered).covariance_


def mahalanobis_distance(embeddings: Array, means: Array, precision: Array) -> Array:
    squares = [[float((row - mean) @ precision @ (row - mean)) for mean in means] for row in embeddings.astype(float)]
    return np.array([min(row) / embeddings.shape[1] for row in squares])


def disagreement(members: Array) -> Array:
    probabilities = special.softmax(members.astype(float), axis=-1)
    gain = stats.entropy(probabilities.mean(axis=0), axis=-1) - stats.entropy(probabilities, axis=-1).mean(axis=0)
    outcomes = min(members.shape[0], members.shape[2])
    return gain / np.log(outcomes) if outcomes > 1 else np.zeros(members.shape[1])


def entropy_score(logits: Array) -> Array:
    classes = logits.shape[1]
    return stats.entropy(special.softmax(logits.astype(float), axis=1), base=classes if classes > 1 else None, axis=1)


def mean_logits(members: Array) -> Array:
    present, absent = (special.expit(sign * members.astype(float)).mean(axis=0) for sign in (1, -1))
    return np.log(present) - np.log(absent)


def moments(scores: Array) -> tuple[Array, Array]:
    return scores.mean(axis=1, dtype=float), scores.std(axis=1, dtype=float)


def sum_of_z_scores(scores: Array, mean: Array, std: Array) -> Array:
    rows = [(row - m) / max(s, 1e-6) for row, m, s in zip(scores.astype(float), mean, std, strict=True)]
    return np.sum(rows, axis=0)


def is_one_cycle(index: Array) -> bool:
    place, seen = 0, []
    while place not in seen:
        seen.append(place)
        place = int(index[place])
    return len(seen) == len(index) and place == 0


def midway(limits: Sequence[float], low: float, dtype: type[np.floating]) -> float:
    """Middle between a limit, or 0, and the next one, or 1; the limit itself where rounding would reach the next."""
    following = min([limit for limit in limits if limit > low], default=1.0)
    middle = dtype(low) + (dtype(following) - dtype(low)) / dtype(2)
    return float(middle) if middle < following else low


def log_odds(scores: Array) -> Array:
    """Each score less the logarithm of the sum of the exponentials of all others."""
    return np.stack(
        [
            scores[:, k] - special.logsumexp(np.delete(scores, k, 1).astype(float), axis=1)
            for k in range(scores.shape[1])
        ],
        axis=1,
    )


def logistic_loss(weight: Array, bias: Array, rows: Array, labels: Array) -> float:
    """Sum of the cross-entropies of a softmax."""
    log_probabilities = special.log_softmax(rows.astype(float) @ weight.T + bias, axis=1)
    return -float(log_probabilities[np.arange(len(labels)), labels].sum())


def logistic_regression(rows: Array, labels: Array, penalty: float) -> tuple[Array, Array]:
    """The least loss plus half the penalty times the squared weights, by an optimizer that knows no gradient."""
    classes, dim = int(labels.max()) + 1, rows.shape[1]

    def parts(values: Array) -> tuple[Array, Array]:
        return values[: classes * dim].reshape(classes, dim), values[classes * dim :]

    def total(values: Array) -> float:
        weight, bias = parts(values)
        return logistic_loss(weight, bias, rows, labels) + penalty / 2 * float(np.square(weight).sum())

    found = optimize.minimize(total, np.zeros(classes * (dim + 1)), options={"gtol": 1e-6})
    return parts(found.x)


def held_out_folds(labels: Array, folds: int) -> Iterator[tuple[Array, Array, list[int]]]:
    """Rows to fit, class codes among those, and rows to predict; the rows of each class are dealt out in turn."""
    fold = np.empty(len(labels), int)
    for place, row in enumerate(sorted(range(len(labels)), key=lambda row: (labels[row], row))):
        fold[row] = place % folds
    for number in range(folds):
        known = sorted(set(labels[fold != number]))
        held_out = [row for row in range(len(labels)) if fold[row] == number and labels[row] in known]
        if len(known) > 1 and held_out:
            codes = np.array([known.index(label) if label in known else -1 for label in labels])
            yield fold != number, codes, held_out


def held_out_losses(rows: Array, labels: Array, penalties: Sequence[float], folds: int) -> list[float]:
    """Loss of each penalty over all folds."""
    losses = []
    for penalty in penalties:
        total = 0.0
        for fit, codes, held_out in held_out_folds(labels, folds):
            fitted = logistic_regression(rows[fit], codes[fit], penalty)
            total += logistic_loss(*fitted, rows[held_out], codes[held_out])
        losses.append(total)
    return losses


def tempered_losses(
    rows: Array, labels: Array, shrinkage: float, folds: int, temperatures: Sequence[float]
) -> list[float]:
    """Loss of each temperature of a discriminant analysis over all folds; none where no fold can be predicted."""
    said = []
    for fit, codes, held_out in held_out_folds(labels, folds):
        means = np.array([rows[fit][codes[fit] == code].mean(0) for code in range(codes.max() + 1)])
        within = rows[fit] - means[codes[fit]]
        if not within.any():
            continue
        shared = within.T @ within / len(within)
        spread = np.trace(shared) / rows.shape[1] * np.eye(rows.shape[1])
        weights = np.linalg.solve((1 - shrinkage) * shared + shrinkage * spread, means.T)
        bias = np.log(np.bincount(codes[fit]) / fit.sum()) - (weights * means.T).sum(0) / 2
        scores = rows[held_out] @ weights + bias
        said += [(own, own.argmax() == code) for own, code in zip(scores, codes[held_out], strict=True)]
    right = sum(correct for _, correct in said)
    high, low = (right + 1) / (right + 2), 1 / (len(said) - right + 2)
    losses = []
    for temperature in temperatures if said else ():
        total = 0.0
        for scores, correct in said:
            top = special.log_softmax(scores / temperature).max()
            target = high if correct else low
            total -= target * top + (1 - target) * np.log(max(-np.expm1(top), 1e-300))
        losses.append(total / len(said))
    return losses
