"""Question and contexts -> log-odds of relevance, with the cross-encoder.

The context comes first and the question second, joined without a separator of ours; the score is read at the last
token. Source: model card of cmarkea/bloomz-560m-reranking. Knows nothing of Haystack.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .checkpoint import Checkpoint, CheckpointError, positive_label
from .encoder import Progress, Vectors, last_states_in_batches, warn_truncated
from .tokens import TokenIds, tokenize_pairs


class Scorer:
    """Score (context, question) pairs with a checkpoint opened for "rank"."""

    def __init__(self, checkpoint: Checkpoint, *, max_length: int | None = None, batch_tokens: int = 2048) -> None:
        """Read the head.

        :param checkpoint: weights and tokenizer.
        :param max_length: tokens kept of a pair, the cut falling on the context; None takes the checkpoint's own.
        :param batch_tokens: tokens computed together.
        :raises CheckpointError: if the head holds a value that is not finite.
        """
        self.checkpoint = checkpoint
        self.max_length = max_length if max_length is not None else checkpoint.max_length
        self.batch_tokens = batch_tokens
        head = checkpoint.model.score.weight.detach().float().cpu().numpy()  # (2, H)
        positive = positive_label(checkpoint.model.config)
        self._direction = head[positive] - head[1 - positive]  # (H,): Bloom's head has no bias
        if not np.isfinite(self._direction).all():
            raise CheckpointError(
                f"the classification head of {checkpoint.name!r} is not finite: its weights are broken"
            )
        self._pad_token = checkpoint.model.config.pad_token_id

    def score(self, question: str, contexts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Score the contexts of one question.

        :param question: never cut.
        :param contexts: K contexts; the end of one that is too long is cut.
        :param progress: called with the number of pairs done, after each batch.
        :returns: (K,) float32 log-odds, logit of relevance minus the other logit; ``probabilities`` maps them to 0..1.
        """
        return self.score_pairs([(context, question) for context in contexts], progress=progress)

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, progress: Progress | None = None) -> Vectors:
        """Score pairs of any questions.

        :param pairs: B pairs (context, question).
        :param progress: called with the number of pairs done, after each batch.
        :returns: (B,) float32 log-odds, in the order of the pairs.
        :raises ValueError: if a question alone fills ``max_length``.
        :raises FloatingPointError: if the model gives a value that is not finite.
        """
        tokens = tokenize_pairs(
            self.checkpoint.tokenizer, pairs, max_length=self.max_length, empty_token=self.checkpoint.empty_token
        )
        warn_truncated(tokens.truncated, len(pairs), "contexts", self.max_length)
        log_odds = np.empty(len(pairs), dtype=np.float32)
        token_ids = [self._pooled_part(ids) for ids in tokens.token_ids]
        for places, states in last_states_in_batches(self.checkpoint, token_ids, self.batch_tokens):
            log_odds[places] = states @ self._direction
            if progress:
                progress(len(places))
        return log_odds

    def _pooled_part(self, ids: TokenIds) -> TokenIds:
        """Cut at the rightmost token that is not padding: there ``BloomForSequenceClassification`` reads its score.

        Attention is causal, so what comes after that token changes nothing.
        """
        if self._pad_token is None or ids[-1] != self._pad_token:
            return ids
        real = np.flatnonzero(ids != self._pad_token)
        return ids[: real[-1] + 1] if len(real) else ids[:1]


def probabilities(log_odds: Vectors) -> npt.NDArray[np.float64]:
    """Softmax probability of the positive label: the logistic function of the log-odds.

    :param log_odds: (K,) float32.
    :returns: (K,) float64 in 0..1.

    >>> probabilities(np.array([0.0], dtype=np.float32)).tolist()
    [0.5]
    """
    # tanh form: no overflow at any log-odds
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds.astype(np.float64)))
