"""Search: scores and order against numpy, and the retriever's settings."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import FilterPolicy

from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

PASSAGES, DIMENSION, QUERIES = 1500, 24, 70


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    lengths = np.random.default_rng(1).uniform(0.01, 100, (PASSAGES, 1))
    return (np.random.default_rng(0).standard_normal((PASSAGES, DIMENSION)) * lengths).astype(np.float32)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((QUERIES, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def cosines(embeddings: np.ndarray, queries: np.ndarray) -> np.ndarray:
    passages, asked = embeddings.astype(np.float64), queries.astype(np.float64)
    return (asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ (
        passages / np.linalg.norm(passages, axis=1, keepdims=True)
    ).T


def _passages() -> list[Document]:
    return [
        Document(id=str(i), content=f"passage {i}", meta={"lang": "fr" if i % 3 else "en", "page": i})
        for i in range(PASSAGES)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, embeddings: np.ndarray) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(str(tmp_path_factory.mktemp("search") / "store"), DIMENSION)
    assert store.write_embeddings(_passages(), embeddings) == PASSAGES
    # No search may find these two.
    store.write_documents([Document(id="sans vecteur", meta={"lang": "fr"}), Document(id="no vector", content="")])
    yield store
    store.close()


def test_order_and_scores_are_numpy_s(store: QdrantEdgeDocumentStore, queries: np.ndarray, cosines: np.ndarray) -> None:
    found = store.query_batch(queries, top_k=20)
    assert len(found) == QUERIES
    for documents, row in zip(found, cosines, strict=True):
        assert [int(document.id) for document in documents] == np.argsort(-row)[:20].tolist()
        scores = [document.score for document in documents]
        assert scores == pytest.approx(np.sort(row)[::-1][:20], abs=1e-6)
        assert all(isinstance(score, float) for score in scores)
        assert all(document.embedding is None for document in documents)


def test_negative_control_another_query_finds_others(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    first, second = store.query_batch(queries[:2], top_k=5)
    assert [document.id for document in first] != [document.id for document in second]


def test_one_query_is_the_batch_of_one(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever = QdrantEdgeEmbeddingRetriever(store, top_k=5)
    batch = retriever.run_batch(queries)["documents"]
    for query, documents in zip(queries, batch, strict=True):
        assert retriever.run(query.tolist())["documents"] == documents


@pytest.mark.parametrize("indexed", [None, ["lang", "page"]])
def test_filtered_search_is_numpy_s(
    tmp_path: Path, embeddings: np.ndarray, queries: np.ndarray, cosines: np.ndarray, indexed: list[str] | None
) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), DIMENSION, indexed_meta_fields=indexed)
    store.write_embeddings(_passages(), embeddings)
    filters = {
        "operator": "AND",
        "conditions": [
            {"field": "meta.lang", "operator": "!=", "value": "fr"},
            {"field": "meta.page", "operator": "<", "value": 900},
        ],
    }
    allowed = [i for i in range(900) if i % 3 == 0]
    for documents, row in zip(store.query_batch(queries[:5], filters=filters, top_k=400), cosines, strict=False):
        assert [int(document.id) for document in documents] == sorted(allowed, key=lambda i: -row[i])
    store.close()


def test_documents_without_embedding_are_never_found(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    assert store.count_documents() == PASSAGES + 2
    assert len(store.query_batch(queries[:1], top_k=10**6)[0]) == PASSAGES


def test_the_embedding_comes_back(store: QdrantEdgeDocumentStore, queries: np.ndarray, embeddings: np.ndarray) -> None:
    for document in store.query_batch(queries[:1], return_embedding=True)[0]:
        assert document.embedding == pytest.approx(embeddings[int(document.id)], rel=1e-5, abs=1e-6)


def test_threshold_keeps_the_score_equal_to_it(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    best = store.query_batch(queries[:1], top_k=10)[0]
    threshold = best[3].score
    kept = store.query_batch(queries[:1], top_k=10, score_threshold=threshold)[0]
    assert [document.id for document in kept] == [document.id for document in best[:4]]
    assert store.query_batch(queries[:1], score_threshold=1.01) == [[]]


def test_float16_scores_and_bytes(tmp_path: Path, embeddings: np.ndarray, cosines: np.ndarray) -> None:
    count, dimension = 4000, 256
    vectors = np.random.default_rng(3).standard_normal((count, dimension)).astype(np.float32)
    sizes = {}
    for datatype in ("float32", "float16"):
        folder = tmp_path / datatype
        store = QdrantEdgeDocumentStore(str(folder), dimension, datatype=datatype)
        store.write_embeddings([Document(id=str(i)) for i in range(count)], vectors)
        found = store.query_batch([vectors[7] + 0.5 * vectors[8]], top_k=2)[0]
        store.close()
        assert [document.id for document in found] == ["7", "8"]
        unit = vectors[[7, 8]] / np.linalg.norm(vectors[[7, 8]], axis=1, keepdims=True)
        query = vectors[7] + 0.5 * vectors[8]
        expected = unit @ query / np.linalg.norm(query)
        assert [document.score for document in found] == pytest.approx(
            expected, abs=1e-6 if datatype == "float32" else 1e-3
        )
        files = (file for file in folder.rglob("vector_storage*/**/*") if file.is_file())
        sizes[datatype] = sum(file.stat().st_blocks * 512 for file in files)
    assert sizes["float32"] >= count * dimension * 4
    assert count * dimension * 2 <= sizes["float16"] < 0.55 * sizes["float32"]


def _recall_at_10(folder: Path, texts: list[str], questions: list[str]) -> float:
    """Share of the exact first ten of each question that the float16 store finds, on vectors of the bundled model."""
    embedder = BloomzDocumentEmbedder("tiny-fr-en-retriever", progress_bar=False)
    vectors, asked = (embedder.embed([Document(content=text) for text in part]) for part in (texts, questions))
    embedder.close()
    store = QdrantEdgeDocumentStore(str(folder), vectors.shape[1], datatype="float16")
    store.write_embeddings([Document(id=str(place)) for place in range(len(texts))], vectors)
    found = store.query_batch(asked, top_k=10)
    store.close()
    exact = np.argsort(-(asked.astype(np.float64) @ vectors.T), axis=1)[:, :10]
    pairs = zip(found, exact.tolist(), strict=True)
    return float(np.mean([len({int(document.id) for document in one} & set(ten)) / 10 for one, ten in pairs]))


TOWNS = ("Paris", "Lyon", "London", "York", "Brest", "Lille", "Leeds", "Nantes", "Bristol", "Toulouse")
THINGS = ("le musée", "the bridge", "la gare", "the market", "l'église", "the harbour", "le jardin", "the library")
SAYINGS = ("{} de {} ouvre à midi.", "{} of {} was built in 1850.", "Où est {} à {} ?", "{} in {} is closed on Monday.")


def test_float16_finds_what_float32_finds(tmp_path: Path) -> None:
    texts = [saying.format(thing, town) for saying in SAYINGS for thing in THINGS for town in TOWNS]
    questions = [f"{thing} {town} ?" for thing in THINGS for town in TOWNS]
    assert _recall_at_10(tmp_path / "store", texts, questions) >= 0.99


SHARED_TRAIN = Path(__file__).parents[3] / "shared/data/train/piaf-train.jsonl.gz"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_TRAIN.exists(), reason="needs the training sets, which are not shipped")
def test_float16_finds_what_float32_finds_in_real_text(tmp_path: Path) -> None:
    with gzip.open(SHARED_TRAIN, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    passages = list(dict.fromkeys(row["positive"]["french"] for row in rows))[:400]
    questions = [row["query"]["french"] for row in rows[:100]]
    assert _recall_at_10(tmp_path / "store", passages, questions) >= 0.99


def test_run_time_settings_win_even_when_false_or_zero(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever = QdrantEdgeEmbeddingRetriever(store, top_k=3, score_threshold=0.99, return_embedding=True)
    query = queries[0].tolist()
    assert retriever.run(query)["documents"] == []
    documents = retriever.run(query, score_threshold=0.0, return_embedding=False)["documents"]
    assert len(documents) == 3
    assert documents[0].embedding is None
    assert len(retriever.run(query, top_k=7, score_threshold=0)["documents"]) == 7


def test_filter_policy(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    french = {"field": "meta.lang", "operator": "==", "value": "fr"}
    early = {"field": "meta.page", "operator": "<", "value": 6}
    found = {}
    for policy in FilterPolicy:
        retriever = QdrantEdgeEmbeddingRetriever(store, filters=french, filter_policy=policy)
        documents = retriever.run(queries[0].tolist(), filters=early)["documents"]
        found[policy] = sorted(int(document.id) for document in documents)
    assert found == {FilterPolicy.REPLACE: [0, 1, 2, 3, 4, 5], FilterPolicy.MERGE: [1, 2, 4, 5]}


async def test_run_async_is_run(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever = QdrantEdgeEmbeddingRetriever(store)
    assert await retriever.run_async(queries[0].tolist(), top_k=4) == retriever.run(queries[0].tolist(), top_k=4)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([1.0, 2.0], f"2 numbers.*{DIMENSION}"),
        ([0.0] * DIMENSION, "zero"),
        ([float("nan")] * DIMENSION, "not finite"),
        ([float("inf")] * DIMENSION, "not finite"),
        ([[1.0] * DIMENSION], "shape"),
    ],
)
def test_a_query_that_cannot_be_compared_is_refused(
    store: QdrantEdgeDocumentStore, query: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        QdrantEdgeEmbeddingRetriever(store).run(query)


def test_very_long_and_very_short_queries(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    expected = store.query_batch(queries[:1])[0]
    for scale in (1e-200, 1e200):
        found = store.query_batch([(queries[0].astype(np.float64) * scale).tolist()])[0]
        assert [document.id for document in found] == [document.id for document in expected]


@pytest.mark.parametrize("top_k", [0, -3])
def test_top_k_must_be_positive(store: QdrantEdgeDocumentStore, queries: np.ndarray, top_k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k must be > 0, but got {top_k}"):
        QdrantEdgeEmbeddingRetriever(store, top_k=top_k)
    with pytest.raises(ValueError, match=f"top_k must be > 0, but got {top_k}"):
        QdrantEdgeEmbeddingRetriever(store).run(queries[0].tolist(), top_k=top_k)


def test_no_queries_no_lists(store: QdrantEdgeDocumentStore) -> None:
    assert store.query_batch([]) == []
    assert store.query_batch(np.zeros((0, DIMENSION), np.float32)) == []


def test_only_its_own_store() -> None:
    with pytest.raises(ValueError, match="QdrantEdgeDocumentStore, but got InMemoryDocumentStore"):
        QdrantEdgeEmbeddingRetriever(InMemoryDocumentStore())  # type: ignore[arg-type]


def test_yaml_keeps_every_setting(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(
        str(tmp_path / "never made"),
        7,
        datatype="float16",
        indexed_meta_fields=["langue"],
        return_embedding=False,
        write_batch_size=11,
        hybrid=True,
    )
    retriever = QdrantEdgeEmbeddingRetriever(
        store,
        filters={"field": "meta.langue", "operator": "==", "value": "fr"},
        top_k=3,
        filter_policy=FilterPolicy.MERGE,
        score_threshold=0.25,
        return_embedding=True,
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    loaded = Pipeline.loads(pipeline.dumps()).get_component("retriever")
    settings = {name: value for name, value in vars(loaded).items() if name in retriever.to_dict()["init_parameters"]}
    store_settings = vars(settings.pop("document_store"))
    assert settings == {name: getattr(retriever, name) for name in settings}
    assert len(settings) == 5
    assert store_settings == vars(store)
    assert len(store_settings) == 8
    assert not (tmp_path / "never made").exists()
