"""The two tables of a store, by name: that of pgvector-haystack, and that of the words; made, checked, written to."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy
from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier, Literal

from haystack_integrations.document_stores.bloomz_pgvector import statements
from haystack_integrations.document_stores.bloomz_pgvector.rows import words_row

OLDEST_PGVECTOR = (0, 8)
WIDEST_IN_ROW = 7_000  # bytes of a vector that leave room for the rest in a page of 8 KB
BYTES = {"vector": 4, "halfvec": 2}  # of a number
LOCK = 7_305_911  # of PostgreSQL, held while tables are made: any number, the same in every process


@dataclass(frozen=True)
class Tables:
    """The names of both tables."""

    schema: str
    passages: str

    def __str__(self) -> str:
        """Return how messages name them."""
        return f"the table {self.schema}.{self.passages}"

    @property
    def words(self) -> str:
        """The name of the table of words."""
        return f"{self.passages}_words"

    def qualified(self, table: str) -> str:
        """Return a table's name with its schema, quoted.

        :param table: of the two.
        :returns: the name.
        """
        return Identifier(self.schema, table).as_string(None)

    def sql(self, statement: str, **parts: Composed | SQL | Identifier | Literal) -> Composed:
        """Fill in a statement.

        :param statement: with `{table}`, `{words}` and `{places}`.
        :param **parts: what else it names.
        :returns: the statement.
        """
        return SQL(statement).format(
            table=Identifier(self.schema, self.passages),
            words=Identifier(self.schema, self.words),
            places=Literal(statements.PLACES),
            **parts,
        )


def lock(connection: Connection[Any]) -> None:
    """Let no other process make or claim a table until the transaction ends.

    :param connection: in a transaction.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))


def prepare_extension(connection: Connection[Any], make: bool) -> None:
    """Check pgvector.

    :param connection: a new one.
    :param make: whether to make the extension if the database lacks it.
    :raises DocumentStoreError: if there is none, or an old one.
    """
    found = connection.execute(statements.EXTENSION).fetchone()
    if make and not found:
        with connection.transaction():
            lock(connection)  # of two processes that both make it, PostgreSQL would refuse one
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        found = connection.execute(statements.EXTENSION).fetchone()
    version = found[0] if found else "none"
    if found is None or tuple(map(int, version.split(".")[:2])) < OLDEST_PGVECTOR:
        raise DocumentStoreError(f"pgvector 0.8 or later is needed in the database, but it has {version}")


def check_type(connection: Connection[Any], tables: Tables, wanted: str) -> None:
    """Check the column of embeddings.

    :param connection: any.
    :param tables: which.
    :param wanted: its type, with the dimension.
    :raises DocumentStoreError: if it is of another.
    """
    found = connection.execute(statements.COLUMN_TYPE, (tables.qualified(tables.passages),)).fetchone()
    if found and found[0] != wanted:
        raise DocumentStoreError(
            f"{tables} holds embeddings of type {found[0]}, but {wanted} was asked for: use the model that made it, or "
            "another table_name"
        )


def is_made(connection: Connection[Any], tables: Tables) -> bool:
    """Return whether the table of passages is there.

    :param connection: any.
    :param tables: which.
    :returns: whether it is.
    """
    (found,) = connection.execute("SELECT to_regclass(%s)", (tables.qualified(tables.passages),)).fetchone()  # type: ignore[misc]
    return found is not None


def keep_in_row(connection: Connection[Any], tables: Tables, kind: str, numbers: int) -> None:
    """Have vectors kept in their rows, if they fit: PostgreSQL moves what is above 2 KB elsewhere, and fetches it.

    An exact search of 10,000 vectors of 576 numbers takes 52 ms if it fetches them, 9 ms if not; of 1024, 50 and 14; of
    `halfvec` of 1024, 40 and 13, of 2560, 58 and 19 (PostgreSQL 18.3, one core).

    :param connection: in a transaction.
    :param tables: new ones: what is there already stays where it is.
    :param kind: vector or halfvec.
    :param numbers: in a vector.
    """
    if numbers * BYTES[kind] <= WIDEST_IN_ROW:
        connection.execute(tables.sql(statements.KEEP_IN_ROW))


def make_words(connection: Connection[Any], tables: Tables) -> None:
    """Make the table of words, and fill it if the other one has passages already.

    :param connection: in a transaction.
    :param tables: which.
    """
    if connection.execute("SELECT to_regclass(%s)", (tables.qualified(tables.words),)).fetchone()[0]:  # type: ignore[index]
        return
    connection.execute(tables.sql(statements.MAKE_WORDS))
    found = connection.execute(tables.sql(statements.WITHOUT_WORDS)).fetchall()
    with connection.cursor().copy(tables.sql(statements.COPY_WORDS)) as copy:
        copy.set_types(("text", *statements.WORDS_TYPES))
        for key, content in found:
            copy.write_row((key, *words_row(key, content)))
    connection.execute(tables.sql(statements.INDEX_WORDS, index=Identifier(f"{tables.words}_index")))


def on_conflict(policy: DuplicatePolicy, columns: Iterable[str]) -> SQL | Composed:
    """Return what an INSERT does about ids that are there.

    :param policy: OVERWRITE, SKIP, or else PostgreSQL's error.
    :param columns: that are overwritten.
    :returns: the clause.
    """
    if policy == DuplicatePolicy.OVERWRITE:
        set_ = SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(column)) for column in columns)
        return SQL("ON CONFLICT (id) DO UPDATE SET {}").format(set_)
    return SQL("ON CONFLICT DO NOTHING") if policy == DuplicatePolicy.SKIP else SQL("")
