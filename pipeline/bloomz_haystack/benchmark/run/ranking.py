"""Scores, or vectors -> ``Ranking``: the rank of the right passage of each question, and the first K passages.

Also rankings -> fused scores, and a ranking + a ranker's probabilities -> the ranking after it. Scores exist a block at
a time, never more than ``BLOCK_BYTES`` of them. Knows neither models nor corpora. ``python -m
bloomz_haystack.benchmark.run.ranking_speed --help`` measures the speed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bloomz_haystack.benchmark.run.blocks import Tally, absorb, start_tally
from bloomz_haystack.benchmark.run.space import Space
from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion, Scale, Side
from haystack_integrations.document_stores.qdrant_edge.fusion import fuse as fuse_sides

ScoreBlock = Callable[[int, int], npt.NDArray[np.float32]]
"""Questions start..stop -> (stop - start, P) float32, higher is better."""
Progress = Callable[[int], object]
"""Told how many scores were computed since the last call."""

# Half of the 256 MB promised: the other half is for a callable that needs as much again.
BLOCK_BYTES = 2**27
PASSAGES_PER_BLOCK = 8192


class Ranking(NamedTuple):
    """Where the right passage stands for each of Q questions, and the first K passages.

    ``fair`` (Q,) float64: expected rank, from 1, if equal scores are put in random order: those above, plus the middle
    of those equal. ``optimistic`` (Q,) int64: the first place it could have. ``candidates`` (Q, K) int64: passages,
    best first, of equal ones the earlier; ``candidate_scores`` (Q, K) float32.
    """

    fair: npt.NDArray[np.float64]
    optimistic: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]
    candidate_scores: npt.NDArray[np.float32]


class Part(NamedTuple):
    """One ranking among those fused, and what ``Side`` knows of it; ``trust`` (Q,) float64, one for each question."""

    ranking: Ranking
    weight: float
    scale: Scale
    trust: npt.NDArray[np.float64]


def rank(
    scores: ScoreBlock, gold: npt.ArrayLike, passages: int, k: int = 100, progress: Progress | None = None
) -> Ranking:
    """Rank all passages for each question, from a callable: BM25, a hybrid.

    :param scores: gives the scores of some questions over all passages; asked for ``BLOCK_BYTES`` at most at a time.
    :param gold: (Q,) position of the right passage of each question.
    :param passages: P.
    :param k: how many candidates to keep, at most P.
    :param progress: told of each block.
    :returns: the ranking; scores count as equal when they are.
    :raises ValueError: for a gold position outside 0..P, a block of another shape, NaN (names the first question).

    >>> rank(lambda start, stop: np.array([[0.1, 0.9, 0.5]])[start:stop], [2], 3).fair.tolist()
    [2.0]
    """
    gold = _checked_gold(gold, passages, k)
    step = max(1, BLOCK_BYTES // (4 * passages))
    parts = []
    for start in range(0, len(gold), step):
        right = gold[start : start + step]
        block = _checked_block(scores(start, start + len(right)), (len(right), passages), start)
        own = block[np.arange(len(right)), right]
        tally = start_tally(own, own)
        absorb(tally, block, 0, k)
        parts.append(_finish(tally))
        if progress:
            progress(block.size)
    return _joined(parts)


def rank_vectors(
    queries: npt.NDArray[np.floating],
    passages: npt.NDArray[np.floating],
    gold: npt.ArrayLike,
    metric: str,
    k: int = 100,
    progress: Progress | None = None,
) -> Ranking:
    """Rank all passages for each question, from vectors: matrix products, blocked both ways.

    Beside the vectors, which may be memory-mapped, it needs about 300 MB whatever Q and P. Scores within
    ``space.ROUNDING`` of the right passage's count as equal to it: the same passage stored twice must tie, and a
    product's last bits depend on where in a block it is computed.

    :param queries: (Q, D).
    :param passages: (P, D).
    :param gold: (Q,) position of the right passage of each question.
    :param metric: ``cosine``, ``l2`` (the score is minus the distance) or ``dot``.
    :param k: how many candidates to keep, at most P.
    :param progress: told of each block.
    :returns: the ranking.
    :raises ValueError: for shapes that do not fit, an unknown metric, a gold position outside 0..P, a vector that
        holds NaN or infinity (names the first).
    """
    space = Space(queries, passages, metric)
    gold = _checked_gold(gold, len(passages), k, len(queries))
    width = min(PASSAGES_PER_BLOCK, len(passages))
    step = max(1, BLOCK_BYTES // (4 * width))
    parts = []
    room = torch.empty(min(step, len(gold)) * width)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(gold), step):
            asked = space.queries_at(slice(start, start + step))
            tally = start_tally(*space.bracket(asked, gold[start : start + step]))
            for first in range(0, len(passages), width):
                block = space.scores(asked, slice(first, first + width), room)
                absorb(tally, block, first, k, pool)
                if progress:
                    progress(block.size)
            tally.best_scores = space.told(tally.best_scores, asked)
            parts.append(_finish(tally))
    return _joined(parts)


def vector_scores(queries: npt.NDArray[np.floating], passages: npt.NDArray[np.floating], metric: str) -> ScoreBlock:
    """Score vectors row by row, for what needs all scores of a question; ``rank_vectors`` is the fast way to ranks.

    :param queries: (Q, D).
    :param passages: (P, D).
    :param metric: ``cosine``, ``l2`` (the score is minus the distance) or ``dot``.
    :returns: the callable.
    :raises ValueError: as ``rank_vectors``.
    """
    space = Space(queries, passages, metric)

    def block(start: int, stop: int) -> npt.NDArray[np.float32]:
        asked = space.queries_at(slice(start, stop))
        room = torch.empty(len(asked) * len(passages))
        return space.told(space.scores(asked, slice(0, len(passages)), room), asked)

    return block


def fuse(parts: Sequence[Part], passages: int, fusion: Fusion, rank_constant: float = RANK_CONSTANT) -> ScoreBlock:
    """Fuse several systems as ``QdrantEdgeHybridRetriever`` does, by its own function.

    Only candidates count, and only those that score above minus infinity. A passage in nobody's candidates scores -1,
    below all that was found: a right passage there ties with all others there, so its fair rank is the middle of what
    is left, never a lucky place.

    :param parts: S of them, of the same Q questions.
    :param passages: P.
    :param fusion: "convex", by scores, or "rrf", by ranks.
    :param rank_constant: of "rrf": how little the first places count more than the next.
    :returns: scores to be given to ``rank``.
    :raises ValueError: without parts, or if they are not of the same questions.
    """
    if len({len(part.ranking.fair) for part in parts}) != 1:
        told = [len(part.ranking.fair) for part in parts]
        raise ValueError(f"expected rankings of the same questions, but got {told}")

    def block(start: int, stop: int) -> npt.NDArray[np.float32]:
        fused = np.full((stop - start, passages), -1, np.float32)
        for row, question in zip(fused, range(start, stop), strict=True):
            sides = [
                Side(_hits(part.ranking, question), part.weight, part.scale, float(part.trust[question]))
                for part in parts
            ]
            for place, score in fuse_sides(sides, fusion, rank_constant):
                row[place] = score
        return fused

    return block


def _hits(ranking: Ranking, question: int) -> list[tuple[int, float]]:
    found = zip(ranking.candidates[question].tolist(), ranking.candidate_scores[question].tolist(), strict=True)
    return [(place, score) for place, score in found if score > -np.inf]


def rerank(ranking: Ranking, gold: npt.ArrayLike, probabilities: npt.NDArray[np.floating]) -> Ranking:
    """Put a ranker's order on the first candidates; all other passages stay behind them in the order they had.

    :param ranking: of the first stage, with at least as many candidates as the ranker saw.
    :param gold: (Q,) position of the right passage of each question.
    :param probabilities: (Q, K') of the first K' candidates, higher is better.
    :returns: the ranking after the ranker. A right passage it did not see keeps its rank, save that a tie it had with
        passages the ranker saw is now settled against it. Candidate scores: the probabilities, then -1, -2, ...
    :raises ValueError: if the shapes do not fit or a probability is NaN (names the first question).
    """
    questions, depth = ranking.candidates.shape
    if probabilities.ndim != 2 or len(probabilities) != questions or not 0 < probabilities.shape[1] <= depth:
        raise ValueError(f"expected probabilities of shape ({questions}, 1..{depth}), but got {probabilities.shape}")
    seen = probabilities.shape[1]
    values = _checked_block(probabilities, probabilities.shape, 0)
    right = ranking.candidates[:, :seen] == _checked_gold(gold, np.iinfo(np.int64).max, seen, questions)[:, None]
    found, own = right.any(1), values[np.arange(questions), right.argmax(1)][:, None]
    above, level = (values > own).sum(1), (values == own).sum(1)
    # The first stage's tie ends at place 2 fair - optimistic; what the ranker saw takes the first ``seen`` places.
    behind = np.maximum(ranking.optimistic, seen + 1)
    last = np.maximum(2 * ranking.fair - ranking.optimistic, behind)
    order = np.argsort(-values, axis=1, kind="stable")
    tail = np.broadcast_to(-1 - np.arange(depth - seen, dtype=np.float32), (questions, depth - seen))
    return Ranking(
        np.where(found, 1 + above + (level - 1) / 2, (behind + last) / 2),
        np.where(found, 1 + above, behind),
        np.concatenate([np.take_along_axis(ranking.candidates, order, 1), ranking.candidates[:, seen:]], 1),
        np.concatenate([np.take_along_axis(values, order, 1), tail], 1),
    )


def _checked_gold(gold: npt.ArrayLike, passages: int, k: int, questions: int | None = None) -> npt.NDArray[np.int64]:
    places = np.asarray(gold, np.int64)
    if places.ndim != 1 or not len(places) or len(places) != (questions or len(places)):
        raise ValueError(f"expected one gold passage a question, but got shape {places.shape} for {questions}")
    wrong = (places < 0) | (places >= passages)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(f"gold of question {place} is passage {places[place]}, outside the {passages} passages")
    if k < 1:
        raise ValueError(f"k must be > 0, but got {k}")
    return places


def _checked_block(block: npt.NDArray[np.float32], shape: tuple[int, int], start: int) -> npt.NDArray[np.float32]:
    if block.shape != shape:
        raise ValueError(f"expected scores of shape {shape}, but got {block.shape}")
    broken = np.isnan(block).any(1)
    if broken.any():
        raise ValueError(f"the scores of question {start + int(broken.argmax())}, counted from 0, hold NaN")
    return np.ascontiguousarray(block, np.float32)


def _finish(tally: Tally) -> Ranking:
    order = np.argsort(-tally.best_scores, axis=1, kind="stable")
    best, scores = np.take_along_axis(tally.best, order, 1), np.take_along_axis(tally.best_scores, order, 1)
    fair = 1.0 + tally.above + np.maximum(tally.level - 1, 0) / 2
    return Ranking(fair, 1 + tally.above, best, scores)


def _joined(parts: list[Ranking]) -> Ranking:
    return Ranking(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
