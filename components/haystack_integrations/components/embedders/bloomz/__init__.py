"""Embedders for the Bloomz retrievers."""

from haystack_integrations.components.embedders.bloomz.document_embedder import BloomzDocumentEmbedder
from haystack_integrations.components.embedders.bloomz.text_embedder import BloomzTextEmbedder

__all__ = ["BloomzDocumentEmbedder", "BloomzTextEmbedder"]
