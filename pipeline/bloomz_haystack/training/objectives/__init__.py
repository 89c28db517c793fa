"""Batches -> losses, gradients and validation figures: `retriever`, `ranker` and `listwise` are what can be learned.

`losses`, `ranks` and `calibration` are their arithmetic; `grad_cache` and `shared_prefix` save memory and time.
"""
