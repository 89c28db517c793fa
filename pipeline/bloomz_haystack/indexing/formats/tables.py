"""Rows of .csv, .tsv and .xlsx -> one text a row, the columns as metadata.

A column named "content" or "text" is the text; without one, the text names every column: "code: A12". The standard
library reads .csv row by row; Haystack's converter would take one column as the text and the whole file into memory.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, BinaryIO

from bloomz_haystack.indexing.formats.decoding import Decoder, lines
from bloomz_haystack.indexing.formats.extract import Extract, UnreadableFileError
from bloomz_haystack.indexing.formats.office_files import check_office_file

DELIMITERS = "\t;,|"  # of two that fit as well, the first
CONTENT_COLUMNS = ("content", "text")
SAMPLE_LINES = 50
LONGEST_CELL = 2**30
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # Excel's own first line

Cells = Sequence[Any]


def read_csv(file: BinaryIO) -> Iterator[Extract]:
    """Read a file of rows; the first row names the columns.

    :param file: open, at its beginning.
    :yields: each row with a value in it.
    """
    csv.field_size_limit(LONGEST_CELL)
    decoder = Decoder()
    taken = 0

    def decoded() -> Iterator[str]:
        nonlocal taken
        for line in lines(file):
            taken += len(line)
            yield decoder.text(line)

    text = decoded()
    head = list(islice(text, SAMPLE_LINES))
    if head and (given := _SEPARATOR_LINE.fullmatch(head[0])):
        head, delimiter = head[1:], given[1]
    else:
        delimiter = _delimiter(head)
    rows = csv.reader(chain(head, text), delimiter=delimiter)
    for extract in table_texts(rows):
        yield extract._replace(bytes=taken)
        taken = 0
    if notes := decoder.notes():
        yield Extract(bytes=taken, notes=notes)


def _delimiter(head: Sequence[str]) -> str:
    """Choose what gives the most columns in most of the first rows."""

    def columns(delimiter: str) -> int:
        with suppress(csv.Error):
            widths = [len(row) for row in csv.reader(head, delimiter=delimiter) if row]
            return min(sorted(widths)[len(widths) // 4 :], default=0)
        return 0

    return max(DELIMITERS, key=columns)


def read_xlsx(file: BinaryIO) -> Iterator[Extract]:
    """Read a workbook: of each sheet, the first row with values names the columns.

    :param file: open, at its beginning.
    :yields: each row with a value in it, the sheet's name in its metadata.
    """
    check_office_file(file)
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise UnreadableFileError('reading .xlsx needs: pip install "bloomz-haystack[office]"') from None
    workbook = load_workbook(file, read_only=True, data_only=True)
    try:
        for sheet in workbook.worksheets:
            sheet.reset_dimensions()  # some programs write a wrong size, and the rest would not be read
            for extract in table_texts(sheet.iter_rows(values_only=True)):
                yield extract._replace(meta={"sheet": sheet.title, **extract.meta})
    finally:
        workbook.close()


def table_texts(rows: Iterable[Cells]) -> Iterator[Extract]:
    """Turn rows into texts.

    :param rows: the first that has values names the columns.
    :yields: the others; the names themselves, if nothing follows them.
    """
    filled = (row for row in rows if any(_plain(cell) not in ("", None) for cell in row))
    header = next(filled, None)
    if header is None:
        return
    names = _names(header)
    row: Cells | None = None
    for row in filled:
        cells = {
            names[place] if place < len(names) else f"column {place + 1}": value
            for place, cell in enumerate(row)
            if (value := _plain(cell)) not in ("", None)
        }
        yield _text_of(cells)
    if row is None:
        yield Extract("\n".join(str(_plain(cell)) for cell in header if _plain(cell) not in ("", None)))


def _text_of(cells: dict[str, Any]) -> Extract:
    meta = dict(cells)
    for name in cells:
        if name.casefold() in CONTENT_COLUMNS:
            return Extract(str(meta.pop(name)), meta)
    if len(cells) == 1:
        return Extract(str(next(iter(cells.values()))), meta)
    return Extract("\n".join(f"{name}: {value}" for name, value in cells.items()), meta)


def _names(header: Cells) -> list[str]:
    """Name every column, each differently."""
    names: list[str] = []
    for place, cell in enumerate(header, start=1):
        value = _plain(cell)
        name = " ".join(str(value).split()) if value not in ("", None) else f"column {place}"
        names.append(name if name not in names else f"{name} {place}")
    return names


def _plain(cell: object) -> Any:  # noqa: ANN401
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or isinstance(cell, bool | float):
        return cell
    if isinstance(cell, int):
        return cell if abs(cell) < 2**63 else str(cell)
    isoformat = getattr(cell, "isoformat", None)
    return isoformat() if isoformat else str(cell)
