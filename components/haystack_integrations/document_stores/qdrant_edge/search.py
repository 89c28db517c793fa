"""Unit vectors of queries -> the nearest documents, by exact search in an open shard."""

import numpy as np
from haystack import Document
from numpy.typing import NDArray
from qdrant_edge import Filter, PayloadSelector, Query, QueryBatchRequest, QueryRequest, SearchParams

from haystack_integrations.document_stores.qdrant_edge.points import VECTOR, document_of
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard

QUERY_BATCH = 64  # queries per call of Edge, which shares one pass over the vectors among them


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
    requests = [
        QueryRequest(
            limit=top_k,
            query=Query.Nearest(query, using=VECTOR),
            filter=where,
            params=SearchParams(exact=True),  # no approximate graph, even if one was ever built
            with_vector=[VECTOR] if return_embedding else False,
            with_payload=PayloadSelector.Exclude(["facts"]),
        )
        for query in queries.tolist()
    ]
    found: list[list[Document]] = []
    for start in range(0, len(requests), QUERY_BATCH):
        with shard.reading() as edge:
            batch = edge.query_batch(QueryBatchRequest(requests[start : start + QUERY_BATCH]))
        found += [
            [
                document_of(hit.payload or {}, hit.vector, hit.score)
                for hit in hits
                # Here and not in Edge, whose threshold leaves out the score that is equal to it.
                if score_threshold is None or hit.score >= score_threshold
            ]
            for hits in batch
        ]
    return found
