"""Documents and vectors -> points in an open shard, under a duplicate policy."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray
from qdrant_edge import Point, UpdateOperation

from haystack_integrations.common.bloomz.identity import ModelIdentity
from haystack_integrations.document_stores.qdrant_edge.origin import claim_model
from haystack_integrations.document_stores.qdrant_edge.points import (
    point_id,
    points_of,
    points_without_vector,
    unit_vectors,
)
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard

Embeddings = Sequence[list[float] | None] | NDArray[np.floating[Any]]


def check_documents(documents: object) -> None:
    """Refuse anything but a list of documents.

    :param documents: what the caller gave.
    :raises ValueError: if it is something else.
    """
    if isinstance(documents, list):
        strangers = {type(item).__name__ for item in documents if not isinstance(item, Document)}
        got = f"a list that holds {', '.join(sorted(strangers))}" if strangers else None
    else:
        got = type(documents).__name__
    if got is not None:
        msg = f"documents must be a list of Documents, but got {got}"
        raise ValueError(msg)


def stored_ids(shard: SharedShard, document_ids: Iterable[str]) -> set[str]:
    """Give those of the ids that are in the shard, by one look-up."""
    names = {point_id(document_id): document_id for document_id in document_ids}
    if not names:
        return set()
    with shard.reading() as edge:
        records = edge.retrieve(list(names), with_payload=False, with_vector=False)
    return {names[str(record.id)] for record in records}


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
    """Give the places, in the list, of the documents to write."""
    if policy == DuplicatePolicy.OVERWRITE:
        return sorted({document.id: place for place, document in enumerate(documents)}.values())
    seen = stored_ids(shard, (document.id for document in documents))
    chosen: list[int] = []
    for place, document in enumerate(documents):
        if document.id not in seen:
            chosen.append(place)
        elif policy != DuplicatePolicy.SKIP:
            msg = (
                f"document {document.id!r:.200} is already in the store, or twice in the list; nothing was "
                "written: use DuplicatePolicy.SKIP or DuplicatePolicy.OVERWRITE"
            )
            raise DuplicateDocumentError(msg)
        seen.add(document.id)
    return chosen
