"""Path -> open Edge shard, shared inside the process, held against other processes.

Edge refuses to open a folder twice, even in one process; two pipelines that name the same path must share. Here the
open shards are kept by resolved path, with a count of the stores that use each one; the last one to leave closes it.
This file knows nothing of documents.

On disk: PATH/store.json (store_file.py) and PATH/shard/ (Edge's own files).
"""

import errno
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack.document_stores.errors import DocumentStoreError
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    Modifier,
    PayloadSchemaType,
    UpdateOperation,
    VectorStorageDatatype,
)

from haystack_integrations.document_stores.qdrant_edge.facts import facts_path
from haystack_integrations.document_stores.qdrant_edge.gate import Gate
from haystack_integrations.document_stores.qdrant_edge.points import VECTOR
from haystack_integrations.document_stores.qdrant_edge.store_file import (
    StoreDescription,
    read_description,
    write_description,
)
from haystack_integrations.document_stores.qdrant_edge.words import WORDS

SHARD_FOLDER = "shard"
DISK_RESERVE = 64_000_000  # bytes: a new segment of Edge's log takes 32 MB at once
DATATYPES = {"float32": VectorStorageDatatype.Float32, "float16": VectorStorageDatatype.Float16}
FACT_INDEXES = {
    "equal": PayloadSchemaType.Keyword,
    "number": PayloadSchemaType.Float,
    "wall": PayloadSchemaType.Float,
    "instant": PayloadSchemaType.Float,
}

_OPEN: dict[Path, "SharedShard"] = {}
_REGISTRY = threading.RLock()  # re-entrant: the garbage collector may release a store while this thread opens another


class SharedShard:
    """An open shard and the stores of this process that use it."""

    def __init__(self, folder: Path, description: StoreDescription, edge: EdgeShard) -> None:
        """Wrap an open shard.

        :param folder: the folder of the store.
        :param description: what `store.json` says.
        :param edge: the open shard.
        """
        self.folder = folder
        self.description = description
        self.users = 0
        self.writing = threading.RLock()  # one writer at a time: "is it there?" and "write it" are one step
        self._edge: EdgeShard | None = edge
        self._gate = Gate()

    @contextmanager
    def reading(self) -> Iterator[EdgeShard]:
        """Give the shard to a search, among others; a failure of Edge or the disk becomes a DocumentStoreError."""
        with self._gate.shared(), edge_errors(self.folder):
            yield self._opened()

    @contextmanager
    def changing(self, growth: int = 0) -> Iterator[EdgeShard]:
        """Give the shard to one update that adds about `growth` bytes, alone; failures become DocumentStoreError."""
        with self._gate.alone(), edge_errors(self.folder):
            if growth:
                check_room(self.folder, growth)
            yield self._opened()

    def empty(self) -> None:
        """Replace the shard by a new one: deleting points would leave their room on disk (measured: 45 MB of 45)."""
        with self.writing, self._gate.alone(), edge_errors(self.folder):
            self._opened().close()
            self._edge = None
            discarded = self.folder / f"{SHARD_FOLDER}-{uuid.uuid4().hex}.old"
            os.rename(self.folder / SHARD_FOLDER, discarded)
            self._edge = _load_or_create(self.folder, self.description)
            shutil.rmtree(discarded, ignore_errors=True)

    def create_indexes(self, fields: list[str]) -> None:
        """Index the facts of metadata fields, those that are not indexed yet.

        :param fields: names without "meta.".
        """
        with self.writing, self.changing() as edge:
            present = edge.info().payload_schema
            for field in fields:
                for kind, schema in FACT_INDEXES.items():
                    path = facts_path(kind, f"meta.{field}")
                    if path not in present:
                        edge.update(UpdateOperation.create_field_index(path, schema))

    def update_info(self, values: dict[str, str]) -> None:
        """Add to the application's dictionary in `store.json`.

        :param values: what to add or replace.
        """
        with self.writing:
            self.describe(info={**self.description.info, **values})

    def describe(self, **changes: Any) -> None:  # noqa: ANN401
        r"""Change fields of `store.json`.

        :param \**changes: fields of `StoreDescription`.
        """
        with self.writing, edge_errors(self.folder):
            new = replace(self.description, **changes)
            write_description(self.folder, new)
            self.description = new

    def close(self) -> None:
        """Write everything to disk and let other processes in."""
        with self._gate.alone(), edge_errors(self.folder):
            if self._edge is not None:
                self._edge.close()
                self._edge = None

    def _opened(self) -> EdgeShard:
        if self._edge is None:
            msg = f"the document store at {self.folder} was closed by another thread while in use: try again"
            raise DocumentStoreError(msg)
        return self._edge


class ShardHandle:
    """One store's hold on a shared shard: ends at `close`, at the latest when the store is forgotten."""

    def __init__(self, shard: SharedShard) -> None:
        """Hold a shard.

        :param shard: already counted for this handle, by `open_shard`.
        """
        self.shard = shard
        self._release = weakref.finalize(self, _release, shard)

    def close(self) -> None:
        """Let go; a second call does nothing."""
        self._release()


