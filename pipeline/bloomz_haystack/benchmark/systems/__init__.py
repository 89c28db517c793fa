"""What is measured: `systems` reads `systems.yaml`; `bm25`, `store_bm25`, `encoders` and `cross_encoders` run it."""
