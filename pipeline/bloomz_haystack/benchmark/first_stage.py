"""A ``System`` and a ``Corpus`` -> the ``Ranking`` of its passages for every question: BM25, vectors, or both fused.

Vectors are kept on disk between runs. Knows nothing of figures, rankers and files of results.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .bm25 import Bm25
from .corpora import Corpus, Question
from .ranking import Ranking, fuse, rank, rank_vectors
from .systems import Choice, System
from .text_models import TextModel, open_text_model
from .vector_cache import cached_vectors

# How deep a hybrid looks into each of the systems it fuses; all of a SQuAD, a bounded memory on a large corpus.
FUSION_DEPTH = 2_000


class Watcher(Protocol):
    """Told how a row goes; a terminal shows it as a bar."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Begin a step of ``total`` units.

        :param name: what is done.
        :param total: units of work.
        :returns: to be told how many more units are done.
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
    :param watcher: told how it goes.
    :param device: as for ``choose_placement``.
    :param batch_tokens: tokens computed together.
    :returns: Q ranks, and the first ``depth`` passages of each question.
    :raises ModelNotAvailable: if the weights of a part cannot be had here.
    :raises ValueError: if vectors or scores hold NaN.
    """

    def of_part(part: System, kept: int) -> Ranking:
        if part.kind == "bm25":
            return _by_words(part, corpus, questions, kept, watcher)
        model = open_text_model(part, device, batch_tokens)
        try:
            return _by_vectors(part, model, corpus, questions, kept, cache, watcher)
        finally:
            model.close()

    if system.kind != "hybrid":
        return of_part(system, depth)
    rankings = [of_part(part, min(FUSION_DEPTH, len(corpus.passages))) for part in choice.parts(system)]
    done = watcher.step("fusing", len(questions) * len(corpus.passages))
    gold = [question.gold for question in questions]
    return rank(fuse(rankings, len(corpus.passages)), gold, len(corpus.passages), depth, done)


def _by_words(system: System, corpus: Corpus, questions: list[Question], depth: int, watcher: Watcher) -> Ranking:
    index = Bm25([passage.text for passage in corpus.passages], corpus.passage_lang, system.stemming)
    scores = index.score_block([question.text for question in questions])
    done = watcher.step("ranking", len(questions) * len(corpus.passages))
    return rank(scores, [question.gold for question in questions], len(corpus.passages), depth, done)


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
        cached_vectors(model, [t.text for t in texts], cache, ids=[t.id for t in texts], prefix=prefix, progress=done)
        for texts, prefix in ((questions, system.query_prefix), (corpus.passages, system.passage_prefix))
    ]
    done = watcher.step("ranking", len(questions) * len(corpus.passages))
    return rank_vectors(asked, passages, [question.gold for question in questions], system.metric, depth, done)
