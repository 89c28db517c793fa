"""What every format gives: text with its metadata, or why there is none, and what is worth saying of it."""

from typing import Any, NamedTuple


class Extract(NamedTuple):
    """The text of a file, of a part of it, of a line or of a row."""

    content: str = ""
    meta: dict[str, Any] = {}  # noqa: RUF012  # never changed in place
    bytes: int = 0  # of the file, read for it
    line: int | None = None  # where it begins, if the format has lines of its own
    problem: str | None = None  # why there is no text
    notes: tuple[str, ...] = ()  # what was lost or guessed although there is text


class UnreadableFileError(ValueError):
    """A file whose text cannot be read; the message is the reason."""


def ranges(numbers: list[int]) -> str:
    """Return ascending numbers in short.

    >>> ranges([2, 5, 6, 7])
    '2, 5-7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
