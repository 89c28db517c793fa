"""Questions as unit vectors, and as words too -> documents, by exact search in an open shard.

Two searches, by vectors and by words (bm25.py), each alone or both fused (fusion.py). Equal scores stand in the order
of their points, at the cut too: Edge alone would cut them by the order in which they were written, and what came and
went before would show in the answers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, get_args

import numpy as np
from haystack import Document
from numpy.typing import NDArray
from qdrant_edge import (
    EdgeShard,
    Filter,
    IdfParams,
    PayloadSelector,
    Query,
    QueryBatchRequest,
    QueryRequest,
    SearchParams,
    SparseVector,
)

from haystack_integrations.common.bloomz.arguments import check_count
from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS
from haystack_integrations.document_stores.qdrant_edge.fusion import FUSION_WEIGHTS, RANK_CONSTANT, Fusion, Side, fuse
from haystack_integrations.document_stores.qdrant_edge.points import VECTOR, document_of
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard
from haystack_integrations.document_stores.qdrant_edge.trust import trust_in_words

Hits = list[tuple[str, float]]  # point and score, best first

CANDIDATES = 100
QUERY_BATCH = 64  # queries per call of Edge, which shares one pass over the vectors among them
EXACT = SearchParams(exact=True)  # no approximate graph, even if one was ever built
# The filter of all points makes Edge count them, for a word's rarity, when the question comes (1 ms more at 100,000).
# Without, what was deleted or overwritten since the shard was opened would still count.
BY_WORDS = SearchParams(exact=True, idf=IdfParams(corpus=Filter()))


class Asked(NamedTuple):
    """A question, and its words as `question_words` gives them."""

    text: str
    words: SparseVector


@dataclass(frozen=True)
class HybridSettings:
    """How the two searches become one; `QdrantEdgeHybridRetriever` says what each setting does.

    :raises ValueError: if a number is out of range or the fusion is unknown.
    :raises TypeError: if `candidates` is not an integer.
    """

    candidates: int = CANDIDATES
    fusion: Fusion = "convex"
    weights: Sequence[float] | None = None
    weigh_by_coverage: bool = True
    rank_constant: float = RANK_CONSTANT

    def __post_init__(self) -> None:
        """Check the settings."""
        check_count("candidates", self.candidates)
        if self.fusion not in get_args(Fusion):
            raise ValueError(f"fusion must be 'convex' or 'rrf', but got {self.fusion!r}")
        if not (self.rank_constant >= 0 and math.isfinite(self.rank_constant)):
            raise ValueError(f"rank_constant must be a number >= 0, but got {self.rank_constant}")
        weights = (1, 1) if self.weights is None else self.weights
        if len(weights) != 2 or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError(
                "weights must be two numbers >= 0, not both 0: of the vectors and of the words, "
                f"but got {list(weights)}"
            )

    @property
    def counted(self) -> tuple[bool, bool]:
        """Whether vectors count, and whether words do: a side that is left out need not be searched."""
        of_vectors, of_words = self._weights
        return of_vectors > 0, of_words > 0

    @property
    def _weights(self) -> Sequence[float]:
        return FUSION_WEIGHTS[self.fusion] if self.weights is None else self.weights

    def fused(self, near: Hits, matching: Hits, trust: float) -> Hits:
        """Return the hits of both searches for one question as one list.

        :param near: hits by vector.
        :param matching: hits by words.
        :param trust: in the words, from 0 to 1, as `trust_in_words` gives it.
        :returns: fused hits, best first.
        """
        of_vectors, of_words = self._weights
        trusted = trust if self.weigh_by_coverage else 1.0
        sides = [Side(near, of_vectors, "cosine"), Side(matching, of_words, "bm25", trusted)]
        return fuse(sides, self.fusion, self.rank_constant)


def check_threshold(score_threshold: object) -> None:
    """Refuse a threshold that no score can be compared with.

    :param score_threshold: what the caller gave.
    :raises TypeError: if it is neither None nor a number.
    """
    if score_threshold is not None and not isinstance(score_threshold, int | float | np.number):
        kind = type(score_threshold).__name__
        raise TypeError(f"score_threshold must be a number or None, but got {score_threshold!r:.80} of type {kind}")


def search(
    shard: SharedShard,
    units: NDArray[np.float32],
    where: Filter | None,
    top_k: int,
    score_threshold: float | None,
    *,
    return_embedding: bool,
) -> list[list[Document]]:
    """Return the documents nearest to each question.

    :param shard: the open shard.
    :param units: (B, H) unit vectors.
    :param where: which documents may be found; None: all.
    :param top_k: most documents per question.
    :param score_threshold: lowest cosine similarity kept.
    :param return_embedding: whether the documents carry their embedding.
    :returns: B lists, best first.
    """

    def nearest(edge: EdgeShard, batch: slice) -> list[Hits]:
        return search_vectors(edge, units[batch], where, top_k)

    return _documents(shard, len(units), nearest, score_threshold, return_embedding)


def search_hybrid(
    shard: SharedShard,
    units: NDArray[np.float32],
    questions: Sequence[Asked],
    where: Filter | None,
    top_k: int,
    score_threshold: float | None,
    settings: HybridSettings,
    *,
    return_embedding: bool,
) -> list[list[Document]]:
    """Return the documents that match each question by words and by meaning.

    :param shard: the open shard, of a store that keeps words.
    :param units: (B, H) unit vectors.
    :param questions: B of them, with their words.
    :param where: which documents may be found; None: all.
    :param top_k: most documents per question.
    :param score_threshold: lowest fused score kept.
    :param settings: how the two searches become one.
    :param return_embedding: whether the documents carry their embedding.
    :returns: B lists, best first.
    """
    limit = max(settings.candidates, top_k)
    by_vectors, by_words = settings.counted

    def fused(edge: EdgeShard, batch: slice) -> list[Hits]:
        asked = questions[batch]
        near = search_vectors(edge, units[batch], where, limit) if by_vectors else [[]] * len(asked)
        matching, trust = (
            search_words(edge, asked, where, limit) if by_words else ([[]] * len(asked), [0.0] * len(asked))
        )
        return [settings.fused(*found)[:top_k] for found in zip(near, matching, trust, strict=True)]

    return _documents(shard, len(units), fused, score_threshold, return_embedding)


def search_vectors(edge: EdgeShard, units: NDArray[np.float32], where: Filter | None, limit: int) -> list[Hits]:
    """Return the points nearest to each question.

    :param edge: the open shard.
    :param units: (B, H) unit vectors.
    :param where: which documents may be found; None: all.
    :param limit: most hits per question.
    :returns: B lists of hits with their cosine similarity.
    """
    return _hits(edge, [Query.Nearest(unit, using=VECTOR) for unit in units.tolist()], where, limit, EXACT)


def search_words(
    edge: EdgeShard, questions: Sequence[Asked], where: Filter | None, limit: int
) -> tuple[list[Hits], list[float]]:
    """Return the documents that share words with each question.

    :param edge: the open shard, of a store that keeps words.
    :param questions: B of them, with their words.
    :param where: which documents may be found; None: all.
    :param limit: most documents per question.
    :returns: B lists of hits with their BM25 score, and how far each list is to be trusted, 0 to 1, by its best hit.
    """
    queries = [Query.Nearest(question.words, using=WORDS) for question in questions]
    found = _hits(edge, queries, where, limit, BY_WORDS)
    best: list[Any] = list({hits[0][0] for hits in found if hits})
    records = edge.retrieve(best, with_payload=PayloadSelector.Include(["content"]), with_vector=[WORDS])
    by_point = {str(record.id): record for record in records}
    return found, [
        _trust(question, by_point[hits[0][0]]) if hits else 0.0 for question, hits in zip(questions, found, strict=True)
    ]


def _trust(question: Asked, best: Any) -> float:  # noqa: ANN401  # Edge's record has no type of its own
    asked = question.words.indices
    coverage = len(set(best.vector[WORDS].indices).intersection(asked)) / len(asked)
    return trust_in_words(question.text, best.payload["content"], coverage)


def _documents(
    shard: SharedShard,
    count: int,
    ranked: Callable[[EdgeShard, slice], list[Hits]],
    score_threshold: float | None,
    return_embedding: bool,
) -> list[list[Document]]:
    """Return the documents of a ranking, a batch of questions at a time, so that a writer never waits for long."""
    found: list[list[Document]] = []
    for start in range(0, count, QUERY_BATCH):
        with shard.reading() as edge:
            for hits in ranked(edge, slice(start, start + QUERY_BATCH)):
                # Here and not in Edge, whose threshold leaves out the score that is equal to it.
                kept = [hit for hit in hits if score_threshold is None or hit[1] >= score_threshold]
                found.append(list(_read(edge, kept, return_embedding)))
    return found


def _read(edge: EdgeShard, hits: Hits, return_embedding: bool) -> Iterator[Document]:
    records = edge.retrieve(
        [point for point, _ in hits],
        with_payload=PayloadSelector.Exclude(["facts"]),
        with_vector=[VECTOR] if return_embedding else False,
    )
    by_point = {str(record.id): record for record in records}
    for point, score in hits:
        yield document_of(by_point[point].payload or {}, by_point[point].vector, score)


def _hits(
    edge: EdgeShard, queries: Sequence[Any], where: Filter | None, limit: int, params: SearchParams
) -> list[Hits]:
    """Return the best hits of each query, equal scores by point."""
    # One more than asked for shows whether the cut goes through equal scores.
    found = _ask(edge, queries, where, limit + 1, params)
    return [
        _cut(edge, query, where, limit, params, hits) if len(hits) > limit else _in_order(hits)
        for query, hits in zip(queries, found, strict=True)
    ]


def _cut(edge: EdgeShard, query: object, where: Filter | None, limit: int, params: SearchParams, hits: Hits) -> Hits:
    lowest, asked = hits[limit - 1][1], limit + 1
    while len(hits) == asked and hits[-1][1] == lowest:
        asked *= 2
        (hits,) = _ask(edge, [query], where, asked, params)
    return _in_order(hits)[:limit]


def _in_order(hits: Hits) -> Hits:
    return sorted(sorted(hits), key=itemgetter(1), reverse=True)


def _ask(edge: EdgeShard, queries: Sequence[Any], where: Filter | None, limit: int, params: SearchParams) -> list[Hits]:
    requests = [
        QueryRequest(limit=limit, query=query, filter=where, params=params, with_vector=False, with_payload=False)
        for query in queries
    ]
    return [
        [(str(hit.id), hit.score) for hit in hits]
        for start in range(0, len(requests), QUERY_BATCH)
        for hits in edge.query_batch(QueryBatchRequest(requests[start : start + QUERY_BATCH]))
    ]
