"""Document <-> Qdrant point: the identifier, the payload, the unit vector.

The payload is `Document.to_dict(flatten=False)` without the embedding, plus "facts" (what filters look at) and, where
the embedding was not of length one, "norm" (Edge keeps unit vectors; the norm gives the embedding back).
"""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from numpy.typing import NDArray
from qdrant_edge import Point, SparseVector

from haystack_integrations.document_stores.qdrant_edge.bm25 import document_words
from haystack_integrations.document_stores.qdrant_edge.facts import SURROGATE, check_json, facts_of

VECTOR = "embedding"  # a named vector: a point may then have none, as a document without embedding does
NAMESPACE = uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")  # the one of qdrant-haystack: same document, same point
Vector = dict[str, list[float] | SparseVector | list[list[float]]]  # as Edge types it; here {} or one entry
VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # the two bits that RFC 9562 sets
LENGTH_ONE = 1e-6  # a norm closer to one than this is float32 rounding


class UnitVectors(NamedTuple):
    """B vectors of length one, (B, H) float32, and the lengths they had, (B,) float64."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]


def point_id(document_id: str) -> str:
    """Return the UUID of a document's point: Qdrant takes only integers and UUIDs.

    It is `str(uuid.uuid5(NAMESPACE, document_id))`, written out: 1.2 microseconds instead of 3.9.

    :param document_id: any text.
    :returns: a UUID.
    :raises TypeError: if it is not a string.
    :raises ValueError: if it holds a lone surrogate.

    >>> point_id("a") == str(uuid.uuid5(NAMESPACE, "a"))
    True
    """
    given: object = document_id  # what comes from a pipeline does not keep to the signature
    if not isinstance(given, str):
        raise TypeError(f"the id of a document must be a string, but got {given!r:.80} of type {type(given).__name__}")
    try:
        encoded = document_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the id {document_id!r:.200} {SURROGATE}") from error
    digest = hashlib.sha1(NAMESPACE.bytes + encoded, usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"


def unit_vectors(embeddings: object, embedding_dim: int, names: Sequence[str]) -> UnitVectors:
    """Check vectors and bring them to length one.

    Done here and not left to Edge, which accepts a vector of zeros, and loses very small ones in float32.

    :param embeddings: (B, H) array, or B sequences of H numbers.
    :param embedding_dim: H, as the store holds it.
    :param names: B names for the messages, such as "document 'a'".
    :returns: the B unit vectors and their norms.
    :raises ValueError: if a vector has another dimension, is not finite, or is zero.
    """
    rows = list(embeddings) if not isinstance(embeddings, np.ndarray) else embeddings  # type: ignore[call-overload]
    fits = isinstance(rows, np.ndarray) and rows.shape == (len(names), embedding_dim)
    for name, row in zip(names, () if fits else rows, strict=not fits):
        if np.ndim(row) != 1 or len(row) != embedding_dim:
            got = f"{len(row)} numbers" if np.ndim(row) == 1 else f"the shape {np.shape(row)}"
            raise ValueError(
                f"{name} has an embedding of {got}, but the store holds embeddings of {embedding_dim}: use the model "
                f"that made the store, or another store"
            )
    matrix = _matrix(rows, names).reshape(len(rows), embedding_dim)
    # Divided first by the largest entry: the square of 1e200 does not fit in a float64.
    largest = np.maximum(matrix.max(axis=1, initial=0.0), -matrix.min(axis=1, initial=0.0))
    bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0))
    if bad.size:
        what = "zero in every place" if largest[bad[0]] == 0 else "not finite (NaN or infinite)"
        raise ValueError(f"{names[bad[0]]} has an embedding that is {what}: it has no direction to compare")
    matrix /= largest[:, None]
    lengths = np.sqrt(np.einsum("bh,bh->b", matrix, matrix))
    matrix /= lengths[:, None]
    return UnitVectors(matrix.astype(np.float32), lengths * largest)


def _matrix(rows: Any, names: Sequence[str]) -> NDArray[np.float64]:  # noqa: ANN401
    """Copy rows into one array, which may be changed."""
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        for name, row in zip(names, rows, strict=True):
            try:
                np.array(row, dtype=np.float64)
            except (TypeError, ValueError, OverflowError) as reason:
                raise ValueError(f"{name} has an embedding that is not made of numbers ({reason})") from error
        raise


def points_of(documents: Sequence[Document], units: UnitVectors, words: bool = False) -> list[Point]:
    """Make one point for each document that has a vector.

    :param documents: B documents; their own `embedding` is not looked at.
    :param units: B unit vectors and norms.
    :param words: whether the store keeps words beside the vectors.
    :returns: B points.
    """
    # A memoryview and not a row of the array, whose elements Edge would get as numpy scalars: 8 microseconds for 384
    # floats, 18 from a row, and 19 from a list with the making of the list.
    return [
        point_of(document, {VECTOR: memoryview(vector)}, norm, words)  # type: ignore[dict-item]  # Edge takes any sequence
        for document, vector, norm in zip(documents, units.vectors, units.norms.tolist(), strict=True)
    ]


def points_without_vector(documents: Sequence[Document], words: bool = False) -> list[Point]:
    """Make one point for each document that has no embedding: counted and filtered, found at most by its words."""
    return [point_of(document, {}, 1.0, words) for document in documents]


def point_of(document: Document, vector: Vector, norm: float, words: bool) -> Point:
    """Make the point of one document.

    :param document: to store.
    :param vector: {} or the unit vector.
    :param norm: the length its embedding had.
    :param words: whether the store keeps words beside the vectors.
    :returns: the point.
    :raises ValueError: if the document cannot be stored; the message names it.
    """
    try:
        vectors: Vector = {**vector, **document_words(document.content)} if words else vector
        return Point(point_id(document.id), vectors, payload_of(document, norm))
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        # After `check_json` nothing else is left that Edge, in many lines about its own types, could mean.
        if isinstance(error, UnicodeEncodeError) or "failed to extract" in reason:
            reason = f"it {SURROGATE}"
        raise ValueError(f"document {document.id!r:.200} cannot be stored: {reason}") from error


def payload_of(document: Document, norm: float) -> dict[str, Any]:
    """Return what is stored beside the vector.

    :param document: the document.
    :param norm: the length its embedding had.
    :returns: a dictionary of JSON values.
    :raises ValueError: if its metadata, blob, sparse embedding or score is not JSON.
    """
    meta: object = document.meta
    if not isinstance(meta, dict):
        raise ValueError(f"meta must be a dictionary, but got {meta!r:.80} of type {type(meta).__name__}")
    payload: dict[str, Any] = {"meta": meta}
    if document.blob is not None:
        payload["blob"] = document.blob.to_dict()
    if document.sparse_embedding is not None:
        payload["sparse_embedding"] = document.sparse_embedding.to_dict()
    if document.score is not None:
        payload["score"] = document.score
    for name, value in payload.items():
        check_json(value, name)
    payload |= {"id": document.id, "content": document.content}
    if abs(norm - 1) > LENGTH_ONE:
        payload["norm"] = norm
    if facts := facts_of(document):
        payload["facts"] = facts
    return payload


def document_of(payload: dict[str, Any], vector: object = None, score: float | None = None) -> Document:
    """Return the document back.

    :param payload: as `payload_of` made it.
    :param vector: what Edge returns: {} or None, or {"embedding": H floats of length one}.
    :param score: cosine similarity, after a search.
    :returns: the document; its embedding has the length it was written with.
    """
    fields = {key: value for key, value in payload.items() if key not in ("facts", "norm")}
    if isinstance(vector, dict) and VECTOR in vector:
        norm = payload.get("norm", 1.0)
        fields["embedding"] = vector[VECTOR] if norm == 1.0 else [value * norm for value in vector[VECTOR]]
    if score is not None:
        fields["score"] = score
    if "blob" in fields:
        fields["blob"] = ByteStream.from_dict(fields["blob"])
    if "sparse_embedding" in fields:
        fields["sparse_embedding"] = SparseEmbedding.from_dict(fields["sparse_embedding"])
    return Document(**fields)  # half the time of Document.from_dict, which looks for flattened metadata
