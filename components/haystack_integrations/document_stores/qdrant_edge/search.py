"""Queries -> hits -> documents, by exact search in an open shard.

Equal scores stand in the order of their points, at the cut too: Edge alone would cut them by the order in which they
were written, and what came and went before would show in the answers.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from haystack import Document
from numpy.typing import NDArray
from qdrant_edge import EdgeShard, Filter, PayloadSelector, Query, QueryBatchRequest, QueryRequest, SearchParams

from haystack_integrations.document_stores.qdrant_edge.points import VECTOR, document_of
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard

Hits = list[tuple[str, float]]  # point and score, best first

QUERY_BATCH = 64  # queries per call of Edge, which shares one pass over the vectors among them
EXACT = SearchParams(exact=True)  # no approximate graph, even if one was ever built
MOST = 2**32  # hits asked for; beyond 64 bits Edge takes no number


def check_count(name: str, number: object) -> None:
    """Refuse what is not a number of documents.

    :param name: of the setting, for the message.
    :param number: what the caller gave.
    :raises TypeError: if it is not an integer.
    :raises ValueError: if it is not positive, or beyond any store.
    """
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        msg = f"{name} must be an integer, but got {number!r:.80} of type {type(number).__name__}"
        raise TypeError(msg)
    if not 0 < number <= MOST:
        bound = "> 0" if number <= 0 else f"at most {MOST}"
        msg = f"{name} must be {bound}, but got {number}"
        raise ValueError(msg)


def check_threshold(score_threshold: object) -> None:
    """Refuse a threshold that no score can be compared with.

    :param score_threshold: what the caller gave.
    :raises TypeError: if it is neither None nor a number.
    """
    if score_threshold is not None and not isinstance(score_threshold, int | float | np.number):
        kind = type(score_threshold).__name__
        msg = f"score_threshold must be a number or None, but got {score_threshold!r:.80} of type {kind}"
        raise TypeError(msg)


def find(
    edge: EdgeShard, queries: Sequence[Any], where: Filter | None, limit: int, params: SearchParams = EXACT
) -> list[Hits]:
    """Find the best hits of each query.

    :param edge: the open shard.
    :param queries: B queries of Edge.
    :param where: which documents may be found; None: all.
    :param limit: most hits per query.
    :param params: of the search.
    :returns: B lists of hits, best first; equal scores by point.
    """
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


def documents_of(edge: EdgeShard, hits: Hits, *, return_embedding: bool) -> Iterator[Document]:
    """Read the documents of hits.

    :param edge: the shard that gave them.
    :param hits: of one query.
    :param return_embedding: whether the documents carry their embedding.
    :yields: a document a hit, with its score.
    """
    records = edge.retrieve(
        [point for point, _ in hits],
        with_payload=PayloadSelector.Exclude(["facts"]),
        with_vector=[VECTOR] if return_embedding else False,
    )
    by_point = {str(record.id): record for record in records}
    for point, score in hits:
        yield document_of(by_point[point].payload or {}, by_point[point].vector, score)


def search(
    shard: SharedShard,
    queries: NDArray[np.float32],
    where: Filter | None,
    top_k: int,
    score_threshold: float | None,
    *,
    return_embedding: bool,
) -> list[list[Document]]:
    """Find the nearest documents to each query.

    :param shard: the open shard.
    :param queries: (B, H) unit vectors.
    :param where: which documents may be found; None: all.
    :param top_k: most documents per query.
    :param score_threshold: lowest cosine similarity kept.
    :param return_embedding: whether the documents carry their embedding.
    :returns: B lists, best first.
    """
    nearest = [Query.Nearest(query, using=VECTOR) for query in queries.tolist()]
    found: list[list[Document]] = []
    for start in range(0, len(nearest), QUERY_BATCH):
        with shard.reading() as edge:
            for hits in find(edge, nearest[start : start + QUERY_BATCH], where, top_k):
                # Here and not in Edge, whose threshold leaves out the score that is equal to it.
                kept = [hit for hit in hits if score_threshold is None or hit[1] >= score_threshold]
                found.append(list(documents_of(edge, kept, return_embedding=return_embedding)))
    return found
