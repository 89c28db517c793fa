"""Passages and questions -> the BM25 scores that `QdrantEdgeDocumentStore` gives, and how far they are to be trusted.

The store itself is asked, in a folder that is thrown away: what is measured is what users get.
"""

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import numpy.typing as npt
from haystack import Document

from bloomz_haystack.benchmark.run.ranking import ScoreBlock
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.bm25 import question_words
from haystack_integrations.document_stores.qdrant_edge.points import point_id
from haystack_integrations.document_stores.qdrant_edge.search import Asked, Hits, search_words

QUESTIONS_AT_A_TIME = 256


class StoreBm25:
    """A store of P passages, searched by words only."""

    def __init__(self, passages: Sequence[str]) -> None:
        """Index the passages.

        :param passages: P texts.
        """
        self._places = {point_id(str(place)): place for place in range(len(passages))}
        self._folder = TemporaryDirectory(prefix="bloomz-words-")
        self._store = QdrantEdgeDocumentStore(self._folder.name, embedding_dim=1, hybrid=True)
        self._store.write_documents([Document(id=str(place), content=text) for place, text in enumerate(passages)])

    def score_block(self, questions: Sequence[str], limit: int) -> ScoreBlock:
        """Prepare the scores of some questions.

        :param questions: Q texts.
        :param limit: passages found of each question.
        :returns: start, stop -> (stop - start, P) float32; zero for what was not found.
        """
        asked = _asked(questions)

        def scores(start: int, stop: int) -> npt.NDArray[np.float32]:
            block = np.zeros((stop - start, len(self._places)), dtype=np.float32)
            for first in range(start, stop, QUESTIONS_AT_A_TIME):
                found, _ = self._search(asked[first : min(first + QUESTIONS_AT_A_TIME, stop)], limit)
                for row, hits in zip(block[first - start :], found, strict=False):
                    row[[self._places[point] for point, _ in hits]] = [score for _, score in hits]
            return block

        return scores

    def trust(self, questions: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return how far the words of each question are to be trusted.

        :param questions: Q texts.
        :returns: (Q,), from 0 to 1.
        """
        return np.array(self._search(_asked(questions), limit=1)[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Throw the folder away."""
        self._store.close()
        self._folder.cleanup()

    def _search(self, questions: Sequence[Asked], limit: int) -> tuple[list[Hits], list[float]]:
        with self._store._shard().reading() as edge:
            return search_words(edge, questions, None, limit)


def _asked(questions: Sequence[str]) -> list[Asked]:
    return [Asked(question, question_words(question)) for question in questions]
