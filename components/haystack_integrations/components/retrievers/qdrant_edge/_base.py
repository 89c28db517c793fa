"""What both retrievers of a `QdrantEdgeDocumentStore` have in common: their settings, and the way to YAML and back."""

from typing import Any, ClassVar, Self

from haystack import default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from haystack_integrations.common.bloomz.arguments import check_count, init_parameters
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore


class EdgeRetriever:
    """A store and how it is searched; a subclass adds `run`, and settings of its own."""

    STORE: ClassVar[type[Any]] = QdrantEdgeDocumentStore

    def __init__(
        self,
        document_store: Any,  # noqa: ANN401  # checked against STORE
        filters: dict[str, Any] | None,
        top_k: int,
        filter_policy: str | FilterPolicy,
        score_threshold: float | None,
        return_embedding: bool,
    ) -> None:
        """Keep the settings; open nothing.

        :param document_store: where to search.
        :param filters: a Haystack filter for every search.
        :param top_k: most documents per question.
        :param filter_policy: whether filters given to `run` replace those above, or are merged with them.
        :param score_threshold: lowest score kept.
        :param return_embedding: whether the documents carry their embedding.
        :raises ValueError: if the store is of another kind, or top_k is not positive.
        :raises TypeError: if top_k is not an integer.
        """
        given: object = document_store
        if not isinstance(given, self.STORE):
            raise ValueError(f"document_store must be a {self.STORE.__name__}, but got {type(given).__name__}")
        check_count("top_k", top_k)
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.score_threshold = score_threshold
        self.return_embedding = return_embedding

    def to_dict(self) -> dict[str, Any]:
        """Serialize the component.

        :returns: a dictionary that `from_dict` and YAML understand.
        """
        store, policy = self.document_store.to_dict(), self.filter_policy.value
        return default_to_dict(self, **{**init_parameters(self), "document_store": store, "filter_policy": policy})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component that `to_dict` described.

        :param data: from `to_dict`.
        :returns: the component.
        """
        parameters = dict(data["init_parameters"])
        if isinstance(parameters.get("document_store"), dict):
            parameters["document_store"] = cls.STORE.from_dict(parameters["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def _limits(
        self,
        filters: dict[str, Any] | None,
        top_k: int | None,
        score_threshold: float | None,
        return_embedding: bool | None,
    ) -> dict[str, Any]:
        """Return what a search is limited to: what `run` was given, else the component's own settings."""
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "score_threshold": self.score_threshold if score_threshold is None else score_threshold,
            "return_embedding": self.return_embedding if return_embedding is None else return_embedding,
        }
