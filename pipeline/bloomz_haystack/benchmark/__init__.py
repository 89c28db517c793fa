"""Measuring: `corpora` and `systems` -> rankings (`run`) -> `figures` -> `report`; and `speed`, against others.

Corpora know no model, figures know no corpus, a report needs only a results folder. `mteb_model` stands alone.
"""
