"""`QdrantEdgeHybridRetriever`: a question and its vector -> the documents that match by words and by meaning.

A thin shell over the store, which keeps the words of its documents (BM25) beside their vectors if it is made so.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from haystack import Document, component
from haystack.document_stores.types import FilterPolicy

from haystack_integrations.components.retrievers.qdrant_edge._base import EdgeRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin
from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion
from haystack_integrations.document_stores.qdrant_edge.search import CANDIDATES, HybridSettings


@component
class QdrantEdgeHybridRetriever(EdgeRetriever):
    """Searches a `QdrantEdgeDocumentStore` by BM25 and by cosine similarity, and fuses the two.

    Words find names, numbers and rare terms; vectors find what is said otherwise, or in the other language. The store
    is made with `hybrid=True`; one that was made without gets its words when it is opened so, and embeds nothing again.
    """

    def __init__(
        self,
        document_store: QdrantEdgeDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        score_threshold: float | None = None,
        return_embedding: bool = False,
        candidates: int = CANDIDATES,
        fusion: Fusion = "convex",
        weights: list[float] | None = None,
        weigh_by_coverage: bool = True,
        rank_constant: int = RANK_CONSTANT,
    ) -> None:
        """Keep the settings; open nothing.

        :param document_store: where to search.
        :param filters: a Haystack filter for every search.
        :param top_k: most documents per question.
        :param filter_policy: whether filters given to `run` replace those above, or are merged with them.
        :param score_threshold: keep the documents whose fused score is at least this. By "convex" 1 is a cosine of 1
            and the best match by words, with all words of the question; by "rrf" it is first in both searches.
        :param return_embedding: whether the documents carry their embedding.
        :param candidates: documents taken from each of the two searches; at least `top_k` are.
        :param fusion: "convex": by the scores, cosine and BM25 relative to the best match; "rrf": by reciprocal rank.
            See `fuse`.
        :param weights: of the vectors and of the words; None: 0.6 and 0.4 by "convex", 0.25 and 0.75 by "rrf". 0 leaves
            a side out.
        :param weigh_by_coverage: multiply the weight of the words by the share of the question's words that the best
            match by words holds, and by 0.25 besides where question and match are of two languages, French and
            English, by their function words: such a question goes by its vector. False with
            `fusion="rrf"`, `weights=[1, 1]` and `rank_constant=60` is plain reciprocal rank fusion.
        :param rank_constant: the k of reciprocal rank fusion, of "rrf" alone: the higher, the less the first places
            count more than the next.
        :raises ValueError: if the store is of another kind, the fusion is not known, or a number is out of range.
        """
        HybridSettings(candidates, fusion, weights, weigh_by_coverage, rank_constant)  # checks them
        EdgeRetriever.__init__(
            self, document_store, filters, top_k, filter_policy, score_threshold, return_embedding
        )  # not super(): `component` makes another class of this one
        self.candidates = candidates
        self.fusion = fusion
        self.weights = weights
        self.weigh_by_coverage = weigh_by_coverage
        self.rank_constant = rank_constant

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Find the documents that match one question.

        :param query: the question.
        :param query_embedding: its vector, H floats.
        :param filters: replaces or completes the filters of the component, as `filter_policy` says.
        :param top_k: most documents; None: the setting of the component, as for the two below.
        :param score_threshold: lowest fused score.
        :param return_embedding: whether the documents carry their embedding.
        :returns: {"documents": at most top_k documents, best first; score = fused score, from 0 to 1}.
        :raises TypeError: if the question is not a string.
        :raises ValueError: if top_k is not positive, the embedding does not fit the store, or the store keeps no words.
        """
        found = self.run_batch([query], [query_embedding], filters, top_k, score_threshold, return_embedding)
        return {"documents": found["documents"][0]}

    def run_batch(
        self,
        queries: Sequence[str],
        query_embeddings: np.ndarray | Sequence[list[float]],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[list[Document]]]:
        """Find the documents that match many questions: for evaluation, where one call is faster than many.

        :param queries: B questions.
        :param query_embeddings: (B, H) array, or B lists of H floats.
        :param filters: as for `run`, for all the questions.
        :param top_k: as for `run`.
        :param score_threshold: as for `run`.
        :param return_embedding: as for `run`.
        :returns: {"documents": B lists, in the order of the questions}.
        :raises TypeError: as `run`.
        :raises ValueError: as `run`.
        """
        documents = self.document_store.query_hybrid_batch(
            queries,
            query_embeddings,
            candidates=self.candidates,
            fusion=self.fusion,
            weights=self.weights,
            weigh_by_coverage=self.weigh_by_coverage,
            rank_constant=self.rank_constant,
            **self._limits(filters, top_k, score_threshold, return_embedding),
        )
        return {"documents": documents}

    run_async = component.output_types(documents=list[Document])(async_twin(run))
