"""Question and contexts -> log-odds of relevance, with the cross-encoder.

The context comes first and the question second, joined without a separator of ours; the score is read at the last
token. Source: model card of cmarkea/bloomz-560m-reranking. Knows nothing of Haystack.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from haystack_integrations.common.bloomz.batches import (
    Places,
    Progress,
    Vectors,
    last_states_in_batches,
    warn_truncated,
)
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, CheckpointError, positive_label
from haystack_integrations.common.bloomz.prefix_cache.batches import Pieces, PrefixBatches, PrefixSettings
from haystack_integrations.common.bloomz.tokens import TokenIds, TokenizedPairs, tokenize_contexts, tokenize_pairs

logger = logging.getLogger(__name__)


class Scorer:
    """Score (context, question) pairs with a checkpoint opened for "rank"."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_length: int | None = None,
        batch_tokens: int = 2048,
        prefix_settings: PrefixSettings | None = None,
        cut_questions: bool = True,
    ) -> None:
        """Read the head.

        :param checkpoint: weights and tokenizer.
        :param max_length: tokens kept of a pair, the cut falling on the context first; None takes the checkpoint's own.
        :param batch_tokens: tokens computed together.
        :param prefix_settings: keep what contexts gave, for the next question; None keeps nothing.
        :param cut_questions: whether a question too long for the model loses its end; False raises.
        :raises CheckpointError: if the head holds a value that is not finite.
        :raises ValueError: if the folder of the prefix cache cannot be made.
        """
        self.checkpoint = checkpoint
        self.max_length = max_length if max_length is not None else checkpoint.max_length
        self.batch_tokens = batch_tokens
        self.cut_questions = cut_questions
        head = checkpoint.model.score.weight.detach().float().cpu().numpy()  # (2, H)
        positive = positive_label(checkpoint.model.config)
        self._direction = head[positive] - head[1 - positive]  # (H,): Bloom's head has no bias
        if not np.isfinite(self._direction).all():
            raise CheckpointError(
                f"the classification head of {checkpoint.name!r} is not finite: its weights are broken"
            )
        self.score_prior = score_prior_of(checkpoint.model.config)
        self.recommended_threshold = recommended_threshold_of(checkpoint.model.config)
        self.score_share = score_share_of(checkpoint.model.config)
        self._pad_token = checkpoint.model.config.pad_token_id
        self.prefixes = PrefixBatches(checkpoint, batch_tokens, prefix_settings) if prefix_settings else None

    def score(self, question: str, contexts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Score the contexts of one question.

        :param question: one too long loses its end, as far as a context keeps its quarter.
        :param contexts: K contexts; the end of one that is too long is cut.
        :param progress: called with the number of pairs done, after each batch.
        :returns: (K,) float32 log-odds, logit of relevance minus the other logit; `probabilities` maps them to 0..1.
        """
        return self.score_pairs([(context, question) for context in contexts], progress=progress)

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, progress: Progress | None = None) -> Vectors:
        """Score pairs of any questions.

        :param pairs: B pairs (context, question).
        :param progress: called with the number of pairs done, after each batch.
        :returns: (B,) float32 log-odds, in the order of the pairs.
        :raises ValueError: if a question is too long and `cut_questions` is False.
        :raises FloatingPointError: if the model gives a value that is not finite.
        """
        tokens = tokenize_pairs(
            self.checkpoint.tokenizer,
            pairs,
            max_length=self.max_length,
            empty_token=self.checkpoint.empty_token,
            cut_questions=self.cut_questions,
        )
        self._warn_truncated(tokens)
        log_odds = np.empty(len(pairs), dtype=np.float32)
        for places, states in self._last_states(tokens):
            log_odds[places] = states @ self._direction
            if progress:
                progress(len(places))
        return log_odds

    def warm_prefixes(self, contexts: Sequence[str], *, progress: Progress | None = None) -> None:
        """Fill the prefix cache before any question is asked.

        :param contexts: B texts; one that is too long loses its end.
        :param progress: called with the number of contexts done, after each batch.
        :raises ValueError: if there is no prefix cache.
        """
        if self.prefixes is None:
            raise ValueError("there is no prefix cache to warm: set prefix_cache to a number of bytes, as '2GB'")
        ids = tokenize_contexts(self.checkpoint.tokenizer, contexts, max_length=self.max_length)
        filled = [one for one in ids if len(one)]
        if progress:
            progress(len(ids) - len(filled))
        self.prefixes.warm(filled, progress)

    def _warn_truncated(self, tokens: TokenizedPairs) -> None:
        """Log one warning per call about truncated texts."""
        if tokens.truncated_questions:
            total, questions = len(tokens.token_ids), tokens.truncated_questions
            logger.warning(
                "%s too long to be ranked within %d tokens and lost %s end%s",
                "the question was" if questions == 1 else f"{questions} questions were",
                self.max_length,
                "its" if questions == 1 else "their",
                f", as did {tokens.truncated} of {total} contexts" if tokens.truncated else "",
            )
        else:
            warn_truncated(tokens.truncated, len(tokens.token_ids), "contexts", self.max_length)

    def _last_states(self, tokens: TokenizedPairs) -> Iterator[tuple[Places, Vectors]]:
        """Run through the prefix cache what has a context and, before the padding, a question; the rest whole."""
        token_ids = [self._pooled_part(ids) for ids in tokens.token_ids]
        if self.prefixes is None:
            yield from last_states_in_batches(self.checkpoint, token_ids, self.batch_tokens)
            return
        in_two = np.asarray([0 < kept < len(ids) for kept, ids in zip(tokens.kept, token_ids, strict=True)], dtype=bool)
        whole, split = np.flatnonzero(~in_two), np.flatnonzero(in_two)
        for places, states in last_states_in_batches(self.checkpoint, [token_ids[i] for i in whole], self.batch_tokens):
            yield whole[places], states
        texts = [Pieces(tokens.contexts[i], tokens.kept[i], token_ids[i][tokens.kept[i] :]) for i in split]
        for places, states in self.prefixes.last_states(texts):
            yield split[places], states

    def _pooled_part(self, ids: TokenIds) -> TokenIds:
        """Cut at the rightmost token that is not padding: there `BloomForSequenceClassification` reads its score.

        Attention is causal, so what comes after that token changes nothing.
        """
        if self._pad_token is None or ids[-1] != self._pad_token:
            return ids
        real = np.flatnonzero(ids != self._pad_token)
        return ids[: real[-1] + 1] if len(real) else ids[:1]


def score_prior_of(config: Any) -> float:  # noqa: ANN401
    """Return how much the first stage's scores count beside a ranker, as its configuration says (`score_prior`).

    :param config: of the checkpoint.
    :returns: the weight; 0 where nothing is said, as by the published rerankers.
    :raises CheckpointError: if it is not a number >= 0.
    """
    weight = getattr(config, "score_prior", None)
    if weight is None:
        return 0.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise CheckpointError(f"score_prior in config.json must be a number >= 0, but got {weight!r}")
    return float(weight)


def score_share_of(config: Any) -> bool:  # noqa: ANN401
    """Return whether a ranker's probabilities are shares among the candidates, as its configuration says.

    :param config: of the checkpoint; `score_share` in it.
    :returns: False where nothing is said, as by the published rerankers.
    :raises CheckpointError: if it is neither true nor false.
    """
    share = getattr(config, "score_share", None)
    if share is not None and not isinstance(share, bool):
        raise CheckpointError(f"score_share in config.json must be true or false, but got {share!r}")
    return bool(share)


def recommended_threshold_of(config: Any) -> float | None:  # noqa: ANN401
    """Return the score below which a ranker's author would drop a passage (`score_threshold`); never applied silently.

    :param config: of the checkpoint.
    :returns: a probability; None where nothing is said, as by the published rerankers.
    :raises CheckpointError: if it is not a number from 0 to 1.
    """
    threshold = getattr(config, "score_threshold", None)
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise CheckpointError(f"score_threshold in config.json must be a number from 0 to 1, but got {threshold!r}")
    return float(threshold)


def with_score_prior(log_odds: Vectors, scores: npt.NDArray[np.floating], weight: float) -> Vectors:
    """Lower log-odds by weight * (1 - score / best), a score below 0 counting as 0: the first stage is the prior.

    A small ranker and the stage before it know different things. Only ratios of scores count: cosines, BM25 and fused
    scores need no scale of their own. Where best <= 0 there is no ratio, and nothing is lowered.

    :param log_odds: (..., K) float32, of the ranker.
    :param scores: (..., K), finite, of the first stage, higher is better; best is the highest of the K.
    :param weight: 0 leaves the log-odds as they are; with 6, a score 10 % below the best divides the odds by e ** 0.6.
    :returns: (..., K) float32.
    Source: measured in `benchmark/RESULTS.md`.

    >>> with_score_prior(np.zeros(3, dtype=np.float32), np.array([0.25, 0.5, -0.5]), 6.0).tolist()
    [-3.0, 0.0, -6.0]
    """
    exact = scores.astype(np.float64).clip(min=0.0)
    best = exact.max(-1, keepdims=True, initial=0.0)  # (..., 1), 0 where none is above it
    shortfall = 1 - np.divide(exact, best, out=np.ones_like(exact), where=best > 0)
    return log_odds - (weight * shortfall).astype(np.float32)


def with_score_share(log_odds: Vectors) -> Vectors:
    """Return log-odds of the softmax over the candidates and "none of them", whose own log-odds are 0.

    One candidate keeps its log-odds, bad ones among bad ones nearly theirs, and no rank changes; what falls is the best
    of several that are about as good. The probabilities of a list sum to less than 1.

    :param log_odds: (..., K) float32, of the candidates of a question.
    :returns: (..., K) float32: each lowered by log(1 + sum of exp of the others).
    Source: measured in `benchmark/RESULTS.md`.

    >>> probabilities(with_score_share(np.array([0.0, 0.0], dtype=np.float32))).round(3).tolist()
    [0.333, 0.333]
    """
    exact = log_odds.astype(np.float64)
    none = np.zeros_like(exact[..., :1])
    # Sums from either side, each without its own: no difference of large numbers.
    before = np.logaddexp.accumulate(np.concatenate([none, exact], axis=-1), axis=-1)[..., :-1]
    after = np.logaddexp.accumulate(exact[..., :0:-1], axis=-1)[..., ::-1]
    after = np.concatenate([after, np.full_like(none, -np.inf)], axis=-1)[..., : exact.shape[-1]]
    return (exact - np.logaddexp(before, after)).astype(np.float32)


def probabilities(log_odds: Vectors) -> npt.NDArray[np.float64]:
    """Softmax probability of the positive label: the logistic function of the log-odds.

    :param log_odds: (K,) float32.
    :returns: (K,) float64 in 0..1.

    >>> probabilities(np.array([0.0], dtype=np.float32)).tolist()
    [0.5]
    """
    # tanh form: no overflow at any log-odds
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds.astype(np.float64)))
