"""Settings -> the two Haystack pipelines, the same as `index.yaml` and `ask.yaml` or, with BM25 beside the vectors,
`index-hybrid.yaml` and `ask-hybrid.yaml`; and any other pipeline, from YAML.

index:  documents -> vectors -> store
ask:    question -> vector -> the nearest candidates -> the same, ranked by score
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy

from bloomz_haystack.settings import (
    INDEXED_FIELDS,
    PUBLISHED_DIMENSION,
    PUBLISHED_RANKER,
    PUBLISHED_RETRIEVER,
    AskSettings,
    IndexSettings,
)
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker
from haystack_integrations.components.readers.bloomz import BloomzSentenceReader
from haystack_integrations.components.retrievers.qdrant_edge import (
    QdrantEdgeEmbeddingRetriever,
    QdrantEdgeHybridRetriever,
)
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore


def index_pipeline(
    store: str | Path = "store",
    settings: IndexSettings | None = None,
    *,
    embedding_dim: int = PUBLISHED_DIMENSION,
    progress_bar: bool = True,
    **options: Any,  # noqa: ANN401  # checked by IndexSettings
) -> Pipeline:
    """Build the pipeline that embeds documents and writes them to a store.

    :param store: folder of the store; created at the first run.
    :param settings: None: the defaults, with the published retriever.
    :param embedding_dim: numbers in a vector of that retriever.
    :param progress_bar: show one on stderr.
    :param **options: fields of `IndexSettings`; they win over `settings`.
    :returns: components `embedder` (input `documents`) and `writer`, which overwrites a document already there.
    :raises ValueError: if a number is out of range.
    """
    settings = replace(settings or IndexSettings(), **options)
    embedder = BloomzDocumentEmbedder(
        settings.model or PUBLISHED_RETRIEVER,
        batch_tokens=settings.batch_tokens,
        progress_bar=progress_bar,
        precision=settings.precision,
    )
    documents = _store(store, embedding_dim, settings.hybrid)
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", DocumentWriter(documents, policy=DuplicatePolicy.OVERWRITE))
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


def ask_pipeline(
    store: str | Path = "store",
    settings: AskSettings | None = None,
    *,
    embedding_dim: int = PUBLISHED_DIMENSION,
    progress_bar: bool = True,
    **options: Any,  # noqa: ANN401  # checked by AskSettings
) -> Pipeline:
    """Build the pipeline that answers a question with ranked passages.

    :param store: folder of the store that `index_pipeline` or `bloomz index` made.
    :param settings: None: the defaults, with the published retriever and ranker, without answer sentences; `hybrid`
        None is False here.
    :param embedding_dim: numbers in a vector of that retriever.
    :param progress_bar: show one on stderr while the models load, and when many candidates are ranked.
    :param **options: fields of `AskSettings`; they win over `settings`.
    :returns: components `embedder` (input `text`), `retriever` and `ranker` (input `query`); give the question to
        both, to `retriever` (input `query`) if `hybrid`, and to `reader` (input `query`) if `sentences`.
    :raises ValueError: if a number is out of range, or the threshold is "auto", which only an `Answerer` knows.
    """
    settings = replace(settings or AskSettings(ranker=PUBLISHED_RANKER, sentences=False), **options)
    if settings.threshold == "auto":
        raise ValueError('threshold "auto" is for Answerer and bloomz ask: give a pipeline a number from 0 to 1')
    embedder = BloomzTextEmbedder(
        settings.model or PUBLISHED_RETRIEVER, precision=settings.precision, progress_bar=progress_bar
    )
    retriever = QdrantEdgeHybridRetriever if settings.hybrid else QdrantEdgeEmbeddingRetriever
    documents = _store(store, embedding_dim, bool(settings.hybrid))
    ranker = BloomzRanker(
        settings.ranker,
        top_k=settings.top_k,
        score_threshold=settings.threshold,
        progress_bar=progress_bar,
        prefix_cache=settings.prefix_cache,
        prefix_cache_folder=settings.prefix_cache_folder,
        precision=settings.precision,
        score_prior=settings.score_prior,
        merge_copies=True,
    )
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("retriever", retriever(documents, top_k=max(settings.candidates, settings.top_k)))
    pipeline.add_component("ranker", ranker)
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    pipeline.connect("retriever.documents", "ranker.documents")
    if settings.sentences:
        reader = BloomzSentenceReader(embedder.model, precision=settings.precision, progress_bar=progress_bar)
        pipeline.add_component("reader", reader)
        pipeline.connect("ranker.documents", "reader.documents")
    return pipeline


def load_pipeline(source: Pipeline | str | Path) -> Pipeline:
    """Load a pipeline from YAML.

    :param source: a YAML file, or YAML itself if it has several lines; a pipeline is returned as it is.
    :returns: the pipeline.
    :raises ValueError: if it cannot be loaded.
    """
    if isinstance(source, Pipeline):
        return source
    is_text = isinstance(source, str) and "\n" in source
    text = str(source) if is_text else Path(source).read_text(encoding="utf-8")
    try:
        return Pipeline.loads(text)
    except Exception as error:  # of the YAML parser, of Haystack, of any component
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot load the pipeline{'' if is_text else f' {source}'}: {reason}") from error


def hide_progress(pipeline: Pipeline) -> Pipeline:
    """Take away the progress bars of a pipeline's components.

    :param pipeline: changed in place.
    :returns: the same.
    """
    for _, component in pipeline.walk():
        if getattr(component, "progress_bar", False):
            component.progress_bar = False  # type: ignore[attr-defined]
    return pipeline


def models_of(pipeline: Pipeline) -> list[str]:
    """Return the models that the components of a pipeline name."""
    models = [getattr(component, "model", None) for _, component in pipeline.walk()]
    return [model for model in models if isinstance(model, str)]


def _store(path: str | Path, embedding_dim: int, hybrid: bool) -> QdrantEdgeDocumentStore:
    return QdrantEdgeDocumentStore(
        str(path), embedding_dim, indexed_meta_fields=list(INDEXED_FIELDS), return_embedding=False, hybrid=hybrid
    )
