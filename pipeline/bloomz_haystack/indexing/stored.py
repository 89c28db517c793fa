"""A store's folder -> what it holds, file by file, and the removal of some of it: the `store` verbs' work.

Knows nothing of models and of the command line.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bloomz_haystack.indexing.indexed_files import IndexedFiles, of_file
from bloomz_haystack.settings import FILE_FIELD, FILE_KEY
from bloomz_haystack.store_folder import StoreFolder
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY

Filters = dict[str, Any]


@dataclass(frozen=True)
class StoreFacts:
    """What is known of a store as a whole."""

    store: str
    model: str | None
    passages: int
    files: int
    bytes: int  # on disk
    embedding_dim: int
    datatype: str
    hybrid: bool  # whether words are kept beside the vectors

    def as_json(self) -> dict[str, Any]:
        """Return what `bloomz store info --json` prints."""
        return asdict(self)


class FileCount(NamedTuple):
    """A file and its passages in the store."""

    file: str
    passages: int


def store_facts(folder: StoreFolder) -> StoreFacts:
    """Return what a store holds as a whole.

    :param folder: of the store.
    :returns: model, counts, size.
    :raises ValueError: if there is none.
    """
    with folder.opened() as store:
        passages, files = store.count_documents(), len(stored_files(store))
    description = folder.description
    assert description is not None
    return StoreFacts(
        str(folder.path),
        folder.info.get(MODEL_KEY),
        passages,
        files,
        _size(folder.path),
        description.embedding_dim,
        description.datatype,
        description.hybrid,
    )


def stored_files(store: QdrantEdgeDocumentStore) -> dict[str, Filters]:
    """Return the files whose passages a store holds, each with the filter that keeps them.

    :param store: open or not.
    :returns: by name, in the order of the names: the `file_path` of the passages; of two files of one name, in two
        folders, the whole path.
    """
    indexed = list(IndexedFiles(store.folder).by_key.values())
    names = Counter(file.name for file in indexed)
    files: dict[str, Filters] = {
        file.name if names[file.name] == 1 else file.way: dict(of_file(file.key)) for file in indexed
    }
    # What was written by another program than `bloomz index` has no key. Without a list, on a machine that only reads a
    # store that others write, names are all there is.
    found, _ = store.get_metadata_field_unique_values(FILE_FIELD, size=2**31)
    no_key = {"field": f"meta.{FILE_KEY}", "operator": "==", "value": None}
    for name in found:
        named = {"field": f"meta.{FILE_FIELD}", "operator": "==", "value": name}
        files.setdefault(str(name), {"operator": "AND", "conditions": [named, no_key]} if indexed else dict(named))
    return {name: files[name] for name in sorted(files) if store.count_documents_by_filter(files[name])}


def count_by_file(store: QdrantEdgeDocumentStore) -> list[FileCount]:
    """Return the passage count of each file; those of no file come last, under "".

    :param store: open or not.
    :returns: in the order of the names.
    """
    counts = [FileCount(name, store.count_documents_by_filter(of)) for name, of in stored_files(store).items()]
    rest = store.count_documents() - sum(passages for _, passages in counts)
    return [*counts, FileCount("", rest)] if rest else counts


def of_files(filters: Iterable[Filters]) -> Filters:
    """Return the filter for the passages of some files."""
    return {"operator": "OR", "conditions": list(filters)}


def files_named(store: QdrantEdgeDocumentStore, given: str) -> dict[str, Filters]:
    """Return the stored files that a user means: a file, or all below a folder; both may be gone from the disk.

    :param store: open or not.
    :param given: a name as `stored_files` gives it, a folder in one, or a path, absolute or from here.
    :returns: those that are meant, as `stored_files` gives them.
    :raises ValueError: if there are none.
    """
    below = {file.key for file in IndexedFiles(store.folder).under([Path(os.path.abspath(given))])}
    meant = {
        name: filters
        for name, filters in stored_files(store).items()
        if given in (name, *map(str, Path(name).parents)) or filters.get("value") in below
    }
    if not meant:
        raise ValueError(f"the store holds no passages of {given}: bloomz store list names its files")
    return meant


def read_filter(text: str) -> Filters:
    """Read a Haystack filter.

    :param text: JSON.
    :returns: the filter; what is in it is checked by the store.
    :raises ValueError: if it is not a JSON object.
    """
    try:
        filters = json.loads(text)
    except (ValueError, RecursionError):
        filters = None
    if not isinstance(filters, dict) or not filters:
        example = """'{"field": "meta.language", "operator": "==", "value": "fr"}'"""
        raise ValueError(f"--filter must be a Haystack filter in JSON, as {example}, but got {text[:60]}")
    return filters


def _size(folder: Path) -> int:
    """Bytes that the folder takes; its log is a file with holes, far longer than what it takes."""
    stats = [file.lstat() for file in folder.rglob("*") if file.is_file()]
    return sum(getattr(stat, "st_blocks", stat.st_size // 512) * 512 for stat in stats)
