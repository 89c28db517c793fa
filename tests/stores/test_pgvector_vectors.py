"""`halfvec` and `hnsw`: bloomz-3b's 2560 numbers, the order that numpy gives, and as many passages as asked for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
import yaml
from haystack import Document, Pipeline
from haystack.utils import Secret
from haystack_integrations.components.retrievers.pgvector import PgvectorEmbeddingRetriever
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack.cli import main as cli
from haystack_integrations.components.retrievers.bloomz_pgvector import PgvectorHybridRetriever
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeHybridRetriever
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore, statements
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
FOLDER = Path(bloomz_haystack.__file__).parent
NUMBERS, PASSAGES, ASKED = 2560, 50, 8  # of bloomz-3b
SEED = 42  # of questions whose cosines are 2e-5 apart, more than 16 bits move them
INDEXED = "-c enable_seqscan=off -c enable_sort=off"  # PostgreSQL would compare so few vectors one by one
STRATEGIES = ["exact_nearest_neighbor", "hnsw"]
QUESTIONS = ["Où est la tour ?", "Which floor has the bridge?"]


def random_rows(count: int, numbers: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, numbers))).astype(np.float32)


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def passages(vectors: np.ndarray) -> list[Document]:
    return [
        Document(
            id=f"{n:03}",
            content=f"La tour, étage {n}" if n % 2 else f"The bridge, floor {n}",
            meta={"page": n},
            embedding=row.tolist(),
        )
        for n, row in enumerate(vectors)
    ]


@contextmanager
def opened(server: "Postgres", name: str, numbers: int, **settings: Any) -> Iterator[BloomzPgvectorDocumentStore]:  # noqa: ANN401
    store = BloomzPgvectorDocumentStore(
        connection_string=Secret.from_token(server.address(options=INDEXED)),
        embedding_dimension=numbers,
        table_name=name,
        keyword_index_name=f"{name}_k",
        hnsw_index_name=f"{name}_h",
        **settings,
    )
    store.delete_table()  # a worker may come back to this file
    yield store
    store.delete_table()
    store.close()


def plan(store: BloomzPgvectorDocumentStore, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patched:
        patched.setattr(statements, "NEAREST", f"EXPLAIN {statements.NEAREST}")
        return str(store._nearest(np.ones(store.embedding_dimension), None, 10))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_2560_numbers_of_16_bits_are_in_the_order_of_numpy(
    postgres: "Postgres", strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, asked = random_rows(PASSAGES, NUMBERS, 0), random_rows(ASKED, NUMBERS, SEED)
    edge = QdrantEdgeDocumentStore(str(tmp_path), NUMBERS, hybrid=True)
    edge.write_documents(passages(rows))
    with opened(postgres, "half", NUMBERS, vector_type="halfvec", search_strategy=strategy) as store:
        store.write_documents(passages(rows))
        assert ("half_h" in plan(store, monkeypatch)) == (strategy == "hnsw")
        retriever = PgvectorEmbeddingRetriever(document_store=store, top_k=PASSAGES)
        found = [retriever.run(query_embedding=row.tolist())["documents"] for row in asked]
        hybrid, expected = (
            retriever.run_batch(QUESTIONS, asked[:2].tolist())["documents"]
            for retriever in (PgvectorHybridRetriever(store), QdrantEdgeHybridRetriever(edge))
        )
    edge.close()
    halves, halved = (unit(array.astype(np.float16).astype(np.float64)) for array in (rows, asked))
    cosines = halved @ halves.T
    assert np.diff(np.sort(cosines)).min() > 2e-5
    for documents, similarity, exact in zip(found, cosines, asked @ rows.T, strict=True):
        assert [int(document.id) for document in documents] == np.argsort(-similarity).tolist()
        scores = [document.score for document in documents]
        assert scores == pytest.approx(np.sort(similarity)[::-1], abs=1e-6)
        assert scores == pytest.approx(np.sort(exact)[::-1], abs=1e-4)
    for documents, others in zip(hybrid, expected, strict=True):
        assert [document.id for document in documents] == [other.id for other in others]
        assert [document.score for document in documents] == pytest.approx([d.score for d in others], abs=1e-3)


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_hnsw_finds_as_many_as_asked_for(
    postgres: "Postgres", vector_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, asked = random_rows(400, 16, 2), random_rows(1, 16, 3).tolist()
    few = {"field": "meta.page", "operator": "<", "value": 20}
    settings: dict[str, Any] = {"search_strategy": "hnsw", "hnsw_ef_search": 10, "vector_type": vector_type}
    with opened(postgres, "many", 16, **settings) as store:
        store.write_documents(passages(rows))
        assert "many_h" in plan(store, monkeypatch)
        counts = [count(store, asked), count(store, asked, filters=few)]
        with store._pool.lent() as connection:
            connection.execute("SET hnsw.iterative_scan = off")
        without = [count(store, asked), count(store, asked, filters=few)]
    assert counts == [60, 20]
    assert without[0] == 10  # negative control: ef_search, whatever is asked for
    assert without[1] <= 10


def count(store: BloomzPgvectorDocumentStore, asked: list[list[float]], **options: Any) -> int:  # noqa: ANN401
    return len(store.query_hybrid_batch([""], asked, top_k=60, weights=[1, 0], **options)[0])


def uncommented(name: str) -> dict[str, Any]:
    """The settings of a file's store, after its commented lines are taken in."""
    text = re.sub(r"^( +)# (\w+: .*)$", r"\1\2", (FOLDER / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert Pipeline.loads(text)
    components = yaml.safe_load(text)["components"]
    keeper = components.get("retriever") or components["writer"]
    settings = keeper["init_parameters"]["document_store"]["init_parameters"]
    assert (settings["vector_type"], settings["search_strategy"]) == ("halfvec", "hnsw")
    return settings


def test_the_commented_lines_of_the_files_work(connected: "Postgres", fill_in: "FillIn", tmp_path: Path) -> None:
    names = {"table_name": "commented", "keyword_index_name": "commented_k", "hnsw_index_name": "commented_h"}
    files = {name: uncommented(name) for name in ("index-pgvector.yaml", "ask-pgvector.yaml")}
    assert files["index-pgvector.yaml"] == files["ask-pgvector.yaml"]
    for settings in files.values():
        del settings["embedding_dimension"]  # is that of the bundled retriever
    (tmp_path / "a.txt").write_text("La tour Eiffel est à Paris.")
    (tmp_path / "b.txt").write_text("Big Ben is in London.")
    for verb, what, file in (("index", tmp_path, "index"), ("ask", "Where is Big Ben?", "ask")):
        name = f"{file}-pgvector.yaml"
        inputs = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")] if verb == "index" else [str(what)]
        result = CliRunner().invoke(cli.app, [verb, *inputs, "--pipeline", str(fill_in(name, **files[name] | names))])
        assert result.exit_code == 0, result.stderr
    assert result.stdout.index("Big Ben is in London.") < result.stdout.index("La tour Eiffel")
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        [(index,)] = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'commented_h'").fetchall()
        connection.execute("DROP TABLE commented_words, commented")
    assert "USING hnsw (embedding halfvec_cosine_ops) WITH" in index
    assert "m='16'" in index


STORAGE = "SELECT attstorage FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'embedding'"


@pytest.mark.parametrize(
    ("kind", "numbers", "in_row"), [("vector", 1024, True), ("vector", 1750, True), ("vector", 1751, False)]
)
def test_vectors_are_kept_in_their_rows_where_a_page_has_room(
    postgres: "Postgres", kind: str, numbers: int, in_row: bool
) -> None:
    with opened(postgres, "storage", numbers, vector_type=kind) as store:
        full = Document(
            id="i" * 128,  # as long as ids may be
            content="Où est la tour ? " * 9_000,
            meta={"title": "T" * 5_000, "numbers": list(range(4_000))},
            embedding=random_rows(1, numbers, 0)[0].tolist(),
        )
        store.write_documents([full])
        with psycopg.connect(postgres.address()) as connection:
            assert connection.execute(STORAGE, ("storage",)).fetchone() == ("p" if in_row else "e",)
        (found,) = store.filter_documents()
        assert (found.id, found.content, found.meta) == (full.id, full.content, full.meta)
        assert found.embedding == pytest.approx(full.embedding, abs=1e-6)
