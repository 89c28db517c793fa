"""Top scores with and without an answer -> where to abstain; probabilities and labels -> calibration error.

A system answers with its first passage if that passage's score reaches a threshold, and keeps silent otherwise. Numbers
only: knows no model and no corpus.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Point(NamedTuple):
    """What one threshold gives, 0..1 but for the threshold itself."""

    threshold: float
    precision: float
    coverage: float
    recall: float
    f1: float


class Curve(NamedTuple):
    """Points by falling threshold, N of them, each (N,) float64.

    `precision`: of the questions answered, the share answered right (answerable, and the first passage is the right
    one); to answer an unanswerable question is an error. `coverage`: of all questions, the share answered.
    `recall`: of the answerable questions, the share answered right. `f1`: harmonic mean of precision and recall.
    """

    threshold: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]


def abstention_curve(answerable: npt.ArrayLike, right: npt.ArrayLike, unanswerable: npt.ArrayLike) -> Curve:
    """Try every score seen as a threshold; a question is answered if its score is at least the threshold.

    :param answerable: (A,) score of the first passage of each answerable question.
    :param right: (A,) whether that passage is the right one.
    :param unanswerable: (U,) score of the first passage of each unanswerable question; may be empty.
    :returns: one point for each distinct score, from the highest to the lowest.
    :raises ValueError: without answerable questions, for shapes that do not fit, or NaN.
    """
    known, silent = np.asarray(answerable, np.float64), np.asarray(unanswerable, np.float64)
    good = np.asarray(right, bool)
    if known.ndim != 1 or silent.ndim != 1 or known.shape != good.shape or not len(known):
        raise ValueError(f"expected (A,), (A,) and (U,), A > 0, but got {known.shape}, {good.shape}, {silent.shape}")
    scores = np.concatenate([known, silent])
    if np.isnan(scores).any():
        raise ValueError(f"the score of question {int(np.isnan(scores).argmax())}, counted from 0, is NaN")
    order = np.argsort(-scores)
    thresholds = scores[order]
    # Equal scores are answered together: only the last of them is a point.
    last = np.append(np.flatnonzero(np.diff(thresholds)), len(scores) - 1)
    hits = np.cumsum(np.concatenate([good, np.zeros(len(silent), bool)])[order])[last]
    answered = last + 1
    f1 = 2 * hits / (answered + len(known))  # harmonic mean of hits / answered and hits / A
    return Curve(thresholds[last], hits / answered, answered / len(scores), hits / len(known), f1)


def point_at(curve: Curve, threshold: float) -> Point:
    """Read the curve.

    :param curve: from `abstention_curve`.
    :param threshold: any number, the cards' 0.8 for instance.
    :returns: what this threshold gives; if it silences every question, precision is NaN and the rest 0.
    """
    answered = int((curve.threshold >= threshold).sum())
    if not answered:
        return Point(threshold, float("nan"), 0.0, 0.0, 0.0)
    return Point(threshold, *(float(values[answered - 1]) for values in curve[1:]))


def best_point(curve: Curve) -> Point:
    """Find the threshold of the highest F1; of equal ones the highest threshold, which answers less.

    :param curve: from `abstention_curve`.
    :returns: the point.
    """
    return point_at(curve, float(curve.threshold[curve.f1.argmax()]))


def expected_calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15) -> float:
    """Mean distance between what a probability promises and what happens, over bins of equal width.

    :param probabilities: (N,) of being relevant, 0..1.
    :param labels: (N,) whether it was.
    :param bins: of 0..1; each counts for its share of the N.
    :returns: 0..1, 0 for a calibrated model.
    :raises ValueError: for shapes that do not fit, nothing, or a probability outside 0..1.
    Source: Naeini et al. 2015; Guo et al. 2017, with 15 bins.
    """
    p, happened = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    if p.ndim != 1 or p.shape != happened.shape or not len(p) or bins < 1:
        raise ValueError(f"expected (N,) and (N,), N and bins > 0, but got {p.shape}, {happened.shape}, {bins} bins")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected probabilities from 0 to 1, but got {p[~((p >= 0) & (p <= 1))][0]}")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, p - happened, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))
