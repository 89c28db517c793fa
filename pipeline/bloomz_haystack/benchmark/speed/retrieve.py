"""Vectors in a store -> the ways to find the 100 nearest to a query, all exact.

Every way gives the cosine similarities of the documents found, (B, 100) float32, best first. Our store and Haystack's
give whole documents as well; the others know positions only.
"""

from collections.abc import Callable, Container, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore
from scipy.spatial.distance import cdist

from bloomz_haystack.benchmark.speed.harness import Missing, Section, Way
from bloomz_haystack.benchmark.speed.limits import Work
from bloomz_haystack.benchmark.speed.plan import SEARCHES
from bloomz_haystack.benchmark.speed.random_texts import random_vectors
from haystack_integrations.common.bloomz.batches import Vectors
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

Search = Callable[[Sequence[Any]], Vectors]
TOP_K, ONE_BY_ONE, TOGETHER = 100, 4, 64
FEWEST = 10 * TOP_K  # so that the narrowest filter still keeps enough
TOLERANCE, HALF_TOLERANCE = 1e-4, 1e-3
OURS, HAYSTACK = "ours, QdrantEdgeEmbeddingRetriever", "Haystack InMemoryDocumentStore"
FILTERS = (("half", "the half", "language", "fr"), ("tenth", "the tenth", "theme", "theme 3"))


def retrieve_sections(
    folder: Path, vectors: int, dimension: int, seed: int = 0, wanted: Container[str] = SEARCHES
) -> list[Section]:
    """Compare search: one query a call, 64 in one call, filtered, and over vectors kept in float16.

    :param folder: of our stores; empty or absent.
    :param vectors: N, at least 1,000.
    :param dimension: H.
    :param seed: of the vectors.
    :param wanted: names of `SEARCHES`; only what these need is built.
    :returns: their sections, over the same vectors.
    :raises ValueError: if there are fewer than 1,000 vectors.
    """
    if vectors < FEWEST:
        raise ValueError(
            f"--vectors must be at least {FEWEST:,}, ten times the documents looked for, but got {vectors}"
        )
    rng = np.random.default_rng(seed)
    targets = random_vectors(vectors, dimension, rng)
    queries = random_vectors(TOGETHER, dimension, rng)
    documents = [Document(id=str(i), content=f"Passage {i}", meta=_meta_of(i)) for i in range(vectors)]
    retriever = _retriever(folder / "float32", documents, targets, "float32")
    ours = Way(OURS, _one_by_one_through(retriever), ours=True)
    plain: list[tuple[str, Search]] = [
        ("numpy matmul + argpartition", _by_numpy(targets)),
        ("scipy cdist + argsort (the cards' code)", _by_scipy(targets)),
    ]
    missing = []
    if find_spec("faiss"):
        plain.append(("faiss IndexFlatIP", _by_faiss(targets)))
    else:
        missing.append(Missing("faiss IndexFlatIP", "faiss is not installed"))
    title = f"Exact cosine top-{TOP_K} of {vectors:,} vectors of {dimension}, "
    few, each = queries[:ONE_BY_ONE], float(targets.nbytes)
    found: list[Section] = []
    if "retrieve" in wanted:
        haystack = Way(HAYSTACK, _by_haystack(documents, targets))
        ways = [ours, *[Way(name, _one_by_one(search)) for name, search in plain], haystack]
        found.append(_section("retrieve", title + "one query a call", few, ways, missing, each * ONE_BY_ONE))
    if "retrieve-64" in wanted:
        ways = [Way("ours, run_batch", _together_through(retriever), ours=True)]
        ways += [Way(name, search) for name, search in plain]
        alone = Missing(HAYSTACK, "takes one query a call")
        found.append(_section("retrieve-64", title + f"{TOGETHER} in one call", queries, ways, [*missing, alone], each))
    for name, share, field, value in FILTERS:
        if f"retrieve-{name}" in wanted:
            caption = f"{title}one query a call, among {share} that a filter keeps"
            ways = _filtered_ways(retriever, ours, targets, field, value)
            kept = sum(_meta_of(i)[field] == value for i in range(vectors)) * 4.0 * dimension
            found.append(_section(f"retrieve-{name}", caption, few, ways, [], kept * ONE_BY_ONE))
    if "retrieve-float16" in wanted:
        halved = _retriever(folder / "float16", documents, targets, "float16")
        found.append(_float16_section(title, few, ours, halved, folder, each))
    return found


def _section(
    name: str, title: str, queries: Vectors, ways: list[Way], missing: list[Missing], bytes_read: float, note: str = ""
) -> Section:
    # Two operations a number for each query; the numbers are read once a call, whatever the queries in it.
    calls = 1 if len(queries) == TOGETHER else len(queries)
    work = Work(flop=2.0 * len(queries) * bytes_read / 4 / calls, bytes_read=bytes_read)
    return Section(name, title, "queries", list(queries), ways, missing, 0, work, TOLERANCE, note)


