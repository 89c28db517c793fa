"""Path -> open Edge shard, shared inside the process, held against other processes.

Edge refuses to open a folder twice, even in one process; two pipelines that name the same path must share. Here the
open shards are kept by resolved path, with a count of the stores that use each one; the last one to leave closes it.
This file knows nothing of documents.

On disk: PATH/store.json (store_json.py) and PATH/shard/ (Edge's own files).
"""

import ctypes
import logging
import os
import random
import shutil
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS
from haystack_integrations.document_stores.qdrant_edge.disk import (
    NOT_ALLOWED,
    StoreHeldError,
    check_room,
    edge_errors,
    leave_files,
)
from haystack_integrations.document_stores.qdrant_edge.facts import facts_path
from haystack_integrations.document_stores.qdrant_edge.gate import Gate
from haystack_integrations.document_stores.qdrant_edge.points import VECTOR
from haystack_integrations.document_stores.qdrant_edge.store_json import (
    FILE_NAME,
    StoreDescription,
    read_description,
    write_description,
)

logger = logging.getLogger(__name__)

SHARD_FOLDER = "shard"
DATATYPES = {"float32": VectorStorageDatatype.Float32, "float16": VectorStorageDatatype.Float16}
FACT_INDEXES = {
    "equal": PayloadSchemaType.Keyword,
    "element": PayloadSchemaType.Keyword,
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
        self._forked = False

    def check_process(self) -> None:
        """Refuse to work in a child that was forked while its parent had the shard open.

        :raises DocumentStoreError: in such a child, before any lock, which nobody there might ever open.
        """
        if self._forked:
            raise DocumentStoreError(
                f"the document store at {self.folder} was opened before this process was forked, and serves only the "
                "process that opened it: open it after the fork (gunicorn without --preload, multiprocessing with "
                '"spawn"), or close it before'
            )

    def abandon(self) -> None:
        """Let go in a forked child, without a word to Edge: its threads and locks are the parent's."""
        self._forked = True
        if self._edge is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._edge))  # never to be dropped, which would wait and write
            leave_files(self.folder / SHARD_FOLDER)

    @contextmanager
    def reading(self) -> Iterator[EdgeShard]:
        """Return the shard to a search, among others; a failure of Edge or the disk becomes a DocumentStoreError."""
        with self._gate.shared(), edge_errors(self.folder):
            yield self._opened()

    @contextmanager
    def changing(self, growth: int = 0) -> Iterator[EdgeShard]:
        """Return the shard to one update that adds about `growth` bytes, alone; failures become DocumentStoreError."""
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
            _create_edge(self.folder, self.description)
            self._edge = _load_edge(self.folder)
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
        """Change fields of `store.json`.

        :param **changes: fields of `StoreDescription`.
        """
        with self.writing, edge_errors(self.folder):
            new = replace(self.description, **changes)
            write_description(self.folder, new)
            self.description = new

    def close(self) -> None:
        """Write everything to disk and let other processes in."""
        if self._forked:
            return
        with self._gate.alone(), edge_errors(self.folder):
            if self._edge is not None:
                self._edge.close()
                self._edge = None

    def _opened(self) -> EdgeShard:
        if self._edge is None:
            raise DocumentStoreError(
                f"the document store at {self.folder} was closed by another thread while in use: try again"
            )
        return self._edge


def _abandon_all() -> None:
    global _REGISTRY  # a thread of the parent may have held it for ever
    _REGISTRY = threading.RLock()
    for shard in _OPEN.values():
        shard.abandon()
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


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


def open_shard(
    folder: Path, embedding_dim: int, datatype: str, hybrid: bool = False, *, make: bool = True, wait: float = 0.0
) -> ShardHandle:
    """Open the store in a folder, or share it if this process has it open, or make it.

    :param folder: absolute path.
    :param embedding_dim: what the caller expects the store to hold.
    :param datatype: likewise, "float32" or "float16".
    :param hybrid: whether a new store keeps words beside the vectors; an old one stays as it is.
    :param make: make a store where there is none.
    :param wait: seconds to wait for another process that holds it.
    :returns: a hold on the shard; close it to let other processes in.
    :raises ValueError: if the folder holds something else, or vectors of another dimension or datatype.
    :raises DocumentStoreError: if another process holds it, it is damaged or not there, or the disk fails.
    """
    expected = StoreDescription(embedding_dim, datatype, hybrid=hybrid)
    end, announced = time.monotonic() + wait, False
    while True:
        try:
            return _open_now(folder, expected, make)
        except StoreHeldError:
            if time.monotonic() >= end:
                raise
        if not announced:
            logger.warning("the document store at %s is open in another process: waiting up to %g s", folder, wait)
            announced = True
        time.sleep(random.uniform(0.02, 0.1))  # noqa: S311  # so that those who wait do not come all at once


