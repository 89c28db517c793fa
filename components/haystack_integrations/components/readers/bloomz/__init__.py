"""Haystack readers for the Bloomz models."""

from haystack_integrations.components.readers.bloomz.sentence_reader import BloomzSentenceReader

__all__ = ["BloomzSentenceReader"]
