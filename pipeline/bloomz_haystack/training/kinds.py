"""Kinds of data: which files are read, and which names are those of data sets on the Hub. Reads nothing."""

import re
from pathlib import Path

PARQUET_SUFFIX, SQUAD_SUFFIXES = ".parquet", (".json", ".json.gz")
SUFFIXES = (".jsonl", ".jsonl.gz", PARQUET_SUFFIX, *SQUAD_SUFFIXES)
READABLE = "*.jsonl, *.jsonl.gz, *.parquet, or *.json (.gz) in SQuAD format"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_on_hub(name: str) -> bool:
    """Return whether a name means a data set on the Hub: `owner/name`, with nothing of that name on disk.

    :param name: as given.
    :returns: False for a path.

    >>> is_on_hub("cmarkea/mmarco-contrastive"), is_on_hub("data/pairs.jsonl.gz")
    (True, False)
    """
    return bool(_HUB_NAME.fullmatch(name)) and not name.endswith(SUFFIXES) and not Path(name).exists()


def is_squad(path: Path) -> bool:
    """Return whether a file is read as SQuAD format.

    :param path: of the file.
    :returns: by the end of its name.
    """
    return path.name.endswith(SQUAD_SUFFIXES)
