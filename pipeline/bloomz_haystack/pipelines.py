"""Model names, store path, limits -> the two Haystack pipelines, the same as ``index.yaml`` and ``ask.yaml``
or, with words beside the vectors, ``index-hybrid.yaml`` and ``ask-hybrid.yaml``.

index:  documents -> vectors -> store
ask:    question -> vector -> the nearest candidates -> the same, ranked by probability of relevance
"""

from pathlib import Path

from haystack import Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker
from haystack_integrations.components.retrievers.qdrant_edge import (
    QdrantEdgeEmbeddingRetriever,
    QdrantEdgeHybridRetriever,
)
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

RETRIEVER = "cmarkea/bloomz-560m-retriever-v2"
RANKER = "cmarkea/bloomz-560m-reranking"
DIMENSION = 1024  # numbers in a vector of bloomz-560m; bloomz-3b has 2560
BATCH_TOKENS = 2048
FILE_FIELD = "file_path"  # the metadata field that names a passage's file, as Haystack's converters call it: relative
FILE_KEY = "indexed_file"  # the one by which the store's own list knows where the file is: see indexed_files.py
INDEXED_FIELDS = [FILE_FIELD, FILE_KEY]


def index_pipeline(
    store: str | Path = "store",
    *,
    model: str = RETRIEVER,
    embedding_dim: int = DIMENSION,
    batch_tokens: int = BATCH_TOKENS,
    progress_bar: bool = True,
    hybrid: bool = False,
    precision: Precision | None = None,
) -> Pipeline:
    """Build the pipeline that embeds documents and writes them to a store.

    :param store: folder of the store; made at the first run.
    :param model: bi-encoder: name on the Hugging Face Hub, local folder or bundled name.
    :param embedding_dim: numbers in a vector of that model.
    :param batch_tokens: tokens computed together.
    :param progress_bar: show one on stderr.
    :param hybrid: keep the words of the documents too, for BM25.
    :param precision: "int8" for linears of 8 bits, on a CPU; None for the device's own dtype.
    :returns: components ``embedder`` (input ``documents``) and ``writer``; a document already there is overwritten.
    """
    pipeline = Pipeline()
    embedder = BloomzDocumentEmbedder(model, batch_tokens=batch_tokens, progress_bar=progress_bar, precision=precision)
    writer = DocumentWriter(document_store=_store(store, embedding_dim, hybrid), policy=DuplicatePolicy.OVERWRITE)
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", writer)
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


def ask_pipeline(
    store: str | Path = "store",
    *,
    model: str = RETRIEVER,
    ranker: str = RANKER,
    embedding_dim: int = DIMENSION,
    candidates: int = 50,
    top_k: int = 5,
    threshold: float | None = None,
    prefix_cache: int | str | None = None,
    prefix_cache_folder: str | None = None,
    progress_bar: bool = True,
    hybrid: bool = False,
    precision: Precision | None = None,
    score_prior: float | None = None,
) -> Pipeline:
    """Build the pipeline that answers a question with ranked passages.

    :param store: folder of the store that ``index_pipeline`` or ``bloomz index`` made.
    :param model: bi-encoder, the one that made the store.
    :param ranker: cross-encoder: name on the Hugging Face Hub, local folder or bundled name.
    :param embedding_dim: numbers in a vector of ``model``.
    :param candidates: passages the retriever hands to the ranker.
    :param top_k: most passages in the answer; copies of the same text count once, as in ``BloomzRanker``.
    :param threshold: lowest probability of relevance, 0 to 1; None keeps all.
    :param prefix_cache: bytes in which the ranker keeps what passages gave, as "2GB"; None keeps nothing.
    :param prefix_cache_folder: where it keeps them across restarts; None keeps them in memory.
    :param progress_bar: show one on stderr while the models load, and when many candidates are ranked.
    :param hybrid: search by words (BM25) and by vectors.
    :param precision: "int8" for linears of 8 bits in both models, on a CPU; None for the device's own dtype.
    :param score_prior: how much the retriever's scores count beside the ranker; None: as its config.json says.
    :returns: components ``embedder`` (input ``text``), ``retriever`` and ``ranker`` (input ``query``); give the
        question to both, and to ``retriever`` (input ``query``) if ``hybrid``.
    :raises ValueError: if a number is out of range.
    """
    if candidates < top_k:
        raise ValueError(f"candidates must be at least top_k ({top_k}), but got {candidates}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a probability from 0 to 1, but got {threshold}")
    pipeline = Pipeline()
    pipeline.add_component("embedder", BloomzTextEmbedder(model, precision=precision, progress_bar=progress_bar))
    retriever = QdrantEdgeHybridRetriever if hybrid else QdrantEdgeEmbeddingRetriever
    pipeline.add_component("retriever", retriever(_store(store, embedding_dim, hybrid), top_k=candidates))
    scoring = BloomzRanker(
        ranker,
        top_k=top_k,
        score_threshold=threshold,
        progress_bar=progress_bar,
        prefix_cache=prefix_cache,
        prefix_cache_folder=prefix_cache_folder,
        precision=precision,
        score_prior=score_prior,
        merge_copies=True,
    )
    pipeline.add_component("ranker", scoring)
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    pipeline.connect("retriever.documents", "ranker.documents")
    return pipeline


def _store(path: str | Path, embedding_dim: int, hybrid: bool) -> QdrantEdgeDocumentStore:
    # Each indexing run asks, file by file, what the store holds of it.
    return QdrantEdgeDocumentStore(
        str(path), embedding_dim, indexed_meta_fields=list(INDEXED_FIELDS), return_embedding=False, hybrid=hybrid
    )
