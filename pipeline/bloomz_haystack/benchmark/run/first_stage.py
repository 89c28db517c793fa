"""A `System` and a `Corpus` -> the `Ranking` of its passages for every question: BM25, vectors, or both fused.

Vectors are kept on disk between runs. Knows nothing of figures, rankers and files of results.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.corpora.corpora import Corpus, Question
from bloomz_haystack.benchmark.run.ranking import Part, Ranking, fused_scores, rank, rank_vectors
from bloomz_haystack.benchmark.systems.bm25 import Bm25
from bloomz_haystack.benchmark.systems.encoders import TextModel, open_text_model
from bloomz_haystack.benchmark.systems.store_bm25 import StoreBm25
from bloomz_haystack.benchmark.systems.systems import Choice, System
from bloomz_haystack.benchmark.systems.vector_cache import cached_vectors
from haystack_integrations.document_stores.qdrant_edge.fusion import FUSION_WEIGHTS
from haystack_integrations.document_stores.qdrant_edge.search import CANDIDATES

WORDS_DEPTH = 2_000  # passages that the store's BM25 ranks of a question on its own; the others tie behind them


class Watcher(Protocol):
    """Told how a row goes; a terminal shows it as a bar."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Begin a step of `total` units.

        :param name: what is done.
        :param total: units of work.
        :returns: to be called with the number of further units done.
        """
        ...


def rank_passages(
    choice: Choice,
    system: System,
    corpus: Corpus,
    questions: list[Question],
    *,
    depth: int,
    cache: Path,
    watcher: Watcher,
    device: str | None = None,
    batch_tokens: int = 2048,
) -> Ranking:
    """Rank all passages of a corpus for some questions.

    :param choice: knows the parts of a hybrid.
    :param system: one of its rows.
    :param corpus: gives P passages.
    :param questions: Q of them, each with its right passage.
    :param depth: candidates to keep of each question.
    :param cache: folder of kept vectors.
    :param watcher: receives the progress.
    :param device: as for `choose_placement`.
    :param batch_tokens: tokens computed together.
    :returns: Q ranks, and the first `depth` passages of each question, with the scores that the documents of a
        retriever carry; minus infinity where it would not have found them.
    :raises ModelNotAvailable: if the weights of a part cannot be had here.
    :raises ValueError: if vectors or scores hold NaN.
    """

    fusion = choice.fusion(system)
    of_vectors, of_words = FUSION_WEIGHTS[fusion]

    def of_part(part: System, kept: int, found: int) -> Part:
        if part.kind == "bm25":
            return _by_words(part, of_words, corpus, questions, kept, found, watcher)
        model = open_text_model(part, device, batch_tokens)
        try:
            ranking = _by_vectors(part, model, corpus, questions, kept, cache, watcher)
            return Part(ranking, of_vectors, "cosine", np.ones(len(questions)))
        finally:
            model.close()

    if system.kind != "hybrid":
        return of_part(system, depth, WORDS_DEPTH).ranking
    kept = min(max(CANDIDATES, depth), len(corpus.passages))
    parts = [of_part(part, kept, kept) for part in choice.parts(system)]
    done = watcher.step("fusing", len(questions) * len(corpus.passages))
    scores = fused_scores(parts, len(corpus.passages), fusion)
    ranking = rank(scores, [question.gold for question in questions], len(corpus.passages), depth, done)
    return _leave_out(ranking, ranking.candidate_scores < 0)


def _leave_out(ranking: Ranking, missed: npt.NDArray[np.bool_]) -> Ranking:
    """Score with minus infinity those among the candidates, (Q, K), that were not found and only fill the list up."""
    return ranking._replace(candidate_scores=np.where(missed, -np.inf, ranking.candidate_scores))


def _by_words(
    system: System,
    weight: float,
    corpus: Corpus,
    questions: list[Question],
    kept: int,
    found: int,
    watcher: Watcher,
) -> Part:
    passages, asked = [passage.text for passage in corpus.passages], [question.text for question in questions]
    done = watcher.step("ranking", len(questions) * len(passages))
    gold, trust = [question.gold for question in questions], np.ones(len(asked))
    if system.words == "store":
        with StoreBm25(passages) as store:
            ranking = rank(store.score_block(asked, found), gold, len(passages), kept, done)
            trust = store.trust(asked)
    else:
        scores = Bm25(passages, corpus.passage_lang, system.stemming).score_block(asked)
        ranking = rank(scores, gold, len(passages), kept, done)
    # A passage that shares no word with the question is not found by it.
    return Part(_leave_out(ranking, ranking.candidate_scores <= 0), weight, "bm25", trust)


def _by_vectors(
    system: System,
    model: TextModel,
    corpus: Corpus,
    questions: list[Question],
    depth: int,
    cache: Path,
    watcher: Watcher,
) -> Ranking:
    done = watcher.step("encoding", len(corpus.passages) + len(questions))
    asked, passages = [
        cached_vectors(model, [t.text for t in texts], cache, prefix=prefix, progress=done)
        for texts, prefix in ((questions, system.query_prefix), (corpus.passages, system.passage_prefix))
    ]
    done = watcher.step("ranking", len(questions) * len(corpus.passages))
    return rank_vectors(asked, passages, [question.gold for question in questions], system.metric, depth, done)
