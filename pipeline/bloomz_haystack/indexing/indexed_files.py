"""The store's own list of the files it was made of: where each is on this machine, for `--prune` to look there.

A passage carries the name of its file as seen from the folder indexed (`file_path`) and a key; only this list, beside
the shard, has the absolute path, so that no answer gives it away. A line is added before the passages are written: a
run that is killed leaves a line too many, never a passage too many.
"""

import json
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from bloomz_haystack.indexing.files import FoundFile, name_in_store, path_of
from bloomz_haystack.settings import FILE_KEY
from haystack_integrations.common.bloomz.whole_files import replacing

LIST_NAME = "files.jsonl"


class IndexedFile(NamedTuple):
    """A file that the store holds passages of; all names as `name_in_store` writes them."""

    key: str  # in the passages' metadata
    name: str  # from the folder indexed
    way: str  # absolute, as it was walked
    path: str  # absolute, links followed

    @property
    def is_gone(self) -> bool:
        """Whether nothing is there, or the way leads to another file now."""
        try:
            path_of(self.way).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a folder that may not be looked into
            return False
        return name_in_store(path_of(self.way).resolve()) != self.path

    def is_under(self, place: Path) -> bool:
        """Whether it is the file, or in the folder, that somebody names.

        :param place: absolute.
        :returns: whether it is.
        """
        return path_of(self.way).is_relative_to(place) or path_of(self.path).is_relative_to(place.resolve())

    def doubtful_place(self) -> Path | None:
        """Return what an unmounted disk leaves behind: an empty folder, or a dangling link.

        :returns: it, if the file's nearest neighbour that is still there is one.
        """
        place = path_of(self.way)
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if place.is_symlink() and not place.exists():
            return place
        if not place.is_dir():
            return None
        return place if all(name.startswith(".") for name in os.listdir(place)) else None


def indexed_file(found: FoundFile) -> IndexedFile:
    """Return what is kept of a file that was found."""
    path = name_in_store(found.path)
    key = sha256(path.encode()).hexdigest()[:16]
    return IndexedFile(key, name_in_store(found.name), name_in_store(found.way), path)


class IndexedFiles:
    """The list, read once and added to."""

    def __init__(self, store: Path) -> None:
        """Read the list.

        :param store: folder of the store; it may not exist yet.
        """
        self._list = store / LIST_NAME
        self._new: list[IndexedFile] = []
        self.by_key: dict[str, IndexedFile] = {file.key: file for file in self._read()}

    def _read(self) -> Iterator[IndexedFile]:
        try:
            lines = self._list.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield IndexedFile(**json.loads(line))
            except (ValueError, TypeError):  # the last line of a run that was killed
                continue

    def add(self, found: FoundFile) -> tuple[IndexedFile, IndexedFile | None]:
        """Add a file.

        :param found: the file.
        :returns: what is kept of it, and what was kept until now. A file known from a folder further up keeps its name.
        """
        file = indexed_file(found)
        known = self.by_key.get(file.key)
        if known is not None and (known == file or _is_deeper(known, file)):
            return known, known
        self.by_key[file.key] = file
        self._new.append(file)
        return file, known

    def save(self) -> None:
        """Write what was added."""
        if not self._new:
            return
        self._list.parent.mkdir(parents=True, exist_ok=True)
        with self._list.open("ab+") as file:
            torn = file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"  # by a kill or a full disk
            file.write(b"\n" * bool(torn) + b"".join(map(_line, self._new)))
            file.flush()
            os.fsync(file.fileno())
        self._new.clear()

    def forget(self, keys: Iterable[str]) -> None:
        """Remove files whose passages are gone.

        :param keys: theirs.
        """
        for key in keys:
            self.by_key.pop(key, None)
        self._new.clear()
        with replacing(self._list) as part:
            part.write_bytes(b"".join(map(_line, self.by_key.values())))

    def under(self, places: Iterable[Path]) -> list[IndexedFile]:
        """Return the files that are in, or are, one of the places.

        :param places: absolute paths, there or not.
        :returns: those files.
        """
        places = list(places)
        return [file for file in self.by_key.values() if any(file.is_under(place) for place in places)]


def _is_deeper(known: IndexedFile, file: IndexedFile) -> bool:
    """Whether the name that is known tells more than the new one of the same file: "2024/menu.txt" than "menu.txt"."""
    return known.way == file.way and known.name.endswith(os.sep + file.name)


def _line(file: IndexedFile) -> bytes:
    return json.dumps(file._asdict(), ensure_ascii=False).encode() + b"\n"


def of_file(key: str) -> dict[str, str]:
    """Return the filter for the passages of a file.

    :param key: its own.
    :returns: a Haystack filter.
    """
    return {"field": f"meta.{FILE_KEY}", "operator": "==", "value": key}
