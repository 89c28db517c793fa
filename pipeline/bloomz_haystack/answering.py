"""Questions -> ranked passages, by running the pipeline that is shipped, or any other with a retriever and a ranker."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

from haystack import Document, ExtractedAnswer, Pipeline

from bloomz_haystack.batch_run import Inputs, runs_in_batches, timed_batch_run
from bloomz_haystack.indexing.formats.line_ends import rejoined
from bloomz_haystack.pipelines import ask_pipeline, load_pipeline
from bloomz_haystack.roles import find_roles
from bloomz_haystack.settings import AskSettings, Threshold, check_positive, check_probability, check_question
from bloomz_haystack.steps import TimedOutputs, timed_run
from bloomz_haystack.store_folder import StoreFolder, store_hold

CACHE_COUNTS = ("hits", "misses", "entries", "bytes", "evictions", "budget")  # of the ranker's prefix cache
QUESTION_BLOCK = 512  # questions answered together: 100 MB with 50 candidates each, most of it their passages


class FoundSentence(NamedTuple):
    """The sentence of a passage that answers: `content[start:end]`; `page` where the passage has page numbers."""

    text: str
    start: int
    end: int
    score: float  # 0 to 1: how near it is to the question
    page: int | None


class FoundPassage(NamedTuple):
    """A passage of an answer: `score` is the ranker's probability, `similarity` the retriever's.

    That is the cosine or, in a hybrid search, the fused score.
    """

    id: str
    content: str
    score: float
    similarity: float
    meta: dict[str, Any]
    answer: FoundSentence | None = None


@dataclass(frozen=True)
class Answer:
    """The passages for a question, best first, and the seconds of each step, loading the models not included."""

    question: str
    passages: list[FoundPassage] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    threshold: float | None = None  # the lowest score that an answer could have
    stored: int | None = None  # passages in the store; None: not known
    prefix_cache: dict[str, int] = field(default_factory=dict)  # the ranker's `stats`
    hybrid: bool = False

    def __str__(self) -> str:
        """Return the sentence that answers, else the whole of the best passage; nothing if there is none.

        >>> print(Answer("Où ?", [FoundPassage("1", "Ici. Là.", 0.9, 0.8, {}, FoundSentence("Ici.", 0, 4, 0.7, None))]))
        Ici.
        """
        best = self.passages[0] if self.passages else None
        return "" if best is None else best.answer.text if best.answer else best.content

    def as_json(self) -> dict[str, Any]:
        """Return what `bloomz ask --json` prints."""
        passages = [
            {**passage._asdict(), "answer": passage.answer and passage.answer._asdict()} for passage in self.passages
        ]
        answer = {"query": self.question, "documents": passages, "seconds": self.seconds}
        return {**answer, "prefix_cache": self.prefix_cache} if self.prefix_cache else answer


class Answerer:
    """A store and its two models, opened once for any number of questions from any number of threads.

    Nothing is loaded or opened before the first question.

    Usage::

        with Answerer(store="my-store") as answerer:
            answer = answerer.ask("Où est la tour Eiffel ?")
    """

    def __init__(
        self,
        store: str | Path | None = None,
        settings: AskSettings | None = None,
        *,
        pipeline: Pipeline | str | Path | None = None,
        hold_store: bool = False,
        progress_bar: bool = False,
    ) -> None:
        """Choose the models and check the settings.

        :param store: folder of a store, which then runs `ask_pipeline`.
        :param settings: of that pipeline; None: the defaults.
        :param pipeline: in place of `store`: a pipeline, a YAML file or YAML text; its retriever may search any store.
        :param hold_store: keep a Qdrant Edge store from the first question until `close`, as a service does; False:
            only while it is searched, so that other processes have their turn.
        :param progress_bar: show one on stderr while many candidates are ranked.
        :raises ValueError: if there is no store, the model is not the store's, the store has no BM25 index for a hybrid
            search, or the pipeline has no ranker after a retriever.
        """
        if (store is None) == (pipeline is None):
            raise ValueError("give an Answerer a store or a pipeline: one of the two")
        if pipeline is not None and settings is not None:
            raise ValueError("settings are for a store: a pipeline has its own; give top_k and the like to ask()")
        self.settings = settings or AskSettings()
        if pipeline is None:
            self.pipeline = self._shipped(StoreFolder(store or ""), progress_bar)
        else:
            self.pipeline = load_pipeline(pipeline)
        self._roles = find_roles(self.pipeline)
        self.retriever_component: Any = self.pipeline.get_component(self._roles.retriever)
        self.ranker_component: Any = self.pipeline.get_component(self._roles.ranker)
        self._hold = store_hold(self.retriever_component, self.settings.wait)
        if self._hold and pipeline is not None:
            StoreFolder(self._hold.store.folder).check_exists()
        self._hold_store, self._held, self._lock = hold_store, ExitStack(), Lock()

    def _shipped(self, folder: StoreFolder, progress_bar: bool) -> Pipeline:
        dimension = folder.check_exists()
        model, hybrid = folder.retriever(self.settings.model), folder.hybrid(self.settings.hybrid)
        self.settings = replace(self.settings, model=model, hybrid=hybrid)
        fixed = replace(self.settings, threshold=None) if self.settings.threshold == "auto" else self.settings
        return ask_pipeline(folder.path, fixed, embedding_dim=dimension, progress_bar=progress_bar)

    @property
    def model(self) -> str:
        """The retriever's name or folder."""
        embedder = self.pipeline.get_component(self._roles.embedder) if self._roles.embedder else None
        return str(getattr(embedder, "model", self._roles.retriever))

    @property
    def ranker(self) -> str:
        """The ranker's name or folder."""
        return str(getattr(self.ranker_component, "model", self._roles.ranker))

    @property
    def hybrid(self) -> bool:
        """Whether the retriever searches by words too."""
        return "query" in self._roles.free_inputs.get(self._roles.retriever, ())

    def warm_up(self) -> None:
        """Load the models, and open the store if it is to be held; the first question does so too."""
        self.pipeline.warm_up()
        with self._lock:
            if self._hold and self._hold_store:
                self._hold_store = False
                self._held.enter_context(self._hold.held())

    def ask(
        self,
        question: str,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        candidates: int | None = None,
        threshold: Threshold = None,
    ) -> Answer:
        """Find the passages that answer a question.

        :param question: in French or in English, whatever the language of the passages.
        :param filters: a Haystack filter on the passages' metadata; None: all passages.
        :param top_k: most passages in this answer; None: as in the settings, or in the pipeline.
        :param candidates: passages handed to the ranker; at least `top_k` are.
        :param threshold: lowest score in this answer, or "auto".
        :returns: the answer; without passages if none passes the threshold, or the store is empty.
        :raises ValueError: if the question is blank, a number is out of range, the pipeline has no input for an option,
            or "auto" meets a ranker that recommends no threshold.
        """
        inputs, lowest = self._checked(question, filters, top_k, candidates, threshold)
        stored: list[int] = []
        around = {self._roles.retriever: partial(self._searching, stored)} if self._hold else {}
        outputs = timed_run(self.pipeline, inputs, {self._roles.retriever, self._roles.ranker}, around)
        return self._answer(question, outputs, lowest, stored)

    def ask_many(
        self,
        questions: Iterable[str],
        *,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        candidates: int | None = None,
        threshold: Threshold = None,
    ) -> Iterator[Answer]:
        """Find the passages that answer many questions, several times faster than one after the other.

        Questions are taken in blocks; in a block each passage is read once, however many questions found it. Same
        passages in the same order as `ask`, scores within 1e-5; `seconds` are those of the block, shared out evenly. A
        pipeline with other components than a retriever, a ranker, their embedder and their reader asks one by one.

        :param questions: in French or in English; any number.
        :param filters: as for `ask`, for all the questions.
        :param top_k: as for `ask`.
        :param candidates: as for `ask`.
        :param threshold: as for `ask`.
        :yields: an answer for each question, in their order.
        :raises ValueError: as `ask`.
        """
        options: dict[str, Any] = {"top_k": top_k, "candidates": candidates, "threshold": threshold}
        if not runs_in_batches(self.pipeline, self._roles):
            yield from (self.ask(question, filters=filters, **options) for question in questions)
            return
        remaining = iter(questions)
        while block := list(islice(remaining, QUESTION_BLOCK)):
            checked = [self._checked(question, filters, **options) for question in block]
            stored: list[int] = []
            around = {self._roles.retriever: partial(self._searching, stored)} if self._hold else {}
            outputs = timed_batch_run(self.pipeline, self._roles, [inputs for inputs, _ in checked], around)
            for question, (_, lowest), output in zip(block, checked, outputs, strict=True):
                yield self._answer(question, output, lowest, stored)

    def _checked(
        self,
        question: str,
        filters: dict[str, Any] | None,
        top_k: int | None,
        candidates: int | None,
        threshold: Threshold,
    ) -> tuple[Inputs, float | None]:
        """Return the pipeline's inputs and the lowest score of an answer; loads the models."""
        check_question(question)
        for name, value in (("top_k", top_k), ("candidates", candidates)):
            if value is not None:
                check_positive(name, value)
        check_probability("threshold", threshold)
        self.warm_up()
        lowest = self._threshold(self.settings.threshold if threshold is None else threshold)
        return self._inputs(question, filters, top_k, candidates, lowest), lowest

    def _answer(self, question: str, run: TimedOutputs, lowest: float | None, stored: list[int]) -> Answer:
        outputs, seconds = run
        found: list[Document] = outputs[self._roles.retriever]["documents"]
        similarity = {document.id: document.score for document in found}
        marked = outputs.get(self._roles.reader or "", {}).get("answers", ())
        answers = {answer.document.id: answer for answer in marked if answer.document and answer.document_offset}
        passages = [
            _passage(document, similarity.get(document.id), answers.get(document.id))
            for document in outputs[self._roles.ranker]["documents"]
        ]
        counts: dict[str, Any] = getattr(self.ranker_component, "stats", dict)()
        return Answer(
            question,
            passages,
            {self._step(name): seconds[name] for name in seconds},
            lowest,
            stored[0] if stored else None,
            {name: count for name, count in counts.items() if name in CACHE_COUNTS},
            self.hybrid,
        )

    def _threshold(self, wanted: Threshold) -> float | None:
        if wanted != "auto":
            own: float | None = getattr(self.ranker_component, "score_threshold", None)
            return own if wanted is None else wanted
        recommended: float | None = getattr(self.ranker_component, "recommended_threshold", None)
        if recommended is None:
            raise ValueError(
                f"the ranker {self.ranker} recommends no threshold (score_threshold in its config.json): give a number "
                "from 0 to 1, or none"
            )
        return recommended

    def _inputs(
        self,
        question: str,
        filters: dict[str, Any] | None,
        top_k: int | None,
        candidates: int | None,
        threshold: float | None,
    ) -> Inputs:
        # Pasted from a page, a question may hold words that line ends cut.
        inputs = self._roles.inputs(rejoined(question), filters)
        if top_k is not None and top_k > (candidates or getattr(self.retriever_component, "top_k", None) or top_k):
            candidates = top_k
        given = (
            (self._roles.retriever, "top_k", candidates),
            (self._roles.ranker, "top_k", top_k),
            (self._roles.ranker, "score_threshold", threshold),
        )
        for component, name, value in given:
            if value is not None:
                self._roles.check_input(component, name)
                inputs[component][name] = value
        return inputs

    @contextmanager
    def _searching(self, stored: list[int]) -> Iterator[None]:
        """Hold the store while it is searched, and count its passages."""
        assert self._hold is not None
        with self._hold.held():
            stored.append(self._hold.store.count_documents())
            yield

    def _step(self, component: str) -> str:
        roles = self._roles
        steps = {roles.reader: "read", roles.ranker: "rank", roles.retriever: "retrieve", roles.embedder: "embed"}
        return steps.get(component, component)

    def close(self) -> None:
        """Free the models and close the store, so that another process may open it."""
        self._held.close()
        self.pipeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _passage(document: Document, similarity: float | None, answer: ExtractedAnswer | None) -> FoundPassage:
    content, score = document.content or "", document.score or 0.0
    return FoundPassage(document.id, content, score, similarity or 0.0, document.meta, _sentence(answer))


def _sentence(answer: ExtractedAnswer | None) -> FoundSentence | None:
    if answer is None or answer.document_offset is None:
        return None
    start, end = answer.document_offset.start, answer.document_offset.end
    return FoundSentence(answer.data or "", start, end, answer.score, answer.meta.get("answer_page_number"))
