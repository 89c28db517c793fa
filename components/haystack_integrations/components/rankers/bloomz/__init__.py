"""Ranker for the Bloomz rerankers."""

from haystack_integrations.components.rankers.bloomz.ranker import BloomzRanker

__all__ = ["BloomzRanker"]
