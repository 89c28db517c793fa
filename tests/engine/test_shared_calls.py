"""Calls of several threads, computed together: each gets what it would get alone."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from haystack import Document

from haystack_integrations.common.bloomz import batches
from haystack_integrations.common.bloomz.checkpoint import LoadSettings, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.common.bloomz.packing import PackedBatch
from haystack_integrations.common.bloomz.prefix_cache.batches import PrefixSettings
from haystack_integrations.common.bloomz.scorer import Scorer
from haystack_integrations.common.bloomz.shared_calls import SharedCalls
from haystack_integrations.common.bloomz.tokens import TokenIds
from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker

SECONDS = 600  # an end for what hangs, also on a slow machine
QUESTIONS = [
    "Où se trouve la tour Eiffel ?",
    "Where is the Eiffel tower?",
    "Qui l'a construite ?",
    "Who built it, and when was it opened to the public?",
    "Quand ?",
    "",
    "Combien de marches compte-t-elle jusqu'au sommet ?",
    "How tall is it?",
]
PASSAGES = ["La tour Eiffel est à Paris.", "The tower was built by Eiffel's company.", "Big Ben is in London."]


class Engine:
    """Doubles words, remembers what came together, and waits for `go` at each batch while it is held."""

    def __init__(self, most: int = 20) -> None:
        self.together: list[list[str]] = []
        self.go = threading.Semaphore(0)
        self.calls = SharedCalls[str, list[str]](most)
        self.calls._cores = torch.get_num_threads()  # one batch at a time

    def compute(self, words: list[str]) -> list[str]:
        self.together.append(words)
        assert self.go.acquire(timeout=SECONDS)
        threading.Event().wait(0.0001)  # the others have a moment to come
        if "poison" in words:
            raise ValueError(f"poison among {len(words)}")
        return [word * 2 for word in words]

    def run(self, *words: str) -> list[str]:
        return self.calls.run(self.compute, words)

    def wait_for(self, *, batches: int, waiting: int) -> None:
        """Wait until so many batches have begun and so many calls wait."""
        for _ in range(SECONDS * 1000):
            if (len(self.together), len(self.calls._waiting)) == (batches, waiting):
                return
            threading.Event().wait(0.001)
        raise AssertionError(f"{len(self.together)} batches, {len(self.calls._waiting)} wait")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


def queued(engine: Engine, pool: ThreadPoolExecutor, *calls: tuple[str, ...]) -> list[Future[list[str]]]:
    """Start calls in this order, the first of which computes while the others wait."""
    futures = []
    for number, words in enumerate(calls):
        futures.append(pool.submit(engine.run, *words))
        engine.wait_for(batches=1, waiting=number)
    return futures


def test_those_that_wait_are_computed_together_in_order_within_the_budget(pool: ThreadPoolExecutor) -> None:
    engine = Engine()
    calls = [("a",), ("b", "bb"), ("c",), ("long" * 6,), ("d",), ("e" * 18,), ("fff",)]
    futures = queued(engine, pool, *calls)
    engine.go.release(9)
    assert [future.result(SECONDS) for future in futures] == [[word * 2 for word in words] for words in calls]
    assert engine.together == [["a"], ["b", "bb", "c"], ["long" * 6], ["d", "e" * 18], ["fff"]]


def test_a_free_engine_starts_at_once() -> None:
    engine = Engine()
    engine.go.release(2)
    assert (engine.run("a"), engine.run("b")) == (["aa"], ["bb"])
    assert engine.together == [["a"], ["b"]]
    assert engine.calls._computing == 0


def test_as_many_compute_at_once_as_there_are_cores_for(pool: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.calls._cores = 2 * torch.get_num_threads()
    futures = [pool.submit(engine.run, "a") for _ in range(4)]
    engine.wait_for(batches=2, waiting=2)
    engine.go.release(4)
    assert [future.result(SECONDS) for future in futures] == [["aa"]] * 4
    assert engine.calls._computing == 0


def test_an_error_stays_with_its_own_call(pool: ThreadPoolExecutor) -> None:
    engine = Engine()
    futures = queued(engine, pool, ("a",), ("b",), ("poison",), ("c", "d"))
    engine.go.release(9)
    with pytest.raises(ValueError, match="poison among 1"):
        futures[2].result(SECONDS)
    assert [futures[place].result(SECONDS) for place in (0, 1, 3)] == [["aa"], ["bb"], ["cc", "dd"]]
    assert engine.together[:2] == [["a"], ["b", "poison", "c", "d"]]
    assert sorted(engine.together[2:]) == [["b"], ["c", "d"], ["poison"]]
    engine.go.release()
    assert engine.run("after") == ["afterafter"]


class Interruption(BaseException):
    """As `KeyboardInterrupt`, for one thread."""


def interrupt(thread: threading.Thread) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interruption))


@pytest.mark.parametrize("who", ["leader", "follower", "heir"])
def test_an_interrupted_thread_takes_nothing_from_the_others(who: str, pool: ThreadPoolExecutor) -> None:
    engine, threads, seen = Engine(), {}, []

    def run(word: str) -> list[str]:
        threads[word] = threading.current_thread()
        try:
            return engine.run(word)
        except Interruption:
            seen.append(word)
            raise

    futures = []
    for number, word in enumerate(("first", "second", "third", "fourth")):
        futures.append(pool.submit(run, word))
        engine.wait_for(batches=1, waiting=number)
    victim = {"leader": 1, "follower": 2, "heir": 1}[who]
    if who != "heir":  # while the second batch is computed
        engine.go.release()
        engine.wait_for(batches=2, waiting=0)
    interrupt(threads[("first", "second", "third", "fourth")[victim]])
    engine.go.release(9)
    with pytest.raises(Interruption):
        futures[victim].result(SECONDS)
    left = [future.result(SECONDS)[0] for place, future in enumerate(futures) if place != victim]
    assert left == [word * 2 for place, word in enumerate(("first", "second", "third", "fourth")) if place != victim]
    assert engine.run("after") == ["afterafter"]
    assert engine.calls._computing == 0


def test_a_batch_that_fails_leaves_the_engine_to_those_who_are_still_there(pool: ThreadPoolExecutor) -> None:
    """One of the batch was interrupted before it failed: it gets no turn, which nobody would end."""
    engine, threads = Engine(), {}

    def run(word: str) -> list[str]:
        threads[word] = threading.current_thread()
        return engine.run(word)

    futures = []
    for number, word in enumerate(("first", "poison", "gone", "last")):
        futures.append(pool.submit(run, word))
        engine.wait_for(batches=1, waiting=number)
    gone = engine.calls._waiting[1]
    engine.go.release()
    engine.wait_for(batches=2, waiting=0)
    interrupt(threads["gone"])
    gone.turn.set()  # a thread sees an interruption when it wakes
    with pytest.raises(Interruption):
        futures[2].result(SECONDS)
    engine.go.release(9)
    with pytest.raises(ValueError, match="poison among 1"):
        futures[1].result(SECONDS)
    assert (futures[0].result(SECONDS), futures[3].result(SECONDS)) == (["firstfirst"], ["lastlast"])
    assert engine.run("after") == ["afterafter"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_waits_for_nobody(pool: ThreadPoolExecutor) -> None:
    engine = Engine()
    futures = queued(engine, pool, ("a",), ("b",))
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)  # a child that waits for the parent's threads would wait for ever
        os._exit(0 if engine.calls.run(lambda words: words, ["here"]) == ["here"] else 1)
    engine.go.release(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [future.result(SECONDS) for future in futures] == [["aa"], ["bb"]]


def test_many_threads_at_random() -> None:
    """No call is lost, none gets another's outputs, whatever the order; a third of them fail."""
    engine = Engine(most=100)
    engine.go.release(100_000)

    def ask(seed: int) -> int:
        rng, right = np.random.default_rng(seed), 0
        for _ in range(100):
            words = [str(number) for number in rng.integers(1000, size=rng.integers(1, 6))]
            if rng.random() < 1 / 3:
                with pytest.raises(ValueError, match="poison"):
                    engine.run(*words, "poison")
                right += 1
            else:
                right += engine.run(*words) == [word * 2 for word in words]
        return right

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(16))) == [100] * 16
    assert (engine.calls._computing, len(engine.calls._waiting)) == (0, 0)
    assert max(map(len, engine.together)) > 6  # some did come together


