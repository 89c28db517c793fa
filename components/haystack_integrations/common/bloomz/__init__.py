"""The Bloom engine: torch and numpy; `component` alone knows Haystack.

From tokens to scores: `tokens`, `packing`, `bloom`, `sources`, `checkpoint`; `attention`, `forward`; `batches`;
`encoder`, `scorer`. Faster layers: `linear`, `int8`. Passages read once for many questions: `prefix_cache`,
`pair_scores`.
"""
