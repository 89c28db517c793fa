"""Hard negatives: rows, a store, a retriever and a ranker -> the same rows with the passages that nearly answer."""
