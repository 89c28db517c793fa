"""Corpus and bi-encoder -> a store; questions -> for each the nearest passages that are not known to answer it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from bloomz_haystack.mining.corpus import Corpus, Question
from bloomz_haystack.mining.likeness import text_number
from bloomz_haystack.training.data.rows import Sides
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

BLOCK = 4096  # texts embedded and written together
SPARE = 10  # looked at beyond what is wanted: answers, and translations of what was found already

Progress = Callable[[int], object]


class Candidate(NamedTuple):
    """A passage, and the side of it that was found."""

    passage: Sides
    text: str


class Searcher:
    """A store with the texts of a corpus."""

    def __init__(self, folder: Path, encoder: Encoder, corpus: Corpus) -> None:
        """Keep the parts; nothing is opened.

        :param folder: of the store.
        :param encoder: of passages and questions.
        :param corpus: what is searched.
        """
        self._store = QdrantEdgeDocumentStore(str(folder), encoder.dimension, return_embedding=False)
        self._encoder = encoder
        self._corpus = corpus

    def index(self, progress: Progress) -> int:
        """Embed the texts that the store does not hold yet.

        :param progress: called with the number of texts done.
        :returns: how many were embedded now.
        """
        items = list(self._corpus.texts.items())
        embedded = 0
        for start in range(0, len(items), BLOCK):
            block = [_document(number, item.text, item.language) for number, item in items[start : start + BLOCK]]
            known = self._store.existing_ids(document.id for document in block)
            new = [document for document in block if document.id not in known]
            progress(len(block) - len(new))
            if new:
                vectors = self._encoder.encode([str(document.content) for document in new], progress=progress)
                self._store.write_embeddings(new, vectors, DuplicatePolicy.OVERWRITE)
            embedded += len(new)
        return embedded

    def candidates(self, questions: Sequence[Question], count: int) -> list[list[Candidate]]:
        """Search for many questions at once.

        :param questions: B questions.
        :param count: passages wanted of each.
        :returns: B lists of at most ``count`` passages, nearest first, without those known to answer.
        """
        vectors = self._encoder.encode([question.text for question in questions])
        # Both sides of a passage may be found, and each of them fills a place.
        depth = 2 * (count + SPARE)
        found = self._store.query_batch(vectors, top_k=depth)
        return [
            list(self._passages(question, documents))[:count]
            for question, documents in zip(questions, found, strict=True)
        ]

    def _passages(self, question: Question, documents: Sequence[Document]) -> Iterator[Candidate]:
        seen = set(question.answers)
        for document in documents:
            item = self._corpus.texts[int(document.id)]
            numbers = {text_number(text) for text in item.passage.values()}
            if not numbers & seen:
                yield Candidate(item.passage, item.text)
            seen |= numbers

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


def _document(number: int, text: str, language: str) -> Document:
    meta: dict[str, Any] = {"language": language}
    return Document(id=str(number), content=text, meta=meta)
