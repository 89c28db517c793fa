"""States of a passage, computed once and kept for the next question: `states`, `forward`, `batches`; `cache` keeps them
in memory, `folder` on disk.
"""
