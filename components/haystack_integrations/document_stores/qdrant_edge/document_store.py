"""`QdrantEdgeDocumentStore`: Haystack documents in a folder, searched exactly, without a server.

What enters: documents and vectors. What leaves: documents, with their cosine similarity after a search. How a document
becomes a point is in points.py, how a filter is translated in filters.py, how the folder is shared in shard.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray
from qdrant_edge import PayloadSelector

from haystack_integrations.common.bloomz.arguments import check_count, check_items, init_parameters
from haystack_integrations.common.bloomz.identity import ModelIdentity
from haystack_integrations.document_stores.qdrant_edge import metadata_statistics as statistics
from haystack_integrations.document_stores.qdrant_edge import writing
from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin
from haystack_integrations.document_stores.qdrant_edge.bm25 import question_words
from haystack_integrations.document_stores.qdrant_edge.filters import edge_filter
from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion
from haystack_integrations.document_stores.qdrant_edge.origin import check_model, model_of
from haystack_integrations.document_stores.qdrant_edge.points import document_of, point_id, unit_vectors
from haystack_integrations.document_stores.qdrant_edge.search import (
    CANDIDATES,
    Asked,
    HybridSettings,
    check_threshold,
    search,
    search_hybrid,
)
from haystack_integrations.document_stores.qdrant_edge.shard import DATATYPES, ShardHandle, SharedShard, open_shard
from haystack_integrations.document_stores.qdrant_edge.store_json import check_info, read_description
from haystack_integrations.document_stores.qdrant_edge.stored import count_points, pages, stored_ids


class QdrantEdgeDocumentStore:
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
            raise TypeError(f"path must be a string or a Path, but got {given!r:.80} of type {type(given).__name__}")
        check_count("embedding_dim", embedding_dim)
        check_count("write_batch_size", write_batch_size)
        if datatype not in DATATYPES:
            raise ValueError(f"datatype must be one of {', '.join(DATATYPES)}, but got {datatype!r}")
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
        return default_to_dict(self, **init_parameters(self))

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
                    writing.add_words(handle.shard)
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
        """Add to what the application keeps with the store.

        :param **values: names and texts; those already there are replaced, the others stay.
        :raises TypeError: if a value is not a string.
        :raises ValueError: if one holds a lone surrogate.
        """
        check_info(values)
        self._shard().update_info(values)

    def count_documents(self) -> int:
        """Return the number of documents, with or without embedding."""
        return self.count_documents_by_filter({})

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Return the number of documents that match a Haystack filter."""
        where = edge_filter(filters)
        return 0 if self._is_absent() else count_points(self._shard(), where)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Return the documents that match, in no particular order.

        :param filters: a Haystack filter; None or {} gives all documents.
        :returns: the documents, with embeddings if the store's `return_embedding` says so.
        :raises FilterError: if the filter is malformed.
        """
        return list(self.iterate_documents(filters))

    def iterate_documents(self, filters: dict[str, Any] | None = None) -> Iterator[Document]:
        """Return what `filter_documents` does, read page by page, as it is asked for."""
        records = self._records(filters, payload=PayloadSelector.Exclude(["facts"]), vector=self.return_embedding)
        return (document_of(record.payload, record.vector) for record in records)

    def existing_ids(self, document_ids: Iterable[str]) -> set[str]:
        """Return which of the ids are stored, by one look-up."""
        return set() if self._is_absent() else stored_ids(self._shard(), document_ids)

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents; those without embedding are stored too, but no search by vector finds them.

        :param documents: checked, all of them, before the first is written.
        :param policy: what to do with an id that is already there, or twice in the list. FAIL (and NONE, as in
            Haystack's own store) writes nothing; SKIP keeps the first; OVERWRITE keeps the last.
        :returns: how many documents were written.
        :raises ValueError: if `documents` is not a list of Documents, one of them cannot be stored (the message names
            it), or its embedding was made by another model than those in the store.
        :raises DuplicateDocumentError: under FAIL and NONE.
        """
        check_items("documents", documents, Document, error=ValueError)  # as Haystack's suite for stores wants it
        embeddings = [document.embedding for document in documents]
        return writing.write(self._shard(), documents, embeddings, policy, self.write_batch_size, model_of(embeddings))

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
        :raises ValueError: if the array has another shape; else errors are those of `write_documents`.
        """
        check_items("documents", documents, Document, error=ValueError)  # as Haystack's suite for stores wants it
        writing.check_shape(embeddings, len(documents), self.embedding_dim)
        return writing.write(self._shard(), documents, embeddings, policy, self.write_batch_size, model)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; an id that is not there is ignored.

        :param document_ids: a list of identifiers.
        :raises TypeError: if it is a text, or one of them is none.
        """
        given: object = document_ids
        if isinstance(given, str):
            raise TypeError(f"document_ids must be a list of identifiers, but got the text {given!r:.80}")
        writing.delete_points(self._shard(), [point_id(document_id) for document_id in document_ids])

    def delete_all_documents(self) -> None:
        """Delete every document and give the disk space back; what `update_info` keeps, stays."""
        shard = self._shard()
        with shard.writing:
            shard.empty()
            shard.create_indexes(self.indexed_meta_fields or [])

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match a Haystack filter ({}: all of them), and return how many they were."""
        return writing.delete(self._shard(), edge_filter(filters))

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
            raise TypeError(f"meta must be a dictionary, but got {given!r:.80} of type {type(given).__name__}")
        return writing.update_meta(self._shard(), edge_filter(filters), meta)

    def query_batch(
        self,
        query_embeddings: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        score_threshold: float | None = None,
        return_embedding: bool = False,
    ) -> list[list[Document]]:
        """Find the nearest documents to each question, by exact search.

        :param query_embeddings: (B, H) array, or B sequences of H numbers; of any length but zero.
        :param filters: a Haystack filter for all the questions.
        :param top_k: most documents per question.
        :param score_threshold: keep the documents whose score is at least this.
        :param return_embedding: whether the documents carry their embedding.
        :returns: B lists of documents, best first; score = cosine similarity, from -1 to 1.
        :raises ValueError: if top_k is not positive, or an embedding has another dimension, is zero or not finite, or
            was made by another model than the store's.
        :raises DocumentStoreError: if there is no store at the path.
        :raises FilterError: if the filter is malformed.
        """
        check_count("top_k", top_k)
        check_threshold(score_threshold)
        where = edge_filter(filters)
        units, shard = self._prepared(query_embeddings)
        return search(shard, units, where, top_k, score_threshold, return_embedding=return_embedding)

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
        """Find the documents that match each question by BM25 and by cosine, fused.

        :param queries: B questions.
        :param query_embeddings: (B, H) array, or B sequences of H numbers.
        :param filters: a Haystack filter for all the questions.
        :param top_k: most documents per question.
        :param candidates: this and the next four: as for `QdrantEdgeHybridRetriever`.
        :param fusion: "convex" (by score) or "rrf" (by rank).
        :param weights: of the vectors and of the words.
        :param weigh_by_coverage: trust the words as far as the best match holds them, less between two languages.
        :param rank_constant: of "rrf" alone.
        :param score_threshold: keep the documents whose fused score is at least this.
        :param return_embedding: whether the documents carry their embedding.
        :returns: B lists of documents, best first; score = fused score, from 0 to 1: see `fuse`.
        :raises ValueError: if a number is out of range, a question cannot be compared, or the store keeps no words.
        :raises TypeError: if a question is not a string.
        """
        check_count("top_k", top_k)
        check_threshold(score_threshold)
        settings = HybridSettings(candidates, fusion, weights, weigh_by_coverage, rank_constant)
        if len(queries) != len(query_embeddings):
            raise ValueError(
                f"expected an embedding for each of the {len(queries)} questions, but got {len(query_embeddings)}"
            )
        where = edge_filter(filters)
        questions = [Asked(query, question_words(query)) for query in queries]
        units, shard = self._prepared(query_embeddings)
        if not shard.description.hybrid:
            raise ValueError(
                f"the store at {shard.folder} keeps no words beside its vectors: open it with "
                "QdrantEdgeDocumentStore(..., hybrid=True), which adds them and embeds nothing again"
            )
        return search_hybrid(
            shard, units, questions, where, top_k, score_threshold, settings, return_embedding=return_embedding
        )

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Return how many distinct values each metadata field has among the documents that match."""
        return statistics.count_unique(self._metas(filters), metadata_fields)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the metadata fields and their types."""
        return statistics.fields_info(self._metas())

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the smallest and the largest value of a metadata field."""
        return statistics.min_max(self._metas(), metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Return one page of the distinct values of a metadata field, and their total: see `unique_values`."""
        return statistics.unique_values(self._metas(filters), metadata_field, search_term, from_, size)

    def _records(self, filters: dict[str, Any] | None, *, payload: Any, vector: bool = False) -> Iterator[Any]:  # noqa: ANN401
        where = edge_filter(filters)
        if self._is_absent():
            return iter(())
        return chain.from_iterable(pages(self._shard(), where, payload=payload, vector=vector))

    def _metas(self, filters: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        return (record.payload["meta"] for record in self._records(filters, payload=["meta"]))

    def _prepared(
        self, query_embeddings: Sequence[Sequence[float] | np.ndarray] | np.ndarray
    ) -> tuple[NDArray[np.float32], SharedShard]:
        """Return unit vectors, and the shard, whose vectors must be of the same model; a search makes no store."""
        names = [f"query {place}" for place in range(len(query_embeddings))]
        units = unit_vectors(query_embeddings, self.embedding_dim, names).vectors
        shard = self._shard(make=False)
        check_model(shard, model_of(query_embeddings))
        return units, shard

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
    query_batch_async = async_twin(query_batch)
    query_hybrid_batch_async = async_twin(query_hybrid_batch)
    count_unique_metadata_by_filter_async = async_twin(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = async_twin(get_metadata_fields_info)
    get_metadata_field_min_max_async = async_twin(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = async_twin(get_metadata_field_unique_values)
