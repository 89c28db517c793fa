"""Passages -> what a store costs with them: recall, milliseconds, build time, disk, memory. Measures Qdrant Edge.

Every store takes the same passages, with their words, through `write_documents`, and is asked one question at a time
through its Haystack retrievers.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from haystack import Document
from haystack.document_stores.types import DocumentStore, DuplicatePolicy

from bloomz_haystack.benchmark.scale.passages import NearestPassages, ScalePassages, recall
from bloomz_haystack.benchmark.speed.memory import run_measuring_memory
from haystack_integrations.common.bloomz.batches import Progress
from haystack_integrations.components.retrievers.qdrant_edge import (
    QdrantEdgeEmbeddingRetriever,
    QdrantEdgeHybridRetriever,
)
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

WRITTEN_TOGETHER = 1_000
WITH_WORDS = "with words"
WARM_UP = 20  # questions asked before the clock runs
Ask = Callable[..., dict[str, Any]]
Step = Callable[[str, int], Progress]
SpentNow = Callable[[], "Spent"]


class Spent(NamedTuple):
    """Time that passed, and time that processors worked; on a busy machine the second is the one to trust."""

    seconds: float
    cpu: float

    def since(self, before: "Spent") -> "Spent":
        """Return what was spent from one moment to another.

        :param before: the earlier one.
        :returns: the difference.
        """
        return Spent(self.seconds - before.seconds, self.cpu - before.cpu)

    def plus(self, more: "Spent") -> "Spent":
        """Return the sum.

        :param more: to add.
        :returns: both together.
        """
        return Spent(self.seconds + more.seconds, self.cpu + more.cpu)


class StoreCost(NamedTuple):
    """One way to search; what it took to build includes the table that it searches."""

    name: str
    recall: float | None  # None with words
    p50_ms: float
    p95_ms: float
    cpu_ms: float  # of a question
    build_seconds: float
    build_cpu_seconds: float
    disk_bytes: int
    peak_bytes: int | None  # None where it cannot be seen: another machine, or not Linux


class Answers(NamedTuple):
    """The answers to all questions: how good, how fast each came, and what all took."""

    recall: float | None
    seconds: list[float]
    spent: Spent


def edge_costs(
    passages: ScalePassages,
    truth: NearestPassages,
    folder: Path,
    datatype: Literal["float32", "float16"],
    step: Step,
) -> list[StoreCost]:
    """Measure Qdrant Edge, which searches exactly, by vectors alone and with words.

    :param passages: to write.
    :param truth: of them.
    :param folder: of the store; new.
    :param datatype: of the vectors.
    :param step: begins a part of the progress.
    :returns: the costs; memory is what building and searching took on top of what the process had, mapped files too.
    """
    name = f"Qdrant Edge, {datatype}, exact"
    store = QdrantEdgeDocumentStore(str(folder), passages.vectors.shape[1], datatype=datatype, hybrid=True)

    def measure() -> tuple[Spent, Answers, Answers]:
        begun = own_time()
        write_all(store, passages, step(f"{name}: write", len(passages.texts)))
        built = own_time().since(begun)
        near = QdrantEdgeEmbeddingRetriever(store, top_k=truth.top_k)
        asking = step(f"{name}: ask", len(passages.questions))
        by_vectors = ask_all(near.run, passages, truth, own_time, asking)
        matching = QdrantEdgeHybridRetriever(store, top_k=truth.top_k)
        asking = step(f"{name}, {WITH_WORDS}: ask", len(passages.questions))
        return built, by_vectors, ask_all(matching.run, passages, truth, own_time, asking, words=True)

    try:
        (built, *answers), peak = run_measuring_memory(measure, torch.device("cpu"))
    finally:
        store.close()
    size = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    names = (name, f"{name}, {WITH_WORDS}")
    return [store_cost(way, found, built, size, peak) for way, found in zip(names, answers, strict=True)]


def own_time() -> Spent:
    """Return the time now.

    :returns: of the clock, and of this process with all its threads.
    """
    return Spent(time.perf_counter(), time.process_time())


def ask_all(
    ask: Ask,
    passages: ScalePassages,
    truth: NearestPassages,
    clock: SpentNow,
    progress: Progress,
    *,
    words: bool = False,
) -> Answers:
    """Ask every question by itself.

    :param ask: `run` of a retriever.
    :param passages: whose questions are asked; the ids of documents are their places.
    :param truth: of them.
    :param clock: counts the processes at work.
    :param progress: called after each question.
    :param words: ask with the question's text too; what is found then is not what is nearest.
    :returns: the recall, the seconds of each question, and what all took.
    """
    questions = [{"query_embedding": question.tolist()} for question in passages.questions]
    if words:
        questions = [{**known, "query": text} for known, text in zip(questions, passages.asked, strict=True)]
    for question in questions[:WARM_UP]:
        ask(**question)
    seconds, found, first = [], [], clock()
    for question in questions:
        begun = time.perf_counter()
        documents: list[Document] = ask(**question)["documents"]
        seconds.append(time.perf_counter() - begun)
        found.append([int(document.id) for document in documents])
        progress(1)
    spent = clock().since(first)
    return Answers(None if words else recall(passages, truth, found), seconds, spent)


def write_all(store: DocumentStore, passages: ScalePassages, progress: Progress) -> None:
    """Write every passage; its id is its place.

    :param store: empty.
    :param passages: to write.
    :param progress: called with the number of passages written.
    """
    for start in range(0, len(passages.texts), WRITTEN_TOGETHER):
        places = range(start, min(start + WRITTEN_TOGETHER, len(passages.texts)))
        documents = [
            Document(id=str(place), content=passages.texts[place], embedding=passages.vectors[place].tolist())
            for place in places
        ]
        store.write_documents(documents, DuplicatePolicy.OVERWRITE)
        progress(len(documents))


def store_cost(name: str, answers: Answers, built: Spent, disk_bytes: int, peak_bytes: int | None) -> StoreCost:
    """Return the costs of one way to search.

    :param name: of the way.
    :param answers: to all questions.
    :param built: what all that it needs took.
    :param disk_bytes: of the same.
    :param peak_bytes: memory, if known.
    :returns: with the median and the 95th percentile of the answers.
    """
    p50, p95 = (1000 * float(np.percentile(answers.seconds, percent)) for percent in (50, 95))
    cpu = 1000 * answers.spent.cpu / len(answers.seconds)
    return StoreCost(name, answers.recall, p50, p95, cpu, built.seconds, built.cpu, disk_bytes, peak_bytes)
