"""What is in an open shard: the points that match a filter, without ranking, and which documents are there."""

from collections.abc import Iterable, Iterator
from typing import Any

from qdrant_edge import CountRequest, Filter, ScrollRequest

from haystack_integrations.document_stores.qdrant_edge.points import VECTOR, point_id
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard

SCROLL_PAGE = 1000  # documents read at once


def pages(
    shard: SharedShard,
    where: Filter | None = None,
    *,
    payload: Any = False,  # noqa: ANN401
    vector: bool = False,
) -> Iterator[list[Any]]:
    """Return the points that match, a page at a time; between two pages a writer may come in.

    :param shard: the open shard.
    :param where: which points; None: all.
    :param payload: what is read of each: True, False, a list of keys or a selector of Edge.
    :param vector: whether its embedding is read.
    :yields: records of Edge.
    """
    offset = None
    while True:
        request = ScrollRequest(
            offset=offset,
            limit=SCROLL_PAGE,
            filter=where,
            with_payload=payload,
            with_vector=[VECTOR] if vector else False,
        )
        with shard.reading() as edge:
            records, offset = edge.scroll(request)
        yield records
        if offset is None:
            return


def count_points(shard: SharedShard, where: Filter | None = None) -> int:
    """Return how many points match.

    :param shard: the open shard.
    :param where: which points; None: all.
    :returns: their number.
    """
    with shard.reading() as edge:
        return int(edge.count(CountRequest(exact=True, filter=where)))


def stored_ids(shard: SharedShard, document_ids: Iterable[str]) -> set[str]:
    """Return those of the ids that are in the shard, by one look-up.

    :param shard: the open shard.
    :param document_ids: identifiers to look for.
    :returns: those that are there.
    """
    names = {point_id(document_id): document_id for document_id in document_ids}
    if not names:
        return set()
    with shard.reading() as edge:
        records = edge.retrieve(list(names), with_payload=False, with_vector=False)
    return {names[str(record.id)] for record in records}
