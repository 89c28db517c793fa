"""`PgvectorHybridRetriever`: a question and its vector -> passages in PostgreSQL, by words and by meaning."""

from typing import Any

from haystack import component
from haystack.document_stores.types import FilterPolicy

from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeHybridRetriever
from haystack_integrations.components.retrievers.qdrant_edge._base import EdgeRetriever
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore
from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion
from haystack_integrations.document_stores.qdrant_edge.search import CANDIDATES, HybridSettings


@component
class PgvectorHybridRetriever(QdrantEdgeHybridRetriever):
    """Searches a `BloomzPgvectorDocumentStore` by BM25 and by cosine similarity, and fuses the two.

    Same words, same scores and same fusion as `QdrantEdgeHybridRetriever`, which has `run` and `run_batch` for both.
    """

    STORE = BloomzPgvectorDocumentStore

    def __init__(
        self,
        document_store: BloomzPgvectorDocumentStore,
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
        """Keep the settings; connect to nothing.

        :param document_store: where to search.
        :param filters: a Haystack filter for every search.
        :param top_k: most documents per question.
        :param filter_policy: whether filters given to `run` replace those above, or are merged with them.
        :param score_threshold: keep the documents whose fused score is at least this.
        :param return_embedding: whether the documents carry their embedding.
        :param candidates: documents taken from each of the two searches; at least `top_k` are.
        :param fusion: "convex": by the scores; "rrf": by reciprocal rank.
        :param weights: of the vectors and of the words; [1, 0] searches by vectors alone.
        :param weigh_by_coverage: multiply the weight of the words by the share of the question's words that the best
            match by words holds, and by a quarter more where that match is in the other language of French and
            English, by its function words: such a question goes by its vector.
        :param rank_constant: the k of reciprocal rank fusion, of "rrf" alone.
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
