"""Documents -> rows of PostgreSQL, with the words of each for BM25."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import numpy as np
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from pgvector import HalfVector, Vector
from psycopg.types.json import Jsonb
from qdrant_edge import SparseVector

from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS, document_words
from haystack_integrations.document_stores.qdrant_edge.points import point_id

HALF = 2**31


def distinct(documents: Iterable[Document], policy: DuplicatePolicy) -> list[Document]:
    """Return each document once.

    :param documents: of one call.
    :param policy: SKIP keeps the first of an id, OVERWRITE the last; else all are kept, for PostgreSQL to refuse.
    :returns: the documents.
    """
    documents = list(documents)
    if policy == DuplicatePolicy.SKIP:
        return list({document.id: document for document in reversed(documents)}.values())
    if policy == DuplicatePolicy.OVERWRITE:
        return list({document.id: document for document in documents}.values())
    return documents


def rows(documents: Iterable[Document], half: bool) -> Iterator[tuple[Any, ...]]:
    """Write documents as rows of the table `incoming`.

    :param documents: any.
    :param half: whether vectors have 16 bits a number.
    :yields: the columns, in their order.
    """
    kind = HalfVector if half else Vector
    for document in documents:
        blob, content = document.blob, document.content
        yield (
            document.id,
            None if document.embedding is None else kind(document.embedding),
            None if content is None else content.replace("\0", ""),  # PostgreSQL has no NUL in a text
            blob.data if blob else None,
            Jsonb(blob.meta) if blob and blob.meta else None,
            blob.mime_type if blob else None,
            Jsonb(document.meta, dumps=_dumps),
            *words_row(document.id, document.content),
        )


def words_row(key: str, content: str | None) -> tuple[UUID, list[int], list[float]]:
    """Return a document's point, its words and their weights, as PostgreSQL keeps them.

    :param key: id of the document.
    :param content: of the document.
    :returns: the point, and two lists of the same length, which are empty where no word is left.
    """
    point, found = UUID(point_id(key)), document_words(content).get(WORDS)
    return (point, signed(found), [float(value) for value in found.values]) if found else (point, [], [])


def signed(words: SparseVector) -> list[int]:
    """Return words as PostgreSQL's integers, which have a sign.

    :param words: of a question or a document.
    :returns: numbers from -2^31 to 2^31 - 1.
    """
    return (np.asarray(words.indices, dtype=np.int64) - HALF).tolist()


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
