"""`Answerer`: any pipeline over any store, from several threads, and how long the store is held."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from haystack import Pipeline, tracing
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.errors import FilterError

from bloomz_haystack import Answerer, AskSettings, IndexSettings, ask_pipeline, steps
from bloomz_haystack import store_folder as folders
from bloomz_haystack.answering import Answer
from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.steps import StepTracer
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import Scorer
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

ENGLISH = {"field": "meta.language", "operator": "==", "value": "en"}
QUESTIONS = ["Où se trouve la tour Eiffel ?", "Where is the Eiffel tower?"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bloom: Path) -> Path:
    folder = tmp_path_factory.mktemp("store")
    (folder / "fr.jsonl").write_text(
        "".join(f'{{"content": "La tour Eiffel, étage {n}", "meta": {{"language": "fr"}}}}\n' for n in range(6))
    )
    (folder / "en.jsonl").write_text(
        "".join(f'{{"content": "The Eiffel tower, floor {n}", "meta": {{"language": "en"}}}}\n' for n in range(6))
    )
    index_files([folder / "fr.jsonl", folder / "en.jsonl"], folder / "store", IndexSettings(model=str(tiny_bloom)))
    return folder / "store"


def preceded(function: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """The same function, with something done before."""

    def both(*given: object, **options: object) -> object:
        note(*given)
        return function(*given, **options)

    return both


def figures(answer: Answer) -> list[tuple[str, float, float]]:
    return [(passage.id, passage.score, passage.similarity) for passage in answer.passages]


@pytest.fixture
def in_memory(store: Path, tiny_bloom: Path, tiny_ranker: Path) -> Pipeline:
    """The same passages in Haystack's own store, behind our models."""
    with QdrantEdge(store) as edge:
        documents = edge.filter_documents()
    memory = InMemoryDocumentStore(embedding_similarity_function="cosine")
    memory.write_documents(BloomzDocumentEmbedder(str(tiny_bloom), progress_bar=False).run(documents)["documents"])
    pipeline = Pipeline()
    pipeline.add_component("question", BloomzTextEmbedder(str(tiny_bloom), progress_bar=False))
    pipeline.add_component("finder", InMemoryEmbeddingRetriever(memory, top_k=50))
    pipeline.add_component("judge", BloomzRanker(str(tiny_ranker), top_k=5, progress_bar=False))
    pipeline.connect("question.embedding", "finder.query_embedding")
    pipeline.connect("finder.documents", "judge.documents")
    return pipeline


