"""Files -> documents -> passages -> store: `files` finds them, `texts` reads them by `formats/`, `passages` cuts them,
`index` embeds and writes; `indexed_files` and `stored` say what a store holds of which file.
"""
