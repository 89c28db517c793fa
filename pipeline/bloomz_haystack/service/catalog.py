"""What the store holds, file by file, kept until it changes; and the filters that requests make of it."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bloomz_haystack.indexing.indexed_files import IndexedFile, IndexedFiles
from bloomz_haystack.indexing.stored import FileCount, Filters, of_files, stored_files
from bloomz_haystack.service.shared_store import SharedStore
from bloomz_haystack.service.uploads import FOLDER
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

LANGUAGE_FIELD = "meta.language"


class StoreCounts(NamedTuple):
    """What the store holds as a whole."""

    passages: int
    files: int
    languages: list[str]


class _Contents(NamedTuple):
    files: dict[str, Filters]
    uploaded: set[str]
    counts: list[FileCount]
    facts: StoreCounts


class Catalog:
    """The list of the stored files; made when it is asked for, forgotten when the store changes."""

    def __init__(self, store: QdrantEdgeDocumentStore | SharedStore) -> None:
        """Make nothing yet.

        :param store: open.
        """
        self._store = store
        self._uploads = store.folder / FOLDER
        self._lock = threading.Lock()
        self._contents: _Contents | None = None
        self._changes = 0
        self._made_at = 0.0

    def changed(self, old_enough: float = 0.0) -> None:
        """Forget the list: passages were written or removed.

        :param old_enough: seconds; a list made since then is kept.
        """
        if time.monotonic() - self._made_at >= old_enough:
            self._changes += 1
            self._contents = None

    def facts(self) -> StoreCounts:
        """Return the numbers of passages and files, and the languages."""
        return self._read().facts

    def files(self) -> list[FileCount]:
        """Return each file with its passages, in the order of the names; those of no file come last, under ""."""
        return self._read().counts

    def uploaded(self) -> set[str]:
        """Return the names of the files that clients sent."""
        return self._read().uploaded

    def title(self, file: str) -> str | None:
        """Return the title of a file.

        :param file: its name, as `files` gives it.
        :returns: the title; None if its passages have none, or several.
        """
        of = self._read().files.get(file)
        if of is None:
            return None
        titles, found = self._store.get_metadata_field_unique_values("title", size=1, filters=of)
        return str(titles[0]) if found == 1 else None

    def of(self, names: Sequence[str]) -> Filters:
        """Return the filter that keeps the passages of some files.

        :param names: as `files` gives them.
        :returns: a Haystack filter.
        :raises ValueError: if the store has no passage of one of them.
        """
        known = self._read().files
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"files: the store holds no passages of {unknown[0]!r}: GET /v1/documents lists its files")
        return of_files([known[name] for name in names])

    def filters(self, filters: Filters | None, files: Sequence[str] | None, language: str | None) -> Filters | None:
        """Return one filter made of all that a request asks for.

        :param filters: a Haystack filter.
        :param files: names of files.
        :param language: "fr" or "en".
        :returns: the filter; None for all passages.
        :raises ValueError: if the store has no such file, or its passages have no language.
        """
        conditions = [filters] if filters else []
        if files is not None:
            conditions.append(self.of(files))
        if language is not None:
            if not self.facts().languages:
                raise ValueError("language: the store's passages have no meta.language: leave it out")
            conditions.append({"field": LANGUAGE_FIELD, "operator": "==", "value": language})
        if len(conditions) <= 1:
            return conditions[0] if conditions else None
        return {"operator": "AND", "conditions": conditions}

    def _read(self) -> _Contents:
        with self._lock:
            contents = self._contents
            if contents is None:
                changes = self._changes
                contents = self._made()
                if changes == self._changes:  # else what was just read may be old already
                    self._contents = contents
            return contents

    def _made(self) -> _Contents:
        indexed = IndexedFiles(self._store.folder).by_key
        self._made_at = time.monotonic()
        files, uploaded = {}, set()
        for name, of in stored_files(self._store).items():  # type: ignore[arg-type]  # the same look-ups
            file = indexed.get(of.get("value", ""))
            files[_shown_name(name, file, self._uploads)] = of
            if file is not None and file.is_under(self._uploads):
                uploaded.add(file.name)
        files = dict(sorted(files.items()))
        counts = [FileCount(name, self._store.count_documents_by_filter(of)) for name, of in files.items()]
        passages = self._store.count_documents()
        languages, _ = self._store.get_metadata_field_unique_values(LANGUAGE_FIELD, size=100)
        facts = StoreCounts(passages, len(files), sorted(str(value) for value in languages))
        if rest := passages - sum(count for _, count in counts):
            counts.append(FileCount("", rest))
        return _Contents(files, uploaded, counts, facts)


def _shown_name(name: str, file: IndexedFile | None, uploads: Path) -> str:
    """Return a file's name as clients see it: of two of one name no path on this machine."""
    if file is None or name == file.name or file.is_under(uploads):
        return name if file is None else file.name
    return f"{file.name} [{file.key[:8]}]"
