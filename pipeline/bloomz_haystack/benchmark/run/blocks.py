"""Blocks of scores -> what a ranking needs: how many passages stand above the right one, and the first K.

Passages come in blocks, in their order; each block is read once, in stripes small enough for a core's cache, and
forgotten. Knows nothing of where scores come from.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

# A stripe should stay in the second-level cache from the first comparison to the last: 1 MiB was the best of 0.25..8.
STRIPE_ELEMENTS = 2**18


@dataclass
class Tally:
    """What is known of R questions after some of the passages.

    ``lowest`` and ``highest`` (R,) bracket the scores that count as equal to the right passage's; ``above`` and
    ``level`` (R,) count passages past and within the bracket, the right one included; ``best_scores`` and ``best``
    (R, at most K) hold the highest scores and their passages, by place of the passage.
    """

    lowest: Scores
    highest: Scores
    above: Places
    level: Places
    best_scores: Scores
    best: Places

    def rows(self, start: int, stop: int) -> "Tally":
        """Look at some of the questions.

        :param start: first question.
        :param stop: past the last one.
        :returns: views of the counts; what is done to them is done to this tally.
        """
        cut = slice(start, stop)
        fields = (self.lowest, self.highest, self.above, self.level, self.best_scores, self.best)
        return Tally(*(field[cut] for field in fields))  # type: ignore[arg-type]


def start_tally(lowest: Scores, highest: Scores) -> Tally:
    """Begin before the first passage.

    :param lowest: (R,) float32, the lowest score that counts as equal to the right passage's.
    :param highest: (R,) float32, the highest one.
    :returns: counts of nothing.
    """
    r = len(lowest)
    counts = (np.zeros(r, np.int64), np.zeros(r, np.int64))
    return Tally(lowest, highest, *counts, np.empty((r, 0), np.float32), np.empty((r, 0), np.int64))


def absorb(tally: Tally, scores: Scores, start: int, k: int, pool: ThreadPoolExecutor | None = None) -> None:
    """Take in the scores of the next passages.

    :param tally: changed in place.
    :param scores: (R, M) float32 without NaN, of passages start..start+M.
    :param start: how many passages were taken in before.
    :param k: how many of the best to keep.
    :param pool: shares out the stripes; numpy lets go of the interpreter while it compares.
    """
    rows, columns = scores.shape
    step = max(1, STRIPE_ELEMENTS // columns)
    cuts = [(i, min(i + step, rows)) for i in range(0, rows, step)]
    parts = [tally.rows(*cut) for cut in cuts]
    stripes = [scores[i:j] for i, j in cuts]
    list((pool.map if pool else map)(_absorb_stripe, parts, stripes, [start] * len(cuts), [k] * len(cuts)))
    tally.best_scores = np.concatenate([part.best_scores for part in parts])
    tally.best = np.concatenate([part.best for part in parts])


def _absorb_stripe(tally: Tally, scores: Scores, start: int, k: int) -> None:
    reached = _count(scores >= tally.lowest[:, None])
    # Most questions have nothing near the right passage in most blocks: only the others are compared twice.
    for row in np.flatnonzero(reached):
        above = np.count_nonzero(scores[row] > tally.highest[row])
        tally.above[row] += above
        tally.level[row] += reached[row] - above
    if tally.best.shape[1] < k:
        places = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        found = scores
    else:
        found, places = _survivors(scores, tally.best_scores.min(1), start)
    if found.shape[1]:
        joined = np.concatenate([tally.best_scores, found], 1), np.concatenate([tally.best, places], 1)
        tally.best_scores, tally.best = _keep_best(*joined, k)


def _count(mask: npt.NDArray[np.bool_]) -> Places:
    # One call a row takes a quarter of the time of count_nonzero(axis=1), which widens every element first.
    return np.array([np.count_nonzero(row) for row in mask], np.int64)


def _survivors(scores: Scores, worst: Scores, start: int) -> tuple[Scores, Places]:
    """Scores past the worst of the best so far, each row filled up with -inf, and their passages.

    Equal to the worst is not enough: of equal scores the earlier passage stays.
    """
    rows, columns = np.divmod(np.flatnonzero(scores > worst[:, None]), scores.shape[1])
    per_row = np.bincount(rows, minlength=len(scores))
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    found = np.full((len(scores), per_row.max(initial=0)), -np.inf, np.float32)
    places = np.zeros(found.shape, np.int64)
    found[rows, slots] = scores[rows, columns]
    places[rows, slots] = columns + start
    return found, places


def _keep_best(scores: Scores, places: Places, k: int) -> tuple[Scores, Places]:
    """Keep the k highest of each row without changing their order; of equal ones at the edge, the first."""
    rows, columns = scores.shape
    if columns <= k:
        return scores, places
    worst = np.partition(scores, columns - k, axis=1)[:, columns - k, None]
    past, equal = scores > worst, scores == worst
    room = k - past.sum(1, keepdims=True)
    kept = past | (equal & (np.cumsum(equal, 1, dtype=np.int32) <= room))
    return scores[kept].reshape(rows, k), places[kept].reshape(rows, k)
