"""The training recipe: data, losses, the one training loop.

Imports torch, transformers, tokenizers and numpy (and PyYAML, which transformers brings), neither Haystack nor the
command line: it runs on a training machine that has nothing else.
"""
