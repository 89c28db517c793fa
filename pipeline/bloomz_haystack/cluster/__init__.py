"""Passages in bulk, on one machine or many: `work` finds units of work, `blocks` reads them, `encoding` embeds them,
`parts` writes Parquet files, `embed` runs it all, `ray_encoders` on Ray; `load` and `store_copy` fill a store.
"""
