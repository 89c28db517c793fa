"""Token counts -> random exchanges of words for others about as frequent: what is left to learn is how texts match.

A ranker that has seen each word in few domains ranks by what words meant there. Where every word of a grid is
exchanged, consistently in questions and passages, nothing helps but matching, in any domain.
Domain randomisation: Tobin et al., arXiv 1703.06907. Knows nothing of rows or of models.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from haystack_integrations.common.bloomz.tokens import TokenIds

KEPT = 300  # most frequent tokens, which stay: articles, question words, marks, digits
BAND = 500  # a token is exchanged for one of at most so many ranks more or less frequent


class WordExchange:
    """Draws exchanges of words."""

    def __init__(self, texts: Sequence[TokenIds], vocabulary: int, special: int) -> None:
        """Count tokens.

        :param texts: of the passages.
        :param vocabulary: V.
        :param special: tokens from 0 that are never exchanged.
        """
        counts = np.bincount(np.concatenate(texts), minlength=vocabulary).astype(np.float64)
        counts[:special] = np.inf
        self._by_rank = np.argsort(-counts, kind="stable")[max(KEPT, special) :]
        self._same = np.arange(vocabulary)

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return a random exchange.

        :param rng: of the step.
        :returns: (V,) the token that replaces each one; a permutation.
        """
        ranks = np.arange(len(self._by_rank))
        moved = np.argsort(ranks + rng.uniform(0, BAND, len(ranks)))
        exchange = self._same.copy()
        exchange[self._by_rank] = self._by_rank[moved]
        return exchange
