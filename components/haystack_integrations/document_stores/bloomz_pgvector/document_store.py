"""`BloomzPgvectorDocumentStore`: pgvector-haystack's store, with words for BM25, fast writes, and the model's name.

A subclass: table, settings and filters are those of `PgvectorDocumentStore`, which can read and search the same table.
Beside it stands a second table with the words of each passage; its comment says which model made the vectors.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore
from haystack_integrations.document_stores.pgvector.converters import _from_pg_to_haystack_documents
from haystack_integrations.document_stores.pgvector.filters import _convert_filters_to_where_clause_and_params
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from psycopg import Connection, Cursor, IntegrityError
from psycopg.rows import dict_row, tuple_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from haystack_integrations.common.bloomz.arguments import check_count, check_items
from haystack_integrations.common.bloomz.forking import ForkSafeLock
from haystack_integrations.common.bloomz.identity import ModelIdentity
from haystack_integrations.document_stores.bloomz_pgvector import statements
from haystack_integrations.document_stores.bloomz_pgvector.connections import Pool, Rows, one_line
from haystack_integrations.document_stores.bloomz_pgvector.rows import Bearer, distinct, rows, signed
from haystack_integrations.document_stores.bloomz_pgvector.tables import (
    Tables,
    check_type,
    is_made,
    keep_in_row,
    lock,
    make_words,
    on_conflict,
    prepare_extension,
)
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
from haystack_integrations.document_stores.qdrant_edge.trust import trust_in_words
from haystack_integrations.document_stores.qdrant_edge.writing import check_shape

POOL_SIZE = 8  # on two cores 32 threads get 36 answers a second by 8 connections, and by 32; 7 by one
READ_ROWS = 500  # in memory at a time, where all are read


class BloomzPgvectorDocumentStore(PgvectorDocumentStore):
    """Keeps documents in PostgreSQL, and finds them by cosine similarity, by BM25, or by both.

    The settings are those of `PgvectorDocumentStore`. Any number of threads share a few connections; documents are
    written by COPY; vectors of another model than the table's are refused.
    """

    def __init__(self, *, pool_size: int = POOL_SIZE, **settings: Any) -> None:  # noqa: ANN401
        """Describe the store; connect to nothing.

        :param pool_size: most connections at a time; a thread that finds all of them in use waits.
        :param **settings: of `PgvectorDocumentStore`.
        :raises ValueError: if `vector_function` is not cosine_similarity, or `pool_size` is not above 0.
        """
        check_count("pool_size", pool_size)
        super().__init__(**settings)
        if self.vector_function != "cosine_similarity":
            raise ValueError(f"vector_function must be cosine_similarity, but got {self.vector_function}")
        self.pool_size = pool_size
        self._tables = Tables(self.schema_name, self.table_name)
        self._pool = Pool(self._create_connection, pool_size)
        self._setting_up = ForkSafeLock()
        # Where pgvector-haystack keeps the cursors of its only connection.
        self._cursor: Any = Rows(tuple_row)
        self._dict_cursor: Any = Rows(dict_row)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, as a YAML file has them."""
        data = super().to_dict()
        data["init_parameters"]["pool_size"] = self.pool_size
        return data

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._pool.close()

    # ---------------------------------------------------------------- connections and tables

    def _create_connection(self) -> Connection[Any]:
        with one_line("no connection to PostgreSQL (PG_CONN_STR says where)"):  # and never with the address
            connection = Connection.connect(self.connection_string.resolve_value() or "", autocommit=True)
        try:
            with one_line(f"{self._tables} cannot be used"):
                prepare_extension(connection, self.create_extension)
                register_vector(connection)
                if self.search_strategy == "hnsw":
                    # Else a filter, or more candidates than ef_search, leaves fewer passages than asked for.
                    connection.execute("SET hnsw.iterative_scan = strict_order")
                    if self.hnsw_ef_search:
                        connection.execute(SQL("SET hnsw.ef_search = {}").format(Literal(self.hnsw_ef_search)))
        except BaseException:
            connection.close()
            raise
        return connection

    def _ensure_db_setup(self) -> None:
        if not self._table_initialized:
            with self._setting_up, self._pool.lent() as connection, one_line(f"{self._tables} cannot be used"):
                self._set_up(connection)

    def _set_up(self, connection: Connection[Any]) -> None:
        if self._table_initialized:  # by another thread, meanwhile
            return
        try:
            with connection.transaction():  # all or nothing
                lock(connection)  # another process may make the same table at the same time
                new = self.recreate_table or not is_made(connection, self._tables)
                self._initialize_table()
                if new:
                    keep_in_row(connection, self._tables, self.vector_type, self.embedding_dimension)
                check_type(connection, self._tables, f"{self.vector_type}({self.embedding_dimension})")
                make_words(connection, self._tables)
        except BaseException:
            self._table_initialized = False
            raise

    async def _ensure_db_setup_async(self) -> None:
        await asyncio.to_thread(self._ensure_db_setup)
        await super()._ensure_db_setup_async()

    def _execute_sql(
        self,
        cursor: Any,  # noqa: ANN401
        sql_query: SQL | Composed,
        params: tuple[Any, ...] | None = None,
        error_msg: str = "",
    ) -> Cursor[Any]:
        with self._pool.lent() as connection, one_line(error_msg):
            found = connection.cursor(row_factory=cursor.factory).execute(sql_query, params or ())
        cursor.rowcount = found.rowcount
        return found  # its rows are here, whoever has the connection now

    def delete_table(self) -> None:
        """Delete the table, and that of its words."""
        self._change("DROP TABLE IF EXISTS {words}, {table}")

    def delete_all_documents(self) -> None:
        """Delete every document; the table stays, and what is known of its model."""
        self._ensure_db_setup()
        self._change("TRUNCATE {table}, {words}")

    def _change(self, statement: str) -> None:
        self._execute_sql(self._cursor, self._tables.sql(statement), error_msg=self._unwritten)

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
        embeddings = [document.embedding for document in documents if document.embedding is not None]
        names = [f"document {document.id!r:.80}" for document in documents if document.embedding is not None]
        unit_vectors(embeddings, self.embedding_dimension, names)  # checks them
        bearers = [(document, document.embedding) for document in documents]
        return self._write_bearers(bearers, policy, model_of(embeddings))

    def write_embeddings(
        self,
        documents: list[Document],
        embeddings: NDArray[np.floating[Any]],
        policy: DuplicatePolicy = DuplicatePolicy.NONE,
        *,
        model: ModelIdentity | None = None,
    ) -> int:
        """Write documents with their vectors from an array: the bulk path, as `QdrantEdgeDocumentStore` has it.

        :param documents: B documents; their own `embedding` is not looked at.
        :param embeddings: (B, H) array of floats.
        :param policy: as for `write_documents`.
        :param model: which made the vectors; None: not known.
        :returns: how many documents were written.
        :raises ValueError: if the array has another shape; else errors are those of `write_documents`.
        """
        check_items("documents", documents, Document, error=ValueError)
        check_shape(embeddings, len(documents), self.embedding_dimension)
        unit_vectors(embeddings, self.embedding_dimension, [f"document {document.id!r:.80}" for document in documents])
        return self._write_bearers(list(zip(documents, embeddings, strict=True)), policy, model)

    def _write_bearers(self, bearers: Sequence[Bearer], policy: DuplicatePolicy, model: ModelIdentity | None) -> int:
        policy = DuplicatePolicy.FAIL if policy == DuplicatePolicy.NONE else policy
        self._ensure_db_setup()
        if not bearers:
            return 0
        with self._pool.lent() as connection, one_line(self._unwritten):
            try:
                with connection.transaction():
                    self._claim_model(connection, model)
                    return self._write(connection, distinct(bearers, policy), policy)
            except IntegrityError as error:
                raise DuplicateDocumentError(f"{self._tables}: {' '.join(str(error).split())}") from error

    def _write(self, connection: Connection[Any], bearers: list[Bearer], policy: DuplicatePolicy) -> int:
        columns = SQL(", ").join(map(Identifier, statements.PASSAGE_COLUMNS))
        connection.execute(self._tables.sql(statements.MAKE_INCOMING, columns=columns))
        with connection.cursor().copy(statements.COPY_INCOMING) as copy:
            copy.set_types(statements.COLUMN_TYPES)
            for row in rows(bearers, self.vector_type == "halfvec"):
                copy.write_row(row)
        conflict = on_conflict(policy, statements.PASSAGE_COLUMNS[1:])
        written = connection.execute(self._tables.sql(statements.WRITE, columns=columns, conflict=conflict)).rowcount
        connection.execute(self._tables.sql(statements.WRITE_WORDS, conflict=on_conflict(policy, ("words", "weights"))))
        return written

    # ---------------------------------------------------------------- what is known of the table

    def read_info(self) -> dict[str, str]:
        """Read what is kept with the table: the model that made its vectors."""
        self._ensure_db_setup()
        with self._pool.lent() as connection, one_line(self._unread):
            return self._info(connection)

    def update_info(self, **values: str) -> None:
        """Add to what is kept with the table.

        :param **values: names and texts; those already there are replaced, the others stay.
        """
        self._ensure_db_setup()
        with self._pool.lent() as connection, one_line(self._unwritten), connection.transaction():
            self._note(connection, values)

    def _info(self, connection: Connection[Any]) -> dict[str, str]:
        (comment,) = connection.execute(statements.READ_INFO, (self._tables.qualified(self._tables.words),)).fetchone()  # type: ignore[misc]
        return json.loads(comment) if comment else {}

    def _note(self, connection: Connection[Any], values: dict[str, str]) -> None:
        lock(connection)
        text = Literal(json.dumps({**self._info(connection), **values}, ensure_ascii=False))
        connection.execute(self._tables.sql("COMMENT ON TABLE {words} IS {text}", text=text))

    def _claim_model(self, connection: Connection[Any], model: ModelIdentity | None) -> None:
        info = self._info(connection)
        if model is None or info.get(WEIGHTS_KEY) == model.weights:
            return
        lock(connection)
        info = self._info(connection)  # another writer may have claimed it meanwhile
        (empty,) = connection.execute(self._tables.sql("SELECT NOT EXISTS (SELECT FROM {table})")).fetchone()  # type: ignore[misc]
        if not empty:
            check_same_model(info, str(self._tables), model)
        self._note(connection, {MODEL_KEY: model.name, WEIGHTS_KEY: model.weights})

    def existing_ids(self, document_ids: Iterable[str]) -> set[str]:
        """Return which of the ids are stored."""
        self._ensure_db_setup()
        statement = self._tables.sql("SELECT id FROM {table} WHERE id = ANY(%s)")
        return {key for (key,) in self._fetched(statement, (list(document_ids),))}

    def iterate_documents(self) -> Iterator[Document]:
        """Return all documents, with their embeddings, in the order of their ids, read as they are asked for."""
        self._ensure_db_setup()
        columns = SQL(", ").join(map(Identifier, statements.PASSAGE_COLUMNS))
        statement = self._tables.sql(statements.PAGE, columns=columns, limit=Literal(READ_ROWS))
        last = ""
        while page := self._execute_sql(self._dict_cursor, statement, (last,), self._unread).fetchall():
            yield from _from_pg_to_haystack_documents(page)
            last = page[-1]["id"]

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
        :param weigh_by_coverage: trust the words as far as the best match holds them, less between two languages.
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
        questions = [(query, signed(question_words(query))) for query in queries]
        self._ensure_db_setup()
        limit = max(candidates, top_k)
        by_vectors, by_words = settings.counted
        found = []
        with self._pool.lent() as connection, one_line(self._unread):
            check_same_model(self._info(connection), str(self._tables), model_of(query_embeddings))
            for unit, asked in zip(units, questions, strict=True):
                near = self._nearest(unit, filters, limit) if by_vectors else []
                matching, trust = self._matching(*asked, filters, limit) if by_words else ([], 0.0)
                # By their points, so that equal scores stand in the order that Qdrant Edge gives them.
                keys = {point_id(key): key for key, _ in (*near, *matching)}
                hits = settings.fused(_by_point(near), _by_point(matching), trust)[:top_k]
                kept = [(keys[p], score) for p, score in hits if score_threshold is None or score >= score_threshold]
                found.append(self._documents(kept, return_embedding))
        return found

    def _nearest(self, unit: np.ndarray, filters: dict[str, Any] | None, limit: int) -> Hits:
        where, values = self._where_clause(filters)
        question = Literal(f"[{','.join(map(str, unit.tolist()))}]")
        kind = SQL(self.vector_type)
        statement = self._tables.sql(
            statements.NEAREST,
            question=SQL("{}::{}").format(question, kind),
            where=where,
            # Else PostgreSQL takes whichever it meets first; an hnsw index gives one order only.
            ties=SQL(", id" if self.search_strategy == "exact_nearest_neighbor" else ""),
            limit=Literal(limit),
        )
        return self._fetched(statement, values)

    def _matching(self, asked: str, words: list[int], filters: dict[str, Any] | None, limit: int) -> tuple[Hits, float]:
        """Return the hits by BM25, and how far they are to be trusted, by the best one."""
        where, values = self._where_clause(filters)
        statement = self._tables.sql(statements.MATCHING, where=where, limit=Literal(limit))
        found = self._fetched(statement, (words, words, words, *values)) if words else []
        if not found:
            return [], 0.0
        best, _, matched = found[0]
        texts = self._fetched(self._tables.sql("SELECT content FROM {table} WHERE id = %s"), (best,))
        trust = trust_in_words(asked, texts[0][0] if texts else "", matched / len(words))
        return [(key, score) for key, score, _ in found], trust

    def _where_clause(self, filters: dict[str, Any] | None) -> tuple[Composed | SQL, tuple[Any, ...]]:
        if not filters:
            return SQL(""), ()
        clause, values = _convert_filters_to_where_clause_and_params(filters)
        return self._tables.sql("AND id IN (SELECT id FROM {table} {clause})", clause=clause), values

    def _documents(self, hits: Hits, return_embedding: bool) -> list[Document]:
        columns = [name for name in statements.PASSAGE_COLUMNS if return_embedding or name != "embedding"]
        wanted = SQL(", ").join(map(Identifier, columns))
        statement = self._tables.sql("SELECT {columns} FROM {table} WHERE id = ANY(%s)", columns=wanted)
        found = self._execute_sql(self._dict_cursor, statement, ([key for key, _ in hits],)).fetchall()
        documents = {document.id: document for document in _from_pg_to_haystack_documents(found)}
        # One that was deleted since it was found is left out.
        return [replace(documents[key], score=score) for key, score in hits if key in documents]

    def _fetched(self, statement: Composed, values: tuple[Any, ...]) -> list[Any]:
        return self._execute_sql(self._cursor, statement, values, self._unread).fetchall()

    @property
    def _unwritten(self) -> str:
        return f"{self._tables} could not be written"

    @property
    def _unread(self) -> str:
        return f"{self._tables} could not be searched"

    # The same, for an event loop:
    write_documents_async = async_twin(write_documents)  # type: ignore[arg-type]
    delete_all_documents_async = async_twin(delete_all_documents)  # type: ignore[arg-type]
    delete_table_async = async_twin(delete_table)  # type: ignore[arg-type]
    query_hybrid_batch_async = async_twin(query_hybrid_batch)


def _by_point(hits: Hits) -> Hits:
    return sorted(((point_id(key), score) for key, score in hits), key=lambda hit: (-hit[1], hit[0]))
