"""HTTP over `Answerer`: `app` joins the doors (search, rerank, embeddings, documents, health), `types` says what passes
through them, `models` holds the store and the models, `slots` and `access` say who may enter, and how many.
"""
