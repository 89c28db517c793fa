"""Files that clients send -> the folder `uploads` of the store, under names that are safe.

A name is a text: no path that a client sends is ever opened. What a file is, its content says first, then its name.
"""

import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bloomz_haystack.indexing.files import KINDS, kind_of

FOLDER = "uploads"  # in the store's
BEFORE = ".before"  # what was there while another file takes its place
MOST_NAME_BYTES = 200
HEAD_BYTES, TAIL_BYTES = 4096, 65_536  # that are looked at
_FORBIDDEN = re.compile(r'[<>:"|?*\\/]|%(?=[0-9A-Fa-f]{2})')
_OFFICE = {b"word/document.xml": ".docx", b"ppt/presentation.xml": ".pptx", b"xl/workbook.xml": ".xlsx"}
_HTML = re.compile(rb"^\s*(<!doctype html|<html)", re.IGNORECASE)


class Upload(NamedTuple):
    """A file as a client sends it."""

    name: str
    content: BinaryIO


def safe_name(given: str) -> str:
    r"""Return a file name that is only a name, on any system.

    :param given: of a client; of a path only the last part counts.
    :returns: the name, in NFC; "" if nothing is left of it.

    >>> safe_name("../../etc/passwd"), safe_name("C:\\notes\\Été.txt"), safe_name(" .. "), safe_name("a\x00\u202eb.md")
    ('passwd', 'Été.txt', '', 'ab.md')
    """
    last = re.split(r"[\\/]", unicodedata.normalize("NFC", given))[-1]
    shown = "".join(character for character in last if unicodedata.category(character)[0] != "C")
    name = _FORBIDDEN.sub("_", " ".join(shown.split())).strip(". ")
    stem, suffix = os.path.splitext(name)
    room = MOST_NAME_BYTES - len(suffix.encode())
    if room <= 0:  # what looks like a suffix is none
        return name.encode()[:MOST_NAME_BYTES].decode(errors="ignore")
    return stem.encode()[:room].decode(errors="ignore") + suffix


def readable_name(name: str, content: BinaryIO) -> str:
    """Return a name whose suffix says what the content is.

    :param name: a safe one.
    :param content: open, at its beginning, where it is left.
    :returns: the name, with a suffix more if its own is unknown or wrong.
    :raises ValueError: if the content is of no kind that can be read.
    """
    head = content.read(HEAD_BYTES)
    found = _suffix_of(head, content)
    content.seek(0)
    suffix = Path(name).suffix.lower()
    if suffix in KINDS and (found is None or KINDS[found] == kind_of(Path(name))):
        return name
    if found is None and b"\0" not in head:
        found = ".txt"
    if found is None:
        raise ValueError(f"cannot read a {suffix or 'nameless'} file: give {', '.join(KINDS)}")
    return name + found


def _suffix_of(head: bytes, content: BinaryIO) -> str | None:
    """Return the suffix of a content that says what it is."""
    if b"%PDF-" in head[:1024]:
        return ".pdf"
    if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return ".html"
    if head.startswith(b"PK\x03\x04"):  # a zip archive; the list of what is in it stands at its end
        content.seek(max(content.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
        tail = content.read()
        return next((suffix for part, suffix in _OFFICE.items() if part in tail), None)
    return None


@contextmanager
def replaced(target: Path, source: Path) -> Iterator[None]:
    """Put a file in the place of another, and the other back if what follows fails.

    :param target: the place.
    :param source: the new file; it stays.
    :yields: while the new file is in its place.
    """
    before = target.with_name(BEFORE)
    had_one = target.exists()
    if had_one:
        os.replace(target, before)
    try:
        shutil.copyfile(source, target)
        yield
    except BaseException:
        os.replace(before, target) if had_one else target.unlink(missing_ok=True)
        raise
    before.unlink(missing_ok=True)
