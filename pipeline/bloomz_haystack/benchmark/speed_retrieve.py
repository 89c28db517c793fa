"""Vectors in a store -> the ways to find the 100 nearest to a query, all exact.

Every way gives the cosine similarities of the documents found, (B, 100) float32, best first. Our store and Haystack's
give whole documents as well; the others know positions only.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore
from scipy.spatial.distance import cdist

from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

from .machine_limits import Work
from .ranking_speed import random_vectors
from .speed import Missing, Section, Way

Array = npt.NDArray[np.float32]
Search = Callable[[Sequence[Any]], Array]
TOP_K, ONE_BY_ONE, TOGETHER = 100, 4, 64
TOLERANCE = 1e-4


def retrieve_sections(folder: Path, vectors: int, dimension: int, seed: int = 0) -> list[Section]:
    """Compare search: one query a call, then 64 in one call.

    :param folder: of our store; empty or absent.
    :param vectors: N, at least 100.
    :param dimension: H.
    :param seed: of the vectors.
    :returns: two sections over the same vectors.
    :raises ValueError: if there are fewer than 100 vectors.
    """
    if vectors < TOP_K:
        raise ValueError(f"--vectors must be at least {TOP_K}, the number of documents looked for, but got {vectors}")
    rng = np.random.default_rng(seed)
    targets = random_vectors(vectors, dimension, rng)
    queries = random_vectors(TOGETHER, dimension, rng)
    documents = [Document(id=str(place), content=f"Passage {place}") for place in range(vectors)]
    retriever = _our_retriever(folder, documents, targets)
    plain: list[tuple[str, Search]] = [
        ("numpy matmul + argpartition", _by_numpy(targets)),
        ("scipy cdist + argsort (the cards' code)", _by_scipy(targets)),
    ]
    missing = []
    if find_spec("faiss"):
        plain.append(("faiss IndexFlatIP", _by_faiss(targets)))
    else:
        missing.append(Missing("faiss IndexFlatIP", "faiss is not installed"))
    one = [
        Way("ours, QdrantEdgeEmbeddingRetriever", _one_by_one_through(retriever)),
        *[Way(name, _one_by_one(search)) for name, search in plain],
        Way("Haystack InMemoryDocumentStore", _by_haystack(documents, targets)),
    ]
    many = [Way("ours, run_batch", lambda items: _scores(retriever.run_batch(np.asarray(items))["documents"]))]
    many += [Way(name, search) for name, search in plain]
    alone = Missing("Haystack InMemoryDocumentStore", "takes one query a call: see the section above")
    title = f"Exact cosine top-{TOP_K} of {vectors:,} vectors of {dimension}, "
    return [
        _section("retrieve", title + "one query a call", queries[:ONE_BY_ONE], one, missing, targets, ONE_BY_ONE),
        _section("retrieve-64", title + f"{TOGETHER} in one call", queries, many, [*missing, alone], targets, 1),
    ]


def _section(
    name: str, title: str, queries: Array, ways: list[Way], missing: list[Missing], targets: Array, reads: int
) -> Section:
    work = Work(flop=2.0 * len(queries) * targets.size, bytes_read=float(targets.nbytes) * reads)
    return Section(name, title, "queries", list(queries), ways, missing, 0, work, TOLERANCE)


def _our_retriever(folder: Path, documents: list[Document], targets: Array) -> QdrantEdgeEmbeddingRetriever:
    store = QdrantEdgeDocumentStore(str(folder), embedding_dim=targets.shape[1])
    store.write_embeddings(documents, targets)
    return QdrantEdgeEmbeddingRetriever(store, top_k=TOP_K)


def _one_by_one_through(retriever: QdrantEdgeEmbeddingRetriever) -> Search:
    def search(queries: Sequence[Any]) -> Array:
        return _scores([retriever.run(query.tolist())["documents"] for query in queries])

    return search


def _one_by_one(search: Search) -> Search:
    return lambda queries: np.concatenate([search([query]) for query in queries])


def _by_numpy(targets: Array) -> Search:
    def search(queries: Sequence[Any]) -> Array:
        scores = np.asarray(queries) @ targets.T  # (B, N)
        kept = np.argpartition(scores, -TOP_K, axis=1)[:, -TOP_K:]
        return -np.sort(-np.take_along_axis(scores, kept, axis=1), axis=1)

    return search


def _by_scipy(targets: Array) -> Search:
    def search(queries: Sequence[Any]) -> Array:
        distances = cdist(np.asarray(queries), targets, "cosine")
        first = np.argsort(distances, axis=1)[:, :TOP_K]
        return (1 - np.take_along_axis(distances, first, axis=1)).astype(np.float32)

    return search


def _by_faiss(targets: Array) -> Search:
    import faiss

    index = faiss.IndexFlatIP(targets.shape[1])
    index.add(targets)
    return lambda queries: index.search(np.asarray(queries), TOP_K)[0]


def _by_haystack(documents: list[Document], targets: Array) -> Search:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(
        [
            Document(id=document.id, content=document.content, embedding=row.tolist())
            for document, row in zip(documents, targets, strict=True)
        ]
    )

    def search(queries: Sequence[Any]) -> Array:
        return _scores([store.embedding_retrieval(query.tolist(), top_k=TOP_K) for query in queries])

    return search


def _scores(found: list[list[Document]]) -> Array:
    return np.asarray([[document.score for document in documents] for documents in found], dtype=np.float32)
