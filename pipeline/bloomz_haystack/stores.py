"""What indexing needs of a store, and Haystack's plain document stores made to fulfil it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from haystack.document_stores.types import DocumentStore, DuplicatePolicy


class PassageStore(Protocol):
    """Says what it holds of a file, and forgets it; those of Qdrant Edge and PostgreSQL are, as they stand."""

    def count_documents(self) -> int:
        """Return the number of passages."""

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Return the number of passages that match."""

    def existing_ids(self, document_ids: Iterable[str]) -> set[str]:
        """Return those ids that are stored."""

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the passages that match; return their number."""

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Merge metadata into the passages that match; return their number."""


class PlainStore:
    """A `PassageStore` by the four methods that every Haystack document store has."""

    def __init__(self, documents: DocumentStore) -> None:
        """Wrap a store.

        :param documents: of any integration.
        """
        self.documents = documents

    def count_documents(self) -> int:
        """Return the number of passages."""
        return self.documents.count_documents()

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Return the number of passages that match."""
        own = getattr(self.documents, "count_documents_by_filter", None)
        return own(filters) if own else len(self.documents.filter_documents(filters))

    def existing_ids(self, document_ids: Iterable[str]) -> set[str]:
        """Return those ids that are stored."""
        wanted = {"field": "id", "operator": "in", "value": list(document_ids)}
        return {document.id for document in self.documents.filter_documents(wanted)}

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the passages that match; return their number."""
        ids = [document.id for document in self.documents.filter_documents(filters)]
        self.documents.delete_documents(ids)
        return len(ids)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Merge metadata into the passages that match; return their number."""
        found = self.documents.filter_documents(filters)
        changed = [replace(document, meta={**document.meta, **meta}) for document in found]
        self.documents.write_documents(changed, DuplicatePolicy.OVERWRITE)
        return len(changed)