class QdrantEdge(QdrantEdgeDocumentStore):
    """Closed by `with`."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), 24)

    def __enter__(self) -> "QdrantEdge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---------------------------------------------------------------- any pipeline, any store


def test_any_pipeline_over_any_store(store: Path, tiny_ranker: Path, in_memory: Pipeline) -> None:
    with Answerer(store, AskSettings(ranker=str(tiny_ranker))) as edge, Answerer(pipeline=in_memory) as memory:
        for question in QUESTIONS:
            for options in ({}, {"filters": ENGLISH}, {"top_k": 2}, {"threshold": 0.5}):
                expected, answer = (answerer.ask(question, **options) for answerer in (edge, memory))
                assert [passage.content for passage in answer.passages] == [p.content for p in expected.passages]
                pairs = zip(figures(answer), figures(expected), strict=True)
                assert all(got[1:] == pytest.approx(wanted[1:], abs=1e-5) for got, wanted in pairs)
                assert list(answer.seconds) == ["embed", "retrieve", "rank"]
            assert (expected.stored, answer.stored) == (12, None)
        assert {p.meta["language"] for p in memory.ask(QUESTIONS[0], filters=ENGLISH).passages} == {"en"}
        assert len(memory.ask(QUESTIONS[0], top_k=2).passages) == 2


def test_a_pipeline_from_yaml_is_the_one_that_is_shipped(
    store: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    models = {"model": str(tiny_bloom), "ranker": str(tiny_ranker), "embedding_dim": 24, "progress_bar": False}
    yaml = ask_pipeline(store, **models).dumps()  # type: ignore[arg-type]
    (tmp_path / "ask.yaml").write_text(yaml)
    with Answerer(store, AskSettings(ranker=str(tiny_ranker))) as shipped:
        expected = shipped.ask(QUESTIONS[0])
        assert (shipped.model, shipped.ranker) == (str(tiny_bloom), str(tiny_ranker))
    for source in (yaml, tmp_path / "ask.yaml", str(tmp_path / "ask.yaml"), Pipeline.loads(yaml)):
        with Answerer(pipeline=source) as answerer:
            assert figures(answerer.ask(QUESTIONS[0])) == figures(expected)
            assert (answerer.model, answerer.ranker) == (str(tiny_bloom), str(tiny_ranker))


def test_what_cannot_answer_is_refused_in_one_line(store: Path, tmp_path: Path, in_memory: Pipeline) -> None:
    no_ranker = Pipeline()
    no_ranker.add_component("retriever", InMemoryBM25Retriever(InMemoryDocumentStore()))
    absent = ask_pipeline(tmp_path / "absent").dumps()
    for source, said in ((no_ranker, "has no ranker"), ("a: [\n", "cannot load the pipeline"), (absent, "no store at")):
        with pytest.raises(ValueError, match=said):
            Answerer(pipeline=source)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(ValueError, match="a store or a pipeline: one of the two"):
        Answerer(store, pipeline=in_memory)
    with Answerer(pipeline=in_memory) as answerer:
        for options, said in (
            ({"top_k": 0}, "top_k must be > 0, but got 0"),
            ({"threshold": 2.0}, "threshold must be a probability"),
            ({"threshold": "auto"}, "recommends no threshold"),
        ):
            with pytest.raises(ValueError, match=said):
                answerer.ask("Où ?", **options)
        with pytest.raises(ValueError, match="the question is empty"):
            answerer.ask(" ")


def test_the_ranker_may_recommend_the_threshold(
    store: Path,
    make_bloom: Callable[..., Path],
    edit_config: Callable[..., None],
    tiny_ranker: Path,
) -> None:
    ranker = make_bloom(ranker=True, seed=1)
    with Answerer(store, AskSettings(ranker=str(tiny_ranker), top_k=12)) as answerer:
        scores = [passage.score for passage in answerer.ask("Where?").passages]
    assert len(scores) == 12
    edit_config(ranker, score_threshold=scores[4])
    settings = AskSettings(ranker=str(ranker), top_k=12)
    with Answerer(store, replace(settings, threshold="auto")) as by_settings, Answerer(store, settings) as by_question:
        for answer in (by_settings.ask("Where?"), by_question.ask("Where?", threshold="auto")):
            assert (len(answer.passages), answer.threshold) == (5, scores[4])
        assert len(by_question.ask("Where?").passages) == 12  # never silently


# ---------------------------------------------------------------- threads, the clock, the lock


@pytest.mark.parametrize("hold_store", [False, True])
def test_threads_get_what_one_after_the_other_gets(hold_store: bool, store: Path, tiny_ranker: Path) -> None:
    asked = [f"{question} {n}" for n in range(10) for question in QUESTIONS]
    with Answerer(store, AskSettings(ranker=str(tiny_ranker)), hold_store=hold_store) as answerer:
        expected = [figures(answerer.ask(question)) for question in asked]
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(answerer.ask, asked))
    for answer, alone in zip(answers, expected, strict=True):
        assert [passage.id for passage in answer.passages] == [name for name, _, _ in alone]
        together = [(passage.score, passage.similarity) for passage in answer.passages]
        np.testing.assert_allclose(together, [numbers for _, *numbers in alone], atol=1e-5)  # questions are batched
    assert [answer.question for answer in answers] == asked
    assert all({"embed", "retrieve", "rank"} <= set(answer.seconds) for answer in answers)
    assert min(min(answer.seconds.values()) for answer in answers) > 0


def test_the_clock_is_that_of_the_components(store: Path, tiny_ranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Encoder, "encode", preceded(Encoder.encode, lambda *_: now.__setitem__(0, now[0] + 0.25)))
    before = tracing.tracer.actual_tracer
    with Answerer(store, AskSettings(ranker=str(tiny_ranker))) as answerer:
        seconds = answerer.ask("Where?").seconds
        tracer = tracing.tracer.actual_tracer
        assert isinstance(tracer, StepTracer)  # it keeps the user's own, and is not piled up
        assert tracer.before is (before.before if isinstance(before, StepTracer) else before)
        answerer.ask("Where?")
        assert tracing.tracer.actual_tracer is tracer
    assert seconds == {"embed": 0.25, "retrieve": 0, "rank": 0, "read": 0.25}  # the reader encodes sentences


def test_the_store_is_held_only_while_it_is_searched_or_as_long_as_wanted(
    store: Path, tiny_ranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("open", "close"):
        own = getattr(QdrantEdgeDocumentStore, name)

        def noted(self: Any, *, own: Any = own, name: str = name, **options: float) -> None:  # noqa: ANN401
            calls.append(name)
            own(self, **options)

        monkeypatch.setattr(QdrantEdgeDocumentStore, name, noted)
    monkeypatch.setattr(Scorer, "score", preceded(Scorer.score, lambda *_: calls.append("rank")))
    settings = AskSettings(ranker=str(tiny_ranker))
    with Answerer(store, settings) as answerer:
        answerer.ask("Où ?")
        answerer.ask("Where?")
        assert calls == ["open", "close", "rank"] * 2
    calls.clear()
    with Answerer(store, settings, hold_store=True) as answerer:
        answerer.ask("Où ?")
        answerer.ask("Where?")
        assert calls == ["open", "open", "rank", "open", "rank"]  # the later ones find it open
    assert calls[-1] == "close"


def test_store_json_is_read_once(store: Path, tiny_ranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    names: list[str] = []
    monkeypatch.setattr(folders, "read_description", preceded(folders.read_description, reads.append))
    monkeypatch.setattr(Path, "read_bytes", preceded(Path.read_bytes, lambda path: names.append(path.name)))
    with Answerer(store, AskSettings(ranker=str(tiny_ranker)), hold_store=True) as answerer:
        for question in QUESTIONS * 3:
            answerer.ask(question)
    assert len(reads) == 1
    assert names.count("store.json") == 2  # the other is the store's own, when it is opened


def test_an_error_is_that_of_the_component(
    store: Path, tiny_bloom: Path, tiny_ranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*_: object, **__: object) -> None:
        raise DocumentStoreError("open in another process")

    with Answerer(store, AskSettings(ranker=str(tiny_ranker))) as answerer:
        with pytest.raises(FilterError, match="unknown comparison operator '~'"):
            answerer.ask("Où ?", filters={"field": "meta.language", "operator": "~", "value": 1})
        monkeypatch.setattr(QdrantEdgeDocumentStore, "open", held)
        with pytest.raises(DocumentStoreError, match="open in another process"):
            answerer.ask("Où ?")
