"""Ranks -> figures. Knows neither models nor data sets.

Every question has one right passage, so a figure is the mean of a value that depends on its rank alone. Ranks are fair
ones unless the caller chose otherwise: a rank of 1.5 (first, but tied with another) is not among the first 1.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.floating]


# What one question gives to each figure; with one right passage, recall at 100 is the share among the first 100.
MEANS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "top_mean": lambda ranks: ranks,
    "top_1": lambda ranks: np.where(ranks <= 1, 100.0, 0.0),
    "top_5": lambda ranks: np.where(ranks <= 5, 100.0, 0.0),
    "top_10": lambda ranks: np.where(ranks <= 10, 100.0, 0.0),
    "top_100": lambda ranks: np.where(ranks <= 100, 100.0, 0.0),
    "mrr": lambda ranks: 100 / ranks,
    "ndcg_10": lambda ranks: np.where(ranks <= 10, 100 / np.log2(1 + ranks), 0.0),
    "recall_100": lambda ranks: np.where(ranks <= 100, 100.0, 0.0),
}
NAMES = ("top_mean", "top_std", *list(MEANS)[1:])


def figures(ranks: npt.ArrayLike) -> dict[str, float]:
    """Compute every figure of the cards, and two more.

    :param ranks: (Q,) from 1, fair or optimistic.
    :returns: by `NAMES`: `top_mean` and `top_std` (of all Q, not of a sample) in places, all else in percent.
    :raises ValueError: if there is no rank, or one is below 1 or not a number.

    >>> figures([1, 2, 3])["mrr"]
    61.111111111111114
    """
    ranks = checked_ranks(ranks)
    values = {name: float(value(ranks).mean()) for name, value in MEANS.items()}
    values["top_std"] = float(ranks.std())
    return {name: values[name] for name in NAMES}


def checked_ranks(ranks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Check ranks at the door.

    :param ranks: (Q,).
    :returns: (Q,) float64.
    :raises ValueError: if there is no rank, or one is below 1 or not a number.
    """
    values = np.asarray(ranks, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected one rank a question, but got shape {values.shape}")
    wrong = ~(values >= 1)
    if wrong.any():
        raise ValueError(f"rank of question {int(wrong.argmax())} is {values[wrong][0]}: expected a number from 1")
    return values
