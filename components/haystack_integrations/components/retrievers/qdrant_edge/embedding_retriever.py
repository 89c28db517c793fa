"""`QdrantEdgeEmbeddingRetriever`: a question's vector -> the nearest documents. A thin shell over the store."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from haystack import Document, component
from haystack.document_stores.types import FilterPolicy

from haystack_integrations.components.retrievers.qdrant_edge._base import EdgeRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin


@component
class QdrantEdgeEmbeddingRetriever(EdgeRetriever):
    """Finds the documents of a `QdrantEdgeDocumentStore` that are nearest to a query, by cosine similarity."""

    def __init__(
        self,
        document_store: QdrantEdgeDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        score_threshold: float | None = None,
        return_embedding: bool = False,
    ) -> None:
        """Keep the settings; open nothing.

        :param document_store: where to search.
        :param filters: a Haystack filter for every search.
        :param top_k: most documents per query.
        :param filter_policy: whether filters given to `run` replace those above, or are merged with them.
        :param score_threshold: keep the documents whose cosine similarity is at least this.
        :param return_embedding: whether the documents carry their embedding; off, because a pipeline copies
            documents at each step, and 1024 Python floats each time are slow.
        :raises ValueError: if the store is of another kind, or top_k is not positive.
        """
        EdgeRetriever.__init__(
            self, document_store, filters, top_k, filter_policy, score_threshold, return_embedding
        )  # not super(): `component` makes another class of this one

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Find the nearest documents to one query.

        :param query_embedding: H floats.
        :param filters: replaces or completes the filters of the component, as `filter_policy` says.
        :param top_k: most documents; None: the setting of the component, as for the two below.
        :param score_threshold: lowest cosine similarity.
        :param return_embedding: whether the documents carry their embedding.
        :returns: {"documents": at most top_k documents, best first; score = cosine similarity}.
        :raises ValueError: if top_k is not positive or the embedding does not fit the store.
        """
        found = self.run_batch([query_embedding], filters, top_k, score_threshold, return_embedding)
        return {"documents": found["documents"][0]}

    def run_batch(
        self,
        query_embeddings: np.ndarray | Sequence[list[float]],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[list[Document]]]:
        """Find the nearest documents to many queries: for evaluation, where one call is faster than many.

        :param query_embeddings: (B, H) array, or B lists of H floats.
        :param filters: as for `run`, for all the queries.
        :param top_k: as for `run`.
        :param score_threshold: as for `run`.
        :param return_embedding: as for `run`.
        :returns: {"documents": B lists, in the order of the queries}.
        :raises ValueError: as `run`.
        """
        limits = self._limits(filters, top_k, score_threshold, return_embedding)
        return {"documents": self.document_store.query_batch(query_embeddings, **limits)}

    run_async = component.output_types(documents=list[Document])(async_twin(run))
