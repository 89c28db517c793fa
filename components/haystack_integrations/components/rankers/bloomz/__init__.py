"""Ranker for the Bloomz rerankers."""

from .ranker import BloomzRanker

__all__ = ["BloomzRanker"]
