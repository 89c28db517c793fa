"""Files -> rows -> token ids -> batches: `sources` says which files, `files`, `stream` and `squad` read them,
`tokenized` turns texts into token ids, `sampling` draws batches, `ahead` keeps them coming.
"""
