"""The pool of a store in PostgreSQL: never more connections than said, dead ones replaced, closed and forked."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread, get_ident
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.utils import Secret

from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore
from haystack_integrations.document_stores.bloomz_pgvector.connections import Turns

if TYPE_CHECKING:
    from tests.stores.conftest import Postgres

pytestmark = pytest.mark.slow
NUMBERS, PASSAGES, THREADS, SIZE = 8, 60, 32, 3
VECTORS = np.random.default_rng(0).normal(size=(PASSAGES, NUMBERS)).astype(np.float32).tolist()
SECONDS = 600  # an end for what hangs, also on a slow machine
NAMES: dict[str, Any] = {"table_name": "pool", "keyword_index_name": "pool_k", "hnsw_index_name": "pool_h"}


def opened(server: "Postgres") -> int:
    """Connections of the stores here, as the server counts them."""
    with psycopg.connect(server.address()) as connection:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pool'"
        return connection.execute(statement).fetchone()[0]  # type: ignore[index]


def wait_until(opened_are: int, server: "Postgres") -> None:
    end = time.monotonic() + SECONDS
    while opened(server) != opened_are:
        assert time.monotonic() < end
        time.sleep(0.01)


def small(server: "Postgres", size: int = SIZE, **settings: Any) -> BloomzPgvectorDocumentStore:  # noqa: ANN401
    address = Secret.from_token(server.address(application_name="pool"))
    return BloomzPgvectorDocumentStore(
        connection_string=address, embedding_dimension=NUMBERS, pool_size=size, **{**NAMES, **settings}
    )


@pytest.fixture(scope="module")
def store(postgres: "Postgres") -> Iterator[BloomzPgvectorDocumentStore]:
    store = small(postgres)
    store.delete_table()  # a worker may come back to this file
    store.write_documents([Document(id=str(n), content=f"n° {n}", embedding=row) for n, row in enumerate(VECTORS)])
    yield store
    store.delete_table()
    store.close()


def nearest(store: BloomzPgvectorDocumentStore, place: int) -> str:
    [[found]] = store.query_hybrid_batch([""], [VECTORS[place % PASSAGES]], top_k=1, weights=[1, 0])
    return found.id


def test_threads_share_so_many_connections(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    store.close()
    wait_until(0, postgres)
    together, counted = Barrier(SIZE), []

    def ask(place: int) -> str:
        with store._pool.lent():
            if place < SIZE:
                together.wait(SECONDS)  # each has a connection, so there are as many as there may be
            return nearest(store, place)

    with ThreadPoolExecutor(THREADS) as threads:
        answers = [threads.submit(ask, place) for place in range(10 * THREADS)]
        while not all(answer.done() for answer in answers):
            counted.append(opened(postgres))
        assert [answer.result() for answer in answers] == [str(place % PASSAGES) for place in range(10 * THREADS)]
    assert opened(postgres) == max([SIZE, *counted]) == SIZE


def test_one_connection_is_enough(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    single = small(postgres, size=1)
    for document in single.iterate_documents():  # reads page by page, holding no connection
        assert single.existing_ids([document.id]) == {document.id}
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda place: nearest(single, place), range(40))) == [str(n) for n in range(40)]
    assert single.delete_by_filter({"field": "id", "operator": "==", "value": "absent"}) == 0
    assert single.update_by_filter({"field": "id", "operator": "==", "value": "1"}, {"vu": True}) == 1
    single.close()


def test_a_closed_store_has_no_connection_and_opens_new_ones(
    postgres: "Postgres", store: BloomzPgvectorDocumentStore
) -> None:
    nearest(store, 0)
    assert opened(postgres) > 0
    with store._pool.lent() as lent:
        store.close()
        assert lent.execute("SELECT 1").fetchone() == (1,)  # who is at it may finish
    wait_until(0, postgres)
    assert nearest(store, 7) == "7"


def test_a_dead_connection_is_replaced(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    with ThreadPoolExecutor(SIZE) as threads:
        list(threads.map(lambda place: nearest(store, place), range(40)))
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pool'")
    wait_until(0, postgres)
    assert [nearest(store, place) for place in range(5)] == list("01234")


def test_a_server_that_is_down_is_one_line_at_once_and_back_again(
    postgres: "Postgres", store: BloomzPgvectorDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nearest(store, 3) == "3"
    postgres.stop()
    tried, connect = [], store._pool._connect

    def counted() -> psycopg.Connection[Any]:
        tried.append(1)
        return connect()

    monkeypatch.setattr(store._pool, "_connect", counted)
    try:
        for _ in range(3):
            with pytest.raises(DocumentStoreError, match=r"no connection to PostgreSQL .*refused") as caught:
                nearest(store, 3)
            assert "\n" not in str(caught.value)
        assert len(tried) == 3  # a question does not try again, and so it does not wait
    finally:
        postgres.start()
    assert nearest(store, 3) == "3"


def test_a_forked_child_opens_its_own(postgres: "Postgres", store: BloomzPgvectorDocumentStore) -> None:
    assert nearest(store, 1) == "1"
    with store._pool.lent():  # which no thread of the child will give back
        child = multiprocessing.get_context("fork").Process(target=answer_in_child, args=(store,))
        child.start()
    child.join(SECONDS)
    assert child.exitcode == 0
    assert [nearest(store, place) for place in range(5)] == list("01234")  # the child has closed none of ours


def answer_in_child(store: BloomzPgvectorDocumentStore) -> None:
    signal.alarm(SECONDS)  # instead of hanging
    assert [nearest(store, place) for place in range(PASSAGES)] == [str(place) for place in range(PASSAGES)]
    store.close()


def test_each_connection_searches_hnsw_as_said(postgres: "Postgres") -> None:
    names: dict[str, Any] = {"table_name": "ef", "keyword_index_name": "ef_k", "hnsw_index_name": "ef_h"}
    store = small(postgres, search_strategy="hnsw", hnsw_ef_search=77, **names)
    store.count_documents()
    with store._pool.lent() as first, ThreadPoolExecutor(1) as thread:
        second = thread.submit(store._execute_sql, store._cursor, store._tables.sql("SHOW hnsw.ef_search")).result()
        assert second.fetchone() == first.execute("SHOW hnsw.ef_search").fetchone() == ("77",)
    store.delete_table()
    store.close()


def test_who_waits_is_let_in_in_turn_and_may_give_up() -> None:
    turns, order = Turns(1), []

    def wait(place: int) -> None:
        with turns:
            order.append(place)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def until_waiting(many: int) -> None:
        while len(turns._waiting) < many:
            time.sleep(0.001)

    def interrupt_the_fourth(main: int) -> None:
        until_waiting(4)
        signal.pthread_kill(main, signal.SIGALRM)

    threads = [Thread(target=wait, args=(place,)) for place in range(6)]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with turns:
            for place, thread in enumerate(threads):
                if place == 3:
                    Thread(target=interrupt_the_fourth, args=(get_ident(),)).start()
                    with pytest.raises(KeyboardInterrupt):
                        wait(-1)
                thread.start()
                until_waiting(place + 1)
    finally:
        signal.signal(signal.SIGALRM, before)
    for thread in threads:
        thread.join(SECONDS)
    wait(6)
    assert order == list(range(7))


def test_the_size_is_a_setting() -> None:
    store = BloomzPgvectorDocumentStore(connection_string=Secret.from_env_var("PG_CONN_STR"), pool_size=5)
    data = store.to_dict()
    assert data["init_parameters"]["pool_size"] == 5
    assert BloomzPgvectorDocumentStore.from_dict(data).to_dict() == data
    with pytest.raises(ValueError, match="pool_size must be > 0, but got 0"):
        BloomzPgvectorDocumentStore(pool_size=0)
