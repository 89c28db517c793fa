"""The store and its models, opened once: questions -> passages with their sentences; texts -> scores; texts -> vectors.

Knows nothing of HTTP. Everything here may be called from several threads.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack import Document

from bloomz_haystack.answering import Answerer, FoundPassage
from bloomz_haystack.service.catalog import Catalog
from bloomz_haystack.service.settings import ServeSettings
from bloomz_haystack.service.shared_store import SharedStore
from bloomz_haystack.service.types import (
    InfoResponse,
    MarkedSentence,
    SearchedPassage,
    SearchRequest,
    SearchResponse,
    StepSeconds,
)
from bloomz_haystack.settings import FILE_FIELD, FILE_KEY, IndexSettings, Threshold
from bloomz_haystack.store_folder import StoreFolder
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker

MOST_QUESTION_TOKENS = 512  # each is computed with every candidate
WARM_QUESTION = "Où est la tour Eiffel ?"
OWN_FIELDS = (FILE_KEY, "copies", "title")  # of a passage's metadata: shown elsewhere, or nobody's business


class Models:
    """A store with its retriever and its ranker."""

    def __init__(self, settings: ServeSettings) -> None:
        """Choose the models, check the settings, and open the store; no model is loaded.

        :param settings: of the service.
        :raises ValueError: if there is no store, or a model does not fit it.
        :raises DocumentStoreError: if another process holds the store.
        """
        self.settings = settings
        if settings.pipeline:
            self.answerer = Answerer(pipeline=settings.pipeline)
        else:
            self.answerer = Answerer(settings.store, settings.ask, hold_store=True)
        # Without words, where a request asks for that; a prefix cache of its own would take the memory twice.
        vectors_only = replace(settings.ask, hybrid=False, prefix_cache=None, prefix_cache_folder=None)
        self._vectors_only = (
            Answerer(settings.store, vectors_only, hold_store=True) if self.answerer.hybrid and settings.store else None
        )
        model, precision = self.answerer.model, settings.ask.precision
        self.embedder = BloomzDocumentEmbedder(model, precision=precision, progress_bar=False)
        # The answerer's own ranker takes a first stage's scores into account, and merges copies.
        self.reranker = BloomzRanker(
            self.answerer.ranker, precision=precision, progress_bar=False, score_prior=0.0, top_k=2**31 - 1
        )
        self._ranker: Any = self.answerer.ranker_component
        self.index_settings = IndexSettings(
            model, hybrid=self.answerer.hybrid, precision=precision, wait=settings.ask.wait
        )
        self.ready = threading.Event()
        self._open = ExitStack()
        self.store: Any  # of Qdrant Edge, or one that others use too
        if settings.store is None:
            self.store = SharedStore(self.answerer.retriever_component.document_store, Path(settings.pipeline or ""))
        else:
            self.store = self._open.enter_context(StoreFolder(settings.store).opened(settings.ask.wait))
        self.catalog = Catalog(self.store)

    def warm_up(self) -> None:
        """Load the models, and answer a question, so that the first client does not wait."""
        self.store.count_documents()  # a store that is down, or not ours to read, shows before the models are loaded
        for answerer in self._answerers():
            answerer.warm_up()
        for component in (self.embedder, self.reranker):
            component.warm_up()
        self.search(SearchRequest(query=WARM_QUESTION))
        self.ready.set()

    def close(self) -> None:
        """Free the models and close the store."""
        self.ready.clear()
        for answerer in self._answerers():
            answerer.close()
        for component in (self.embedder, self.reranker):
            component.close()
        self._open.close()

    def _answerers(self) -> list[Answerer]:
        return [answerer for answerer in (self.answerer, self._vectors_only) if answerer]

    @property
    def retriever_name(self) -> str:
        """The retriever's name, as clients see it."""
        return public_name(self.answerer.model)

    @property
    def ranker_name(self) -> str:
        """The ranker's name, as clients see it."""
        return public_name(self.answerer.ranker)

    def search(self, wanted: SearchRequest) -> SearchResponse:
        """Find the passages that answer a question.

        :param wanted: the question and its options.
        :returns: the passages, best first.
        :raises ValueError: if an option does not fit the store.
        :raises FilterError: if the filter is malformed.
        """
        question, notes = self._readable(wanted.query)
        answer = self._answerer(wanted.hybrid).ask(
            question,
            filters=self.catalog.filters(wanted.filters, wanted.files, wanted.language),
            top_k=wanted.top_k,
            candidates=wanted.candidates,
            threshold=self._threshold(wanted.threshold),
        )
        if answer.stored == 0:
            notes.append("the store is empty: add documents first")
        return SearchResponse(
            query=wanted.query,
            passages=[_shown(passage, wanted.sentences) for passage in answer.passages],
            threshold=answer.threshold,
            seconds=StepSeconds(**{name: answer.seconds.get(name, 0.0) for name in StepSeconds.model_fields}),
            notes=notes,
        )

    def _threshold(self, wanted: Threshold) -> Threshold:
        if wanted == "auto" and self.recommended_threshold is None:
            raise ValueError(
                f"threshold: the ranker {self.ranker_name} recommends none (score_threshold in its config.json): "
                "give a number from 0 to 1"
            )
        return wanted

    @property
    def recommended_threshold(self) -> float | None:
        """The threshold that the ranker recommends."""
        recommended: float | None = getattr(self._ranker, "recommended_threshold", None)
        return recommended

    def _answerer(self, hybrid: bool | None) -> Answerer:
        if hybrid and not self.answerer.hybrid:
            raise ValueError("hybrid: the store has no BM25 index: leave hybrid out")
        return self._vectors_only if hybrid is False and self._vectors_only else self.answerer

    def _readable(self, question: str) -> tuple[str, list[str]]:
        """Return a question short enough to be computed, and a note if its end was cut."""
        cut = self.embedder.beginning(question, MOST_QUESTION_TOKENS)
        if cut == question:
            return question, []
        [tokens] = self.embedder.token_counts([question])
        return cut, [f"the question was cut: it has {tokens:,} tokens, and the first {MOST_QUESTION_TOKENS} are read"]

    def rerank(self, question: str, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Score texts for a question.

        :param question: in French or in English.
        :param texts: B texts.
        :returns: (B,) probabilities; 0 for a text without a letter or a digit.
        """
        documents = [Document(id=str(place), content=text) for place, text in enumerate(texts)]
        scores = np.zeros(len(texts))
        for document in self.reranker.run(query=question, documents=documents)["documents"]:
            scores[int(document.id)] = document.score
        return scores

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts.

        :param texts: B texts.
        :returns: (B, H) unit vectors.
        """
        return self.embedder.embed([Document(content=text) for text in texts])

    @property
    def writable(self) -> bool:
        """Whether documents can be added and removed."""
        return os.access(self.store.folder, os.W_OK)

    def prefix_cache(self) -> dict[str, int]:
        """Return hits, misses and bytes of the ranker's cache; empty without one."""
        stats: dict[str, int] = self._ranker.stats()
        return stats

    def info(self) -> InfoResponse:
        """Return what is served."""
        facts = self.catalog.facts()
        return InfoResponse(
            model=self.retriever_name,
            ranker=self.ranker_name,
            passages=facts.passages,
            files=facts.files,
            hybrid=self.answerer.hybrid,
            languages=facts.languages,
            generator=self.settings.generator_model,
            version=version("bloomz-haystack"),
            writable=self.writable,
            threshold=self.recommended_threshold,
        )


def _shown(passage: FoundPassage, marked: bool) -> SearchedPassage:
    meta = passage.meta
    source, page, title = meta.get(FILE_FIELD), meta.get("page_number"), meta.get("title")
    copies = meta.get("copies")
    return SearchedPassage(
        id=passage.id,
        content=passage.content,
        score=passage.score,
        similarity=passage.similarity,
        answer=MarkedSentence(**passage.answer._asdict()) if marked and passage.answer else None,
        source=source if isinstance(source, str) else None,
        page=page if isinstance(page, int) else None,
        title=title if isinstance(title, str) else None,
        meta={name: value for name, value in meta.items() if name not in OWN_FIELDS},
        copies=[_without_key(copy) for copy in copies] if isinstance(copies, list) else [],
    )


def _without_key(meta: object) -> dict[str, object]:
    return {name: value for name, value in meta.items() if name != FILE_KEY} if isinstance(meta, dict) else {}


def public_name(model: str) -> str:
    """Return a model's name as clients see it: of a folder on this machine only the last part.

    :param model: Hub name, folder or bundled name.
    :returns: the name.

    >>> public_name("cmarkea/bloomz-560m-reranking")
    'cmarkea/bloomz-560m-reranking'
    """
    return Path(model).resolve().name if Path(model).is_dir() else model
