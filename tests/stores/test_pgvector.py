"""PostgreSQL in place of Qdrant Edge: the same passages in the same order, and what goes wrong in one line."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from fastapi.testclient import TestClient
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.components.retrievers.pgvector import PgvectorEmbeddingRetriever
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack import Answerer, IndexSettings
from bloomz_haystack.cli import main as cli
from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.service.app import create_app
from bloomz_haystack.service.settings import ServeSettings
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"
QUESTIONS = ["Quand a eu lieu le grand incendie de Londres ?", "How long is a French passport valid?"]
VERBS = ["index", "ask", "serve"]
PASSWORD = "mot de passe"  # of the server
SECONDS = 600  # an end for what hangs, also on a slow machine
NUMBERS, PASSAGES = 24, 400
FILTERS: list[dict[str, Any]] = [
    {"field": "meta.language", "operator": "==", "value": "fr"},
    {"field": "meta.language", "operator": "!=", "value": "fr"},
    {"field": "meta.page", "operator": ">", "value": 90},
    {"field": "meta.page", "operator": ">=", "value": 90},
    {"field": "meta.page", "operator": "<", "value": 7},
    {"field": "meta.page", "operator": "<=", "value": 7},
    {"field": "meta.language", "operator": "in", "value": ["fr", "de"]},
    {"field": "meta.page", "operator": "not in", "value": list(range(90))},
    {"field": "meta.title", "operator": "==", "value": None},
]
FILTERS += [{"operator": joined, "conditions": [FILTERS[0], FILTERS[2]]} for joined in ("AND", "OR")]


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, NUMBERS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def passages() -> list[Document]:
    rows = unit_vectors(PASSAGES, seed=0).tolist()
    return [
        Document(
            content=f"La tour, étage {n}" if n % 2 else f"The tower, floor {n}",
            meta={"language": "fr" if n % 2 else "en", "page": n % 97, **({"title": "T"} if n % 3 else {})},
            embedding=row,
        )
        for n, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(str(tmp_path_factory.mktemp("edge")), NUMBERS)
    store.write_documents(passages())
    yield store
    store.close()


@pytest.fixture(scope="module")
def table(postgres: "Postgres") -> Iterator[PgvectorDocumentStore]:
    store = PgvectorDocumentStore(
        connection_string=Secret.from_token(postgres.address()),
        embedding_dimension=NUMBERS,
        table_name="same",
        recreate_table=True,  # a worker may come back to this file
        keyword_index_name="same_keyword",
        hnsw_index_name="same_hnsw",
    )
    store.write_documents(passages())
    yield store
    store.close()


def top(retriever: Any, vectors: np.ndarray, **options: Any) -> list[list[tuple[str, float]]]:  # noqa: ANN401
    found = (retriever.run(query_embedding=vector.tolist(), top_k=10, **options)["documents"] for vector in vectors)
    return [[(document.id, document.score) for document in documents] for documents in found]


def check_equal(found: list[list[tuple[str, float]]], expected: list[list[tuple[str, float]]]) -> None:
    assert [[key for key, _ in hits] for hits in found] == [[key for key, _ in hits] for hits in expected]
    for hits, others in zip(found, expected, strict=True):
        assert [score for _, score in hits] == pytest.approx([score for _, score in others], abs=1e-6)


def test_exact_search_gives_the_same_ten_in_the_same_order(
    table: PgvectorDocumentStore, edge: QdrantEdgeDocumentStore
) -> None:
    vectors = unit_vectors(60, seed=1)
    found = top(PgvectorEmbeddingRetriever(document_store=table), vectors)
    check_equal(found, top(QdrantEdgeEmbeddingRetriever(edge), vectors))
    # Negative control: other vectors find others.
    assert found != top(QdrantEdgeEmbeddingRetriever(edge), vectors[::-1])


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: str(filters["operator"]))
def test_filters_keep_the_same_passages(
    table: PgvectorDocumentStore, edge: QdrantEdgeDocumentStore, filters: dict[str, Any]
) -> None:
    kept = {document.id for document in edge.filter_documents(filters)}
    assert {document.id for document in table.filter_documents(filters)} == kept
    assert 0 < len(kept) < PASSAGES
    vectors = unit_vectors(5, seed=2)
    found = top(PgvectorEmbeddingRetriever(document_store=table), vectors, filters=filters)
    check_equal(found, top(QdrantEdgeEmbeddingRetriever(edge), vectors, filters=filters))


# ---------------------------------------------------------------- the files that are shipped


def bloomz(*arguments: str | int | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def names(**others: Any) -> dict[str, Any]:  # noqa: ANN401
    """A table of its own, with the names of its indexes, as the YAML files say."""
    table = others.pop("table_name")
    return {"table_name": table, "keyword_index_name": f"{table}_k", "hnsw_index_name": f"{table}_h", **others}


def drop(postgres: "Postgres", table: str) -> None:
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute(f'DROP TABLE IF EXISTS "{table}_words", "{table}"')


def test_ranked_answers_are_those_of_edge(connected: "Postgres", fill_in: "FillIn", tmp_path: Path) -> None:
    store = names(table_name="ranked")
    code, out, err = bloomz("index", EXAMPLES, "--pipeline", fill_in("index-pgvector.yaml", **store), "--json")
    assert (code, err) == (0, "")
    first = json.loads(out)
    assert first["embedded"] == first["passages"] > 20
    assert (tmp_path / "index-pgvector" / "files.jsonl").exists()
    *_, again = bloomz("index", EXAMPLES, "--pipeline", tmp_path / "index-pgvector.yaml", "--json")[1:2]
    assert (json.loads(again)["embedded"], json.loads(again)["unchanged"]) == (0, first["passages"])

    index_files([EXAMPLES], tmp_path / "edge", IndexSettings(hybrid=True))
    ask = fill_in("ask-pgvector.yaml", **store)
    with Answerer(tmp_path / "edge") as edge, Answerer(pipeline=ask) as postgres:
        for question in QUESTIONS:
            expected, found = edge.ask(question).passages, postgres.ask(question).passages
            assert [passage.id for passage in found] == [passage.id for passage in expected]
            assert [passage.similarity for passage in found] == pytest.approx(
                [p.similarity for p in expected], abs=1e-6
            )
            assert [passage.score for passage in found] == pytest.approx([p.score for p in expected], abs=1e-6)
            assert [passage.meta for passage in found] == [passage.meta for passage in expected]
    code, out, err = bloomz("ask", QUESTIONS[0], "--pipeline", ask, "--top-k", 2, "--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["documents"]) == 2
    drop(connected, "ranked")


def test_a_file_that_changed_loses_its_old_passages(connected: "Postgres", fill_in: "FillIn", tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, text in (("fr.txt", "La tour Eiffel est à Paris."), ("en.txt", "Big Ben is in London.")):
        (texts / name).write_text(text)
    pipeline = fill_in("index-pgvector.yaml", **names(table_name="changed"))
    counts = []
    for change in (lambda: None, lambda: (texts / "fr.txt").write_text("Autre."), (texts / "en.txt").unlink):
        change()
        summary = json.loads(bloomz("index", texts, "--pipeline", pipeline, "--prune", "--json")[1])
        counts.append((summary["passages"], summary["embedded"], summary["removed"]))
    assert counts == [(2, 2, 0), (2, 1, 1), (1, 0, 1)]
    with psycopg.connect(connected.address()) as connection:
        assert connection.execute("SELECT content FROM changed").fetchall() == [("Autre.",)]
    drop(connected, "changed")


# ---------------------------------------------------------------- what goes wrong, in one line


def one_line(verb: str, fill_in: "FillIn", **store: Any) -> str:  # noqa: ANN401
    """Run a verb that fails, and return what it says."""
    pipeline = fill_in(f"{'index' if verb == 'index' else 'ask'}-pgvector.yaml", **store)
    if verb == "serve":
        return failure_of_service(pipeline)
    code, out, err = bloomz(verb, EXAMPLES / "sleep.txt" if verb == "index" else QUESTIONS[0], "--pipeline", pipeline)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert PASSWORD not in err
    return err


def failure_of_service(pipeline: Path) -> str:
    """Return what ends a service, which `bloomz serve` prints as its last line."""
    ended = Event()
    app = create_app(ServeSettings(None, pipeline=pipeline), on_failure=ended.set)
    with TestClient(app):
        assert ended.wait(SECONDS)
    said = str(app.state.service.failure)
    assert "\n" not in said
    assert PASSWORD not in said
    return said


Wrong = Callable[["Postgres"], str]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("address", "said"),
    [
        (lambda server: server.address(password="faux"), "password authentication failed"),
        (lambda server: server.address(port="1"), "onnection refused"),
        (lambda server: server.address(dbname="absent"), 'database "absent" does not exist'),
    ],
    ids=["password", "down", "database"],
)
def test_no_connection_is_one_line(
    postgres: "Postgres", fill_in: "FillIn", monkeypatch: pytest.MonkeyPatch, address: Wrong, said: str, verb: str
) -> None:
    monkeypatch.setenv("PG_CONN_STR", address(postgres))
    assert said in one_line(verb, fill_in)


def test_a_service_that_cannot_connect_ends_with_one_line(
    postgres: "Postgres", fill_in: "FillIn", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_CONN_STR", postgres.address(password="faux"))
    pipeline = str(fill_in("ask-pgvector.yaml"))
    command = [sys.executable, "-m", "bloomz_haystack", "serve", "--port", "0", "--pipeline", pipeline]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    *logged, last = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert last.startswith("bloomz: no connection to PostgreSQL (PG_CONN_STR says where)")
    assert "Traceback" not in ended.stderr
    assert all(json.loads(line) for line in logged)


@pytest.mark.parametrize("verb", VERBS)
def test_no_address_is_one_line(fill_in: "FillIn", monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.delenv("PG_CONN_STR", raising=False)
    assert "PG_CONN_STR" in one_line(verb, fill_in)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("version", ["0.7.4", "none"])
def test_an_old_pgvector_or_none_is_one_line(
    postgres: "Postgres", fill_in: "FillIn", monkeypatch: pytest.MonkeyPatch, version: str, verb: str
) -> None:
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS old")
        connection.execute("CREATE DATABASE old")
    monkeypatch.setenv("PG_CONN_STR", postgres.address(dbname="old"))
    if version != "none":
        with psycopg.connect(postgres.address(dbname="old"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", (version,))
    said = one_line(verb, fill_in, create_extension=version != "none")
    assert f"pgvector 0.8 or later is needed in the database, but it has {version}" in said


def test_a_table_of_another_dimension_is_one_line(connected: "Postgres", fill_in: "FillIn") -> None:
    PgvectorDocumentStore(embedding_dimension=8, **names(table_name="eight")).write_documents(
        [Document(content="Huit.", embedding=[0.5] * 8)], DuplicatePolicy.OVERWRITE
    )
    for verb in VERBS:
        said = one_line(verb, fill_in, **names(table_name="eight"))
        assert "the table public.eight holds embeddings of type vector(8), but vector(576) was asked for" in said
    drop(connected, "eight")


def test_a_table_of_another_model_is_one_line(connected: "Postgres", fill_in: "FillIn", tmp_path: Path) -> None:
    store = names(table_name="other")
    (tmp_path / "a.txt").write_text("La tour Eiffel.")
    assert bloomz("index", tmp_path / "a.txt", "--pipeline", fill_in("index-pgvector.yaml", **store))[0] == 0
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        connection.execute("""COMMENT ON TABLE other_words IS '{"model": "autre", "model_weights": "0"}'""")
    for verb in VERBS:
        assert "the table public.other were made by the model autre (0)" in one_line(verb, fill_in, **store)
    drop(connected, "other")


def test_two_stores_in_one_database_keep_apart(connected: "Postgres", fill_in: "FillIn", tmp_path: Path) -> None:
    texts = {"fr": "La tour Eiffel est à Paris.", "en": "Big Ben is in London."}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
        pipeline = fill_in("index-pgvector.yaml", **names(table_name=name))
        assert bloomz("index", tmp_path / f"{name}.txt", "--pipeline", pipeline, "--store", tmp_path / name)[0] == 0
    for name, text in texts.items():
        ask = fill_in("ask-pgvector.yaml", **names(table_name=name))
        found = json.loads(bloomz("ask", "Big Ben, Eiffel ?", "--pipeline", ask, "--json")[1])["documents"]
        assert [document["content"] for document in found] == [text]
    # The name of an index that the other table has: one line, and no half-made table.
    said = one_line("index", fill_in, **{**names(table_name="third"), "keyword_index_name": "fr_k"})
    assert 'relation "fr_k" already exists' in said
    with psycopg.connect(connected.address()) as connection:
        assert connection.execute("SELECT to_regclass('third')").fetchone() == (None,)
    for name in texts:
        drop(connected, name)


def test_options_that_the_pipeline_says_are_refused(fill_in: "FillIn") -> None:
    code, out, err = bloomz("ask", QUESTIONS[0], "--pipeline", fill_in("ask-pgvector.yaml"), "--ranker", "r")
    assert (code, out) == (2, "")
    assert err == "bloomz: --ranker: the pipeline says it; change it in the YAML file\n"