def open_shard(folder: Path, embedding_dim: int, datatype: str, hybrid: bool = False) -> ShardHandle:
    """Open the store in a folder, or share it if this process has it open, or make it.

    :param folder: absolute path.
    :param embedding_dim: what the caller expects the store to hold.
    :param datatype: likewise, "float32" or "float16".
    :param hybrid: whether a new store keeps words beside the vectors; an old one stays as it is.
    :returns: a hold on the shard; close it to let other processes in.
    :raises ValueError: if the folder holds something else, or vectors of another dimension or datatype.
    :raises DocumentStoreError: if another process holds it, or it is damaged, or the disk fails.
    """
    with _REGISTRY, edge_errors(folder):
        shard = _OPEN.get(folder)
        description = shard.description if shard is not None else read_description(folder)
        expected = StoreDescription(embedding_dim, datatype, hybrid=hybrid)
        if description is not None:
            _check_same(folder, description, expected)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_description(folder, expected)
            description = expected
        if shard is None:
            shard = SharedShard(folder, description, _load_or_create(folder, description))
            _OPEN[folder] = shard
        shard.users += 1
        if _OPEN.get(folder) is not shard:  # released by the garbage collector a moment ago, in this very thread
            return open_shard(folder, embedding_dim, datatype, hybrid)
        return ShardHandle(shard)


def _release(shard: SharedShard) -> None:
    with _REGISTRY:
        shard.users -= 1
        if shard.users == 0 and _OPEN.get(shard.folder) is shard:
            del _OPEN[shard.folder]
            shard.close()


def _check_same(folder: Path, found: StoreDescription, expected: StoreDescription) -> None:
    if found.embedding_dim != expected.embedding_dim:
        msg = (
            f"the store at {folder} holds embeddings of {found.embedding_dim} numbers, but embedding_dim is "
            f"{expected.embedding_dim}: use the model that made the store, or another path"
        )
        raise ValueError(msg)
    if found.datatype != expected.datatype:
        msg = (
            f"the store at {folder} holds vectors as {found.datatype}, but datatype is {expected.datatype}: "
            f"ask for {found.datatype}, or index again at another path"
        )
        raise ValueError(msg)


def _load_or_create(folder: Path, description: StoreDescription) -> EdgeShard:
    place = folder / SHARD_FOLDER
    if not place.exists():
        check_room(folder, 0)
        # Made aside, then moved: a process killed here leaves no half-made shard in the way of the next one.
        aside = folder / f"{SHARD_FOLDER}-{uuid.uuid4().hex}.new"
        params = EdgeVectorParams(
            size=description.embedding_dim, distance=Distance.Cosine, datatype=DATATYPES[description.datatype]
        )
        words = {WORDS: EdgeSparseVectorParams(modifier=Modifier.Idf)} if description.hybrid else None
        EdgeShard.create(str(aside), EdgeConfig({VECTOR: params}, words)).close()
        try:
            os.rename(aside, place)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not place.exists():  # else another process made it first
                raise
    edge = EdgeShard.load(str(place))
    for leftover in (*folder.glob(f"{SHARD_FOLDER}-*.new"), *folder.glob(f"{SHARD_FOLDER}-*.old")):
        shutil.rmtree(leftover, ignore_errors=True)  # of a killed process: we hold the store now
    return edge


def check_room(folder: Path, growth: int) -> None:
    """Refuse to write where the disk would run full.

    Edge writes through memory maps of sparse files: on a full disk the process does not get an error but dies of
    SIGBUS (tried on a full tmpfs; what had been reported written was there after a reopening).

    :param folder: the folder of the store.
    :param growth: bytes about to be written.
    :raises OSError: if less than that and `DISK_RESERVE` is free.
    """
    free, needed = shutil.disk_usage(folder).free, growth + DISK_RESERVE
    if free < needed:
        msg = f"{free / 1e6:.0f} MB are free and {needed / 1e6:.0f} MB are needed: free some space, then index again"
        raise OSError(errno.ENOSPC, msg)


@contextmanager
def edge_errors(folder: Path) -> Iterator[None]:
    """Turn what Edge (a bare `Exception`) and the disk (`OSError`) throw into a one-line DocumentStoreError."""
    try:
        yield
    except OSError as error:
        msg = f"the disk failed under the document store at {folder}: {error}; what was reported written is kept"
        raise DocumentStoreError(msg) from error
    except Exception as error:
        if type(error) is not Exception:  # Edge throws the base class itself; anything else is ours or Python's
            raise
        reason = str(error).replace("\n", " ")
        if "WAL" in reason and "WouldBlock" in reason:
            msg = (
                f"the document store at {folder} is open in another process: stop that process or close its store "
                "(a server, a notebook, an indexing run), or give another path; a folder serves one process at a time"
            )
        else:
            msg = f"Qdrant Edge failed at {folder}: {reason:.500}"
        raise DocumentStoreError(msg) from error
