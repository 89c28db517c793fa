"""Several writers on one PostgreSQL, and a server that is killed: nothing told as written is lost, nothing doubled."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.utils import Secret

from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
NAMES: dict[str, Any] = {"table_name": "written", "keyword_index_name": "written_k", "hnsw_index_name": "written_h"}
BATCH, NUMBERS = 40, 8
SECONDS = 600  # an end for what hangs, also on a slow machine


def index(folder: Path, pipeline: Path, files: Path, address: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bloomz_haystack", "index", str(folder), "--pipeline", str(pipeline)]
    environment = {**os.environ, "PG_CONN_STR": address, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*command, "--store", str(files), "--json"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def stored(address: str) -> list[tuple[int, ...]]:
    """Passages, different ones, with words, in the table that does not exist before the first writer."""
    with psycopg.connect(address, autocommit=True) as connection:
        return connection.execute(
            "SELECT count(*), count(DISTINCT content), (SELECT count(*) FROM written_words) FROM written"
        ).fetchall()


def test_two_processes_make_one_table_and_fill_it(postgres: "Postgres", fill_in: "FillIn", tmp_path: Path) -> None:
    texts = {"fr": "La tour, étage {}.", "en": "The tower, floor {}."}
    for language, text in texts.items():
        (tmp_path / language).mkdir()
        rows = (json.dumps({"content": text.format(n)}) for n in range(100))
        (tmp_path / language / "rows.jsonl").write_text("\n".join(rows))
    pipeline = fill_in("index-pgvector.yaml", **NAMES)
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")  # without the extension too
    fresh = postgres.address(dbname="fresh")
    writers = [index(tmp_path / name, pipeline, tmp_path / f"{name}-list", fresh) for name in texts]
    for writer in writers:
        out, err = writer.communicate(timeout=SECONDS)
        assert (writer.returncode, err) == (0, "")
        assert json.loads(out)["embedded"] == 100
    assert stored(fresh) == [(200, 200, 200)]


def test_a_killed_server_keeps_what_it_said_was_written(postgres: "Postgres") -> None:
    store = BloomzPgvectorDocumentStore(
        connection_string=Secret.from_token(postgres.address()), embedding_dimension=NUMBERS, **NAMES
    )
    store.count_documents()
    told, many = 0, Event()

    def kill() -> None:
        many.wait(SECONDS)
        postgres.stop(signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    try:
        while True:
            names = [str(told * BATCH + n) for n in range(BATCH)]
            store.write_documents([Document(id=n, content=f"n° {n}", embedding=[1.0] * NUMBERS) for n in names])
            told += 1
            if told == 20:
                many.set()  # killed while it goes on
    except DocumentStoreError as error:
        said = str(error)
    killer.join()
    assert told >= 20
    assert "\n" not in said
    postgres.start()
    try:
        # The same store object goes on, and a batch is there as a whole or not at all.
        count = store.count_documents()
        assert count in (told * BATCH, (told + 1) * BATCH)
        assert stored(postgres.address()) == [(count, count, count)]
        assert store.existing_ids(str(n) for n in range(told * BATCH)) == {str(n) for n in range(told * BATCH)}
    finally:
        store.delete_table()
        store.close()
