"""Documents and vectors -> points in an open shard, under a duplicate policy; and all that changes them later."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray
from qdrant_edge import Filter, Modifier, Point, PointVectors, UpdateOperation

from haystack_integrations.common.bloomz.identity import ModelIdentity
from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS, document_words
from haystack_integrations.document_stores.qdrant_edge.origin import claim_model
from haystack_integrations.document_stores.qdrant_edge.points import (
    document_of,
    payload_of,
    point_of,
    points_of,
    points_without_vector,
    unit_vectors,
)
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard
from haystack_integrations.document_stores.qdrant_edge.stored import pages, stored_ids

Embeddings = Sequence[list[float] | None] | NDArray[np.floating[Any]]


def check_shape(embeddings: NDArray[np.floating[Any]], count: int, embedding_dim: int) -> None:
    """Refuse an array that does not hold one vector a document.

    :param embeddings: what the caller gave.
    :param count: documents.
    :param embedding_dim: numbers in a vector of the store.
    :raises ValueError: if it has another shape.
    """
    if np.shape(embeddings) != (count, embedding_dim):
        raise ValueError(
            f"embeddings has the shape {np.shape(embeddings)}, but {count} documents in a store of "
            f"{embedding_dim} numbers need ({count}, {embedding_dim})"
        )


def write(
    shard: SharedShard,
    documents: Sequence[Document],
    embeddings: Embeddings,
    policy: DuplicatePolicy,
    batch_size: int,
    model: ModelIdentity | None = None,
) -> int:
    """Check all the documents, then write those that the policy lets through.

    :param shard: the open shard.
    :param documents: B documents; their own `embedding` is not looked at.
    :param embeddings: (B, H) array, or B lists of H floats; None in place of a list: no vector.
    :param policy: what to do with an id that is already there, or twice in the list.
    :param batch_size: documents per update of the shard.
    :param model: which made the embeddings; None: not known.
    :returns: how many were written.
    :raises ValueError: if a document cannot be stored; then none was written.
    :raises DuplicateDocumentError: likewise.
    """
    with shard.writing:
        chosen = _choose(shard, documents, policy)
        # Every point is made before the first is written: what cannot be stored shows here.
        points: list[Point] = []
        bearing = [place for place in chosen if embeddings[place] is not None]
        for start in range(0, len(bearing), batch_size):
            points += _points(documents, embeddings, bearing[start : start + batch_size], shard)
        bare = [documents[place] for place in chosen if embeddings[place] is None]
        points += points_without_vector(bare, shard.description.hybrid)
        claim_model(shard, model)
        growth = sum(_growth(documents[place], shard.description.embedding_dim) for place in chosen)
        for start in range(0, len(points), batch_size):
            batch = points[start : start + batch_size]
            with shard.changing(growth * len(batch) // len(points)) as edge:
                edge.update(UpdateOperation.upsert_points(batch))
    return len(chosen)


def update_meta(shard: SharedShard, where: Filter | None, meta: Mapping[str, Any]) -> int:
    """Merge metadata into the documents that match.

    :param shard: the open shard.
    :param where: which documents; None: all.
    :param meta: fields to add or replace.
    :returns: how many documents were updated.
    :raises ValueError: if it cannot be stored; then nothing was updated.
    """
    with shard.writing:
        payloads: dict[Any, dict[str, Any]] = {}
        for record in chain.from_iterable(pages(shard, where, payload=True)):
            old = record.payload
            document = document_of({**old, "meta": {**old["meta"], **meta}})
            norm = old.get("norm", 1.0)
            point_of(document, {}, norm, words=False)  # refuses what cannot be stored, before the first is written
            payloads[record.id] = payload_of(document, norm)
        for point, payload in payloads.items():
            with shard.changing(growth=len(str(payload))) as edge:
                edge.update(UpdateOperation.overwrite_payload([point], payload))
    return len(payloads)


def delete(shard: SharedShard, where: Filter | None) -> int:
    """Delete the documents that match.

    :param shard: the open shard.
    :param where: which documents; None: all.
    :returns: how many were deleted.
    """
    with shard.writing:
        points = [record.id for record in chain.from_iterable(pages(shard, where))]
        delete_points(shard, points)
    return len(points)


def delete_points(shard: SharedShard, points: list[Any]) -> None:
    """Delete points; one that is not there is ignored.

    :param shard: the open shard.
    :param points: identifiers, as `point_id` gives them.
    """
    with shard.writing, shard.changing() as edge:
        edge.update(UpdateOperation.delete_points(points))


def add_words(shard: SharedShard) -> None:
    """Add words to a store that was made without; one that has them is left alone.

    A process killed here leaves a store without words, as it was; the next one begins again.

    :param shard: the open shard.
    """
    with shard.writing:
        if shard.description.hybrid:
            return
        with shard.changing() as edge:
            edge.update(UpdateOperation.create_sparse_vector(WORDS, Modifier.Idf))
        for records in pages(shard, payload=["content"]):
            texts = {record.id: (record.payload or {}).get("content") for record in records}
            points = [
                PointVectors(point, {**words}) for point, text in texts.items() if (words := document_words(text))
            ]
            with shard.changing(growth=8 * sum(len(text or "") for text in texts.values())) as edge:
                edge.update(UpdateOperation.update_vectors(points))
        with shard.changing() as edge:
            edge.flush()  # before store.json says that the words are there
        shard.describe(hybrid=True)


def _growth(document: Document, embedding_dim: int) -> int:
    """Estimate, generously, the bytes that one document adds to the log and to the storage."""
    blob = len(document.blob.data) if document.blob is not None else 0
    meta = len(repr(document.meta))  # written twice: as it is, and as facts
    return 2000 + 2 * (4 * embedding_dim + 4 * len(document.content or "") + 4 * blob + 2 * meta)


def _points(
    documents: Sequence[Document], embeddings: Embeddings, places: list[int], shard: SharedShard
) -> list[Point]:
    batch = [documents[place] for place in places]
    names = [f"document {document.id!r:.200}" for document in batch]
    rows = embeddings[places] if isinstance(embeddings, np.ndarray) else [embeddings[place] for place in places]
    units = unit_vectors(rows, shard.description.embedding_dim, names)
    return points_of(batch, units, shard.description.hybrid)


def _choose(shard: SharedShard, documents: Sequence[Document], policy: DuplicatePolicy) -> list[int]:
    """Return the places, in the list, of the documents to write."""
    if policy == DuplicatePolicy.OVERWRITE:
        return sorted({document.id: place for place, document in enumerate(documents)}.values())
    seen = stored_ids(shard, (document.id for document in documents))
    chosen: list[int] = []
    for place, document in enumerate(documents):
        if document.id not in seen:
            chosen.append(place)
        elif policy != DuplicatePolicy.SKIP:
            raise DuplicateDocumentError(
                f"document {document.id!r:.200} is already in the store, or twice in the list; nothing was "
                "written: use DuplicatePolicy.SKIP or DuplicatePolicy.OVERWRITE"
            )
        seen.add(document.id)
    return chosen
