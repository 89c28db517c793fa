"""How the two bundled models are made, and nothing else: `bundled.sh` runs all of it.

A retriever is a `bag` of token vectors written into a Bloom (`bag_to_bloom`); a ranker starts as BM25 (`new_ranker`)
and trains on `negatives` found by vectors and by `bm25`; both share a `tokenizer`. Only `training/model.py` imports it.
"""
