"""Paths given by the user -> the files to read, each once, in a stable order. Knows nothing of what is inside them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bloomz_haystack.problems import Problem

KINDS = {
    ".txt": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".jsonl": "jsonl",
}


@dataclass
class FoundFiles:
    """The files to read and what was left aside."""

    files: list[Path] = field(default_factory=list)  # resolved, so that two ways to one file are one file
    roots: list[Path] = field(default_factory=list)
    other_kinds: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Size of all the files together."""
        return sum(size_of(path) for path in self.files)


def find_files(paths: Iterable[Path], leave_out: Path) -> FoundFiles:
    """Collect the files that can be read.

    In a folder, hidden files and folders (their name starts with a dot) are left aside, files of other kinds are
    counted, links are followed and a loop of links is walked once.

    :param paths: files and folders.
    :param leave_out: the store's own folder.
    :returns: the files, in the order of the paths and then of their names.
    :raises ValueError: if a path does not exist: better nothing than half of what was meant.
    """
    paths = [Path(path) for path in paths]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise ValueError(f"no such file or folder: {', '.join(missing)}")
    found = FoundFiles(roots=[path.resolve() for path in paths])
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            candidates = _walk(path, leave_out.resolve(), found)
        elif path.suffix.lower() in KINDS:
            candidates = iter([path])
        else:
            kinds = ", ".join(KINDS)
            found.problems.append(Problem(str(path), f"cannot read a {path.suffix or 'nameless'} file: give {kinds}"))
            continue
        for file in candidates:
            resolved = file.resolve()
            if resolved not in seen:
                seen.add(resolved)
                found.files.append(resolved)
    return found


def _walk(folder: Path, leave_out: Path, found: FoundFiles) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.problems.append(Problem(str(error.filename), error.strerror or str(error)))

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
                found.other_kinds += 1
            elif not file.is_file():  # a broken link, or a pipe that would never end
                found.problems.append(Problem(str(file), "not a regular file"))
            else:
                yield file


def size_of(path: Path) -> int:
    """Size in bytes; 0 for a file that has just gone.

    :param path: a file.
    :returns: its size.
    """
    try:
        return path.stat().st_size
    except OSError:
        return 0
