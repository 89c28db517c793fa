"""SQL in texts, ids, names of fields and values of filters is text."""

from typing import TYPE_CHECKING

import psycopg
import pytest
from haystack import Document
from haystack.utils import Secret

from haystack_integrations.components.retrievers.bloomz_pgvector import PgvectorHybridRetriever
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import Postgres

HOSTILE = "x'; DROP TABLE canary; --"
QUOTED = 'y"; DROP TABLE canary; --'


def test_sql_in_names_and_values_is_text(postgres: "Postgres") -> None:
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("CREATE TABLE canary (id int)")
        store = BloomzPgvectorDocumentStore(
            connection_string=Secret.from_token(postgres.address()),
            table_name=QUOTED,
            keyword_index_name=f"{QUOTED}k",
            hnsw_index_name=f"{QUOTED}h",
            embedding_dimension=2,
        )
        document = Document(id=HOSTILE, content=HOSTILE, meta={"file_path": HOSTILE}, embedding=[1.0, 0.0])
        assert store.write_documents([document]) == 1
        for value in (HOSTILE, QUOTED):
            equal = {"field": "meta.file_path", "operator": "==", "value": value}
            assert len(store.filter_documents(equal)) == (value == HOSTILE)
        found = PgvectorHybridRetriever(document_store=store).run(query_embedding=[1.0, 0.0], query=HOSTILE)
        assert [passage.content for passage in found["documents"]] == [HOSTILE]
        store.delete_documents([HOSTILE])
        assert store.count_documents() == 0
        for field in (f"meta.{HOSTILE}", f"meta.{QUOTED}"):
            assert store.filter_documents({"field": field, "operator": "==", "value": 1}) == []
        assert connection.execute("SELECT count(*) FROM canary").fetchone() == (0,)
        connection.execute("DROP TABLE canary")
    store.close()


def test_the_canary_would_die(postgres: "Postgres") -> None:
    """Negative control: the same words as SQL do what they say."""
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("CREATE TABLE canary (id int)")
        connection.execute(f"SELECT '{HOSTILE}'")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT count(*) FROM canary")
