"""Ranks -> figures. Knows neither models nor data sets."""

import numpy as np
import numpy.typing as npt


def gold_ranks(scores: npt.NDArray[np.floating], gold: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rank of the right passage of each question; a tie counts as half a place, the expected rank.

    :param scores: (Q, P), higher is better.
    :param gold: (Q,) position of the right passage.
    :returns: (Q,) float64, from 1.

    >>> gold_ranks(np.array([[0.1, 0.9, 0.5]]), np.array([2])).tolist()
    [2.0]
    """
    own = scores[np.arange(len(gold)), gold][:, None]
    return 1.0 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def mrr(ranks: npt.NDArray[np.floating]) -> float:
    """Mean reciprocal rank, in percent.

    :param ranks: (Q,) from 1.
    :returns: 0..100.

    >>> mrr(np.array([1.0, 2.0]))
    75.0
    """
    return float(100 * (1 / ranks).mean())


def top(ranks: npt.NDArray[np.floating], k: int) -> float:
    """Share of the questions whose right passage is among the first k, in percent.

    :param ranks: (Q,) from 1.
    :param k: how many are looked at.
    :returns: 0..100.

    >>> top(np.array([1.0, 2.0, 11.0, 3.0]), 10)
    75.0
    """
    return float(100 * (ranks <= k).mean())
