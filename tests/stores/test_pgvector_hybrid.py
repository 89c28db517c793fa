"""Our own store in PostgreSQL: the words, scores and order of Qdrant Edge; writes by COPY; the model; many threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore

from haystack_integrations.common.bloomz.identity import ModelIdentity, embedding_of
from haystack_integrations.components.retrievers.bloomz_pgvector import PgvectorHybridRetriever
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeHybridRetriever
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import Postgres

pytestmark = pytest.mark.slow
NUMBERS, PASSAGES = 16, 300
NOUNS = ["tour", "pont", "musée", "gare", "tower", "bridge", "museum", "station", "passeport", "loi", "train", "vélo"]
PLACES = ["Paris", "Lyon", "Nîmes", "London", "Leeds", "York", "Brest", "Dublin"]
QUESTIONS = ["Où est la gare de Nîmes ?", "Which bridge is in York?", "Le musée de Lyon", "and the", "Zzyzx"]


def vectors(count: int, seed: int) -> list[list[float]]:
    return np.random.default_rng(seed).normal(size=(count, NUMBERS)).astype(np.float32).tolist()


def passages(model: ModelIdentity | None = None) -> list[Document]:
    generator = np.random.default_rng(3)
    texts = [" ".join(generator.choice(NOUNS + PLACES, size=generator.integers(2, 9))) for _ in range(PASSAGES)]
    return [
        Document(
            content=f"{text} n° {n}", meta={"page": n, "language": "fr"[n % 2 :]}, embedding=embedding_of(row, model)
        )
        for n, (text, row) in enumerate(zip(texts, vectors(PASSAGES, 4), strict=True))
    ]


def table(postgres: "Postgres", name: str, **settings: Any) -> BloomzPgvectorDocumentStore:  # noqa: ANN401
    names = {"table_name": name, "keyword_index_name": f"{name}_k", "hnsw_index_name": f"{name}_h"}
    address = Secret.from_token(postgres.address())
    return BloomzPgvectorDocumentStore(
        connection_string=address, **{"embedding_dimension": NUMBERS, **names, **settings}
    )


@pytest.fixture(scope="module")
def store(postgres: "Postgres") -> Iterator[BloomzPgvectorDocumentStore]:
    store = table(postgres, "hybrid")
    assert store.write_documents(passages()) == PASSAGES
    yield store
    store.delete_table()
    store.close()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(str(tmp_path_factory.mktemp("edge")), NUMBERS, hybrid=True)
    store.write_documents(passages())
    yield store
    store.close()


SETTINGS: list[dict[str, Any]] = [
    {},
    {"weights": [1, 0]},
    {"weights": [0, 1]},
    {"fusion": "rrf"},
    {"weigh_by_coverage": False, "candidates": 20},
    {"filters": {"field": "meta.page", "operator": ">", "value": 150}},
    {"score_threshold": 0.4},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_hybrid_search_is_that_of_edge(
    store: BloomzPgvectorDocumentStore, edge: QdrantEdgeDocumentStore, settings: dict[str, Any]
) -> None:
    asked = vectors(len(QUESTIONS), 5)
    found = PgvectorHybridRetriever(store, **settings).run_batch(QUESTIONS, asked)["documents"]
    expected = QdrantEdgeHybridRetriever(edge, **settings).run_batch(QUESTIONS, asked)["documents"]
    assert [[document.id for document in hits] for hits in found] == [[d.id for d in hits] for hits in expected]
    assert any(found)
    for hits, others in zip(found, expected, strict=True):
        assert [hit.score for hit in hits] == pytest.approx([other.score for other in others], abs=1e-6)
        assert [(hit.content, hit.meta) for hit in hits] == [(other.content, other.meta) for other in others]


@pytest.mark.parametrize(("side", "weights"), [("_matching", [1, 0]), ("_nearest", [0, 1])])
def test_a_side_of_weight_zero_is_not_searched(
    store: BloomzPgvectorDocumentStore, side: str, weights: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("searched")

    asked = vectors(len(QUESTIONS), 5)
    expected = PgvectorHybridRetriever(store, weights=weights).run_batch(QUESTIONS, asked)
    monkeypatch.setattr(store, side, fail)
    assert PgvectorHybridRetriever(store, weights=weights).run_batch(QUESTIONS, asked) == expected
    with pytest.raises(RuntimeError, match="searched"):  # negative control
        PgvectorHybridRetriever(store).run_batch(QUESTIONS, asked)


def test_words_are_rarer_or_not_as_the_table_is_now(postgres: "Postgres") -> None:
    few = table(postgres, "few")
    written = [Document(id=str(n), content=text) for n, text in enumerate(["pont pont", "pont gare", "gare loi"])]
    few.write_documents(written)
    retriever = PgvectorHybridRetriever(few, weights=[0, 1], weigh_by_coverage=False)
    assert [hit.id for hit in retriever.run("pont loi", [1.0] * NUMBERS)["documents"]] == ["2", "0", "1"]
    few.write_documents([Document(id="2", content="train")], DuplicatePolicy.OVERWRITE)
    few.delete_documents(["1"])
    assert [hit.id for hit in retriever.run("pont loi", [1.0] * NUMBERS)["documents"]] == ["0"]
    few.delete_all_documents()
    assert retriever.run("pont loi", [1.0] * NUMBERS)["documents"] == []
    few.delete_table()
    few.close()


def test_a_book_is_found_by_its_words_too(postgres: "Postgres") -> None:
    long = table(postgres, "long")
    words = [f"mot{n}" for n in range(20_000)]  # more than PostgreSQL keeps weights of
    long.write_documents([Document(id="book", content=" ".join([*words, "Nîmes Nîmes"])), Document(id="other")])
    retriever = PgvectorHybridRetriever(long, weights=[0, 1])
    assert [hit.id for hit in retriever.run("Où est Nîmes ?", [1.0] * NUMBERS)["documents"]] == ["book"]
    long.delete_table()
    long.close()


def test_a_table_of_pgvector_haystack_gets_its_words(postgres: "Postgres") -> None:
    names: dict[str, Any] = {"table_name": "plain", "keyword_index_name": "plain_k", "hnsw_index_name": "plain_h"}
    plain = PgvectorDocumentStore(
        connection_string=Secret.from_token(postgres.address()), embedding_dimension=NUMBERS, **names
    )
    plain.write_documents(passages()[:5])
    ours = table(postgres, "plain")
    found = PgvectorHybridRetriever(ours, weights=[0, 1]).run(" ".join(NOUNS + PLACES), [1.0] * NUMBERS)["documents"]
    assert len(found) == 5
    # And it goes on reading what ours writes.
    ours.write_documents(passages()[5:8])
    assert plain.filter_documents({"field": "meta.page", "operator": "==", "value": 6}) == passages()[6:7]
    plain.close()
    ours.delete_table()
    ours.close()


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_what_is_written_is_what_is_read(postgres: "Postgres", vector_type: str) -> None:
    store = table(postgres, "read", vector_type=vector_type)
    document = Document(content="L'été\0 à Nîmes", meta={"a": [1, {"b": None}], "c": "é"}, embedding=[0.5] * NUMBERS)
    store.write_documents([document, Document(id="none")])
    (read,) = store.filter_documents({"field": "id", "operator": "==", "value": document.id})
    assert (read.content, read.meta, read.embedding) == ("L'été à Nîmes", document.meta, document.embedding)
    assert store.existing_ids([document.id, "none", "absent"]) == {document.id, "none"}
    store.delete_table()
    store.close()


def test_policies(postgres: "Postgres") -> None:
    store = table(postgres, "policies")
    old, new = (Document(id="a", content=text) for text in ("ancien", "nouveau"))
    store.write_documents([old])
    with pytest.raises(DuplicateDocumentError):
        store.write_documents([Document(id="b"), new])
    assert store.count_documents() == 1  # all or none
    assert store.write_documents([new, new], DuplicatePolicy.SKIP) == 0
    assert store.write_documents([old, new], DuplicatePolicy.OVERWRITE) == 1
    assert [document.content for document in store.filter_documents()] == ["nouveau"]
    store.delete_table()
    store.close()


def test_another_model_is_refused(postgres: "Postgres") -> None:
    first, other = ModelIdentity("premier", "11"), ModelIdentity("second", "22")
    store = table(postgres, "model")
    store.write_documents(passages(first)[:2])
    assert store.read_info() == {"model": "premier", "model_weights": "11"}
    with pytest.raises(ValueError, match=r"the table public\.model were made by the model premier \(11\), and these"):
        store.write_documents(passages(other)[2:4])
    again = PgvectorHybridRetriever(table(postgres, "model"))
    with pytest.raises(ValueError, match="second"):
        again.run("pont", embedding_of([1.0] * NUMBERS, other))
    assert len(again.run("pont", embedding_of([1.0] * NUMBERS, first))["documents"]) == 2
    store.delete_all_documents()
    assert store.write_documents(passages(other)[2:4]) == 2  # an empty table is anybody's
    again.document_store.close()
    store.delete_table()
    store.close()


def test_another_dimension_is_refused(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    with pytest.raises(DocumentStoreError, match=r"holds embeddings of type vector\(16\), but vector\(8\) was asked"):
        table(postgres, "hybrid", embedding_dimension=8).count_documents()
    with pytest.raises(ValueError, match="embedding of 3 numbers, but the store holds embeddings of 16"):
        store.write_documents([Document(content="3", embedding=[1.0] * 3)])


def test_threads_do_not_wait_for_each_other(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    retriever = PgvectorHybridRetriever(store)
    asked = vectors(40, 6)
    alone = [retriever.run(QUESTIONS[n % 3], vector)["documents"] for n, vector in enumerate(asked)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda n: retriever.run(QUESTIONS[n % 3], asked[n])["documents"], range(40)))
        with psycopg.connect(postgres.address()) as connection:
            (count,) = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'hybrid'").fetchone()  # type: ignore[misc]
    assert together == alone
    assert count > 1


def test_a_connection_that_broke_is_replaced(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    before = store.count_documents()
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert store.count_documents() == before == PASSAGES
