"""Passages with their vectors, from any store to any other: no model is loaded, nothing is embedded again.

Batch by batch; a passage that the other store has already is left alone, so that the same command resumes a copy.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document, Pipeline
from haystack.document_stores.types import DuplicatePolicy

from bloomz_haystack.pipelines import load_pipeline, models_of
from bloomz_haystack.stores import PassageStore, PlainStore
from haystack_integrations.common.bloomz.identity import ModelIdentity, embedding_of, model_name
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY, WEIGHTS_KEY

BATCH = 500  # passages


@dataclass
class CopySummary:
    """What a copy did: passages read, written, there already; then how many each store holds."""

    read: int = 0
    written: int = 0
    already_there: int = 0
    in_source: int = 0
    in_target: int = 0

    def as_json(self) -> dict[str, int]:
        """Return what `bloomz copy --json` prints."""
        return asdict(self)


class _Side(NamedTuple):
    """A store, as a pipeline in YAML names it, and the model of its vectors, as far as it is known."""

    name: str
    documents: Any  # any Haystack document store
    store: PassageStore
    model: ModelIdentity | None


def copy_passages(
    source: Pipeline | str | Path,
    target: Pipeline | str | Path,
    advanced: Callable[[CopySummary], None] = lambda summary: None,
) -> CopySummary:
    """Copy all passages, with their vectors and metadata, from one store to another.

    :param source: a pipeline with a document store, or its YAML file; for asking or for indexing.
    :param target: the same, of the other store.
    :param advanced: called after each batch.
    :returns: the counts.
    :raises ValueError: if a pipeline has no store, both have the same one, the stores are of two models, or passages
        are missing at the end.
    """
    sides = [_side(load_pipeline(pipeline), name) for pipeline, name in ((source, "source"), (target, "target"))]
    try:
        return _copied(sides[0], sides[1], advanced)
    finally:
        for side in sides:
            if close := getattr(side.documents, "close", None):
                close()


def _side(pipeline: Pipeline, name: str) -> _Side:
    stores = [getattr(component, "document_store", None) for _, component in pipeline.walk()]
    documents = next((store for store in stores if store is not None), None)
    if documents is None:
        raise ValueError(f"the pipeline of the {name} has no document store")
    if hasattr(documents, "return_embedding"):
        documents.return_embedding = True
    store = documents if hasattr(documents, "existing_ids") else PlainStore(documents)
    info = documents.read_info() if hasattr(documents, "read_info") else {}
    # The ranker's model comes after the retriever's.
    named = info.get(MODEL_KEY) or next(iter(models_of(pipeline)), None)
    model = ModelIdentity(model_name(named), info.get(WEIGHTS_KEY, "")) if named else None
    return _Side(name, documents, store, model)


def _copied(source: _Side, target: _Side, advanced: Callable[[CopySummary], None]) -> CopySummary:
    if source.documents.to_dict() == target.documents.to_dict():
        raise ValueError("source and target are the same store")
    if source.model and target.model and source.model.name != target.model.name:
        raise ValueError(
            f"the source's vectors were made by the model {source.model.name}, but the target's pipeline has "
            f"{target.model.name}: vectors of two models cannot be compared; name the same model in both YAML files"
        )
    summary = CopySummary(in_source=source.store.count_documents())
    if source.model and hasattr(target.documents, "update_info") and MODEL_KEY not in target.documents.read_info():
        target.documents.update_info(**{MODEL_KEY: source.model.name})  # its weights come with the vectors, if known
    for batch in _batches(source.documents):
        there = target.store.existing_ids(document.id for document in batch)
        new = [_signed(document, source.model) for document in batch if document.id not in there]
        if new:
            summary.written += target.documents.write_documents(new, DuplicatePolicy.OVERWRITE)
        summary.read += len(batch)
        summary.already_there += len(there)
        advanced(summary)
    summary.in_target = target.store.count_documents()
    if not summary.written + summary.already_there == summary.read >= summary.in_source <= summary.in_target:
        raise ValueError(f"passages are missing: {summary}; run the same command again")
    return summary


def _batches(documents: Any) -> Iterator[list[Document]]:  # noqa: ANN401
    iterate = getattr(documents, "iterate_documents", None)
    passages = iter(iterate() if iterate else documents.filter_documents())
    while batch := list(islice(passages, BATCH)):
        yield batch


def _signed(document: Document, model: ModelIdentity | None) -> Document:
    """Return the document with a vector that says which model made it, for a store that compares it with its own."""
    return replace(document, embedding=document.embedding and embedding_of(document.embedding, model), score=None)
