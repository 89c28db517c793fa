"""Embedders for the Bloomz retrievers."""

from .document_embedder import BloomzDocumentEmbedder
from .text_embedder import BloomzTextEmbedder

__all__ = ["BloomzDocumentEmbedder", "BloomzTextEmbedder"]
