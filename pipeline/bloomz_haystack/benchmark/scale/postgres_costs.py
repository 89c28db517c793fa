"""Passages -> what PostgreSQL costs with them, exact and with hnsw.

Its tables have names of their own, "bloomz_scale_..." and a random number, and are dropped at the end.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from haystack.utils import Secret
from haystack_integrations.components.retrievers.pgvector import PgvectorEmbeddingRetriever
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from bloomz_haystack.benchmark.scale.passages import NearestPassages, ScalePassages
from bloomz_haystack.benchmark.scale.store_costs import (
    WITH_WORDS,
    Spent,
    Step,
    StoreCost,
    ask_all,
    own_time,
    store_cost,
    write_all,
)
from bloomz_haystack.benchmark.speed.memory import peak_memory
from haystack_integrations.components.retrievers.bloomz_pgvector import PgvectorHybridRetriever
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore

EF_SEARCH, WORDS_EF_SEARCH = (40, 100, 200), 100
MOST_NUMBERS = {"vector": 2_000, "halfvec": 4_000}  # that an hnsw index takes
TOLD_SETTINGS = (
    "shared_buffers",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
)
AVAILABLE_PGVECTOR = "SELECT max(default_version) FROM pg_available_extensions WHERE name = 'vector'"
PROCESSES = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = %s"
SIZE = "SELECT pg_total_relation_size(to_regclass(%s)) + pg_total_relation_size(to_regclass(%s))"
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def postgres_costs(passages: ScalePassages, truth: NearestPassages, address: str, step: Step) -> Iterator[StoreCost]:
    """Measure PostgreSQL with pgvector: exact, then with hnsw, on float32 and on 16 bits.

    :param passages: to write.
    :param truth: of them.
    :param address: as libpq reads it.
    :param step: begins a part of the progress.
    :yields: the costs; memory is that of the server's process, shared buffers counted, seen on this machine only.
    """
    for kind, most in MOST_NUMBERS.items():
        with _Table(passages, truth, address, kind, step) as table:
            yield table.exact()
            if passages.vectors.shape[1] <= most:
                yield from table.approximate()
                if kind == "halfvec":
                    yield table.with_words()


def describe_postgres(address: str) -> str:
    """Return the versions of a server and the settings that decide what is measured.

    :param address: as libpq reads it.
    :returns: one line.
    :raises OperationalError: if there is no connection to be had.
    """
    with Connection.connect(address) as connection:
        version, *values = (_value(connection, f"SHOW {name}") for name in ("server_version", *TOLD_SETTINGS))
        extension = _value(connection, AVAILABLE_PGVECTOR)
    settings = ", ".join(f"{name} {value}" for name, value in zip(TOLD_SETTINGS, values, strict=True))
    return f"PostgreSQL {version.split()[0]}, pgvector {extension}, {settings}"


class _Table:
    """A table with the passages in it, and the stores that search it."""

    def __init__(self, passages: ScalePassages, truth: NearestPassages, address: str, kind: str, step: Step) -> None:
        self.passages, self.truth, self.kind, self.step = passages, truth, kind, step
        self.name = f"bloomz_scale_{uuid.uuid4().hex[:12]}"
        self.address = make_conninfo(address, application_name=self.name)  # by which the store's processes are known
        self.beside = Connection.connect(address, autocommit=True)

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        store = self._store()
        store.delete_table()
        store.close()
        self.beside.close()

    def exact(self) -> StoreCost:
        """Write the passages and search them all."""
        name, store = f"pgvector, {self.kind}, exact", self._store()
        try:
            store.count_documents()  # opens it
            begun = self._time()
            write_all(store, self.passages, self.step(f"{name}: write", len(self.passages.texts)))
            self.written = self._time().since(begun)
            both = (Identifier(self.name), Identifier(f"{self.name}_words"))
            self.beside.execute(SQL("VACUUM ANALYZE {}, {}").format(*both))
            return self._asked(name, store, self.written)
        finally:
            store.close()

    def approximate(self) -> Iterator[StoreCost]:
        """Build the index once, then search it with each breadth."""
        for breadth in EF_SEARCH:
            name = f"pgvector, {self.kind}, hnsw, ef_search {breadth}"
            store = self._store(search_strategy="hnsw", hnsw_ef_search=breadth)
            building, begun = self.step(f"{name}: build", 1), own_time()
            try:
                store.count_documents()  # opens it, which builds the index where there is none
                if breadth == EF_SEARCH[0]:
                    self.built = self._time().since(begun).plus(self.written)
                building(1)
                yield self._asked(name, store, self.built)
            finally:
                store.close()

    def with_words(self) -> StoreCost:
        """Search as the shipped pipelines do: by words too, and as before where the index is."""
        name = f"pgvector, {self.kind}, hnsw, ef_search {WORDS_EF_SEARCH}, {WITH_WORDS}"
        store = self._store(search_strategy="hnsw", hnsw_ef_search=WORDS_EF_SEARCH)
        try:
            return self._asked(name, store, self.built, words=True)
        finally:
            store.close()

    def _asked(self, name: str, store: BloomzPgvectorDocumentStore, built: Spent, *, words: bool = False) -> StoreCost:
        kind = PgvectorHybridRetriever if words else PgvectorEmbeddingRetriever
        retriever = kind(document_store=store, top_k=self.truth.top_k)
        progress = self.step(f"{name}: ask", len(self.passages.questions))
        answers = ask_all(retriever.run, self.passages, self.truth, self._time, progress, words=words)
        size = _value(self.beside, SIZE, self.name, f"{self.name}_words")
        return store_cost(name, answers, built, size, self._peak())

    def _store(self, **settings: Any) -> Any:  # noqa: ANN401
        return BloomzPgvectorDocumentStore(
            connection_string=Secret.from_token(self.address),
            table_name=self.name,
            keyword_index_name=f"{self.name}_keyword",
            hnsw_index_name=f"{self.name}_hnsw",
            embedding_dimension=self.passages.vectors.shape[1],
            vector_type=self.kind,
            **settings,
        )

    def _time(self) -> Spent:
        """Return the time now, with that of the server's processes that serve the store, if they run here."""
        own = own_time()
        return Spent(own.seconds, own.cpu + sum(map(_process_seconds, self._processes())))

    def _peak(self) -> int | None:
        """Return the most memory that one of those processes has had."""
        return max((peak for process in self._processes() if (peak := peak_memory(process))), default=None)

    def _processes(self) -> list[int]:
        if self.beside.info.host not in THIS_MACHINE and not self.beside.info.host.startswith("/"):
            return []
        return [process for process in _value(self.beside, PROCESSES, self.name) or [] if _is_postgres(process)]


def _value(connection: Connection[Any], statement: str, *values: str) -> Any:  # noqa: ANN401
    """Return the first value of the first row."""
    row = connection.execute(statement, values or None).fetchone()
    return None if row is None else row[0]


def _is_postgres(process: int) -> bool:
    """Whether a process is one of PostgreSQL's: a server in a container has other numbers."""
    return _read(process, "comm").strip() == "postgres"


def _process_seconds(process: int) -> float:
    """Return how long processors have worked for a process, as Linux counts it; 0 if it has ended."""
    fields = _read(process, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # user's and system's


def _read(process: int, name: str) -> str:
    try:
        return Path(f"/proc/{process}/{name}").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
