"""Sizes of the work -> seconds and memory at each: passages indexed, tokens of a text, candidates reranked.

Passages go through `index_files`, the code of `bloomz index`, in one run that is looked at on its way. The bundled
tiny models do the work: what is asked is how the cost grows, not how large it is.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from bloomz_haystack.benchmark.speed.memory import own_memory, run_measuring_memory
from bloomz_haystack.benchmark.speed.random_texts import draw_lengths, random_texts
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary, index_files
from bloomz_haystack.settings import IndexSettings
from haystack_integrations.common.bloomz.checkpoint import close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import Scorer

RETRIEVER, RANKER = "tiny-fr-en-retriever", "tiny-fr-en-ranker"
PASSAGE_WORDS, QUESTION_WORDS = 60, 10
PASSAGES_PER_FILE = 1000
TEXTS = 32  # of each length, embedded in one call
ROUNDS = 3


class Sizes(NamedTuple):
    """What to measure at, smallest first."""

    passages: tuple[int, ...] = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
    tokens: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    candidates: tuple[int, ...] = (10, 20, 50, 100, 200, 500)


QUICK = Sizes((64, 128, 256), (16, 64, 256), (5, 10, 20))


class Series(NamedTuple):
    """One cost curve: `sizes` in `unit`, `seconds` of `what`, `memory` in bytes or None where unknown."""

    name: str
    unit: str
    what: str
    memory_of: str
    sizes: list[int]
    seconds: list[float]
    memory: list[int | None]


class Steps(Protocol):
    """Who shows how far it is."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Begin a step; gives what moves it on."""


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit cost = a * size ^ exponent, by least squares on the logarithms: 1 is linear, 0 does not grow.

    :param sizes: at least two different ones.
    :param costs: as many, above zero.
    :returns: the exponent.

    >>> round(exponent([1, 10, 100], [5, 500, 50_000]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure_growth(sizes: Sizes, folder: Path, steps: Steps, seed: int = 0) -> list[Series]:
    """Measure the three series.

    :param sizes: at which.
    :param folder: empty; holds the passages and their store.
    :param steps: receives the progress.
    :param seed: of the texts.
    :returns: passages, tokens, candidates.
    """
    rng = np.random.default_rng(seed)
    return [
        _by_passages(sizes.passages, folder, steps, rng),
        _by_tokens(sizes.tokens, steps, rng),
        _by_candidates(sizes.candidates, steps, rng),
    ]


class _Marks(IndexProgress):
    """Watches an indexing run and notes time and memory where it passes a size."""

    def __init__(self, sizes: Sequence[int], done: Callable[[int], object]) -> None:
        self.left, self.done, self.seen = list(sizes), done, 0
        self.sizes: list[int] = []
        self.seconds: list[float] = []
        self.memory: list[int | None] = []

    def started(self, total_bytes: int) -> None:
        self.begun = time.perf_counter()

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        self.done(summary.embedded - self.seen)
        self.seen = summary.embedded
        if self.left and self.seen >= self.left[0]:
            self.left = [size for size in self.left if size > self.seen]
            self.sizes.append(self.seen)  # the end of a block, so a little above what was asked for
            self.seconds.append(time.perf_counter() - self.begun)
            self.memory.append(own_memory())


def _by_passages(sizes: Sequence[int], folder: Path, steps: Steps, rng: np.random.Generator) -> Series:
    write = steps.step("write passages", sizes[-1])
    source = folder / "passages"
    source.mkdir()
    for start in range(0, sizes[-1], PASSAGES_PER_FILE):
        texts = random_texts([PASSAGE_WORDS] * min(PASSAGES_PER_FILE, sizes[-1] - start), rng)
        lines = [json.dumps({"content": text}, ensure_ascii=False) + "\n" for text in texts]
        (source / f"{start:07d}.jsonl").write_text("".join(lines), encoding="utf-8")
        write(len(texts))
    marks = _Marks(sizes, steps.step("index passages", sizes[-1]))
    index_files([source], folder / "store", IndexSettings(model=RETRIEVER), progress=marks)
    what, memory_of = "index passages from files", "of the process, without mapped files"
    return Series("passages", "passages", what, memory_of, marks.sizes, marks.seconds, marks.memory)


def _by_tokens(sizes: Sequence[int], steps: Steps, rng: np.random.Generator) -> Series:
    checkpoint = open_checkpoint(RETRIEVER, "embed", device="cpu")
    encoder = Encoder(checkpoint)
    batches = [[_text_of(size, checkpoint.tokenizer, rng) for _ in range(TEXTS)] for size in sizes]
    runs = [lambda texts=texts: encoder.encode(texts) for texts in batches]
    seconds, memory = _timed(runs, steps.step("embed texts", ROUNDS * len(sizes)))
    close_checkpoint(checkpoint)
    what = f"embed {TEXTS} texts"
    return Series("tokens", "tokens a text", what, "above the model's, at its peak", list(sizes), seconds, memory)


def _by_candidates(sizes: Sequence[int], steps: Steps, rng: np.random.Generator) -> Series:
    checkpoint = open_checkpoint(RANKER, "rank", device="cpu")
    scorer = Scorer(checkpoint)
    question = random_texts([QUESTION_WORDS], rng)[0]
    contexts = random_texts(draw_lengths(sizes[-1], PASSAGE_WORDS, 20, 200, rng), rng)
    runs = [lambda size=size: scorer.score(question, contexts[:size]) for size in sizes]
    seconds, memory = _timed(runs, steps.step("rerank candidates", ROUNDS * len(sizes)))
    close_checkpoint(checkpoint)
    what = "rerank for one question"
    return Series("candidates", "candidates", what, "above the model's, at its peak", list(sizes), seconds, memory)


def _text_of(tokens: int, tokenizer: object, rng: np.random.Generator) -> str:
    """Cut a random text after so many tokens."""
    text = random_texts([tokens + 1], rng)[0]
    return text[: tokenizer.encode(text).offsets[tokens - 1][1]]  # type: ignore[attr-defined]


def _timed(runs: Sequence[Callable[[], object]], done: Callable[[int], object]) -> tuple[list[float], list[int | None]]:
    """Run every size once for its memory, then in interleaved rounds: the median seconds count."""
    memory = [run_measuring_memory(run, torch.device("cpu"))[1] for run in runs]
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, taken in zip(runs, seconds, strict=True):
            begun = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begun)
            done(1)
    return [statistics.median(taken) for taken in seconds], memory
