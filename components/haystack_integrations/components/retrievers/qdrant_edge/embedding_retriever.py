"""`QdrantEdgeEmbeddingRetriever`: a question's vector -> the nearest documents. A thin shell over the store."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.search import check_count


@component
class QdrantEdgeEmbeddingRetriever:
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
        given: object = document_store
        if not isinstance(given, QdrantEdgeDocumentStore):
            msg = f"document_store must be a QdrantEdgeDocumentStore, but got {type(document_store).__name__}"
            raise ValueError(msg)
        check_count("top_k", top_k)
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = (
            filter_policy if isinstance(filter_policy, FilterPolicy) else FilterPolicy.from_str(filter_policy)
        )
        self.score_threshold = score_threshold
        self.return_embedding = return_embedding

    def to_dict(self) -> dict[str, Any]:
        """Describe the component for YAML."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            score_threshold=self.score_threshold,
            return_embedding=self.return_embedding,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "QdrantEdgeEmbeddingRetriever":
        """Make the component that `to_dict` described."""
        parameters = dict(data["init_parameters"])
        if isinstance(parameters.get("document_store"), dict):
            parameters["document_store"] = QdrantEdgeDocumentStore.from_dict(parameters["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

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

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does, in a thread.

        :param query_embedding: H floats.
        :param filters: as for `run`.
        :param top_k: as for `run`.
        :param score_threshold: as for `run`.
        :param return_embedding: as for `run`.
        :returns: as `run`.
        """
        return await asyncio.to_thread(self.run, query_embedding, filters, top_k, score_threshold, return_embedding)

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
        top_k = self.top_k if top_k is None else top_k
        check_count("top_k", top_k)
        documents = self.document_store.query_batch(
            query_embeddings,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            top_k=top_k,
            score_threshold=self.score_threshold if score_threshold is None else score_threshold,
            return_embedding=self.return_embedding if return_embedding is None else return_embedding,
        )
        return {"documents": documents}
