"""Lines and JSON -> stdout. Imports neither torch nor Haystack: a verb that needs neither prints at once."""

import json
import sys
from collections.abc import Iterable, Sequence

from bloomz_haystack.files.printable import printable, printable_json


def print_lines(lines: Iterable[str | Sequence[str]]) -> None:
    """Print lines on stdout; a terminal gets them cut between words, a path or a name never in the middle.

    :param lines: of anything; the fields of one have tabs between them in a pipe.
    """
    rows = ([printable(field) for field in ([line] if isinstance(line, str) else line)] for line in lines)
    if sys.stdout.isatty():
        from rich.text import Text

        from bloomz_haystack.cli.console import console

        drawn = console()
        for fields in rows:
            drawn.print(Text("  ".join(fields)), overflow="ignore", crop=False)
    else:
        for fields in rows:
            print("\t".join(fields))  # noqa: T201


def print_json(value: object) -> None:
    """Print one JSON object on one line of stdout, in UTF-8 whatever the terminal.

    :param value: plain values.
    """
    sys.stdout.flush()  # what was printed before comes before
    sys.stdout.buffer.write(printable_json(json.dumps(value, ensure_ascii=False)).encode() + b"\n")
    sys.stdout.flush()
