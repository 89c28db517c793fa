"""Results folder -> `table` and its `sheets`, `plots`, `worst_questions`; `html` gathers them, `files` writes them.

`expected` holds the published numbers against it.
"""