@contextmanager
def held(calls: SharedCalls, waiting: int) -> Iterator[None]:
    """Keep an engine busy until so many calls wait, so that they are computed together."""
    started, enough = threading.Event(), threading.Event()
    calls._cores = torch.get_num_threads()

    def busy(inputs: list[list[int]]) -> torch.Tensor:
        started.set()
        assert enough.wait(SECONDS)
        return torch.zeros(len(inputs), 1)

    with ThreadPoolExecutor(1) as holder:
        holder.submit(calls.run, busy, [[0]])
        assert started.wait(SECONDS)

        def watch() -> None:
            while len(calls._waiting) < waiting:
                threading.Event().wait(0.001)
            enough.set()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            enough.set()


def at_once(calls: SharedCalls, asked: list[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    with held(calls, len(asked)), ThreadPoolExecutor(len(asked)) as threads:
        futures = [threads.submit(one) for one in asked]
        return [future.result(SECONDS) for future in futures]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each batch of the model had."""
    seen: list[int] = []
    pack = batches.pack

    def counted(token_ids: list[TokenIds]) -> PackedBatch:
        seen.append(len(token_ids))
        return pack(token_ids)

    monkeypatch.setattr(batches, "pack", counted)
    return seen


@pytest.mark.parametrize("precision", [None, "int8"])
def test_questions_at_once_get_the_vectors_of_questions_one_by_one(
    tiny_bloom: Path, sizes: list[int], precision: Precision | None
) -> None:
    encoder = Encoder(open_checkpoint(str(tiny_bloom), "embed", settings=LoadSettings(precision=precision)))
    alone = [encoder.encode([question]) for question in QUESTIONS]
    sizes.clear()
    calls = encoder.checkpoint.short_calls
    together = at_once(calls, [partial(encoder.encode, [question]) for question in QUESTIONS])
    assert sizes == [len(QUESTIONS)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    # negative control: the neighbour's vector is another
    assert np.abs(np.roll(together, 1, axis=0) - alone).max() > 0.1


@pytest.mark.parametrize("prefix_settings", [None, PrefixSettings(10**7, store_dtype="float32")])
def test_pairs_of_several_questions_at_once_get_the_scores_of_one_by_one(
    tiny_ranker: Path, sizes: list[int], prefix_settings: PrefixSettings | None
) -> None:
    scorer = Scorer(open_checkpoint(str(tiny_ranker), "rank"), prefix_settings=prefix_settings)
    alone = [scorer.score(question, PASSAGES[:1]) for question in QUESTIONS]
    sizes.clear()
    asked = [partial(scorer.score, question, PASSAGES[:1]) for question in QUESTIONS]
    waits = len(QUESTIONS) if prefix_settings is None else 1  # the empty question alone is not continued
    with held(scorer.checkpoint.short_calls, waits), ThreadPoolExecutor(len(asked)) as threads:
        together = [future.result(SECONDS) for future in [threads.submit(one) for one in asked]]
    if prefix_settings is None:
        assert sizes == [len(QUESTIONS)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_long_call_is_not_shared(tiny_bloom: Path) -> None:
    """It would gain nothing, and a question would wait for it."""
    encoder = Encoder(open_checkpoint(str(tiny_bloom), "embed"))
    with held(encoder.checkpoint.short_calls, 1), ThreadPoolExecutor(2) as threads:
        long = threads.submit(encoder.encode, ["a long text " * 40])
        assert long.result(SECONDS).shape == (1, encoder.dimension)
        short = threads.submit(encoder.encode, ["short"])
        assert short.result(SECONDS).shape == (1, encoder.dimension)


def test_components_share_as_well_and_errors_are_their_own(tiny_bloom: Path, tiny_ranker: Path) -> None:
    """A question that is too long is refused; those beside it are answered."""
    embedder, ranker = (
        BloomzTextEmbedder(str(tiny_bloom)),
        BloomzRanker(str(tiny_ranker), truncate=False, max_length=60),
    )
    documents = [Document(content=passage) for passage in PASSAGES]
    questions = [*QUESTIONS, "trop longue " * 30, *QUESTIONS]

    def ask(question: str) -> tuple[list[float], list[str]]:
        ranked = ranker.run(query=question, documents=documents)["documents"]
        return embedder.run(question)["embedding"], [document.id for document in ranked]

    alone = [ask(question) for question in QUESTIONS]
    with ThreadPoolExecutor(len(questions)) as threads:
        futures = [threads.submit(ask, question) for question in questions]
    with pytest.raises(ValueError, match=r"a question of \d+ tokens leaves too little room"):
        futures[len(QUESTIONS)].result()
    answers = [future.result() for place, future in enumerate(futures) if place != len(QUESTIONS)]
    for (vector, ids), (expected, order) in zip(answers, alone * 2, strict=True):
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        assert ids == order