def _meta_of(place: int) -> dict[str, str]:
    """Write each field twice: the store indexes the first of the two."""
    language, theme = ("fr", "en")[place % 2], f"theme {place % 10}"
    return {"language": language, "language_unindexed": language, "theme": theme, "theme_unindexed": theme}


def _retriever(
    folder: Path,
    documents: list[Document],
    targets: Vectors,
    datatype: Any,  # noqa: ANN401
) -> QdrantEdgeEmbeddingRetriever:
    indexed = [field for _, _, field, _ in FILTERS]
    store = QdrantEdgeDocumentStore(str(folder), targets.shape[1], datatype=datatype, indexed_meta_fields=indexed)
    store.write_embeddings(documents, targets)
    return QdrantEdgeEmbeddingRetriever(store, top_k=TOP_K)


def _filtered_ways(
    retriever: QdrantEdgeEmbeddingRetriever, unfiltered: Way, targets: Vectors, field: str, value: str
) -> list[Way]:
    kept = np.array([_meta_of(place)[field] == value for place in range(len(targets))])

    def by_numpy(queries: Sequence[Any]) -> Vectors:
        return _by_numpy(targets[kept])(queries)  # the rows are copied each time, as a filter is new each time

    return [
        Way("ours, on an indexed field", _one_by_one_through(retriever, _equals(field, value)), ours=True),
        Way(
            "ours, on a field without index",
            _one_by_one_through(retriever, _equals(f"{field}_unindexed", value)),
            ours=True,
        ),
        Way("ours, all passages (other results)", unfiltered.run, ours=True, tolerance=np.inf),
        Way("numpy, rows chosen, then matmul", _one_by_one(by_numpy)),
    ]


def _equals(field: str, value: str) -> dict[str, Any]:
    return {"field": f"meta.{field}", "operator": "==", "value": value}


def _float16_section(
    title: str,
    queries: Vectors,
    ours: Way,
    halved: QdrantEdgeEmbeddingRetriever,
    folder: Path,
    bytes_read: float,
) -> Section:
    sizes = {name: vector_bytes(folder / name) for name in ("float32", "float16")}
    note = " and ".join(f"{size / 1e6:,.1f} MB as {name}" for name, size in sizes.items())
    ways = [ours, Way("ours, stored as float16", _one_by_one_through(halved), ours=True, tolerance=HALF_TOLERANCE)]
    caption = f"Vectors on disk: {note}."
    return _section("retrieve-float16", title + "float16 storage", queries, ways, [], bytes_read, caption)


def vector_bytes(folder: Path) -> int:
    """Count what a store's vectors take on disk.

    :param folder: of a store of ours.
    :returns: bytes, as the blocks of the disk.
    """
    files = (file for file in folder.rglob("vector_storage*/**/*") if file.is_file())
    return sum(file.stat().st_blocks * 512 for file in files)


def _one_by_one_through(retriever: QdrantEdgeEmbeddingRetriever, filters: dict[str, Any] | None = None) -> Search:
    def search(queries: Sequence[Any]) -> Vectors:
        return _scores([retriever.run(query.tolist(), filters)["documents"] for query in queries])

    return search


def _together_through(retriever: QdrantEdgeEmbeddingRetriever) -> Search:
    return lambda queries: _scores(retriever.run_batch(np.asarray(queries))["documents"])


def _one_by_one(search: Search) -> Search:
    return lambda queries: np.concatenate([search([query]) for query in queries])


def _by_numpy(targets: Vectors) -> Search:
    def search(queries: Sequence[Any]) -> Vectors:
        scores = np.asarray(queries) @ targets.T  # (B, N)
        kept = np.argpartition(scores, -TOP_K, axis=1)[:, -TOP_K:]
        return -np.sort(-np.take_along_axis(scores, kept, axis=1), axis=1)

    return search


def _by_scipy(targets: Vectors) -> Search:
    def search(queries: Sequence[Any]) -> Vectors:
        distances = cdist(np.asarray(queries), targets, "cosine")
        first = np.argsort(distances, axis=1)[:, :TOP_K]
        return (1 - np.take_along_axis(distances, first, axis=1)).astype(np.float32)

    return search


def _by_faiss(targets: Vectors) -> Search:
    import faiss

    index = faiss.IndexFlatIP(targets.shape[1])
    index.add(targets)
    return lambda queries: index.search(np.asarray(queries), TOP_K)[0]


def _by_haystack(documents: list[Document], targets: Vectors) -> Search:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(
        [
            Document(id=document.id, content=document.content, embedding=row.tolist())
            for document, row in zip(documents, targets, strict=True)
        ]
    )

    def search(queries: Sequence[Any]) -> Vectors:
        return _scores([store.embedding_retrieval(query.tolist(), top_k=TOP_K) for query in queries])

    return search


def _scores(found: list[list[Document]]) -> Vectors:
    return np.asarray([[document.score for document in documents] for documents in found], dtype=np.float32)
