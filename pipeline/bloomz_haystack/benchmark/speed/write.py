"""Passages with ready vectors -> the ways to write them to a store, each to an empty one.

The yardstick is Edge alone, given points that are already made: what is above it is ours, or Python's.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from qdrant_edge import UpdateOperation

from bloomz_haystack.benchmark.speed.harness import Missing, Section, Way
from bloomz_haystack.benchmark.speed.limits import Work
from bloomz_haystack.benchmark.speed.random_texts import random_texts, random_vectors
from haystack_integrations.common.bloomz.batches import Vectors
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.points import points_of, unit_vectors
from haystack_integrations.document_stores.qdrant_edge.shard import open_shard

BLOCK = 1000  # passages a call
WORDS_A_PASSAGE = 100
LARGEST_IN_MEMORY = 50_000  # passages; as lists of 1,024 Python floats, twice as many take 3.3 GB
HAYSTACK = "Haystack InMemoryDocumentStore.write_documents"


def write_section(folder: Path, vectors: int, dimension: int, seed: int = 0) -> Section:
    """Compare writing.

    :param folder: of the stores, one after the other; empty or absent.
    :param vectors: N.
    :param dimension: H.
    :param seed: of texts and vectors.
    :returns: the section; its items are places of passages.
    """
    rng = np.random.default_rng(seed)
    embeddings = random_vectors(vectors, dimension, rng)
    texts = random_texts([WORDS_A_PASSAGE] * min(vectors, BLOCK), rng)
    documents = [
        Document(id=f"{i:064x}", content=texts[i % BLOCK], meta={"file_path": f"{i // 50}.txt", "split_id": i % 50})
        for i in range(vectors)
    ]
    number = count()

    def fresh() -> Path:
        shutil.rmtree(folder / "written", ignore_errors=True)
        return folder / "written" / str(next(number))

    missing = []
    ways = [
        Way("ours, write_embeddings", _through_a_store(fresh, documents, embeddings, _write_array), ours=True),
        Way("ours, write_documents", _through_a_store(fresh, documents, embeddings, _write_lists), ours=True),
        Way("Edge alone, points ready", _by_edge(fresh, documents, embeddings)),
    ]
    if vectors <= LARGEST_IN_MEMORY:
        ways.append(Way(HAYSTACK, _in_memory(documents, embeddings)))
    else:
        missing.append(Missing(HAYSTACK, f"its lists of floats; try --vectors {LARGEST_IN_MEMORY}"))
    # Each number is read once and written twice, to the log and to the storage.
    work = Work(bytes_read=3.0 * embeddings.nbytes)
    title = f"Write {vectors:,} passages with ready vectors of {dimension}, {BLOCK:,} a call"
    note = "Memory counts the files that are mapped while they are written."
    return Section("write", title, "passages", list(range(vectors)), ways, missing, 0, work, 0.0, note)


def _through_a_store(
    fresh: Callable[[], Path],
    documents: list[Document],
    embeddings: Vectors,
    write: Callable[[QdrantEdgeDocumentStore, list[Document], Vectors], object],
) -> Callable[[Sequence[Any]], Vectors]:
    def run(places: Sequence[Any]) -> Vectors:
        store = QdrantEdgeDocumentStore(str(fresh()), embeddings.shape[1], indexed_meta_fields=["file_path"])
        for block in _blocks(places):
            write(store, documents[block], embeddings[block])
        counted = store.count_documents()
        store.close()
        return np.array([counted], np.float32)

    return run


def _write_array(store: QdrantEdgeDocumentStore, documents: list[Document], embeddings: Vectors) -> None:
    store.write_embeddings(documents, embeddings, DuplicatePolicy.OVERWRITE)


def _write_lists(store: QdrantEdgeDocumentStore, documents: list[Document], embeddings: Vectors) -> None:
    store.write_documents(_with_lists(documents, embeddings), DuplicatePolicy.OVERWRITE)


def _with_lists(documents: list[Document], embeddings: Vectors) -> list[Document]:
    """Return documents as an embedder component gives them: this is part of what a pipeline pays."""
    pairs = zip(documents, embeddings, strict=True)
    return [replace(document, embedding=row.tolist()) for document, row in pairs]


def _by_edge(
    fresh: Callable[[], Path], documents: list[Document], embeddings: Vectors
) -> Callable[[Sequence[Any]], Vectors]:
    units = unit_vectors(embeddings, embeddings.shape[1], [document.id for document in documents])
    points = points_of(documents, units)

    def run(places: Sequence[Any]) -> Vectors:
        handle = open_shard(fresh(), embeddings.shape[1], "float32")
        handle.shard.create_indexes(["file_path"])
        for block in _blocks(places):
            with handle.shard.changing() as edge:
                edge.update(UpdateOperation.upsert_points(points[block]))
        with handle.shard.reading() as edge:
            counted = edge.info().points_count
        handle.close()
        return np.array([counted], np.float32)

    return run


def _in_memory(documents: list[Document], embeddings: Vectors) -> Callable[[Sequence[Any]], Vectors]:
    def run(places: Sequence[Any]) -> Vectors:
        store = InMemoryDocumentStore()
        for block in _blocks(places):
            store.write_documents(_with_lists(documents[block], embeddings[block]), DuplicatePolicy.OVERWRITE)
        return np.array([store.count_documents()], np.float32)

    return run


def _blocks(places: Sequence[Any]) -> list[slice]:
    return [slice(start, min(start + BLOCK, len(places))) for start in range(0, len(places), BLOCK)]
