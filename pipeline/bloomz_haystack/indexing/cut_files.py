"""A file -> its passages, as they are stored: cut, each with an id, and with the key by which the file is known."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from haystack import Document

from bloomz_haystack.indexing.files import Note, Problem, path_of
from bloomz_haystack.indexing.indexed_files import IndexedFile
from bloomz_haystack.indexing.passages import Splitter
from bloomz_haystack.indexing.texts import read_file
from bloomz_haystack.settings import FILE_KEY


class Cut(NamedTuple):
    """Passages, a problem or a note, and how many bytes of the file they took."""

    outcome: list[Document] | Problem | Note
    bytes: int


def cut_file(path: Path, file: IndexedFile, splitter: Splitter) -> Iterator[Cut]:
    """Read one file and cut it.

    :param path: of the file.
    :param file: what is kept of it.
    :param splitter: cuts it.
    :yields: the passages of each of its texts; what is broken comes out as a `Problem`, what is doubtful as a `Note`.
    """
    seen: Counter[str] = Counter()
    for outcome, size in read_file(path):
        if isinstance(outcome, Document):
            if FILE_KEY in outcome.meta:
                reason = f"its metadata has {FILE_KEY}, a name that the store needs: it was replaced"
                yield Cut(Note(file.path, reason), 0)
            keyed = replace(outcome, meta={**outcome.meta, FILE_KEY: file.key})
            yield Cut(splitter.split(keyed, path_of(file.name), seen), size)
        else:
            yield Cut(outcome, size)
