"""Scores, or vectors -> `Ranking`: the rank of the right passage of each question, and the first K passages.

Also rankings -> fused scores, and a ranking + a ranker's probabilities -> the ranking after it. Questions come in
blocks, each against all passages: never more than `BLOCK_BYTES` of scores at a time. Knows neither models nor corpora.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion, Scale, Side, fuse

ScoreBlock = Callable[[int, int], npt.NDArray[np.float32]]
"""Questions start..stop -> (stop - start, P) float32, higher is better."""

METRICS = ("cosine", "l2", "dot")
# Of the product of the norms. The largest error seen of a float32 product, of 256..2560 terms: 1.0e-6 where cosines are
# about 0.9, 2e-7 where they are about 0.
ROUNDING = 1e-6
BLOCK_BYTES = 2**26


class Ranking(NamedTuple):
    """Where the right passage stands for each of Q questions, and the first K passages.

    `fair` (Q,) float64: expected rank, from 1, if equal scores are put in random order: those above, plus the middle
    of those equal. `optimistic` (Q,) int64: the first place it could have. `candidates` (Q, K) int64: passages,
    best first, of equal ones the earlier; `candidate_scores` (Q, K) float32.
    """

    fair: npt.NDArray[np.float64]
    optimistic: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]
    candidate_scores: npt.NDArray[np.float32]


class Part(NamedTuple):
    """One ranking among those fused, and what `Side` knows of it; `trust` (Q,) float64, one for each question."""

    ranking: Ranking
    weight: float
    scale: Scale
    trust: npt.NDArray[np.float64]


def rank(
    scores: ScoreBlock,
    gold: npt.ArrayLike,
    passages: int,
    k: int = 100,
    progress: Callable[[int], object] | None = None,
) -> Ranking:
    """Rank all passages for each question, from a callable: BM25, a hybrid.

    :param scores: gives the scores of some questions over all passages; asked for `BLOCK_BYTES` at most at a time.
    :param gold: (Q,) position of the right passage of each question.
    :param passages: P.
    :param k: how many candidates to keep, at most P.
    :param progress: called with the number of new scores after each block.
    :returns: the ranking; scores count as equal when they are.
    :raises ValueError: for a gold position outside 0..P, a block of another shape, NaN (names the first question).

    >>> rank(lambda start, stop: np.array([[0.1, 0.9, 0.5]])[start:stop], [2], 3).fair.tolist()
    [2.0]
    """
    gold = _checked_gold(gold, passages, k)
    parts = []
    for rows in _blocks(len(gold), passages):
        right = gold[rows]
        block = _checked_block(scores(rows.start, rows.stop), (len(right), passages), rows.start)
        own = block[np.arange(len(right)), right]
        parts.append(_ranked(torch.from_numpy(block), own, own, k))
        if progress:
            progress(block.size)
    return _joined(parts)


def rank_vectors(
    queries: npt.NDArray[np.floating],
    passages: npt.NDArray[np.floating],
    gold: npt.ArrayLike,
    metric: str,
    k: int = 100,
    progress: Callable[[int], object] | None = None,
) -> Ranking:
    """Rank all passages for each question, from vectors, by matrix products.

    Scores within `ROUNDING` of the right passage's count as equal to it: the same passage stored twice must tie, and a
    product's last bits depend on where in a block it is computed.

    :param queries: (Q, D).
    :param passages: (P, D).
    :param gold: (Q,) position of the right passage of each question.
    :param metric: `cosine`, `l2` (the score is minus the distance) or `dot`.
    :param k: how many candidates to keep, at most P.
    :param progress: called with the number of new scores after each block.
    :returns: the ranking.
    :raises ValueError: for shapes that do not fit, an unknown metric, a gold position outside 0..P, a vector that
        holds NaN or infinity (names the first).
    """
    space = Space(queries, passages, metric)
    gold = _checked_gold(gold, len(passages), k, len(queries))
    parts = []
    for rows in _blocks(len(gold), len(passages)):
        asked = space.ready(queries[rows])
        part = _ranked(space.products(asked), *space.bracket(asked, gold[rows]), k)
        parts.append(part._replace(candidate_scores=space.similarities(part.candidate_scores, asked)))
        if progress:
            progress(len(asked) * len(passages))
    return _joined(parts)


def fused_scores(
    parts: Sequence[Part], passages: int, fusion: Fusion, rank_constant: float = RANK_CONSTANT
) -> ScoreBlock:
    """Fuse several systems as `QdrantEdgeHybridRetriever` does, by its own function.

    Only candidates count, and only those that score above minus infinity. A passage in nobody's candidates scores -1,
    below all that was found: a right passage there ties with all others there, so its fair rank is the middle of what
    is left, never a lucky place.

    :param parts: S of them, of the same Q questions.
    :param passages: P.
    :param fusion: "convex", by scores, or "rrf", by ranks.
    :param rank_constant: of "rrf": how little the first places count more than the next.
    :returns: scores to be given to `rank`.
    :raises ValueError: without parts, or if they are not of the same questions.
    """
    if len({len(part.ranking.fair) for part in parts}) != 1:
        counts = [len(part.ranking.fair) for part in parts]
        raise ValueError(f"expected rankings of the same questions, but got {counts} questions")

    def block(start: int, stop: int) -> npt.NDArray[np.float32]:
        fused = np.full((stop - start, passages), -1, np.float32)
        for row, question in zip(fused, range(start, stop), strict=True):
            sides = [
                Side(_hits(part.ranking, question), part.weight, part.scale, float(part.trust[question]))
                for part in parts
            ]
            for place, score in fuse(sides, fusion, rank_constant):
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
    # The first stage's tie ends at place 2 fair - optimistic; what the ranker saw takes the first `seen` places.
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


def _ranked(scores: torch.Tensor, lowest: npt.NDArray[np.float32], highest: npt.NDArray[np.float32], k: int) -> Ranking:
    """Rank one block (R, P), given the bracket (R,) of scores that count as equal to the right passage's."""
    above = _count(scores > torch.from_numpy(highest)[:, None])
    level = _count(scores >= torch.from_numpy(lowest)[:, None]) - above
    best = _best(scores, min(k, scores.shape[1]))
    fair = 1.0 + above + np.maximum(level - 1, 0) / 2
    return Ranking(fair, 1 + above, best.numpy(), scores.gather(1, best).numpy())


