"""Questions and passages: by file (`corpus_files`), from the Hub (`hub_corpora`), by name (`corpora`)."""
