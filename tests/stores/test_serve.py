"""Three `bloomz serve` processes on a PostgreSQL and its replica: the same answers, also when the replica is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from haystack.utils import Secret
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack.cli import main as cli
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"
QUESTIONS = ["Quand a eu lieu le grand incendie de Londres ?", "How long is a French passport valid?"]
NAMES: dict[str, Any] = {"table_name": "served", "keyword_index_name": "served_k", "hnsw_index_name": "served_h"}
SECONDS = 600  # an end for what hangs, also on a slow machine


@pytest.fixture(autouse=True)
def dropped_table(connected: "Postgres") -> Iterator[None]:
    """Leave no table to the next test, also after a failure."""
    yield
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS served_words, served")


@contextmanager
def service(pipeline: Path, address: str) -> Iterator[httpx.Client]:
    """Start a process; do not wait until its models are loaded."""
    command = [sys.executable, "-m", "bloomz_haystack", "serve", "--port", "0", "--pipeline", str(pipeline)]
    environment = {**os.environ, "PG_CONN_STR": address, "BLOOMZ_TOKEN": "", "HF_HUB_OFFLINE": "1"}
    log = pipeline.with_suffix(f".{time.monotonic_ns()}.log")
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, env=environment)
    try:
        wait_until(lambda: "\n" in log.read_text() or process.poll() is not None, log)
        with httpx.Client(base_url=json.loads(log.read_text().splitlines()[0])["address"], timeout=SECONDS) as client:
            yield client
            assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert "mistake" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def wait_until(true: Any, said: Any = "") -> None:  # noqa: ANN401
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, said.read_text() if isinstance(said, Path) else said
        time.sleep(0.05)


def answers(client: httpx.Client, **wanted: Any) -> list[list[tuple[str, float]]]:  # noqa: ANN401
    found = [client.post("/v1/search", json={"query": question, **wanted}).json() for question in QUESTIONS]
    return [[(passage["id"], passage["score"]) for passage in answer["passages"]] for answer in found]


def wait_for_replica(primary: "Postgres", replica: "Postgres") -> None:
    with psycopg.connect(primary.address()) as first, psycopg.connect(replica.address(), autocommit=True) as second:
        written = first.execute("SELECT pg_current_wal_lsn()").fetchone()
        wait_until(lambda: second.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written).fetchone()[0])  # type: ignore[index]


def both(primary: "Postgres", replica: "Postgres") -> str:
    """The address of both servers: the replica, as long as it is there."""
    hosts = primary.address(host="127.0.0.1,127.0.0.1", target_session_attrs="prefer-standby")
    return hosts.replace(f"port='{primary.port}'", f"port='{replica.port},{primary.port}'")


def on_replica(store: BloomzPgvectorDocumentStore) -> bool:
    with store._pool.lent() as connection:
        return connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]  # type: ignore[index]


def test_three_processes_give_the_same_answers_and_go_on_without_the_replica(
    connected: "Postgres", replica: "Postgres", fill_in: "FillIn"
) -> None:
    index = ["index", str(EXAMPLES), "--pipeline", str(fill_in("index-pgvector.yaml", **NAMES))]
    assert CliRunner().invoke(cli.app, index).exit_code == 0
    wait_for_replica(connected, replica)
    ask = fill_in("ask-pgvector.yaml", create_extension=False, **NAMES)
    primary, standby = connected.address(), replica.address(target_session_attrs="standby")
    with ExitStack() as processes:
        first, second, third = (
            processes.enter_context(service(ask, address)) for address in (primary, primary, standby)
        )
        for client in (first, second, third):
            wait_until(lambda client=client: client.get("/readyz").status_code == 200)
        expected, french = answers(first), answers(first, files=["sommeil.txt"])
        assert all(expected)
        assert all(french)
        for client in (second, third):
            assert answers(client) == expected
            assert answers(client, files=["sommeil.txt"]) == french
        info = third.get("/v1/info").json()
        assert (info["hybrid"], info["writable"], info["files"]) == (True, False, len(list(EXAMPLES.iterdir())))
        assert third.post("/v1/documents", json={"documents": [{"content": "Non."}]}).status_code == 409

        replica.stop(signal.SIGKILL)
        for client in (first, second):
            assert answers(client) == expected
        for _ in range(2):
            failed = third.post("/v1/search", json={"query": QUESTIONS[0]})
            assert (failed.status_code, failed.headers["retry-after"]) == (503, "30")
            assert failed.json()["error"]["message"] == "the store cannot be used now; the server's log says why"
        assert third.get("/healthz").status_code == 200
        replica.start()
        wait_for_replica(connected, replica)  # it reads again what came since its last checkpoint
        assert answers(third) == expected


def test_an_address_of_both_servers_falls_over_to_the_primary(connected: "Postgres", replica: "Postgres") -> None:
    made = BloomzPgvectorDocumentStore(embedding_dimension=8, **NAMES)
    assert made.count_documents() == 0
    made.close()
    wait_for_replica(connected, replica)
    address = Secret.from_token(both(connected, replica))
    store = BloomzPgvectorDocumentStore(
        connection_string=address, create_extension=False, embedding_dimension=8, **NAMES
    )
    assert store.count_documents() == 0
    assert on_replica(store)
    replica.stop(signal.SIGKILL)
    assert store.count_documents() == 0
    assert not on_replica(store)
    store.close()
    replica.start()
    wait_for_replica(connected, replica)
    assert store.count_documents() == 0
    assert on_replica(store)
    store.close()
