"""`BloomzPgvectorDocumentStore`: pgvector-haystack's store, with words for BM25, fast writes, and the model's name.

A subclass: table, settings and filters are those of `PgvectorDocumentStore`, which can read and search the same table.
Beside it stands a second table with the words of each passage; its comment says which model made the vectors.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore
from haystack_integrations.document_stores.pgvector.converters import _from_pg_to_haystack_documents
from haystack_integrations.document_stores.pgvector.filters import _convert_filters_to_where_clause_and_params
from psycopg import Connection, Error, IntegrityError
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from haystack_integrations.common.bloomz.arguments import check_count, check_items
from haystack_integrations.common.bloomz.identity import ModelIdentity
from haystack_integrations.document_stores.bloomz_pgvector import statements
from haystack_integrations.document_stores.bloomz_pgvector.connections import PerThread, Threads, connect
from haystack_integrations.document_stores.bloomz_pgvector.rows import distinct, rows, signed, words_row
from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin
from haystack_integrations.document_stores.qdrant_edge.bm25 import question_words
from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY, WEIGHTS_KEY, check_same_model, model_of
from haystack_integrations.document_stores.qdrant_edge.points import point_id, unit_vectors
from haystack_integrations.document_stores.qdrant_edge.search import (
    CANDIDATES,
    Hits,
    HybridSettings,
    check_threshold,
)

OLDEST_PGVECTOR = (0, 8)
READ_ROWS = 500  # in memory at a time, where all are read
LOCK = 7_305_911  # of PostgreSQL, held while tables are made: any number, the same in every process


class BloomzPgvectorDocumentStore(PgvectorDocumentStore):
    """Keeps documents in PostgreSQL, and finds them by cosine similarity, by BM25, or by both.

    The settings are those of `PgvectorDocumentStore`. Each thread has a connection of its own; documents are written by
    COPY; vectors of another model than the table's are refused.
    """

    _connection = PerThread()
    _cursor = PerThread()
    _dict_cursor = PerThread()

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        """Describe the store; connect to nothing.

        :param **settings: of `PgvectorDocumentStore`.
        :raises ValueError: if `vector_function` is not cosine_similarity.
        """
        self.threads = Threads()
        self._opened: WeakSet[Connection[Any]] = WeakSet()
        self._setting_up = threading.Lock()
        super().__init__(**settings)
        if self.vector_function != "cosine_similarity":
            raise ValueError(f"vector_function must be cosine_similarity, but got {self.vector_function}")

    def close(self) -> None:
        """Close the connections of all threads; the next use opens new ones."""
        super().close()
        for connection in list(self._opened):
            connection.close()

    # ---------------------------------------------------------------- tables

    def _create_connection(self) -> Connection[Any]:
        connection = connect(self.connection_string.resolve_value() or "", self._opened)
        connection.autocommit = True
        if self.create_extension and not connection.execute(statements.EXTENSION).fetchone():
            # Of two processes that both make it, PostgreSQL would refuse one.
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        return connection

    def _ensure_db_setup(self) -> None:
        try:
            super()._ensure_db_setup()
        except Error as error:
            raise DocumentStoreError(f"{self._where} cannot be used: {' '.join(str(error).split())}") from error

    def _initialize_table(self) -> None:
        with self._setting_up:
            if self._table_initialized:
                return
            connection = self._connection
            connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            try:
                self._check_extension(connection)
                super()._initialize_table()
                self._check_dimension(connection)
                self._make_words(connection)
            except BaseException:
                self._table_initialized = False
                raise
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))

    def _check_extension(self, connection: Connection[Any]) -> None:
        found = connection.execute(statements.EXTENSION).fetchone()
        version = found[0] if found else "none"
        if found is None or tuple(map(int, version.split(".")[:2])) < OLDEST_PGVECTOR:
            raise DocumentStoreError(f"pgvector 0.8 or later is needed in the database, but it has {version}")

    def _check_dimension(self, connection: Connection[Any]) -> None:
        found = connection.execute(statements.COLUMN_TYPE, (self._name(self.table_name),)).fetchone()
        wanted = f"{self.vector_type}({self.embedding_dimension})"
        if found and found[0] != wanted:
            raise DocumentStoreError(
                f"{self._where} holds embeddings of type {found[0]}, but {wanted} was asked for: use the model that "
                "made it, or another table_name"
            )

    def _make_words(self, connection: Connection[Any]) -> None:
        """Make the table of words, and fill it if the other one has passages already."""
        if connection.execute("SELECT to_regclass(%s)", (self._name(self._words_name),)).fetchone()[0]:  # type: ignore[index]
            return
        with connection.transaction():
            connection.execute(self._sql(statements.MAKE_WORDS))
            found = connection.execute(self._sql(statements.WITHOUT_WORDS)).fetchall()
            with connection.cursor().copy(self._sql(statements.COPY_WORDS)) as copy:
                copy.set_types(("text", *statements.WORDS_TYPES))
                for key, content in found:
                    copy.write_row((key, *words_row(key, content)))
            connection.execute(self._sql(statements.INDEX_WORDS, index=Identifier(f"{self._words_name}_index")))

    def delete_table(self) -> None:
        """Delete the table, and that of its words."""
        self._execute_own("DROP TABLE IF EXISTS {words}")
        super().delete_table()

    def delete_all_documents(self) -> None:
        """Delete every document; the table stays, and what is known of its model."""
        self._execute_own("TRUNCATE {table}, {words}")

    def _execute_own(self, statement: str) -> None:
        self._ensure_db_setup()
        self._execute_sql(self._cursor, self._sql(statement), error_msg=f"{self._where} could not be changed")

    # ---------------------------------------------------------------- writing

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents, all or none, by COPY.

        :param documents: with or without embedding.
        :param policy: what to do with an id that is already there, or twice in the list. FAIL (and NONE) writes
            nothing; SKIP keeps the first; OVERWRITE keeps the last.
        :returns: how many documents were written.
        :raises ValueError: if `documents` is not a list of Documents, or vectors are of another model or dimension.
        :raises DuplicateDocumentError: under FAIL and NONE.
        """
        check_items("documents", documents, Document, error=ValueError)
        policy = DuplicatePolicy.FAIL if policy == DuplicatePolicy.NONE else policy
        embeddings = [document.embedding for document in documents if document.embedding is not None]
        names = [f"document {document.id!r:.80}" for document in documents if document.embedding is not None]
        unit_vectors(embeddings, self.embedding_dimension, names)  # checks them
        self._ensure_db_setup()
        if not documents:
            return 0
        connection = self._connection
        try:
            with connection.transaction():
                self._claim_model(connection, model_of(embeddings))
                return self._write(connection, distinct(documents, policy), policy)
        except IntegrityError as error:
            raise DuplicateDocumentError(f"{self._where}: {' '.join(str(error).split())}") from error
        except Error as error:
            raise DocumentStoreError(f"{self._where} could not be written: {' '.join(str(error).split())}") from error

    def _write(self, connection: Connection[Any], documents: list[Document], policy: DuplicatePolicy) -> int:
        columns = SQL(", ").join(map(Identifier, statements.PASSAGE_COLUMNS))
        connection.execute(self._sql(statements.MAKE_INCOMING, columns=columns))
        with connection.cursor().copy(statements.COPY_INCOMING) as copy:
            copy.set_types([name.format(vector=self.vector_type) for name in statements.COLUMN_TYPES])
            for row in rows(documents, self.vector_type == "halfvec"):
                copy.write_row(row)
        conflict = _conflict(policy, statements.PASSAGE_COLUMNS[1:])
        written = connection.execute(self._sql(statements.WRITE, columns=columns, conflict=conflict)).rowcount
        connection.execute(self._sql(statements.WRITE_WORDS, conflict=_conflict(policy, ("words", "weights"))))
        return written

    # ---------------------------------------------------------------- what is known of the table

    def read_info(self) -> dict[str, str]:
        """Read what is kept with the table: the model that made its vectors."""
        self._ensure_db_setup()
        return self._info(self._connection)

    def update_info(self, **values: str) -> None:
        """Add to what is kept with the table.

        :param **values: names and texts; those already there are replaced, the others stay.
        """
        self._ensure_db_setup()
        with self._connection.transaction():
            self._note(self._connection, values)

    def _info(self, connection: Connection[Any]) -> dict[str, str]:
        (comment,) = connection.execute(statements.READ_INFO, (self._name(self._words_name),)).fetchone()  # type: ignore[misc]
        return json.loads(comment) if comment else {}

    def _note(self, connection: Connection[Any], values: dict[str, str]) -> None:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        text = Literal(json.dumps({**self._info(connection), **values}, ensure_ascii=False))
        connection.execute(self._sql("COMMENT ON TABLE {words} IS {text}", text=text))

    def _claim_model(self, connection: Connection[Any], model: ModelIdentity | None) -> None:
        info = self._info(connection)
        if model is None or info.get(WEIGHTS_KEY) == model.weights:
            return
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        info = self._info(connection)  # another writer may have claimed it meanwhile
        (empty,) = connection.execute(self._sql("SELECT NOT EXISTS (SELECT FROM {table})")).fetchone()  # type: ignore[misc]
        if not empty:
            check_same_model(info, self._where, model)
        self._note(connection, {MODEL_KEY: model.name, WEIGHTS_KEY: model.weights})

    def existing_ids(self, document_ids: Iterable[str]) -> set[str]:
        """Return which of the ids are stored."""
        self._ensure_db_setup()
        found = self._connection.execute(self._sql("SELECT id FROM {table} WHERE id = ANY(%s)"), (list(document_ids),))
        return {key for (key,) in found}

    def iterate_documents(self) -> Iterator[Document]:
        """Return all documents, with their embeddings, read as they are asked for."""
        self._ensure_db_setup()
        columns = SQL(", ").join(map(Identifier, statements.PASSAGE_COLUMNS))
        statement = self._sql("SELECT {columns} FROM {table} ORDER BY id", columns=columns)
        with self._connection.transaction(), self._connection.cursor("passages", row_factory=dict_row) as cursor:
            cursor.itersize = READ_ROWS
            for row in cursor.execute(statement):
                yield from _from_pg_to_haystack_documents([row])

    # ---------------------------------------------------------------- searching

    def query_hybrid_batch(
        self,
        queries: Sequence[str],
        query_embeddings: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        candidates: int = CANDIDATES,
        fusion: Fusion = "convex",
        weights: Sequence[float] | None = None,
        weigh_by_coverage: bool = True,
        rank_constant: float = RANK_CONSTANT,
        score_threshold: float | None = None,
        return_embedding: bool = False,
    ) -> list[list[Document]]:
        """Find the documents that match each question by BM25 and by cosine, fused: as `QdrantEdgeDocumentStore` does.

        :param queries: B questions.
        :param query_embeddings: (B, H) array, or B sequences of H numbers.
        :param filters: a Haystack filter for all the questions.
        :param top_k: most documents per question.
        :param candidates: this and the next four: as for `PgvectorHybridRetriever`.
        :param fusion: "convex" (by score) or "rrf" (by rank).
        :param weights: of the vectors and of the words; 0 leaves a side out.
        :param weigh_by_coverage: trust the words as far as the best match holds them.
        :param rank_constant: of "rrf" alone.
        :param score_threshold: keep the documents whose fused score is at least this.
        :param return_embedding: whether the documents carry their embedding.
        :returns: B lists of documents, best first; score = fused score, from 0 to 1.
        :raises ValueError: if a number is out of range, or a vector is of another dimension or model.
        :raises TypeError: if a question is not a string.
        """
        check_count("top_k", top_k)
        check_threshold(score_threshold)
        settings = HybridSettings(candidates, fusion, weights, weigh_by_coverage, rank_constant)
        names = [f"query {place}" for place in range(len(queries))]
        units = unit_vectors(query_embeddings, self.embedding_dimension, names).vectors
        words = [signed(question_words(query)) for query in queries]
        self._ensure_db_setup()
        check_same_model(self._info(self._connection), self._where, model_of(query_embeddings))
        limit = max(candidates, top_k)
        found = []
        for unit, asked in zip(units, words, strict=True):
            near = self._nearest(unit, filters, limit)
            matching, coverage = self._matching(asked, filters, limit)
            # By their points, so that equal scores stand in the order that Qdrant Edge gives them.
            keys = {point_id(key): key for key, _ in (*near, *matching)}
            hits = settings.fused(_by_point(near), _by_point(matching), coverage)[:top_k]
            kept = [(keys[p], score) for p, score in hits if score_threshold is None or score >= score_threshold]
            found.append(self._documents(kept, return_embedding))
        return found

    def _nearest(self, unit: np.ndarray, filters: dict[str, Any] | None, limit: int) -> Hits:
        where, values = self._where_clause(filters)
        question = Literal(f"[{','.join(map(str, unit.tolist()))}]")
        kind = SQL(self.vector_type)
        statement = self._sql(
            statements.NEAREST,
            question=SQL("{}::{}").format(question, kind),
            where=where,
            # Else PostgreSQL takes whichever it meets first; an hnsw index gives one order only.
            ties=SQL(", id" if self.search_strategy == "exact_nearest_neighbor" else ""),
            limit=Literal(limit),
        )
        return self._fetched(statement, values)

    def _matching(self, words: list[int], filters: dict[str, Any] | None, limit: int) -> tuple[Hits, float]:
        """Return the hits by BM25, and the share of the question's words that the best one holds."""
        if not words:
            return [], 0.0
        where, values = self._where_clause(filters)
        statement = self._sql(statements.MATCHING, where=where, limit=Literal(limit))
        found = self._fetched(statement, (words, words, *values))
        return [(key, score) for key, score, _ in found], found[0][2] / len(words) if found else 0.0

    def _where_clause(self, filters: dict[str, Any] | None) -> tuple[Composed | SQL, tuple[Any, ...]]:
        if not filters:
            return SQL(""), ()
        clause, values = _convert_filters_to_where_clause_and_params(filters)
        return self._sql("AND id IN (SELECT id FROM {table} {clause})", clause=clause), values

    def _documents(self, hits: Hits, return_embedding: bool) -> list[Document]:
        columns = [name for name in statements.PASSAGE_COLUMNS if return_embedding or name != "embedding"]
        wanted = SQL(", ").join(map(Identifier, columns))
        statement = self._sql("SELECT {columns} FROM {table} WHERE id = ANY(%s)", columns=wanted)
        found = self._execute_sql(self._dict_cursor, statement, ([key for key, _ in hits],)).fetchall()
        documents = {document.id: document for document in _from_pg_to_haystack_documents(found)}
        # One that was deleted since it was found is left out.
        return [replace(documents[key], score=score) for key, score in hits if key in documents]

    def _fetched(self, statement: Composed, values: tuple[Any, ...]) -> list[Any]:
        message = f"{self._where} could not be searched"
        return self._execute_sql(self._cursor, statement, values, message).fetchall()

    # ---------------------------------------------------------------- names

    @property
    def _words_name(self) -> str:
        return f"{self.table_name}_words"

    @property
    def _where(self) -> str:
        return f"the table {self.schema_name}.{self.table_name}"

    def _name(self, table: str) -> str:
        return Identifier(self.schema_name, table).as_string(None)

    def _sql(self, statement: str, **parts: Composed | SQL | Identifier | Literal) -> Composed:
        names = {
            "table": Identifier(self.schema_name, self.table_name),
            "words": Identifier(self.schema_name, self._words_name),
        }
        return SQL(statement).format(**names, **parts)

    # The same, for an event loop:
    write_documents_async = async_twin(write_documents)  # type: ignore[arg-type]
    delete_all_documents_async = async_twin(delete_all_documents)  # type: ignore[arg-type]
    delete_table_async = async_twin(delete_table)  # type: ignore[arg-type]
    query_hybrid_batch_async = async_twin(query_hybrid_batch)


def _by_point(hits: Hits) -> Hits:
    return sorted(((point_id(key), score) for key, score in hits), key=lambda hit: (-hit[1], hit[0]))


def _conflict(policy: DuplicatePolicy, columns: Iterable[str]) -> SQL | Composed:
    if policy == DuplicatePolicy.OVERWRITE:
        set_ = SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(column)) for column in columns)
        return SQL("ON CONFLICT (id) DO UPDATE SET {}").format(set_)
    return SQL("ON CONFLICT DO NOTHING") if policy == DuplicatePolicy.SKIP else SQL("")
