"""Corpus and systems -> rankings: `quality` runs `first_stage` and `second_stage` and keeps a `results_folder`."""
