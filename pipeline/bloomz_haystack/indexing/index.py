"""Files -> passages -> vectors -> store, block by block: the `index` verb, without its command line.

A passage whose id (a hash of all that is stored of it) is in the store is left alone; what a file no longer says is
deleted from the store once its new passages are written. A file that cannot be read whole loses nothing: what the store
held of it stays until it can. A run that is killed loses the current block, and the next run resumes.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document, Pipeline

from bloomz_haystack.files.printable import counted
from bloomz_haystack.indexing.cut_files import cut_file
from bloomz_haystack.indexing.files import FoundFile, FoundFiles, Note, Problem, find_files, name_in_store
from bloomz_haystack.indexing.indexed_files import IndexedFile, IndexedFiles, of_file
from bloomz_haystack.indexing.passages import Splitter, surely_fits
from bloomz_haystack.pipelines import index_pipeline, load_pipeline
from bloomz_haystack.settings import FILE_FIELD, TINY_RETRIEVER, IndexSettings
from bloomz_haystack.steps import timed_run
from bloomz_haystack.store_folder import StoreFolder
from bloomz_haystack.stores import PassageStore, PlainStore
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 1024  # passages
TOKENS_KEY = "most_tokens"  # of a text, of the store's model: known without loading it
BLOCK_SECONDS = 4.0  # what a cut-off run may lose, and how long the progress bar may stand still


@dataclass
class IndexSummary:
    """What an indexing run did."""

    model: str
    store: str
    files: int = 0
    passages: int = 0
    embedded: int = 0
    unchanged: int = 0
    removed: int = 0
    other_kinds: dict[str, int] = field(default_factory=dict)  # files left aside, by suffix
    seconds: float = 0.0
    loading_seconds: float = 0.0  # of these, to load the model
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def passages_per_second(self) -> float:
        """Passages found a second, from the first file to the last, without the time to load the model."""
        seconds = self.seconds - self.loading_seconds
        return self.passages / seconds if seconds > 0 else 0.0

    @property
    def nothing_done(self) -> bool:
        """Whether the files gave no passage and none was removed."""
        return not self.passages and not self.removed


class IndexProgress:
    """Hears how a run goes; this one shows nothing."""

    def started(self, total_bytes: int) -> None:
        """Show how much there is to read.

        :param total_bytes: of all the files.
        """

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        """Show that a block is in the store.

        :param summary: so far.
        :param bytes_done: of the files.
        """

    def problem(self, problem: Problem | Note) -> None:
        """Show what could not be read, or not for certain.

        :param problem: file and reason.
        """


def index_files(
    paths: Iterable[str | Path],
    store: str | Path,
    settings: IndexSettings | None = None,
    *,
    pipeline: Pipeline | str | Path | None = None,
    progress: IndexProgress | None = None,
) -> IndexSummary:
    """Bring a store up to date with files.

    :param paths: files and folders; one that is gone is an error, unless `prune`.
    :param store: folder of the store, created if needed; with a `pipeline`, of its list of files alone.
    :param settings: None: the defaults.
    :param pipeline: in place of `index_pipeline`: a pipeline, a YAML file or YAML text, from `documents` to a writer
        that overwrites, over any document store. Of the settings, those of files and passages count.
    :param progress: receives the progress.
    :returns: what was done; `problems` names what could not be read.
    :raises ValueError: if a path does not exist, the store was made with another model, or the pipeline has no writer.
    """
    folder, settings = Path(store), settings or IndexSettings()
    found = find_files(map(Path, paths), leave_out=folder, gone=settings.prune)
    if pipeline is None:
        described = StoreFolder(folder)
        settings = replace(settings, model=described.retriever(settings.model, default=TINY_RETRIEVER))
        opened = _opened(described, settings)
    else:
        opened = _given(load_pipeline(pipeline), folder)
    files = IndexedFiles(folder)
    _check_known(found, files)
    summary, progress = IndexSummary(settings.model or "", str(folder)), progress or IndexProgress()
    if not found.files and not files.by_key:  # no empty store
        _note_found(found, summary, progress)
        return summary
    with opened as target:
        summary.model = getattr(target.pipeline.get_component(target.entry), "model", "")
        run = _Run(target, files, settings.passage_words, summary, progress)
        run.index(found)
        if settings.prune:
            run.prune(found, everything=settings.prune_all)
    return summary


def _check_known(found: FoundFiles, files: IndexedFiles) -> None:
    for path in found.asked:
        if not os.path.lexists(path) and not files.under([path]):
            raise ValueError(f"no such file or folder: {name_in_store(path)}, and the store holds nothing of it")


def _note_found(found: FoundFiles, summary: IndexSummary, progress: IndexProgress) -> None:
    summary.other_kinds = dict(found.other_kinds.most_common())
    summary.problems += found.problems
    for problem in found.problems:
        progress.problem(problem)


class _Target(NamedTuple):
    """Where passages go."""

    pipeline: Pipeline
    store: PassageStore
    entry: str  # the component that takes the documents: the embedder
    most_tokens: int  # of a text, known without loading the model; 0: not known


@contextmanager
def _opened(folder: StoreFolder, settings: IndexSettings) -> Iterator[_Target]:
    """Open the store of the pipeline that is shipped; the model is loaded only when a passage needs it."""
    probe, dimension = None, folder.dimension
    if dimension is None:
        # Before the store is made: a model that cannot be loaded leaves no empty store behind.
        probe = BloomzDocumentEmbedder(settings.model or "", precision=settings.precision, progress_bar=False)
        dimension = probe.dimension
    pipeline = index_pipeline(folder.path, settings, embedding_dim=dimension, progress_bar=False)
    store = pipeline.get_component("writer").document_store  # type: ignore[attr-defined]
    try:
        store.open(wait=settings.wait)
        if store.count_documents() == 0 or MODEL_KEY not in store.read_info():
            store.update_info(**{MODEL_KEY: settings.model})
        if probe is not None:
            store.update_info(**{TOKENS_KEY: str(probe.most_tokens)})
        yield _Target(pipeline, store, "embedder", int(store.read_info().get(TOKENS_KEY, 0)))
    finally:
        store.close()
        pipeline.close()
        if probe is not None:
            probe.close()


@contextmanager
def _given(pipeline: Pipeline, folder: Path) -> Iterator[_Target]:
    """Find the two ends of any indexing pipeline."""
    entry = next((name for name, free in pipeline.inputs().items() if "documents" in free), None)
    stores = [getattr(component, "document_store", None) for _, component in pipeline.walk()]
    store = next((store for store in stores if store is not None), None)
    if entry is None or store is None:
        raise ValueError("the pipeline must lead from an input `documents` to a writer with a document store")
    folder.mkdir(parents=True, exist_ok=True)
    knows_ids = hasattr(store, "existing_ids")  # one of ours
    try:
        yield _Target(pipeline, store if knows_ids else PlainStore(store), entry, 0)
    finally:
        pipeline.close()
        if knows_ids:
            store.close()


class _ReadFile(NamedTuple):
    """A file all of whose passages are in a block."""

    file: IndexedFile
    ids: list[str]
    whole: bool  # whether every line of it could be read


class _Run:
    """One run: the block in hand, and the files whose passages wait for it to be written."""

    def __init__(
        self,
        target: _Target,
        files: IndexedFiles,
        passage_words: int,
        summary: IndexSummary,
        progress: IndexProgress,
    ) -> None:
        self.target, self.store, self.files = target, target.store, files
        self.embedder: Any = target.pipeline.get_component(target.entry)
        self.splitter = Splitter(passage_words, self._fits)
        self.summary, self.progress = summary, progress
        self.block: list[Document] = []
        self.block_size = SMALLEST_BLOCK
        self.read_files: list[_ReadFile] = []
        self.found_keys: set[str] = set()
        self.truncated: Counter[str] = Counter()  # passages that lost their end, by file
        self.bytes_done = 0
        self.was_empty = self.store.count_documents() == 0

    def index(self, found: FoundFiles) -> None:
        start = time.perf_counter()
        self.progress.started(found.bytes)
        _note_found(found, self.summary, self.progress)
        for file in found.files:
            self._index_file(file)
        self._write_block()
        for name, passages in (+self.truncated).items():  # those above 0
            self._note(
                Note(name, f"{counted(passages, 'passage')} of it lost the end: the model reads no more of a text")
            )
        self.summary.seconds = time.perf_counter() - start

    def prune(self, found: FoundFiles, everything: bool) -> None:
        """Remove what is gone, unless it may only be out of reach."""
        gone = {file: 0 for file in self.files.under(found.asked) if file.key not in self.found_keys and file.is_gone}
        for file in gone:
            gone[file] = self.store.count_documents_by_filter(of_file(file.key))
        all_of_it = sum(gone.values()) == self.store.count_documents()
        kept: dict[Path, list[IndexedFile]] = defaultdict(list)
        for file in gone:
            place = None if everything else file.doubtful_place()
            if place is None and all_of_it and gone[file] and not everything:
                place = next(path for path in found.asked if file.is_under(path))
            if place is not None:
                kept[place].append(file)
        for place, files in kept.items():
            self._note(Problem(name_in_store(place), _doubt(sum(gone[file] for file in files), len(files), all_of_it)))
        removed = set(gone).difference(*kept.values())
        self.summary.removed += sum(self.store.delete_by_filter(of_file(file.key)) for file in removed)
        if removed:
            self.files.forget(file.key for file in removed)

    def _index_file(self, found: FoundFile) -> None:
        file, known = self.files.add(found)
        self.found_keys.add(file.key)
        if known is not None and known.name != file.name:
            self._rename(known, file)
        ids: list[str] = []
        whole = True
        for cut in cut_file(found.path, file, self.splitter):
            self.bytes_done += cut.bytes
            if isinstance(cut.outcome, list):
                self._take(cut.outcome, file, ids)
                continue
            self._note(cut.outcome)
            if isinstance(cut.outcome, Problem):
                whole = False
                if cut.outcome.line is None:
                    return  # what the store holds of it stays: the file may be whole again tomorrow
        self.summary.files += 1
        self.summary.passages += len(ids)
        if not ids:
            self.summary.empty.append(name_in_store(found.path))
        self.read_files.append(_ReadFile(file, ids, whole))

    def _take(self, passages: list[Document], file: IndexedFile, ids: list[str]) -> None:
        for passage in passages:
            ids.append(passage.id)
            self.truncated[file.name] += not self._fits(passage.content or "")
            self.block.append(passage)
            if len(self.block) >= self.block_size:
                self._write_block()

    def _rename(self, known: IndexedFile, file: IndexedFile) -> None:
        """The same file, seen from another folder."""
        named = {"field": f"meta.{FILE_FIELD}", "operator": "==", "value": known.name}
        self.files.save()
        self.store.update_by_filter(
            {"operator": "AND", "conditions": [of_file(file.key), named]}, {FILE_FIELD: file.name}
        )

    def _fits(self, text: str) -> bool:
        if surely_fits(text, self.target.most_tokens):
            return True
        fits = getattr(self.embedder, "fits", None)
        if fits is None:  # an embedder of another family
            return True
        self._load_model()
        return bool(fits(text))

    def _write_block(self) -> None:
        block, self.block = self.block, []
        known = self.store.existing_ids(passage.id for passage in block)
        new = [passage for passage in block if passage.id not in known]
        self.files.save()
        if new:
            self._load_model()
        start = time.perf_counter()
        if new:
            # Arrays past the pipeline (`embed`, `write_embeddings`): 342 to 393 passages/s; this way: 291 to 367
            # (bundled model, 60 words, one core, three rounds). The model is what costs.
            timed_run(self.target.pipeline, {self.target.entry: {"documents": new}}, set(), {})
        self.summary.embedded += len(new)
        self.summary.unchanged += len(known)
        self._remove_what_is_gone()
        seconds = time.perf_counter() - start
        self.block_size = _next_size(self.block_size, seconds)
        self.progress.advanced(self.summary, self.bytes_done)

    def _load_model(self) -> None:
        start = time.perf_counter()
        self.target.pipeline.warm_up()
        self.summary.loading_seconds += time.perf_counter() - start

    def _remove_what_is_gone(self) -> None:
        for file, ids, whole in self.read_files:
            # Counted first: an exact answer that costs little, and nearly always nothing is gone.
            if self.was_empty or not whole or self.store.count_documents_by_filter(of_file(file.key)) <= len(ids):
                continue
            gone = [of_file(file.key), {"field": "id", "operator": "not in", "value": ids}]
            self.summary.removed += self.store.delete_by_filter({"operator": "AND", "conditions": gone})
        self.read_files.clear()

    def _note(self, outcome: Problem | Note) -> None:
        if isinstance(outcome, Problem):
            self.summary.problems.append(outcome)
        else:
            self.summary.notes.append(outcome)
        self.progress.problem(outcome)


def _doubt(passages: int, files: int, all_of_it: bool) -> str:
    held = f"{counted(passages, 'passage')} of {counted(files, 'file')}"
    why = "all that the store holds" if all_of_it else "and an empty folder, or a link to nowhere, is what is left"
    return f"{held} gone, {why}: is a disk not mounted? Nothing of it was removed; --prune --yes removes it"


def _next_size(size: int, seconds: float) -> int:
    """Twice as many passages after a quick block, half as many after a slow one."""
    if seconds < BLOCK_SECONDS / 2:
        return min(size * 2, LARGEST_BLOCK)
    return max(size // 2, SMALLEST_BLOCK) if seconds > BLOCK_SECONDS else size
