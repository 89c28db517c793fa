"""A .jsonl file -> one text a line, with the metadata that the line gives it."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from bloomz_haystack.indexing.formats.decoding import LONGEST_LINE, Decoder, lines
from bloomz_haystack.indexing.formats.extract import Extract, UnreadableFileError
from haystack_integrations.document_stores.qdrant_edge.facts import check_json


def read_json_lines(file: BinaryIO) -> Iterator[Extract]:
    """Read `{"content": ..., "meta": {...}}` lines; a broken one is named and the others are read.

    :param file: open, at its beginning.
    :yields: each line that is not blank.
    """
    decoder = Decoder()
    for number, line in enumerate(lines(file), start=1):
        if not line.strip():
            continue
        try:
            if len(line) >= LONGEST_LINE:
                raise ValueError(f"longer than {LONGEST_LINE // 2**20} MB")
            content, meta = text_of_row(json_object(decoder.text(line)))
            yield Extract(content, meta, bytes=len(line), line=number)
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
            yield Extract(bytes=len(line), line=number, problem=reason)
    if notes := decoder.notes():
        yield Extract(notes=notes)


def json_object(line: str) -> dict[str, Any]:
    """Return the object that a line holds.

    :param line: JSON.
    :returns: the object.
    :raises ValueError: if it holds something else.
    """
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(data, dict):
        raise ValueError(f'expected an object such as {{"content": "..."}}, but got a {type(data).__name__}')
    return data


def text_of_row(data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the text of a row, and its metadata.

    :param data: with `content` or `text`; perhaps `meta`, and `title` and `id`, which go there.
    :returns: both.
    :raises ValueError: if there is no text, or the metadata cannot be stored.
    """
    content = data.get("content", data.get("text"))
    if not isinstance(content, str):
        raise ValueError('expected a text under "content" (or "text"), but got ' + repr(content)[:40])
    meta = data.get("meta") or {}
    if not isinstance(meta, dict):
        raise ValueError(f'expected an object under "meta", but got a {type(meta).__name__}')
    for name in ("title", "id", "_id"):
        if data.get(name) not in (None, ""):
            meta.setdefault(name.lstrip("_"), data[name])
    check_metadata(meta)
    try:
        json.dumps([content, meta], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate) in the text") from None
    return content, meta


def check_metadata(meta: dict[str, Any]) -> None:
    """Refuse what the store would refuse, as long as the line can still be named.

    :param meta: of one line.
    :raises ValueError: if a value is not plain, finite JSON, or nested too deep.
    """
    try:
        check_json(meta, "meta")
    except RecursionError:
        raise UnreadableFileError("meta is nested too deep") from None
