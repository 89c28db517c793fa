"""The Bloom engine: torch and numpy, and nothing of Haystack.

Floors, each importing only from those above it in this list: tokens, packing, checkpoint; attention; forward; encoder;
scorer.
"""
