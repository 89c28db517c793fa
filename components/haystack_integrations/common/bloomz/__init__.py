"""The Bloom engine: torch and numpy, and nothing of Haystack.

Floors, each importing only from those above it in this list: tokens, packing, checkpoint; attention; forward; encoder;
scorer. The prefix cache stands beside them: prefix_states, prefix_store, prefix_cache; prefix_forward; prefix_batches.
"""
