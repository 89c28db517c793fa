"""A file -> its text, as Haystack documents, through Haystack's converters.

Leaves: one document a file, or one a line of a .jsonl file, with what is known of it in the metadata (title). Knows
nothing of passages, models or stores.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document
from haystack.dataclasses import ByteStream

from bloomz_haystack.finding import KINDS, size_of
from bloomz_haystack.problems import Problem, UnreadableFileError
from haystack_integrations.document_stores.qdrant_edge.facts import check_json

_HTML_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MARKDOWN_TITLE = re.compile(r"^#\s+(.+?)\s*#*\s*$", re.MULTILINE)
# Control characters that no text holds; \t \n \v \f \r and \x1b (colours in logs) do occur.
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class Reading(NamedTuple):
    """A document or a problem, and how many bytes of the file it took."""

    outcome: Document | Problem
    bytes: int


def read_file(path: Path) -> Iterator[Reading]:
    """Read one file: a document, or one a line of a .jsonl file; what is broken comes out as a ``Problem``."""
    kind = KINDS[path.suffix.lower()]
    try:
        if kind == "jsonl":
            yield from _read_lines(path)
        else:
            size = size_of(path)
            yield Reading(_convert(path.read_bytes(), kind), size)
    except UnreadableFileError as error:
        yield Reading(Problem(str(path), str(error)), size_of(path))
    except OSError as error:
        yield Reading(Problem(str(path), error.strerror or str(error)), size_of(path))


def _convert(data: bytes, kind: str) -> Document:
    if kind in ("text", "markdown"):
        data = decode(data).encode()  # the converter is then given what it expects, whatever the file was
    elif kind == "html" and b"charset" not in data[:2048].lower():
        data = decode(data).encode()
    elif not data:
        raise UnreadableFileError("the file is empty")
    if not data.strip():
        return Document(content="")
    with _reasons() as reasons:
        try:
            documents = _converter(kind).run(sources=[ByteStream(data)])["documents"]
        except Exception as error:  # a broken file may bring out anything in a parser
            raise UnreadableFileError(f"{type(error).__name__}: {_one_line(error)}") from error
    if not documents:
        raise UnreadableFileError(reasons[-1] if reasons else "no text could be read from it")
    text = _valid(documents[0].content or "")
    if not text.strip() and kind == "pdf":
        raise UnreadableFileError("no text in it; a scanned PDF needs OCR first")
    title = _title(data, documents[0], kind)
    return Document(content=text, meta={"title": title} if title else {})


def decode(data: bytes) -> str:
    """Read bytes as text: UTF-8 (with or without BOM), UTF-16 with BOM, else Windows-1252, as old French files are.

    :param data: the whole file.
    :returns: its text.
    :raises UnreadableFileError: if it is not text in any of them.

    >>> decode("déjà vu".encode("cp1252"))
    'déjà vu'
    """
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if _BINARY.search(text):
            break
        return text
    raise UnreadableFileError("not a text file: it is neither UTF-8, UTF-16 nor Windows-1252 text")


@cache
def _converter(kind: str) -> Any:  # noqa: ANN401
    # Imported one by one, when the first file of the kind comes: trafilatura alone takes a second.
    from haystack.components import converters

    if kind == "markdown":
        return converters.MarkdownToDocument(progress_bar=False)
    name = {"text": "TextFileToDocument", "html": "HTMLToDocument", "pdf": "PyPDFToDocument", "docx": "DOCXToDocument"}
    return getattr(converters, name[kind])()


@contextmanager
def _reasons() -> Iterator[list[str]]:
    """Collect why a converter gave nothing: it says so in the log, and nowhere else."""
    reasons: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = getattr(record, "error", None)
            reasons.append(_one_line(error) if error else "no text could be read from it")

    logger = logging.getLogger("haystack.components.converters")
    handler, propagate, level = Collect(logging.WARNING), logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield reasons
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


def _title(data: bytes, document: Document, kind: str) -> str | None:
    if kind == "docx":
        title = (document.meta.get("docx") or {}).get("title") or ""
    elif kind in ("html", "markdown"):
        pattern = _HTML_TITLE if kind == "html" else _MARKDOWN_TITLE
        found = pattern.search(data.decode("utf-8", "replace"))
        title = found.group(1) if found else ""
    else:
        title = ""
    return _valid(" ".join(title.split())) or None


def _read_lines(path: Path) -> Iterator[Reading]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                yield Reading(_document_of_line(line), len(line))
            except (ValueError, RecursionError) as error:
                yield Reading(Problem(str(path), _one_line(error), number), len(line))


def _document_of_line(line: bytes) -> Document:
    try:
        data = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(data, dict):
        raise ValueError(f'expected an object such as {{"content": "..."}}, but got a {type(data).__name__}')
    content = data.get("content", data.get("text"))
    if not isinstance(content, str):
        raise ValueError('expected a text under "content" (or "text"), but got ' + repr(content)[:40])
    meta = data.get("meta") or {}
    if not isinstance(meta, dict):
        raise ValueError(f'expected an object under "meta", but got a {type(meta).__name__}')
    for name in ("title", "id", "_id"):
        if data.get(name) not in (None, ""):
            meta.setdefault(name.lstrip("_"), data[name])
    check_json(meta, "meta")
    try:
        json.dumps([content, meta], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate) in the text") from None
    return Document(content=content, meta=meta)


def _valid(text: str) -> str:
    """Replace what cannot be written as UTF-8 (lone surrogates, which some PDFs hold)."""
    return text.encode("utf-8", "replace").decode()


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
