"""Passages and a retriever -> a store; questions -> for each the nearest passages that are not known to answer it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from bloomz_haystack.mining.corpus import MiningQuestion, PassagePool
from bloomz_haystack.mining.text_number import text_number
from bloomz_haystack.training.data.rows import Sides
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

TEXTS_WRITTEN_TOGETHER = 4096
SPARE = 10  # searched beyond what is wanted: answers, and translations of passages already found


class NearPassage(NamedTuple):
    """A passage, and the side of it that was found."""

    passage: Sides[str]
    text: str


class PassageSearch:
    """A store with the texts of a pool of passages."""

    def __init__(self, folder: Path, encoder: Encoder, pool: PassagePool) -> None:
        """Store the parts; nothing is opened.

        :param folder: of the store.
        :param encoder: of passages and questions.
        :param pool: passages to search.
        """
        self._store = QdrantEdgeDocumentStore(str(folder), encoder.dimension, return_embedding=False)
        self._encoder = encoder
        self._pool = pool

    def index(self, progress: Callable[[int], object]) -> int:
        """Embed the texts that the store does not hold yet.

        :param progress: called with the number of texts done.
        :returns: how many were embedded.
        """
        items = list(self._pool.texts.items())
        embedded = 0
        for start in range(0, len(items), TEXTS_WRITTEN_TOGETHER):
            block = [
                _document(number, item.text, item.language)
                for number, item in items[start : start + TEXTS_WRITTEN_TOGETHER]
            ]
            known = self._store.existing_ids(document.id for document in block)
            new = [document for document in block if document.id not in known]
            progress(len(block) - len(new))
            if new:
                vectors = self._encoder.encode([str(document.content) for document in new], progress=progress)
                self._store.write_embeddings(new, vectors, DuplicatePolicy.OVERWRITE)
            embedded += len(new)
        return embedded

    def nearest(self, questions: Sequence[MiningQuestion], count: int) -> list[list[NearPassage]]:
        """Return the nearest passages of many questions.

        :param questions: B questions.
        :param count: passages wanted per question.
        :returns: B lists of at most `count` passages, nearest first, without those known to answer.
        """
        vectors = self._encoder.encode([question.text for question in questions])
        # Both sides of a passage may be found, and each takes a place.
        depth = 2 * (count + SPARE)
        found = self._store.query_batch(vectors, top_k=depth)
        return [
            list(self._passages(question, documents))[:count]
            for question, documents in zip(questions, found, strict=True)
        ]

    def _passages(self, question: MiningQuestion, documents: Sequence[Document]) -> Iterator[NearPassage]:
        seen = set(question.answers)
        for document in documents:
            item = self._pool.texts[int(document.id)]
            numbers = {text_number(text) for text in item.passage.values()}
            if not numbers & seen:
                yield NearPassage(item.passage, item.text)
            seen |= numbers

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def _document(number: int, text: str, language: str) -> Document:
    meta: dict[str, Any] = {"language": language}
    return Document(id=str(number), content=text, meta=meta)
