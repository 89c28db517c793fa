"""A `Ranking` and a `Ranker` -> the ranking after it, and the probability it gives to each right passage.

Knows nothing of figures and files of results.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.corpora.corpora import Corpus, Question
from bloomz_haystack.benchmark.run.first_stage import Watcher
from bloomz_haystack.benchmark.run.ranking import Ranking, rerank
from bloomz_haystack.benchmark.systems.cross_encoders import CrossEncoder
from haystack_integrations.common.bloomz.scorer import probabilities, with_score_prior, with_score_share


class Reranked(NamedTuple):
    """A ranking, and probabilities (Q,) float64: of the right passage, NaN where it was not seen; of the first one."""

    ranking: Ranking
    probability: npt.NDArray[np.float64]
    top: npt.NDArray[np.float64]


def rerank_passages(
    ranker: CrossEncoder, ranking: Ranking, corpus: Corpus, questions: list[Question], candidates: int, watcher: Watcher
) -> Reranked:
    """Let a cross-encoder reorder the first candidates of each question.

    Ordered by log-odds: the float32 probabilities of two good passages may both be 1.

    :param ranker: scores pairs.
    :param ranking: of the first stage, with at least that many candidates; their scores are the prior, if the ranker
        has one. What the first stage did not find, at minus infinity, counts as a score of 0.
    :param corpus: gives the passages.
    :param questions: Q of them, those of the ranking.
    :param candidates: K, how many passages of each question it sees.
    :param watcher: receives the progress.
    :returns: ranks and probabilities.
    :raises ModelNotAvailable: if the weights turn out to be broken.
    :raises ValueError: if a score is NaN or Inf.
    """
    seen = ranking.candidates[:, :candidates]
    passages = [[corpus.passages[place].text for place in places] for places in seen]
    done = watcher.step("reranking", seen.size)
    # All at once: what scores them computes a passage once for all its questions.
    alone = np.array(ranker.log_odds([question.text for question in questions], passages, done))
    scores = ranking.candidate_scores[:, :candidates]
    odds = with_score_prior(alone, np.where(np.isneginf(scores), 0, scores), ranker.score_prior)
    odds = with_score_share(odds) if ranker.score_share else odds
    gold = np.array([question.gold for question in questions])
    at_gold: npt.NDArray[np.bool_] = np.equal(seen, gold[:, None])
    own = probabilities(odds)[np.arange(len(gold)), at_gold.argmax(1)]
    right = np.where(at_gold.any(1), own, np.nan)
    return Reranked(rerank(ranking, gold, odds), right, probabilities(odds.max(1)).astype(np.float64))