def _open_now(folder: Path, expected: StoreDescription, make: bool) -> ShardHandle:
    with _REGISTRY, edge_errors(folder):
        shard = _OPEN.get(folder)
        if shard is None:
            shard = _load_or_make(folder, expected, make)
        _check_same(folder, shard.description, expected)
        _OPEN[folder] = shard
        shard.users += 1
        if _OPEN.get(folder) is not shard:  # released by the garbage collector a moment ago, in this very thread
            return _open_now(folder, expected, make)
        return ShardHandle(shard)


def _load_or_make(folder: Path, expected: StoreDescription, make: bool) -> "SharedShard":
    description = read_description(folder)
    if description is None:
        if not make:
            raise DocumentStoreError(
                f"there is no document store at {folder}: give the path of one, or write documents there first"
            )
        return _make(folder, expected)
    _check_same(folder, description, expected)
    if not os.path.lexists(folder / SHARD_FOLDER):
        if not any(folder.glob(f"{SHARD_FOLDER}-*.old")):  # else killed while it deleted all documents
            raise DocumentStoreError(
                f"the document store at {folder} has lost its folder {SHARD_FOLDER}, which holds the documents: put it "
                f"back from a copy; without one, remove {folder / FILE_NAME} too and index the documents again"
            )
        _create_edge(folder, description)
    return SharedShard(folder, description, _load_edge(folder))


def _make(folder: Path, description: StoreDescription) -> "SharedShard":
    """Make a store; a process killed in here, or a full disk, leaves what the next one takes for no store."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_room(folder, 0)
        write_description(folder, replace(description, complete=False))
    except OSError as error:
        if made:
            with suppress(OSError):
                folder.rmdir()
        if error.errno in NOT_ALLOWED:
            raise DocumentStoreError(
                f"no document store can be made at {folder} ({error.strerror}): give a path where this user may write"
            ) from None
        raise
    place = folder / SHARD_FOLDER
    if os.path.lexists(place):  # of a process that was killed here, maybe for vectors of another size; it is empty
        EdgeShard.load(str(place)).close()  # refused while another process is in here
        shutil.rmtree(place)
    _create_edge(folder, description)
    edge = _load_edge(folder)
    write_description(folder, description)
    return SharedShard(folder, description, edge)


def _release(shard: SharedShard) -> None:
    with _REGISTRY:
        shard.users -= 1
        if shard.users == 0 and _OPEN.get(shard.folder) is shard:
            del _OPEN[shard.folder]
            shard.close()


def _check_same(folder: Path, found: StoreDescription, expected: StoreDescription) -> None:
    if found.embedding_dim != expected.embedding_dim:
        raise ValueError(
            f"the store at {folder} holds embeddings of {found.embedding_dim} numbers, but embedding_dim is "
            f"{expected.embedding_dim}: use the model that made the store, or another path"
        )
    if found.datatype != expected.datatype:
        raise ValueError(
            f"the store at {folder} holds vectors as {found.datatype}, but datatype is {expected.datatype}: "
            f"ask for {found.datatype}, or index again at another path"
        )


def _load_edge(folder: Path) -> EdgeShard:
    edge = EdgeShard.load(str(folder / SHARD_FOLDER))
    for leftover in (*folder.glob(f"{SHARD_FOLDER}-*.new"), *folder.glob(f"{SHARD_FOLDER}-*.old")):
        shutil.rmtree(leftover, ignore_errors=True)  # of a killed process: we hold the store now
    for leftover in folder.glob(f"{FILE_NAME}.*"):
        with suppress(OSError):
            leftover.unlink()
    return edge


def _create_edge(folder: Path, description: StoreDescription) -> None:
    check_room(folder, 0)
    # Made aside, then moved: a process killed here leaves no half-made shard in the way of the next one.
    aside = folder / f"{SHARD_FOLDER}-{uuid.uuid4().hex}.new"
    params = EdgeVectorParams(
        size=description.embedding_dim, distance=Distance.Cosine, datatype=DATATYPES[description.datatype]
    )
    words = {WORDS: EdgeSparseVectorParams(modifier=Modifier.Idf)} if description.hybrid else None
    EdgeShard.create(str(aside), EdgeConfig({VECTOR: params}, words)).close()
    try:
        os.rename(aside, folder / SHARD_FOLDER)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not os.path.lexists(folder / SHARD_FOLDER):  # else another process made it first
            raise
