"""A .jsonl or .parquet file of passages -> ranges of its rows, and the passages of a range.

A row is a passage and is not cut: `content`, and if they are given `id` and `meta`. Without an id it gets a hash of the
rest, so that the same row is the same passage in every run.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document

from bloomz_haystack.indexing.files import Problem, name_in_store
from bloomz_haystack.indexing.formats.decoding import LONGEST_LINE
from bloomz_haystack.indexing.formats.json_lines import json_object, text_of_row
from haystack_integrations.document_stores.qdrant_edge.points import point_id

PARQUET = ".parquet"
PASSAGE_KINDS = (".jsonl", PARQUET)
NEEDS_PYARROW = 'Parquet files need pyarrow: pip install "bloomz-haystack[bulk]"'
PARQUET_BATCH = 1024  # of a .parquet file, in memory at a time


class RowRange(NamedTuple):
    """Rows that one process reads, without reading those before."""

    path: Path
    start: int  # bytes into a .jsonl file; the row group of a .parquet file
    first: int  # number of the first row, from 1
    rows: int


def row_ranges(path: Path, lines: int) -> Iterator[RowRange]:
    """Divide a file: a .jsonl file into so many lines each, a .parquet file into its row groups.

    :param path: of the file.
    :param lines: of a range, at most.
    :yields: the ranges, in order; blank lines count.
    :raises ValueError: if a .parquet file is none, or torn.
    """
    if path.suffix.lower() == PARQUET:
        first = 1
        for group, rows in enumerate(_group_sizes(path)):
            yield RowRange(path, group, first, rows)
            first += rows
        return
    with path.open("rb") as file:
        start, first, rows = 0, 1, 0
        while file.readline(LONGEST_LINE):
            rows += 1
            if rows == lines:
                yield RowRange(path, start, first, rows)
                start, first, rows = file.tell(), first + rows, 0
        if rows:
            yield RowRange(path, start, first, rows)


def passages_of_rows(rows: RowRange) -> Iterator[Document | Problem]:
    """Read a range.

    :param rows: of a file that has not changed since it was divided.
    :yields: each passage; a row that is none comes out as a `Problem` with its number.
    """
    entries = _parquet_entries if rows.path.suffix.lower() == PARQUET else _line_entries
    for number, entry in enumerate(entries(rows), start=rows.first):
        try:
            if entry is not None:
                yield passage_of_row(entry if isinstance(entry, dict) else json_object(_decoded(entry)))
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
            yield Problem(name_in_store(rows.path), " ".join(reason.split())[:200], number)


def passage_of_row(row: dict[str, Any]) -> Document:
    """Return the passage that a row holds.

    :param row: `content` (or `text`), and perhaps `id` (or `_id`), `meta` (an object, or its JSON) and `title`.
    :returns: the passage.
    :raises ValueError: if it has no text, or cannot be stored.
    """
    row = dict(row)
    given = [row.pop(name, None) for name in ("id", "_id")]
    key = next((key for key in given if key not in (None, "")), "")
    if isinstance(row.get("meta"), str):
        row["meta"] = json_object(row["meta"])
    content, meta = text_of_row(row)
    if not content.strip():
        raise ValueError("the text is empty")
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ValueError(f'expected a text or a whole number under "id", but got {key!r:.40}')
    point_id(str(key))  # refuses what is no text
    return Document(id=str(key), content=content, meta=meta)  # Haystack hashes where there is no id


def _line_entries(rows: RowRange) -> Iterator[bytes | None]:
    with rows.path.open("rb") as file:
        file.seek(rows.start)
        for _ in range(rows.rows):
            line = file.readline(LONGEST_LINE)
            yield line if line.strip() else None


def _decoded(line: bytes) -> str:
    if len(line) >= LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE // 2**20} MB")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start}): convert the file") from None


def _parquet_entries(rows: RowRange) -> Iterator[dict[str, Any]]:
    with open_parquet(rows.path) as file:
        names = {"id", "_id", "content", "text", "meta", "title"}
        columns = [name for name in file.schema_arrow.names if name in names]
        for batch in file.iter_batches(PARQUET_BATCH, row_groups=[rows.start], columns=columns):
            yield from batch.to_pylist()


def _group_sizes(path: Path) -> list[int]:
    with open_parquet(path) as file:
        if not {"content", "text"} & set(file.schema_arrow.names):
            found = ", ".join(file.schema_arrow.names)
            raise ValueError(f'{path} has no column "content" (or "text"), but {found}')
        return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]


def open_parquet(path: Path) -> Any:  # noqa: ANN401
    """Open a Parquet file.

    :param path: of the file.
    :returns: a `pyarrow.parquet.ParquetFile`.
    :raises ValueError: if it is torn, or none.
    :raises ImportError: without pyarrow.
    """
    try:
        return import_module("pyarrow.parquet").ParquetFile(path, page_checksum_verification=True)
    except ImportError as error:
        raise ImportError(NEEDS_PYARROW) from error
    except import_module("pyarrow").ArrowException as error:
        raise ValueError(f"{path} is torn, or no Parquet file ({str(error).partition(chr(10))[0]})") from None
