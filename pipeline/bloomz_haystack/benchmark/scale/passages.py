"""Files, or a seed -> passages and questions as vectors, and for each question its true nearest passages.

The truth is numpy's, in float64. Knows no store.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.speed.random_texts import draw_lengths, random_texts
from bloomz_haystack.training.data.sources import entries, good_rows
from haystack_integrations.common.bloomz.batches import Progress, Vectors
from haystack_integrations.common.bloomz.checkpoint import close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder

LATENT = 64  # of the random vectors: those of texts, too, vary in far fewer directions than they have numbers
WITHIN = 0.5  # spread within a cluster; 1 is that of the clusters
COMPARED_TOGETHER = 16_384  # passages compared at a time
TIE = 1e-7  # cosines as near as this are equal: float32 says no more


class ScalePassages(NamedTuple):
    """N passages and Q questions; `origin` says in words what they are."""

    texts: list[str]
    vectors: Vectors  # (N, H), of length 1
    asked: list[str]
    questions: Vectors  # (Q, H), of length 1
    origin: str


class NearestPassages(NamedTuple):
    """For each question the least similarity that is still among the first k."""

    top_k: int
    least: npt.NDArray[np.float64]  # (Q,)


def read_passages(
    files: Sequence[Path], words: int, model: str, count: int, questions: int, seed: int, progress: Progress
) -> ScalePassages:
    """Return an even sample of the passages and of the questions of files, embedded.

    :param files: of rows, or in SQuAD format: what `bloomz mine --data` reads.
    :param words: longer passages are cut after every so many.
    :param model: retriever: bundled name, folder or Hub name.
    :param count: N.
    :param questions: Q.
    :param seed: random seed.
    :param progress: called with the number of texts embedded.
    :returns: the passages.
    :raises ValueError: if the files hold fewer.
    """
    texts, asked = draw_texts(files, words, count, questions, seed)
    checkpoint = open_checkpoint(model, "embed")
    try:
        encoder = Encoder(checkpoint)
        vectors, queries = encoder.encode(texts, progress=progress), encoder.encode(asked, progress=progress)
    finally:
        close_checkpoint(checkpoint)
    name = Path(model).name if Path(model).is_dir() else model
    origin = f"{name} over texts of at most {words} words of {', '.join(file.name for file in files)}"
    return ScalePassages(texts, vectors, asked, queries, origin)


def draw_texts(files: Sequence[Path], words: int, count: int, questions: int, seed: int) -> tuple[list[str], list[str]]:
    """Return an even sample of the passages and of the questions of files, in their order.

    :param files: this and the next: as for `read_passages`.
    :param words: most of a passage.
    :param count: N.
    :param questions: Q.
    :param seed: random seed.
    :returns: N passages, no two the same, and Q questions.
    :raises ValueError: if the files hold fewer.
    """
    rows = [row for file in files for row in good_rows(entries(file), str(file), [])]
    known = list(dict.fromkeys(part for row in rows for text in row.positives.values() for part in _cut(text, words)))
    asked = list(dict.fromkeys(text for row in rows for text in row.queries.values()))
    for found, wanted, option in ((known, count, "passages"), (asked, questions, "questions")):
        if len(found) < wanted:
            raise ValueError(
                f"--data holds {len(found):,} different {option}, fewer than {wanted:,}: give more files, or "
                f"--{option} {len(found)}"
            )
    rng = np.random.default_rng(seed)
    places = [np.sort(rng.choice(len(texts), size, False)) for texts, size in ((known, count), (asked, questions))]
    return [known[place] for place in places[0]], [asked[place] for place in places[1]]


def random_passages(count: int, dimension: int, questions: int, seed: int) -> ScalePassages:
    """Return random texts, with vectors in clusters.

    :param count: N.
    :param dimension: H.
    :param questions: Q, each from a cluster of the passages.
    :param seed: random seed.
    :returns: the passages.
    """
    rng = np.random.default_rng(seed)
    clusters = max(int(count**0.5), 1)
    centres = rng.standard_normal((clusters, LATENT))
    axes = rng.standard_normal((LATENT, dimension))

    def drawn(number: int) -> Vectors:
        latent = centres[rng.integers(clusters, size=number)] + WITHIN * rng.standard_normal((number, LATENT))
        vectors = latent @ axes
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    vectors, queries = drawn(count), drawn(questions)
    texts = random_texts(draw_lengths(count, 120, 20, 150, rng), rng)
    asked = random_texts([10] * questions, rng)
    origin = f"random, seed {seed}, in {clusters:,} clusters, {LATENT} directions: no texts were embedded"
    return ScalePassages(texts, vectors, asked, queries, origin)


def nearest_passages(passages: ScalePassages, top_k: int) -> NearestPassages:
    """Return how near the true first k of each question are.

    :param passages: N of them.
    :param top_k: k, at most N.
    :returns: the least similarity of each question, in float64.
    """
    questions = _unit(passages.questions)
    best = np.full((len(questions), top_k), -np.inf)
    for start in range(0, len(passages.vectors), COMPARED_TOGETHER):
        similarities = questions @ _unit(passages.vectors[start : start + COMPARED_TOGETHER]).T
        best = np.partition(np.hstack([best, similarities]), -top_k, axis=1)[:, -top_k:]
    return NearestPassages(top_k, best.min(axis=1))


def recall(passages: ScalePassages, truth: NearestPassages, found: Sequence[Sequence[int]]) -> float:
    """Return the mean share of the true first k that were found.

    :param passages: N of them.
    :param truth: of the same passages.
    :param found: for each question the places of the passages found; one found twice counts once.
    :returns: 0 to 1.
    """
    hits = 0
    for question, least, places in zip(_unit(passages.questions), truth.least, found, strict=True):
        similarities = _unit(passages.vectors[sorted(set(places))]) @ question
        hits += min(int((similarities >= least - TIE).sum()), truth.top_k)
    return hits / (truth.top_k * len(truth.least))


def _cut(text: str, words: int) -> list[str]:
    every = text.split()
    return [" ".join(every[start : start + words]) for start in range(0, len(every), words)]


def _unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return unit
