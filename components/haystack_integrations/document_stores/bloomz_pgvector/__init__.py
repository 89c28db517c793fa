try:
    import haystack_integrations.document_stores.pgvector as _pgvector  # noqa: F401
except ImportError as error:
    raise ImportError('PostgreSQL needs pgvector-haystack: pip install "bloomz-haystack[pgvector]"') from error

from haystack_integrations.document_stores.bloomz_pgvector.document_store import BloomzPgvectorDocumentStore

__all__ = ["BloomzPgvectorDocumentStore"]
