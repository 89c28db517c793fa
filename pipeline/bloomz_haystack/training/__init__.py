"""The training recipe, from files of rows to a checkpoint: `train` runs it.

`kinds`, `config` and `team` say what is asked for; `data/` draws batches, `objectives/` turns them into losses, `run/`
is the loop and what it writes; `base` loads a checkpoint, `tiny/` makes what only the bundled pair needs,
`model` chooses. Runs without Haystack and the command line: torch, transformers, tokenizers, numpy, pydantic.
"""
