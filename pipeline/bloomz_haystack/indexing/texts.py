"""A file -> its text, as Haystack documents.

Leaves: one document a file, or one a line of a .jsonl file and a row of a table, with what is known of it in the
metadata (title, columns). Knows nothing of passages, models or stores.
"""

import os
import stat
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, NamedTuple

from haystack import Document

from bloomz_haystack.indexing.files import Note, Problem, kind_of, name_in_store, size_of
from bloomz_haystack.indexing.formats.extract import Extract, UnreadableFileError
from bloomz_haystack.indexing.formats.line_ends import rejoined
from haystack_integrations.common.bloomz.plain_text import plain_text

Reader = Callable[[BinaryIO], Iterator[Extract]]


class Reading(NamedTuple):
    """A document, a problem or a note, and how many bytes of the file it took."""

    outcome: Document | Problem | Note
    bytes: int


def read_file(path: Path) -> Iterator[Reading]:
    """Read one file.

    :param path: of a kind that is known.
    :yields: documents; what is broken comes out as a `Problem`, what is doubtful as a `Note`.
    """
    name, kind = name_in_store(path), kind_of(path)
    rest = size_of(path)
    try:
        with open_regular(path) as file:
            for extract in _reader(kind)(file):
                if kind not in COUNTING:
                    extract = extract._replace(bytes=rest)
                rest = max(rest - extract.bytes, 0)
                yield from _readings(name, extract)
    except MemoryError:
        yield Reading(Problem(name, "not enough memory to read it"), rest)
    except Exception as error:  # a broken file may bring out anything in a parser
        yield Reading(Problem(name, _reason(error)), rest)


def open_regular(path: Path) -> BinaryIO:
    """Open a file, and never wait for a pipe or read a device.

    :param path: of a file.
    :returns: it, open.
    :raises UnreadableFileError: if it is none.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableFileError("not a regular file")
    return os.fdopen(handle, "rb")


def _reader(kind: str) -> Reader:
    # Imported one by one, when the first file of the kind comes.
    module, name = READERS[kind]
    return getattr(import_module(f"bloomz_haystack.indexing.formats.{module}"), name)


READERS = {
    "text": ("plain", "read_plain"),
    "markdown": ("web", "read_markdown"),
    "html": ("web", "read_html"),
    "pdf": ("pdf", "read_pdf"),
    "docx": ("office", "read_docx"),
    "pptx": ("office", "read_pptx"),
    "xlsx": ("tables", "read_xlsx"),
    "csv": ("tables", "read_csv"),
    "jsonl": ("json_lines", "read_json_lines"),
}
COUNTING = {"text", "csv", "jsonl"}  # they know how far they are; of another kind, the first text counts for all


def _readings(name: str, extract: Extract) -> Iterator[Reading]:
    for note in extract.notes:
        yield Reading(Note(name, note), 0)
    if extract.problem is not None:
        yield Reading(Problem(name, _reason(extract.problem), extract.line), extract.bytes)
    elif extract.content or extract.line is not None:
        meta = dict(extract.meta)
        if isinstance(title := meta.get("title"), str):
            meta["title"] = _valid(plain_text(title)).strip()
        content = rejoined(plain_text(_valid(extract.content)))
        yield Reading(Document(content=content, meta=meta), extract.bytes)


def _valid(text: str) -> str:
    """Replace what cannot be written as UTF-8 (lone surrogates, which some PDFs hold)."""
    return text.encode("utf-8", "replace").decode()


def _reason(error: object) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(_valid(text).split())[:200] or type(error).__name__
