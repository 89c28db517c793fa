"""Files written whole or not at all: whoever reads one never sees half of it, whatever kills the writer."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another when all went well.

    :param target: the file, in a folder that exists.
    :yields: a path in the same folder; it is gone afterwards, whatever happened.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    os.close(handle)
    path = Path(name)
    try:
        yield path
        path.chmod(0o644)
        os.replace(path, target)
    finally:
        path.unlink(missing_ok=True)


def write_whole(target: Path, text: str) -> None:
    """Write a text in UTF-8.

    :param target: the file.
    :param text: all of it.
    """
    with replacing(target) as path:
        path.write_text(text, encoding="utf-8")
