"""What is drawn on a terminal: consoles, progress bars, tables as wide as the terminal. Knows nothing of what they say.

Everything goes through `printable` first; a pipe or a file gets no drawing at all.
"""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bloomz_haystack.files.printable import printable

NARROW = 60  # columns; below, a progress bar leaves out what is least needed
LONGEST_LABEL = 0.4  # of the width of a table, for its first column


def on_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal."""
    return stream is not None and stream.isatty()


def console(stderr: bool = False) -> Console:
    """Return a console that keeps to `NO_COLOR`, `TERM=dumb` and `COLUMNS`.

    :param stderr: for notes and progress; else for answers.
    :returns: without markup and highlighting.
    """
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")
    size = shutil.get_terminal_size()
    return Console(
        stderr=stderr,
        width=size.columns,  # both given, else rich takes 80 columns for any dumb terminal
        height=size.lines,
        color_system=None if plain else "auto",
        markup=False,
        highlight=False,
        emoji=False,
    )


def progress_bar(console: Console, rate: str) -> Progress:
    """Return a bar with rate and time left, or one that shows nothing if stderr is no terminal.

    :param console: of stderr.
    :param rate: field of the task that tells how fast it goes.
    :returns: to start.
    """
    shown = console.is_terminal and not console.is_dumb_terminal
    narrow = console.width < NARROW
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=8 if narrow else 20),
        TextColumn("{task.percentage:>3.0f} %"),
        *([] if narrow else [TextColumn(f"{{task.fields[{rate}]}}", markup=False)]),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    ]
    return Progress(*columns, console=console, disable=not shown, transient=True)


def shortened_path(path: str, width: int) -> str:
    """Return a path that fits a line: first folders are left out, then the middle of the file's name.

    :param path: printable.
    :param width: columns.
    :returns: the path, whole if it fits.

    >>> shortened_path("rapports/2023/annexes/bilan-social.pdf", 30)
    '…/annexes/bilan-social.pdf'
    >>> shortened_path("un-nom-de-fichier-bien-trop-long.pdf", 20)
    'un-nom-de…p-long.pdf'
    """
    if cell_len(path) <= width:
        return path
    *folders, name = path.split("/")
    while folders:
        folders.pop(0)
        shorter = "/".join(["…", *folders, name])
        if cell_len(shorter) <= width:
            return shorter
    room = max(width - 1, 2)
    start, end = name, name
    while cell_len(start) > (room + 1) // 2 - 1:
        start = start[:-1]
    while cell_len(start) + cell_len(end) > room:
        end = end[1:]
    return f"{start}…{end}"


def show_markdown(markdown: str, as_it_is: bool = False) -> None:
    """Print Markdown with its tables drawn, on a terminal; as it is, to a pipe or if asked to.

    :param markdown: paragraphs, lists and tables.
    :param as_it_is: on a terminal too.
    """
    if as_it_is or not on_terminal(sys.stdout):
        print("\n".join(printable(line) for line in markdown.splitlines()))  # noqa: T201
        return
    drawn = console()
    for block in re.split(r"\n{2,}", markdown.strip()):
        lines = block.splitlines()
        if all(line.startswith("|") for line in lines):
            for part in fitted_tables([_cells(line) for line in lines if not _is_rule(line)], drawn.width):
                drawn.print(part, end="\n\n")
        else:
            for line in lines:
                drawn.print(Text(printable(line)), overflow="fold")
            drawn.print()


def fitted_tables(rows: Sequence[Sequence[str]], width: int) -> list[Table]:
    """Cut a table that is too wide into several that are not; each repeats the first column.

    :param rows: the first one is the head.
    :param width: columns of the terminal.
    :returns: tables to print one below the other.
    """
    wide = [max(cell_len(word) for row in rows for word in _words(row[column])) for column in range(len(rows[0]))]
    longest = max(cell_len(row[0]) for row in rows)
    label = min(longest, max(wide[0], int(width * LONGEST_LABEL)))
    parts: list[list[int]] = [[]]
    room = width - label
    for column in range(1, len(rows[0])):
        if parts[-1] and room < wide[column] + 2:
            parts.append([])
            room = width - label
        parts[-1].append(column)
        room -= wide[column] + 2
    return [_table(rows, label, {column: wide[column] for column in part}) for part in parts]


def _table(rows: Sequence[Sequence[str]], label: int, columns: dict[int, int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(rows[0][0]), width=label, overflow="fold")
    for column, least in columns.items():
        table.add_column(Text(rows[0][column]), justify="right", overflow="fold", min_width=least)
    for row in rows[1:]:
        table.add_row(*(Text(row[column]) for column in [0, *columns]))
    return table


def _words(cell: str) -> list[str]:
    return cell.split() or [""]


def _cells(line: str) -> list[str]:
    inner = printable(line).strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _is_rule(line: str) -> bool:
    return not line.strip("|-: ")
