from haystack_integrations.components.retrievers.bloomz_pgvector.hybrid_retriever import PgvectorHybridRetriever

__all__ = ["PgvectorHybridRetriever"]
