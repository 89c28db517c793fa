from haystack_integrations.components.retrievers.qdrant_edge.embedding_retriever import QdrantEdgeEmbeddingRetriever

__all__ = ["QdrantEdgeEmbeddingRetriever"]
