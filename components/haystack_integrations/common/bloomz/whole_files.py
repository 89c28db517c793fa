"""Files written whole or not at all: whoever reads one never sees half of it, whatever kills the writer.

Written beside its place, flushed to the disk, moved into place; modes follow the umask. Knows nothing of what is in it.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Return a path to write to, which takes the place of another when all went well.

    :param target: the file, in a folder that exists.
    :param durable: wait for the disk; False for what can be made again.
    :yields: a path in the same folder; it is gone afterwards, whatever happened.
    :raises OSError: if the disk is full or the folder cannot be written to; the old file is then as it was.
    """
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex[:12]}.part")
    part.touch(exist_ok=False)
    try:
        yield part
        move_into_place(part, target, durable=durable)
    finally:
        part.unlink(missing_ok=True)


def move_into_place(part: Path, target: Path, *, durable: bool = True) -> None:
    """Put a whole file in the place of another.

    :param part: written and closed, on the same file system.
    :param target: where it belongs.
    :param durable: wait for the disk: after a power cut there is the old file or the new one.
    """
    if durable:
        _flush(part, os.O_RDWR)
    os.replace(part, target)
    if durable and os.name == "posix":  # elsewhere a folder cannot be opened
        with suppress(OSError):  # some network file systems flush no folders
            _flush(target.parent, os.O_RDONLY)


def write_whole(target: Path, text: str) -> None:
    """Write a text in UTF-8.

    :param target: the file.
    :param text: all of it.
    """
    with replacing(target) as path:
        path.write_text(text, encoding="utf-8")


def _flush(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
