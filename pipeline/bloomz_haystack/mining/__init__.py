"""Hard negatives: rows, a retriever and a ranker -> the same rows with the passages that nearly answer.

`corpus` says what is searched and asked, `search` finds passages, `hard_negatives` runs all, `folder` holds the result.
"""
