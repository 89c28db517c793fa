"""Files -> rows -> token ids -> batches.

`sources` says which files, `files`, `stream` and `squad` read them, `rows` checks them, `token_rows` turns texts into
token ids, `sampling` draws batches, `drawn_batches` keeps them coming.
"""