def _count(mask: torch.Tensor) -> npt.NDArray[np.int64]:
    # Row by row takes a thirtieth of the time of mask.sum(1), which widens every element first.
    return np.array([np.count_nonzero(row) for row in mask.numpy()], np.int64)


def _best(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Places (R, k) of the highest scores, best first; of equal ones the earlier, where `topk` alone takes any."""
    values, places = scores.topk(k)
    edge = values[:, -1:]
    tied = torch.from_numpy(np.flatnonzero(_count(scores >= edge) > k))  # more scores equal to the last than fit
    if len(tied):
        past, equal = scores[tied] > edge[tied], scores[tied] == edge[tied]
        room = k - past.sum(1, keepdim=True)
        kept = past | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
        places[tied] = kept.nonzero()[:, 1].view(-1, k)
    places = places.sort(1).values
    order = scores.gather(1, places).argsort(dim=1, descending=True, stable=True)
    return places.gather(1, order)


class Space:
    """Vectors and a metric, ready for one matrix product.

    l2 is ranked by `q.p - |p|^2 / 2`, which falls as the distance grows, after moving the passages' mean to the origin:
    vectors of a language model share a large mean, and its square would eat the last digits of the differences.
    """

    def __init__(self, queries: npt.NDArray[np.floating], passages: npt.NDArray[np.floating], metric: str) -> None:
        """Check the vectors and make the passages ready.

        :param queries: (Q, D).
        :param passages: (P, D).
        :param metric: one of `METRICS`.
        :raises ValueError: for shapes that do not fit, an unknown metric, NaN or infinity.
        """
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r} is not known: choose from {', '.join(METRICS)}")
        if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
            raise ValueError(f"expected (Q, D) and (P, D) vectors, but got {queries.shape} and {passages.shape}")
        for name, vectors in (("question", queries), ("passage", passages)):
            finite = np.isfinite(vectors).all(1)
            if not finite.all():
                raise ValueError(f"the vector of {name} {finite.argmin()}, counted from 0, holds NaN or infinity")
        self.metric = metric
        self.mean = _mean(passages) if metric == "l2" else np.zeros(passages.shape[1], np.float32)
        self.passages = self.ready(passages)
        self.half_squares = np.einsum("pd,pd->p", self.passages, self.passages) / 2

    def ready(self, vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return vectors as the product needs them.

        :param vectors: (R, D).
        :returns: (R, D) float32: of length one for the cosine, without the mean for l2.
        """
        ready = np.ascontiguousarray(vectors, np.float32)
        if self.metric == "l2":
            return ready - self.mean
        if self.metric == "dot":
            return ready
        norms = np.sqrt(np.einsum("rd,rd->r", ready, ready))[:, None]  # no squares in memory, unlike linalg.norm
        norms[norms == 0] = 1  # a vector of zeros is equally far from all
        return np.divide(ready, norms, dtype=np.float32)

    def products(self, asked: npt.NDArray[np.float32]) -> torch.Tensor:
        """Return what passages are ranked by.

        :param asked: (R, D) questions, ready.
        :returns: (R, P) float32.
        """
        products = torch.mm(torch.from_numpy(asked), torch.from_numpy(self.passages).T)
        return products.sub_(torch.from_numpy(self.half_squares)) if self.metric == "l2" else products

    def bracket(
        self, asked: npt.NDArray[np.float32], gold: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the products of the right passages in float64, less and plus what rounding may do.

        :param asked: (R, D) questions, ready.
        :param gold: (R,) right passages.
        :returns: (R,) lowest and (R,) highest product that counts as equal.
        """
        right = self.passages[gold].astype(np.float64)
        own, half = np.einsum("rd,rd->r", asked, right), np.einsum("rd,rd->r", right, right) / 2
        margin = ROUNDING * np.linalg.norm(asked, axis=1) * np.linalg.norm(right, axis=1)
        if self.metric == "l2":
            own, margin = own - half, margin + ROUNDING * half
        return (own - margin).astype(np.float32), (own + margin).astype(np.float32)

    def similarities(
        self, products: npt.NDArray[np.float32], asked: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the metric's own values.

        :param products: (R, M).
        :param asked: (R, D) questions, ready.
        :returns: (R, M): cosine, dot product or minus the distance.
        """
        if self.metric != "l2":
            return products
        return -np.sqrt(np.maximum(np.square(asked).sum(1, keepdims=True) - 2 * products, 0))


def _mean(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return vectors.mean(0, dtype=np.float64).astype(np.float32)


def _blocks(questions: int, passages: int) -> list[slice]:
    step = max(1, BLOCK_BYTES // (4 * passages))
    return [slice(start, min(start + step, questions)) for start in range(0, questions, step)]


def _joined(parts: list[Ranking]) -> Ranking:
    return Ranking(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
