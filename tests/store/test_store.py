"""QdrantEdgeDocumentStore against Haystack's own test suites, and what those suites do not ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites

from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore


class _AnyOrder:
    """The store gives documents in no particular order, and embeddings as float32."""

    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[QdrantEdgeDocumentStore]:
        store = QdrantEdgeDocumentStore(str(tmp_path / "store"), embedding_dim=768)
        yield store
        store.close()

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        received, expected = (sorted(documents, key=lambda document: document.id) for documents in (received, expected))
        assert [document.id for document in received] == [document.id for document in expected]
        for got, wanted in zip(received, expected, strict=True):
            fields, wanted_fields = got.to_dict(flatten=False), wanted.to_dict(flatten=False)
            embedding = wanted_fields.pop("embedding")
            assert fields.pop("embedding") == (None if embedding is None else pytest.approx(embedding, rel=1e-6))
            assert fields == wanted_fields


class TestHaystackSuite(
    _AnyOrder,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: DocumentStore) -> None:
        documents = [Document(content="Le chat dort."), Document(content="The cat sleeps.")]
        assert document_store.write_documents(documents) == 2
        self.assert_documents_are_equal(document_store.filter_documents(), documents)
        with pytest.raises(DuplicateDocumentError):  # NONE is FAIL, as in InMemoryDocumentStore
            document_store.write_documents(documents)


class TestHaystackAsyncSuite(
    _AnyOrder,
    async_suites.CountDocumentsAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
):
    async def test_write_documents_async(self, document_store: QdrantEdgeDocumentStore) -> None:
        documents = [Document(content="Le chat dort."), Document(content="The cat sleeps.")]
        assert await document_store.write_documents_async(documents, DuplicatePolicy.NONE) == 2
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents)
