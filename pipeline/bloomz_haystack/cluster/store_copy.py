"""Passages with their vectors, from any store to any other: no model is loaded, nothing is embedded again.

Batch by batch; a passage that the other store has already is left alone, so that the same command resumes a copy.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from haystack import Document, Pipeline
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray

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


class StoreSide(NamedTuple):
    """A store, as a pipeline in YAML names it, and the model of its vectors, as far as it is known."""

    documents: Any  # any Haystack document store
    store: PassageStore
    model: ModelIdentity | None

    def close(self) -> None:
        """Close the store, if it can be."""
        if close := getattr(self.documents, "close", None):
            close()


class PassageBatch(NamedTuple):
    """B passages, and their vectors (B, H) as an array; None: each passage has its own."""

    passages: list[Document]
    vectors: NDArray[np.float32] | None = None


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
    sides = [store_side(load_pipeline(pipeline), name) for pipeline, name in ((source, "source"), (target, "target"))]
    try:
        return _copied(sides[0], sides[1], advanced)
    finally:
        for side in sides:
            side.close()


def store_side(pipeline: Pipeline, name: str) -> StoreSide:
    """Return the store of a pipeline.

    :param pipeline: for asking or for indexing.
    :param name: "source" or "target", for the message.
    :returns: the store, and its model.
    :raises ValueError: if it has none.
    """
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
    return StoreSide(documents, store, model)


def _copied(source: StoreSide, target: StoreSide, advanced: Callable[[CopySummary], None]) -> CopySummary:
    if source.documents.to_dict() == target.documents.to_dict():
        raise ValueError("source and target are the same store")
    if source.model and target.model and source.model.name != target.model.name:
        raise ValueError(
            f"the source's vectors were made by the model {source.model.name}, but the target's pipeline has "
            f"{target.model.name}: vectors of two models cannot be compared; name the same model in both YAML files"
        )
    summary = CopySummary(in_source=source.store.count_documents())
    write_missing(target, map(PassageBatch, _batches(source.documents)), source.model, summary, advanced)
    if summary.in_source > summary.in_target:
        raise ValueError(f"passages are missing: {summary}; run the same command again")
    return summary


def write_missing(
    target: StoreSide,
    batches: Iterable[PassageBatch],
    model: ModelIdentity | None,
    summary: CopySummary,
    advanced: Callable[[CopySummary], None],
) -> None:
    """Write the passages that a store does not have, and count.

    :param target: the store.
    :param batches: the passages.
    :param model: which made their vectors, if it is known.
    :param summary: is counted up; `in_source` says how many there must be at least.
    :param advanced: called after each batch.
    :raises ValueError: if passages are missing at the end.
    """
    if model and hasattr(target.documents, "update_info") and MODEL_KEY not in target.documents.read_info():
        target.documents.update_info(**{MODEL_KEY: model.name})  # its weights come with the vectors, if known
    for passages, vectors in batches:
        there = target.store.existing_ids(passage.id for passage in passages)
        # By id: rows of a file may be alike.
        places = {passage.id: place for place, passage in enumerate(passages) if passage.id not in there}
        if places:
            chosen = list(places.values())
            new = PassageBatch([passages[i] for i in chosen], None if vectors is None else vectors[chosen])
            summary.written += _write(target.documents, new, model)
        summary.read += len(passages)
        summary.already_there += len(passages) - len(places)
        advanced(summary)
    summary.in_target = target.store.count_documents()
    if not summary.written + summary.already_there == summary.read >= summary.in_source:
        raise ValueError(f"passages are missing: {summary}; run the same command again")


def _write(documents: Any, batch: PassageBatch, model: ModelIdentity | None) -> int:  # noqa: ANN401
    passages, vectors = batch
    if vectors is not None and hasattr(documents, "write_embeddings"):
        return documents.write_embeddings(passages, vectors, DuplicatePolicy.OVERWRITE, model=model)
    lists = [passage.embedding for passage in passages] if vectors is None else vectors.tolist()
    signed = [_signed(passage, values, model) for passage, values in zip(passages, lists, strict=True)]
    return documents.write_documents(signed, DuplicatePolicy.OVERWRITE)


def _batches(documents: Any) -> Iterator[list[Document]]:  # noqa: ANN401
    iterate = getattr(documents, "iterate_documents", None)
    passages = iter(iterate() if iterate else documents.filter_documents())
    while batch := list(islice(passages, BATCH)):
        yield batch


def _signed(passage: Document, values: list[float] | None, model: ModelIdentity | None) -> Document:
    """Return the passage with a vector that says which model made it, for a store that compares it with its own."""
    return replace(passage, embedding=values and embedding_of(values, model), score=None)
