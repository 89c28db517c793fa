"""Documents -> rows of PostgreSQL, with the words of each for BM25.

Vectors and arrays are written as the bytes that COPY sends: psycopg's own way through lists, number by number, takes
three times as long as the rest of a row.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import ArrayLike
from psycopg.types.json import Jsonb
from qdrant_edge import SparseVector

from haystack_integrations.document_stores.bloomz_pgvector.statements import PLACES
from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS, document_words
from haystack_integrations.document_stores.qdrant_edge.points import point_id

HALF = 2**31
INT4 = 23  # how PostgreSQL numbers the type of an array's elements
MOST_WEIGHTS = 16_000  # in a sparsevec; a book has more words


Bearer = tuple[Document, ArrayLike | None]  # a document, and its vector; its own `embedding` is not looked at


def distinct(bearers: Sequence[Bearer], policy: DuplicatePolicy) -> list[Bearer]:
    """Return each document once.

    :param bearers: documents of one call, with their vectors.
    :param policy: SKIP keeps the first of an id, OVERWRITE the last; else all are kept, for PostgreSQL to refuse.
    :returns: the documents.
    """
    if policy == DuplicatePolicy.SKIP:
        return list({bearer[0].id: bearer for bearer in reversed(bearers)}.values())
    if policy == DuplicatePolicy.OVERWRITE:
        return list({bearer[0].id: bearer for bearer in bearers}.values())
    return list(bearers)


def rows(bearers: Iterable[Bearer], half: bool) -> Iterator[tuple[Any, ...]]:
    """Write documents as rows of the table `incoming`.

    :param bearers: any documents, with their vectors.
    :param half: whether vectors have 16 bits a number.
    :yields: the columns, in their order.
    """
    for document, vector in bearers:
        blob, content = document.blob, document.content
        yield (
            document.id,
            None if vector is None else pgvector_bytes(vector, half),
            None if content is None else content.replace("\0", ""),  # PostgreSQL has no NUL in a text
            blob.data if blob else None,
            Jsonb(blob.meta) if blob and blob.meta else None,
            blob.mime_type if blob else None,
            Jsonb(document.meta, dumps=_dumps),
            *words_row(document.id, document.content),
        )


def words_row(key: str, content: str | None) -> tuple[UUID, bytes, bytes]:
    """Return a document's point, its words and their weights, as PostgreSQL keeps them.

    :param key: id of the document.
    :param content: of the document.
    :returns: the point, the bytes of an array of words, and those of a sparsevec of their weights; both are empty where
        no word is left.
    """
    found = document_words(content).get(WORDS)
    words = signed(found) if found else []
    return UUID(point_id(key)), _array_bytes(words), _sparsevec_bytes(words, found.values if found else [])


def pgvector_bytes(values: ArrayLike, half: bool) -> bytes:
    """Return a vector as pgvector reads it.

    :param values: H numbers.
    :param half: whether with 16 bits a number.
    :returns: H, 0 and the numbers.
    """
    numbers = np.asarray(values, dtype=">f2" if half else ">f4")
    return struct.pack(">HH", len(numbers), 0) + numbers.tobytes()


def _array_bytes(words: list[int]) -> bytes:
    """Return an array of one dimension as PostgreSQL reads it: a header, and each number behind its length."""
    if not words:
        return struct.pack(">iii", 0, 0, INT4)
    fields = np.full((len(words), 2), 4, dtype=">i4")
    fields[:, 1] = words
    return struct.pack(">iiiii", 1, 0, INT4, len(words), 1) + fields.tobytes()


def _sparsevec_bytes(words: list[int], weights: ArrayLike) -> bytes:
    """Return the weights as pgvector reads a sparsevec: a header, the places in ascending order, the numbers."""
    places, first = np.unique((np.asarray(words, dtype=np.int64) + HALF) % PLACES, return_index=True)
    numbers = np.asarray(weights, dtype=">f4")[first]
    if len(numbers) > MOST_WEIGHTS:
        heaviest = np.sort(np.argsort(-numbers, kind="stable")[:MOST_WEIGHTS])
        places, numbers = places[heaviest], numbers[heaviest]
    return struct.pack(">iii", PLACES, len(numbers), 0) + places.astype(">i4").tobytes() + numbers.tobytes()


def signed(words: SparseVector) -> list[int]:
    """Return words as PostgreSQL's integers, which have a sign.

    :param words: of a question or a document.
    :returns: numbers from -2^31 to 2^31 - 1.
    """
    return (np.asarray(words.indices, dtype=np.int64) - HALF).tolist()


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
