"""`bloomz serve` over PostgreSQL: services on the primary and on a replica give the same answers, and none writes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack.cli import main as cli
from bloomz_haystack.service.app import create_app
from bloomz_haystack.service.settings import ServeSettings

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"
QUESTIONS = ["Quand a eu lieu le grand incendie de Londres ?", "How long is a French passport valid?"]
NAMES = {"table_name": "served", "keyword_index_name": "served_k", "hnsw_index_name": "served_h"}


@contextmanager
def serving(pipeline: Path) -> Iterator[TestClient]:
    app = create_app(ServeSettings(None, pipeline=pipeline))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        end = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end, app.state.service.failure
            time.sleep(0.05)
        yield client


def answers(client: TestClient, **wanted: Any) -> list[list[tuple[str, float]]]:  # noqa: ANN401
    found = [client.post("/v1/search", json={"query": question, **wanted}).json() for question in QUESTIONS]
    return [[(passage["id"], passage["score"]) for passage in answer["passages"]] for answer in found]


def wait_for_replica(primary: "Postgres", replica: "Postgres") -> None:
    with psycopg.connect(primary.address()) as first, psycopg.connect(replica.address(), autocommit=True) as second:
        (written,) = first.execute("SELECT pg_current_wal_lsn()").fetchone()  # type: ignore[misc]
        end = time.monotonic() + 30
        while not second.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (written,)).fetchone()[0]:  # type: ignore[index]
            assert time.monotonic() < end
            time.sleep(0.05)


def test_primary_and_replica_give_the_same_answers(
    connected: "Postgres", replica: "Postgres", fill_in: "FillIn", monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ["index", str(EXAMPLES), "--pipeline", str(fill_in("index-pgvector.yaml", **NAMES))]
    assert CliRunner().invoke(cli.app, index).exit_code == 0
    wait_for_replica(connected, replica)
    ask = fill_in("ask-pgvector.yaml", create_extension=False, **NAMES)
    with serving(ask) as client:
        expected = answers(client)
        assert all(expected)
        french = answers(client, files=["sommeil.txt"])
        assert all(french)
        info = client.get("/v1/info").json()
        assert (info["hybrid"], info["writable"], info["files"]) == (True, False, len(list(EXAMPLES.iterdir())))
        assert client.post("/v1/documents", json={"documents": [{"content": "Non."}]}).status_code == 409
    port = replica.port
    for address in (replica.address(), both(connected, replica)):
        monkeypatch.setenv("PG_CONN_STR", address)
        with serving(ask) as client:
            assert answers(client) == expected
            assert answers(client, files=["sommeil.txt"]) == french
            if address != replica.address():
                replica.stop()
                assert answers(client) == expected  # by the primary
    assert port != connected.port
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        connection.execute("DROP TABLE served_words, served")


def both(primary: "Postgres", replica: "Postgres") -> str:
    """The address of both servers: the replica, as long as it is there."""
    hosts = primary.address(host="127.0.0.1,127.0.0.1", target_session_attrs="prefer-standby")
    return hosts.replace(f"port='{primary.port}'", f"port='{replica.port},{primary.port}'")
