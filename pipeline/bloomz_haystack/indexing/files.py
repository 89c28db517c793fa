"""Paths given by the user -> the files to read, each once, in a stable order. Knows nothing of what is inside them."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

KINDS = {
    ".txt": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".pptx": "pptx",
    ".xlsx": "xlsx",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
}

# A percent sign that would read as one of ours is escaped too, so that no two names are written alike.
_ESCAPED = re.compile("%(?=25|[89A-F][0-9A-F])|[\udc80-\udcff]")
_ESCAPES = re.compile("%(25|[89A-F][0-9A-F])")


class Problem(NamedTuple):
    """A file, or a line of a .jsonl file, that could not be read; the rest goes on."""

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


class FoundFile(NamedTuple):
    """A file, and the way by which it was found."""

    path: Path  # absolute, links followed: two ways to one file are one file
    way: Path  # absolute, through the links as they were walked
    root: Path  # the folder given, or the folder of the file given

    @property
    def name(self) -> Path:
        """The way from the folder given."""
        return self.way.relative_to(self.root)


@dataclass
class FoundFiles:
    """The files to read and what was left aside."""

    files: list[FoundFile] = field(default_factory=list)
    asked: list[Path] = field(default_factory=list)  # the paths given, absolute, those that are gone included
    other_kinds: Counter[str] = field(default_factory=Counter)  # files left aside, by suffix
    problems: list[Problem] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Size of all the files together."""
        return sum(size_of(file.path) for file in self.files)


def find_files(paths: Iterable[Path], leave_out: Path, gone: bool = False) -> FoundFiles:
    """Collect the files that can be read.

    In a folder, hidden files and folders (their name starts with a dot) are left aside, files of other kinds are
    counted, links are followed and a loop of links is walked once.

    :param paths: files and folders.
    :param leave_out: the store's own folder.
    :param gone: whether a path may be gone.
    :returns: the files, in the order of the paths and then of their names.
    :raises ValueError: if a path does not exist: better nothing than half of what was meant.
    """
    paths = [Path(path) for path in paths]
    missing = [name_in_store(path) for path in paths if not os.path.lexists(path)]
    if missing and not gone:
        raise ValueError(f"no such file or folder: {', '.join(missing)}")
    found = FoundFiles(asked=[absolute(path) for path in paths])
    seen: set[Path] = set()
    for path in found.asked:
        root = path if path.is_dir() else path.parent
        for way in _candidates(path, leave_out.resolve(), found):
            resolved = way.resolve()
            if resolved not in seen:
                seen.add(resolved)
                found.files.append(FoundFile(resolved, way, root))
    return found


def absolute(path: Path) -> Path:
    """Return a path from the root, links left as they are.

    :param path: any.
    :returns: it, without "." and "..".
    """
    return Path(os.path.abspath(path))


def kind_of(path: Path) -> str:
    """Return a file's kind, by its suffix.

    :param path: of a kind that is known.
    :returns: a value of `KINDS`.
    """
    return KINDS[path.suffix.lower()]


def name_in_store(file: Path) -> str:
    """Return a file's path as the store can hold it: Linux allows names that are not UTF-8.

    :param file: its path.
    :returns: the same, with %FF for such a byte; no two paths give the same.

    >>> name_in_store(Path("100%.txt")), name_in_store(Path("a%FF.txt"))
    ('100%.txt', 'a%25FF.txt')
    """
    return _ESCAPED.sub(lambda match: f"%{os.fsencode(match.group())[0]:02X}", os.fsencode(file).decode(*_BYTES))


def path_of(name: str) -> Path:
    """Return the path that was written by `name_in_store` wrote.

    :param name: as stored.
    :returns: the path.
    """
    decoded = _ESCAPES.sub(lambda match: bytes([int(match[1], 16)]).decode(*_BYTES), name)
    return Path(os.fsdecode(decoded.encode(*_BYTES)))


_BYTES = ("utf-8", "surrogateescape")


def _candidates(path: Path, leave_out: Path, found: FoundFiles) -> Iterator[Path]:
    if path.is_dir():
        yield from _walk(path, leave_out, found)
    elif not os.path.lexists(path):
        return  # gone, as the caller knows
    elif not path.is_file():  # a broken link, a device, or a pipe that would never end
        found.problems.append(Problem(name_in_store(path), "not a regular file"))
    elif path.suffix.lower() in KINDS:
        yield path
    else:
        kinds = ", ".join(KINDS)
        reason = f"cannot read a {path.suffix or 'nameless'} file: give {kinds}"
        found.problems.append(Problem(name_in_store(path), reason))


def _walk(folder: Path, leave_out: Path, found: FoundFiles) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.problems.append(Problem(name_in_store(Path(error.filename)), error.strerror or str(error)))

    visited: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refused):
        real = os.path.realpath(place)
        if real in visited or Path(real) == leave_out:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            file = Path(place, name)
            if file.suffix.lower() not in KINDS:
                found.other_kinds[file.suffix.lower() or "without a suffix"] += 1
            elif not file.is_file():
                found.problems.append(Problem(name_in_store(file), "not a regular file"))
            else:
                yield file


def size_of(path: Path) -> int:
    """Return the size in bytes; 0 for a file that has just gone.

    :param path: a file.
    :returns: its size.
    """
    try:
        return path.stat().st_size
    except OSError:
        return 0
