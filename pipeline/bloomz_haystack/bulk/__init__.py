"""Passages in bulk: `work` finds units of work, `blocks` reads their passages, `encoding` embeds them, `parts` writes
Parquet files, `embed` runs it all, one process or many; `load` brings the files into a store.
"""
