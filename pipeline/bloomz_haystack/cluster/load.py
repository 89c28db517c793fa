"""Folders of parts -> a store: the `load` verb, without its command line. No model is loaded.

What a store holds already is left alone, so that the same command goes on where it was stopped. A folder of Qdrant Edge
is afterwards what `bloomz index` would have made of the same files, its list of files included.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from haystack import Pipeline

from bloomz_haystack.cluster.encoding import ModelFacts
from bloomz_haystack.cluster.manifest import ListedPart, RunManifest, all_parts, read_manifest
from bloomz_haystack.cluster.parts import passages_of_table, read_part
from bloomz_haystack.cluster.store_copy import CopySummary, PassageBatch, StoreSide, store_side, write_missing
from bloomz_haystack.indexing.files import FoundFile, path_of
from bloomz_haystack.indexing.index import TOKENS_KEY
from bloomz_haystack.indexing.indexed_files import IndexedFile, IndexedFiles
from bloomz_haystack.models.find import ModelNotAvailable, find_model
from bloomz_haystack.pipelines import index_pipeline, load_pipeline
from bloomz_haystack.settings import IndexSettings
from haystack_integrations.common.bloomz.identity import ModelIdentity, weights_of
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY, WEIGHTS_KEY, check_same_model

BATCH_PASSAGES = 1000  # written together


def load_parts(
    folders: list[Path],
    store: Path,
    *,
    pipeline: Pipeline | str | Path | None = None,
    hybrid: bool = False,
    wait: float = IndexSettings.wait,
    advanced: Callable[[CopySummary], None] = lambda summary: None,
) -> CopySummary:
    """Write the passages of parts to a store.

    :param folders: of `embed_inputs`, each complete.
    :param store: folder of a Qdrant Edge store, made if needed; with a `pipeline`, of its list of files alone.
    :param pipeline: for indexing, with any document store, in place of the one that is shipped.
    :param hybrid: keep the words too, in a store of Qdrant Edge; the one of PostgreSQL always does.
    :param wait: seconds to wait for another process that holds the store.
    :param advanced: called after each batch.
    :returns: the counts; `in_source` is the number of rows.
    :raises ValueError: if a folder is not complete, a part is not as it was written, or the store is of another model.
    """
    runs = [_read_run(folder) for folder in folders]
    model = runs[0].manifest.model
    for run in runs:
        if run.manifest.model.weights != model.weights:
            both = f"{run.manifest.model.model}, those in {runs[0].folder} by {model.model}"
            raise ValueError(f"the vectors in {run.folder} were made by {both}: load them into two stores")
    if pipeline is None:
        settings = IndexSettings(model=model.model, hybrid=hybrid)
        opened = index_pipeline(store, settings, embedding_dim=model.dimension, progress_bar=False)
    else:
        opened = load_pipeline(pipeline)
    target = store_side(opened, "target")
    try:
        identity = _identity(model, target)
        if pipeline is None:
            target.documents.open(wait=wait)
            target.documents.update_info(**{TOKENS_KEY: str(model.most_tokens)})
        summary = CopySummary(in_source=sum(part.rows for run in runs for part in run.parts))
        files = IndexedFiles(store)
        write_missing(target, (batch for run in runs for batch in _batches(run, files)), identity, summary, advanced)
        return summary
    finally:
        target.close()


class _RunFolder(NamedTuple):
    folder: Path
    manifest: RunManifest
    parts: list[ListedPart]


def _read_run(folder: Path) -> _RunFolder:
    manifest = read_manifest(folder)
    return _RunFolder(folder, manifest, all_parts(folder, manifest.run))


def _identity(model: ModelFacts, target: StoreSide) -> ModelIdentity:
    """Return the model of the vectors; refuse them if the store's, or else its pipeline's, is another."""
    identity, known = ModelIdentity(model.model, model.weights), target.model
    settings = target.documents.to_dict()["init_parameters"]
    size = settings.get("embedding_dim", settings.get("embedding_dimension"))
    if size not in (None, model.dimension):
        raise ValueError(
            f"the vectors have {model.dimension} numbers, but the store is for {size}: name a store of theirs"
        )
    if known and known.weights:
        check_same_model({MODEL_KEY: known.name, WEIGHTS_KEY: known.weights}, "the store", identity)
    elif known and known.name != model.model and _weights_here(known.name) != model.weights:
        raise ValueError(
            f"the vectors were made by the model {model.model} ({model.weights}), but the store is for {known.name}: "
            "vectors of two models cannot be compared; name the same model in the pipeline"
        )
    return identity


def _weights_here(name: str) -> str:
    """Return the fingerprint of a model that is on this disk; none is loaded, or asked for elsewhere."""
    try:
        return weights_of(find_model(name, local_files_only=True).folder)
    except ModelNotAvailable:
        return ""


def _batches(run: _RunFolder, files: IndexedFiles) -> Iterator[PassageBatch]:
    for listed in run.parts:
        path = run.folder / listed.file
        if not path.is_file():
            raise ValueError(f"{path} is missing: run the same bloomz embed again")
        part, table = read_part(path)
        if part.sha256 != listed.sha256:
            raise ValueError(f"{path} is not as bloomz embed wrote it: remove it, and run the same bloomz embed again")
        for file in part.facts.files:
            files.add(_found(IndexedFile(**{name: file[name] for name in IndexedFile._fields})))
        files.save()
        for start in range(0, part.rows, BATCH_PASSAGES):
            yield PassageBatch(*passages_of_table(table.slice(start, BATCH_PASSAGES)))


def _found(file: IndexedFile) -> FoundFile:
    way, name = path_of(file.way), path_of(file.name)
    return FoundFile(path_of(file.path), way, way.parents[len(name.parts) - 1])
