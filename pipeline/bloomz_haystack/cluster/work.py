"""Inputs -> units of work, numbered, the same on every machine: what one process of many does on its own.

A unit is some neighbouring files of a folder, or some rows of a file of passages; none needs another one to be read.
Knows nothing of models.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bloomz_haystack.cluster.passage_rows import PASSAGE_KINDS, RowRange, row_ranges
from bloomz_haystack.files.provenance import sha256
from bloomz_haystack.indexing.files import FoundFile, FoundFiles, find_files, kind_of, size_of
from bloomz_haystack.settings import EmbedSettings

WORD_BYTES = 7  # of a text, about
OTHER_BYTES = 20 * WORD_BYTES  # of a .pdf or .docx file, for each of its words
TEXT_KINDS = {"text", "markdown", "html", "csv", "jsonl"}


class WorkUnit(NamedTuple):
    """What one process reads and embeds on its own: files, or rows."""

    number: int
    files: tuple[FoundFile, ...] = ()
    rows: RowRange | None = None

    @property
    def bytes(self) -> int:
        """Size of the files; a row counts as a kilobyte."""
        return sum(size_of(file.path) for file in self.files) + 1000 * (self.rows.rows if self.rows else 0)


class InputFacts(NamedTuple):
    """What identifies an input: for a file of passages its bytes, for folders the names and sizes of all files."""

    input: str
    files: int
    bytes: int
    sha256: str


@dataclass
class BulkWork:
    """All that the inputs hold."""

    units: list[WorkUnit]
    inputs: list[InputFacts]
    found: FoundFiles = field(default_factory=FoundFiles)


def find_work(paths: Iterable[Path], leave_out: Path, settings: EmbedSettings) -> BulkWork:
    """Divide inputs into units.

    :param paths: folders and files, as `bloomz index` takes them; but a .jsonl or .parquet file that is named here, and
        not only found in a folder, holds passages.
    :param leave_out: the folder of the parts.
    :param settings: a unit of files has about as many passages as a part may have.
    :returns: the units; those of files come first.
    :raises ValueError: if a path does not exist, or a .parquet file is none.
    """
    paths = list(dict.fromkeys(paths))
    named = [path for path in paths if path.suffix.lower() in PASSAGE_KINDS and path.is_file()]
    found = find_files([path for path in paths if path not in named], leave_out)
    ranges = [rows for path in named for rows in row_ranges(path, settings.part_passages)]
    pieces: list[tuple[tuple[FoundFile, ...], RowRange | None]]
    pieces = [(group, None) for group in _groups(found.files, settings.part_passages * settings.passage_words)] + [
        ((), rows) for rows in ranges
    ]
    inputs = [_facts_of(found)] if found.asked else []
    inputs += [InputFacts(path.name, 1, size_of(path), sha256(path)) for path in named]
    return BulkWork([WorkUnit(number, *piece) for number, piece in enumerate(pieces)], inputs, found)


def _facts_of(found: FoundFiles) -> InputFacts:
    names = "".join(f"{file.way} {size_of(file.path)}\n" for file in found.files)
    digest = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
    return InputFacts(" ".join(map(str, found.asked)), len(found.files), found.bytes, digest)


def _groups(files: Iterable[FoundFile], words: int) -> Iterator[tuple[FoundFile, ...]]:
    """Put neighbours together until they may have so many words."""
    group: list[FoundFile] = []
    expected = 0.0
    for file in files:
        group.append(file)
        expected += size_of(file.path) / (WORD_BYTES if kind_of(file.path) in TEXT_KINDS else OTHER_BYTES)
        if expected >= words:
            yield tuple(group)
            group, expected = [], 0.0
    if group:
        yield tuple(group)
