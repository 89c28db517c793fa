"""What goes wrong with one file or one line, and does not stop the rest."""

from typing import NamedTuple


class Problem(NamedTuple):
    """A file, or a line of a .jsonl file, that could not be read."""

    file: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


class Note(NamedTuple):
    """A file that was read, though not all of it, or not with certainty."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class UnreadableFileError(ValueError):
    """A file whose text cannot be had; the message is the reason."""
