"""`QdrantEdgeDocumentStore`: Haystack documents in a folder, searched exactly, without a server.

What enters: documents and vectors. What leaves: documents, with their cosine similarity after a search. How a document
becomes a point is in points.py, how a filter is translated in filters.py, how the folder is shared in shard.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray
from qdrant_edge import CountRequest, Filter, PayloadSelector, ScrollRequest, UpdateOperation

from haystack_integrations.common.bloomz.identity import ModelIdentity
from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin
from haystack_integrations.document_stores.qdrant_edge.filters import edge_filter
from haystack_integrations.document_stores.qdrant_edge.hybrid_search import HybridSearch, add_words
from haystack_integrations.document_stores.qdrant_edge.metadata_statistics import MetadataStatistics
from haystack_integrations.document_stores.qdrant_edge.origin import check_model, model_of
from haystack_integrations.document_stores.qdrant_edge.points import (
    VECTOR,
    document_of,
    payload_of,
    point_id,
    point_of,
    unit_vectors,
)
from haystack_integrations.document_stores.qdrant_edge.search import check_count, check_threshold, search
from haystack_integrations.document_stores.qdrant_edge.shard import DATATYPES, ShardHandle, SharedShard, open_shard
from haystack_integrations.document_stores.qdrant_edge.store_json import check_info, read_description
from haystack_integrations.document_stores.qdrant_edge.writing import check_documents, stored_ids, write

SCROLL_PAGE = 1000  # documents
PARAMETERS = (
    "path",
    "embedding_dim",
    "datatype",
    "indexed_meta_fields",
    "return_embedding",
    "write_batch_size",
    "hybrid",
)


class QdrantEdgeDocumentStore(HybridSearch, MetadataStatistics):
    """Keeps documents and their embeddings in a folder, and finds the nearest ones by cosine similarity.

    Nothing is opened before the first use. Two stores of one process that name the same folder share it; a second
    process is refused with a clear error. A document that `write_documents` has returned for survives a kill -9.
    """

    def __init__(
        self,
        path: str | Path,
        embedding_dim: int = 1024,
        *,
        datatype: Literal["float32", "float16"] = "float32",
        indexed_meta_fields: list[str] | None = None,
        return_embedding: bool = True,
        write_batch_size: int = 1000,
        hybrid: bool = False,
    ) -> None:
        """Describe the store; touch no file.

        :param path: the folder; made on first use, "~" is the home folder.
        :param embedding_dim: numbers in an embedding: 1024 for bloomz-560m, 2560 for bloomz-3b.
        :param datatype: how vectors are stored. "float16" halves their size and moves scores by less than 1e-3.
        :param indexed_meta_fields: metadata fields (without "meta.") that filters use often: filtering on them is then
            as fast as no filter. Fields can be added later.
        :param return_embedding: whether `filter_documents` returns embeddings; a search has its own setting.
        :param write_batch_size: documents per update of the shard.
        :param hybrid: keep the words of each document's content beside its vector, for `QdrantEdgeHybridRetriever`. A
            store that was made without gets them when it is opened with True; one that has them keeps them under False.
        :raises ValueError: if an argument is out of range.
        :raises TypeError: if the path is not one.
        """
        given: object = path  # YAML and pipelines do not keep to the signature
        if not isinstance(given, str | Path):
            msg = f"path must be a string or a Path, but got {given!r:.80} of type {type(given).__name__}"
            raise TypeError(msg)
        if embedding_dim <= 0:
            msg = f"embedding_dim must be > 0, but got {embedding_dim}"
            raise ValueError(msg)
        if write_batch_size <= 0:
            msg = f"write_batch_size must be > 0, but got {write_batch_size}"
            raise ValueError(msg)
        if datatype not in DATATYPES:
            msg = f"datatype must be one of {', '.join(DATATYPES)}, but got {datatype!r}"
            raise ValueError(msg)
        self.path = str(path)  # a text, because YAML knows no Path
        self.embedding_dim = embedding_dim
        self.datatype = datatype
        self.indexed_meta_fields = indexed_meta_fields
        self.return_embedding = return_embedding
        self.write_batch_size = write_batch_size
        self.hybrid = hybrid
        self._handle: ShardHandle | None = None

    def to_dict(self) -> dict[str, Any]:
        """Describe the store for YAML."""
        return default_to_dict(self, **{name: getattr(self, name) for name in PARAMETERS})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "QdrantEdgeDocumentStore":
        """Make the store that `to_dict` described."""
        return default_from_dict(cls, data)

    @property
    def folder(self) -> Path:
        """The absolute folder that `path` names."""
        return Path(self.path).expanduser().resolve()

    def open(self, *, wait: float = 0.0) -> None:
        """Open the folder, or make it. Optional: the first use does it.

        :param wait: seconds to wait for another process that holds it.
        """
        self._shard(wait=wait)

    def close(self) -> None:
        """Let go of the folder; a second call does nothing, and the next use opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def _shard(self, *, make: bool = True, wait: float = 0.0) -> SharedShard:
        handle = self._handle
        if handle is None:
            handle = open_shard(self.folder, self.embedding_dim, self.datatype, self.hybrid, make=make, wait=wait)
            try:
                if self.hybrid:
                    add_words(handle.shard)
                handle.shard.create_indexes(self.indexed_meta_fields or [])
            except BaseException:
                handle.close()
                raise
            # Two threads may come here at once; the handle that is not kept lets go when it is forgotten.
            self._handle = handle
        handle.shard.check_process()
        return handle.shard

    def _is_absent(self) -> bool:
        """Whether there is no store yet: a look at what is not there makes none."""
        return self._handle is None and read_description(self.folder) is None

    def read_info(self) -> dict[str, str]:
        """Read what the application keeps with the store, such as the name of the embedding model.

        Works while another process holds the store, and makes no file.

        :returns: a copy; empty where there is no store yet.
        :raises ValueError: if the folder holds something other than a store.
        """
        description = read_description(self.folder)
        return {} if description is None else dict(description.info)

    def update_info(self, **values: str) -> None:
        r"""Add to what the application keeps with the store.

        :param \**values: names and texts; those already there are replaced, the others stay.
        :raises TypeError: if a value is not a string.
        :raises ValueError: if one holds a lone surrogate.
        """
        check_info(values)
        self._shard().update_info(values)

    def count_documents(self) -> int:
        """Count all documents, with or without embedding."""
        return self.count_documents_by_filter({})

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Count the documents that match.

        :param filters: a Haystack filter.
        :returns: how many match.
        """
        request = CountRequest(exact=True, filter=edge_filter(filters))
        if self._is_absent():
            return 0
        with self._shard().reading() as edge:
            return int(edge.count(request))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Give the documents that match, in no particular order.

        :param filters: a Haystack filter; None or {} gives all documents.
        :returns: the documents, with embeddings if the store's `return_embedding` says so.
        :raises FilterError: if the filter is malformed.
        """
        selector = PayloadSelector.Exclude(["facts"])
        records = self._scroll(edge_filter(filters), payload=selector, vector=self.return_embedding)
        return [document_of(record.payload, record.vector) for record in records]

    def existing_ids(self, document_ids: Iterable[str]) -> set[str]:
        """Say which documents are stored, in one look-up.

        :param document_ids: identifiers to look for.
        :returns: those that are there.
        """
        return set() if self._is_absent() else stored_ids(self._shard(), document_ids)

    def _scroll(self, where: Filter | None, *, payload: Any, vector: bool) -> Iterator[Any]:  # noqa: ANN401
        offset = None
        while not self._is_absent():
            request = ScrollRequest(
                offset=offset,
                limit=SCROLL_PAGE,
                filter=where,
                with_payload=payload,
                with_vector=[VECTOR] if vector else False,
            )
            with self._shard().reading() as edge:
                records, offset = edge.scroll(request)
            yield from records
            if offset is None:
                return

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents; those without embedding are stored too, but no search finds them.

        :param documents: checked, all of them, before the first is written.
        :param policy: what to do with an id that is already there, or twice in the list. FAIL (and NONE, as in
            Haystack's own store) writes nothing; SKIP keeps the first; OVERWRITE keeps the last.
        :returns: how many documents were written.
        :raises ValueError: if something is not a Document, a document cannot be stored (the message names it), or its
            embedding was made by another model than those in the store.
        :raises DuplicateDocumentError: under FAIL and NONE.
        """
        check_documents(documents)
        embeddings = [document.embedding for document in documents]
        return write(self._shard(), documents, embeddings, policy, self.write_batch_size, model_of(embeddings))

    def write_embeddings(
        self,
        documents: list[Document],
        embeddings: NDArray[np.floating[Any]],
        policy: DuplicatePolicy = DuplicatePolicy.NONE,
        *,
        model: ModelIdentity | None = None,
    ) -> int:
        """Write documents with their vectors from an array: the bulk path, no list of floats in each document.

        :param documents: B documents; their own `embedding` is not looked at.
        :param embeddings: (B, H) array of floats.
        :param policy: as for `write_documents`.
        :param model: which made the vectors, as `BloomzDocumentEmbedder.identity` says; None: not known.
        :returns: how many documents were written.
        :raises ValueError: as `write_documents`, or if the array has another shape.
        :raises DuplicateDocumentError: under FAIL and NONE.
        """
        check_documents(documents)
        if np.ndim(embeddings) != 2 or np.shape(embeddings) != (len(documents), self.embedding_dim):
            msg = (
                f"embeddings has the shape {np.shape(embeddings)}, but {len(documents)} documents in a store of "
                f"{self.embedding_dim} numbers need ({len(documents)}, {self.embedding_dim})"
            )
            raise ValueError(msg)
        return write(self._shard(), documents, embeddings, policy, self.write_batch_size, model)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; an id that is not there is ignored.

        :param document_ids: a list of identifiers.
        :raises TypeError: if it is a text, or one of them is none.
        """
        given: object = document_ids
        if isinstance(given, str):
            msg = f"document_ids must be a list of identifiers, but got the text {given!r:.80}"
            raise TypeError(msg)
        points: list[Any] = [point_id(document_id) for document_id in document_ids]
        shard = self._shard()
        with shard.writing, shard.changing() as edge:
            edge.update(UpdateOperation.delete_points(points))

    def delete_all_documents(self) -> None:
        """Delete every document and give the disk space back; what `update_info` keeps, stays."""
        shard = self._shard()
        with shard.writing:
            shard.empty()
            shard.create_indexes(self.indexed_meta_fields or [])

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match.

        :param filters: a Haystack filter; {} matches all documents.
        :returns: how many were deleted.
        """
        where = edge_filter(filters)
        shard = self._shard()
        with shard.writing:
            points = [record.id for record in self._scroll(where, payload=False, vector=False)]
            with shard.changing() as edge:
                edge.update(UpdateOperation.delete_points(points))
        return len(points)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Merge metadata into the documents that match; ids and embeddings stay.

        :param filters: a Haystack filter; {} matches all documents.
        :param meta: fields to add or replace.
        :returns: how many documents were updated.
        :raises TypeError: if `meta` is not a dictionary.
        :raises ValueError: if it is not JSON; then nothing was updated.
        """
        given: object = meta
        if not isinstance(given, dict):
            msg = f"meta must be a dictionary, but got {given!r:.80} of type {type(given).__name__}"
            raise TypeError(msg)
        where = edge_filter(filters)
        shard = self._shard()
        with shard.writing:
            payloads: dict[Any, dict[str, Any]] = {}
            for record in self._scroll(where, payload=True, vector=False):
                old = record.payload
                document = document_of({**old, "meta": {**old["meta"], **meta}})
                norm = old.get("norm", 1.0)
                point_of(document, {}, norm, words=False)  # refuses what cannot be stored, before the first is written
                payloads[record.id] = payload_of(document, norm)
            for point, payload in payloads.items():
                with shard.changing(growth=len(str(payload))) as edge:
                    edge.update(UpdateOperation.overwrite_payload([point], payload))
        return len(payloads)

    def _query_by_embedding(
        self,
        query_embedding: Sequence[float] | np.ndarray,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        score_threshold: float | None = None,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Find the nearest documents to one query; see `query_batch`."""
        return self.query_batch(
            [query_embedding],
            filters=filters,
            top_k=top_k,
            score_threshold=score_threshold,
            return_embedding=return_embedding,
        )[0]

    def query_batch(
        self,
        query_embeddings: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        score_threshold: float | None = None,
        return_embedding: bool = False,
    ) -> list[list[Document]]:
        """Find the nearest documents to each query, by exact search.

        :param query_embeddings: (B, H) array, or B sequences of H numbers; of any length but zero.
        :param filters: a Haystack filter for all the queries.
        :param top_k: most documents per query.
        :param score_threshold: keep the documents whose score is at least this.
        :param return_embedding: whether the documents carry their embedding.
        :returns: B lists of documents, best first; score = cosine similarity, from -1 to 1.
        :raises ValueError: if top_k is not positive, or a query has another dimension, is zero or not finite, or was
            made by another model than the store's vectors.
        :raises DocumentStoreError: if there is no store at the path.
        :raises FilterError: if the filter is malformed.
        """
        check_count("top_k", top_k)
        check_threshold(score_threshold)
        where = edge_filter(filters)
        names = [f"query {place}" for place in range(len(query_embeddings))]
        units = unit_vectors(query_embeddings, self.embedding_dim, names)
        shard = self._shard(make=False)
        check_model(shard, model_of(query_embeddings))
        return search(shard, units.vectors, where, top_k, score_threshold, return_embedding=return_embedding)

    def _metas(self, filters: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        records = self._scroll(edge_filter(filters), payload=["meta"], vector=False)
        return (record.payload["meta"] for record in records)

    # The same, for an event loop:
    open_async = async_twin(open)
    close_async = async_twin(close)
    update_info_async = async_twin(update_info)
    count_documents_async = async_twin(count_documents)
    count_documents_by_filter_async = async_twin(count_documents_by_filter)
    filter_documents_async = async_twin(filter_documents)
    existing_ids_async = async_twin(existing_ids)
    write_documents_async = async_twin(write_documents)
    write_embeddings_async = async_twin(write_embeddings)
    delete_documents_async = async_twin(delete_documents)
    delete_all_documents_async = async_twin(delete_all_documents)
    delete_by_filter_async = async_twin(delete_by_filter)
    update_by_filter_async = async_twin(update_by_filter)
    _query_by_embedding_async = async_twin(_query_by_embedding)
    query_batch_async = async_twin(query_batch)
