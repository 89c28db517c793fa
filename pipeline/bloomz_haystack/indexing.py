"""Files -> passages -> vectors -> store, block by block: the ``index`` verb, without its command line.

A passage whose id (a hash of all that is stored of it) is in the store is left alone; what a file no longer says is
deleted from the store once its new passages are written. A run that is cut short loses the block in hand, and the next
run goes on from there.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from bloomz_haystack.choosing import MODEL_KEY, choose_model, stored_dimension
from bloomz_haystack.finding import FoundFiles, find_files
from bloomz_haystack.pipelines import BATCH_TOKENS, FILE_FIELD, index_pipeline
from bloomz_haystack.problems import Problem
from bloomz_haystack.reading import read_file
from bloomz_haystack.splitting import Splitter, stored_name
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 1024  # passages
BLOCK_SECONDS = 4.0  # what a cut-off run may lose, and how long the progress bar may stand still


@dataclass
class Summary:
    """What an indexing run did."""

    model: str
    store: str
    files: int = 0
    passages: int = 0
    embedded: int = 0
    unchanged: int = 0
    removed: int = 0
    other_kinds: int = 0
    seconds: float = 0.0
    loading_seconds: float = 0.0  # of these, to load the model
    problems: list[Problem] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def passages_per_second(self) -> float:
        """Passages found a second, from the first file to the last, without the time to load the model."""
        seconds = self.seconds - self.loading_seconds
        return self.passages / seconds if seconds > 0 else 0.0


class Watcher(Protocol):
    """Who wants to see the run go on."""

    def started(self, total_bytes: int) -> None:
        """Learn how much there is to read."""

    def advanced(self, summary: Summary, bytes_done: int) -> None:
        """See a block in the store."""

    def problem(self, problem: Problem) -> None:
        """See what could not be read."""


class Unwatched:
    """Nobody looks."""

    def started(self, total_bytes: int) -> None:
        """Do nothing."""

    def advanced(self, summary: Summary, bytes_done: int) -> None:
        """Do nothing."""

    def problem(self, problem: Problem) -> None:
        """Do nothing."""


def index_files(
    paths: Iterable[str | Path],
    store: str | Path,
    *,
    model: str | None = None,
    default_model: str | None = None,
    batch_tokens: int = BATCH_TOKENS,
    passage_words: int = 150,
    prune: bool = False,
    watcher: Watcher | None = None,
    hybrid: bool = False,
    precision: Precision | None = None,
) -> Summary:
    """Bring a store up to date with files.

    :param paths: files and folders.
    :param store: folder of the store; made if needed.
    :param model: bi-encoder; None takes the store's own, else ``default_model``.
    :param default_model: for a new store.
    :param batch_tokens: tokens computed together.
    :param passage_words: words in a passage.
    :param prune: also remove the passages of files that are gone from the folders given.
    :param watcher: told how it goes.
    :param hybrid: keep the words of the passages too; a store made without gets those of all it holds. One that has
        them goes on keeping them.
    :param precision: "int8" for linears of 8 bits, on a CPU; None for the device's own dtype.
    :returns: what was done; ``problems`` names what could not be read.
    :raises ValueError: if a path does not exist, a number is out of range, or the store was made with another model.
    """
    store = Path(store)
    splitter = Splitter(passage_words)
    found = find_files(map(Path, paths), leave_out=store)
    chosen = choose_model(store, model, default_model)
    with _opened(store, chosen, batch_tokens, hybrid, precision) as (embedder, documents):
        run = _Run(embedder, documents, splitter, Summary(chosen, str(store)), watcher or Unwatched())
        run.index(found)
        if prune:
            run.prune(found)
    return run.summary


@contextmanager
def _opened(
    folder: Path, model: str, batch_tokens: int, hybrid: bool, precision: Precision | None
) -> Iterator[tuple[BloomzDocumentEmbedder, QdrantEdgeDocumentStore]]:
    """Give the two ends of the indexing pipeline, ready; the model is loaded only when a passage needs it."""
    dimension = stored_dimension(folder)
    if dimension is None:
        # Before the store is made: a model that cannot be loaded leaves no empty store behind.
        probe = BloomzDocumentEmbedder(model, precision=precision, progress_bar=False)
        dimension = probe.dimension
    else:
        probe = None
    pipeline = index_pipeline(
        folder,
        model=model,
        embedding_dim=dimension,
        batch_tokens=batch_tokens,
        progress_bar=False,
        hybrid=hybrid,
        precision=precision,
    )
    embedder = pipeline.get_component("embedder")
    store = pipeline.get_component("writer").document_store  # type: ignore[attr-defined]
    try:
        store.open()
        if store.count_documents() == 0 or MODEL_KEY not in store.read_info():
            store.update_info(**{MODEL_KEY: model})
        yield embedder, store  # type: ignore[misc]
    finally:
        store.close()
        embedder.close()  # type: ignore[attr-defined]
        if probe is not None:
            probe.close()


class _Run:
    """One run: the block in hand, and the files whose passages wait for it to be written."""

    def __init__(
        self,
        embedder: BloomzDocumentEmbedder,
        store: QdrantEdgeDocumentStore,
        splitter: Splitter,
        summary: Summary,
        watcher: Watcher,
    ) -> None:
        self.embedder, self.store, self.splitter = embedder, store, splitter
        self.summary, self.watcher = summary, watcher
        self.block: list[Document] = []
        self.block_size = SMALLEST_BLOCK
        self.read_files: list[tuple[Path, list[str]]] = []
        self.bytes_done = 0
        self.was_empty = store.count_documents() == 0

    def index(self, found: FoundFiles) -> None:
        start = time.perf_counter()
        self.summary.other_kinds = found.other_kinds
        self.watcher.started(found.bytes)
        for problem in found.problems:
            self._note(problem)
        for path in found.files:
            self._index_file(path)
        self._write_block()
        self.summary.seconds = time.perf_counter() - start

    def prune(self, found: FoundFiles) -> None:
        names, _ = self.store.get_metadata_field_unique_values(FILE_FIELD, size=2**31)
        for name in names:
            file = Path(name)
            if any(file.is_relative_to(root) for root in found.roots) and not file.exists():
                self.summary.removed += self.store.delete_by_filter(_of_file(name))

    def _index_file(self, path: Path) -> None:
        ids: list[str] = []
        seen: Counter[str] = Counter()
        for reading in read_file(path):
            self.bytes_done += reading.bytes
            if isinstance(reading.outcome, Problem):
                self._note(reading.outcome)
                if reading.outcome.line is None:
                    return  # what the store holds of it stays: the file may be whole again tomorrow
                continue
            for passage in self.splitter.split(reading.outcome, path, seen):
                ids.append(passage.id)
                self.block.append(passage)
                if len(self.block) >= self.block_size:
                    self._write_block()
        self.summary.files += 1
        self.summary.passages += len(ids)
        if not ids:
            self.summary.empty.append(str(path))
        self.read_files.append((path, ids))

    def _write_block(self) -> None:
        start = time.perf_counter()
        block, self.block = self.block, []
        known = self.store.existing_ids(passage.id for passage in block)
        new = [passage for passage in block if passage.id not in known]
        if new:
            self._load_model()
            self.store.write_embeddings(new, self.embedder.embed(new), DuplicatePolicy.OVERWRITE)
        self.summary.embedded += len(new)
        self.summary.unchanged += len(known)
        self._remove_what_is_gone()
        seconds = time.perf_counter() - start
        self.block_size = _next_size(self.block_size, seconds)
        self.watcher.advanced(self.summary, self.bytes_done)

    def _load_model(self) -> None:
        start = time.perf_counter()
        self.embedder.warm_up()
        self.summary.loading_seconds += time.perf_counter() - start

    def _remove_what_is_gone(self) -> None:
        for path, ids in self.read_files:
            name = stored_name(path)
            # Counted first: an exact answer that costs little, and nearly always nothing is gone.
            if not self.was_empty and self.store.count_documents_by_filter(_of_file(name)) > len(ids):
                gone = [_of_file(name), {"field": "id", "operator": "not in", "value": ids}]
                self.summary.removed += self.store.delete_by_filter({"operator": "AND", "conditions": gone})
        self.read_files.clear()

    def _note(self, problem: Problem) -> None:
        self.summary.problems.append(problem)
        self.watcher.problem(problem)


def _next_size(size: int, seconds: float) -> int:
    """Twice as many passages after a quick block, half as many after a slow one."""
    if seconds < BLOCK_SECONDS / 2:
        return min(size * 2, LARGEST_BLOCK)
    return max(size // 2, SMALLEST_BLOCK) if seconds > BLOCK_SECONDS else size


def _of_file(name: str) -> dict[str, str]:
    return {"field": f"meta.{FILE_FIELD}", "operator": "==", "value": name}
