"""Batch -> loss: `retriever` (InfoNCE) and `ranker` (`listwise`), on `losses`, `grad_cache` and `shared_prefix`."""
