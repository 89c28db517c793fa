"""Questions and a store -> ranked passages, with the time of each step: the ``ask`` verb, without its command line."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from haystack import Document

from bloomz_haystack.choosing import choose_hybrid, choose_model, stored_dimension
from bloomz_haystack.indexing.formats.line_ends import rejoined
from bloomz_haystack.pipelines import ask_pipeline
from bloomz_haystack.questions import check_question
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore


class FoundPassage(NamedTuple):
    """A passage of the answer: ``score`` is the ranker's probability, ``similarity`` the retriever's score.

    That is the cosine, or in a hybrid search the fused score.
    """

    id: str
    content: str
    score: float
    similarity: float
    meta: dict[str, Any]


@dataclass
class Answer:
    """The passages for a question, best first, and the seconds of each step; loading the models is not counted."""

    query: str
    model: str
    ranker: str
    hybrid: bool = False
    stored: int = 0  # passages in the store
    documents: list[FoundPassage] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"embed": 0.0, "retrieve": 0.0, "rank": 0.0})
    prefix_cache: dict[str, int] = field(default_factory=dict)  # the ranker's ``stats``

    def as_json(self) -> dict[str, Any]:
        """Give what ``bloomz ask --json`` prints."""
        documents = [passage._asdict() for passage in self.documents]
        answer = {"query": self.query, "documents": documents, "seconds": self.seconds}
        return {**answer, "prefix_cache": self.prefix_cache} if self.prefix_cache else answer


class Answerer:
    """A store and its two models, made ready once for any number of questions.

    Nothing is loaded or opened before the first question; the store is held only while one is searched.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        ranker: str,
        model: str | None = None,
        candidates: int = 50,
        top_k: int = 5,
        threshold: float | None = None,
        hybrid: bool | None = None,
        prefix_cache: str | None = None,
        prefix_cache_folder: Path | None = None,
        precision: Precision | None = None,
        score_prior: float | None = None,
        progress_bar: bool = False,
        wait: float = 30.0,
    ) -> None:
        """Choose the models and check what was asked for.

        :param store: folder of the store.
        :param ranker: cross-encoder.
        :param model: bi-encoder; None takes the store's own.
        :param candidates: passages handed to the ranker; at least ``top_k`` are.
        :param top_k: most passages in an answer.
        :param threshold: lowest probability of relevance; None keeps all.
        :param hybrid: search by words (BM25) too; None: if the store can.
        :param prefix_cache: bytes in which the ranker keeps what passages gave, as "2GB"; None keeps nothing.
        :param prefix_cache_folder: where it keeps them for the next question; None keeps them in memory.
        :param precision: "int8" for linears of 8 bits in both models, on a CPU; None for the device's own dtype.
        :param score_prior: how much the retriever's scores count beside the ranker; None: as its config.json says.
        :param progress_bar: show one on stderr while many candidates are ranked.
        :param wait: seconds that a question waits for another process that holds the store.
        :raises ValueError: if there is no store, a number is out of range, the model is not the store's, or it keeps no
            words for a hybrid search.
        """
        store = Path(store)
        _check_limits(candidates, top_k, threshold, wait)
        dimension = stored_dimension(store)
        if dimension is None:
            raise ValueError(f"no store at {store}: make one with: bloomz index PATH --store {store}")
        self.model, self.ranker = choose_model(store, model, default=None), ranker
        self.hybrid, self.wait = choose_hybrid(store, hybrid), wait
        self.pipeline = ask_pipeline(
            store,
            model=self.model,
            ranker=ranker,
            embedding_dim=dimension,
            candidates=max(candidates, top_k),
            top_k=top_k,
            threshold=threshold,
            prefix_cache=prefix_cache,
            prefix_cache_folder=str(prefix_cache_folder) if prefix_cache_folder else None,
            progress_bar=progress_bar,
            hybrid=self.hybrid,
            precision=precision,
            score_prior=score_prior,
        )
        retriever: Any = self.pipeline.get_component("retriever")
        self.documents: QdrantEdgeDocumentStore = retriever.document_store

    def warm_up(self) -> None:
        """Load the models now, so that what is wrong with them does not look like a fault of a question."""
        self.pipeline.warm_up()

    def answer(self, question: str) -> Answer:
        """Find the passages that answer a question.

        :param question: in French or in English, whatever the language of the passages.
        :returns: the answer; without passages if none passes the threshold, or the store is empty.
        :raises ValueError: if there is no question.
        """
        check_question(question)
        answer = Answer(question, self.model, self.ranker, self.hybrid)
        self.pipeline.warm_up()
        self._run(answer)
        return answer

    def _run(self, answer: Answer) -> None:
        """Run the components one by one, as the pipeline would, with a clock between them.

        Other processes may have the store before and after the search. The ranker puts its probability in the place of
        the retriever's score, so that is read in between.
        """

        def timed(step: str, run: Callable[..., Mapping[str, Any]], **inputs: Any) -> Mapping[str, Any]:  # noqa: ANN401
            start = time.perf_counter()
            outputs = run(**inputs)
            answer.seconds[step] = time.perf_counter() - start
            return outputs

        embedder, retriever, ranker = (
            self.pipeline.get_component(name) for name in ("embedder", "retriever", "ranker")
        )
        question = rejoined(answer.query)  # pasted from a page, it may hold words that line ends cut
        embedding = timed("embed", embedder.run, text=question)["embedding"]
        words = {"query": question} if answer.hybrid else {}
        try:
            self.documents.open(wait=self.wait)
            answer.stored = self.documents.count_documents()
            found = timed("retrieve", retriever.run, query_embedding=embedding, **words)["documents"]
        finally:
            self.documents.close()
        similarity = {document.id: document.score for document in found}
        ranked: list[Document] = timed("rank", ranker.run, query=question, documents=found)["documents"]
        stats = ranker.stats()  # type: ignore[attr-defined]
        answer.prefix_cache = {name: count for name, count in stats.items() if name != "kernels"}
        answer.documents = [
            FoundPassage(
                document.id, document.content or "", document.score or 0.0, similarity[document.id], document.meta
            )
            for document in ranked
        ]

    def close(self) -> None:
        """Let go of the store, so that another process may open it."""
        self.documents.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(question: str, store: str | Path, *, ranker: str, **settings: Any) -> Answer:  # noqa: ANN401
    r"""Find the passages that answer one question.

    :param question: in French or in English, whatever the language of the passages.
    :param store: folder of the store.
    :param ranker: cross-encoder.
    :param \**settings: as those of ``Answerer``.
    :returns: the answer; without passages if none passes the threshold, or the store is empty.
    :raises ValueError: as ``Answerer`` does, or if there is no question.
    """
    with Answerer(store, ranker=ranker, **settings) as answerer:
        return answerer.answer(question)


def _check_limits(candidates: int, top_k: int, threshold: float | None, wait: float) -> None:
    for name, value in (("--candidates", candidates), ("--top-k", top_k)):
        if value <= 0:
            raise ValueError(f"{name} must be > 0, but got {value}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold must be a probability from 0 to 1, but got {threshold}")
    if not 0 <= wait < math.inf:
        raise ValueError(f"--wait must be a number of seconds >= 0, but got {wait}")
