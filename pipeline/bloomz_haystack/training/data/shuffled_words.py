"""Token counts -> random exchanges of words for others about as frequent: what is left to learn is how texts match.

A ranker that has seen each word in a few domains alone ranks by what words stood for there. Where every word of a grid
is exchanged, the same one for the same one in questions and passages, nothing helps but matching, in any domain.
Domain randomisation: Tobin et al., arXiv 1703.06907. Knows nothing of rows or of models.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from haystack_integrations.common.bloomz.tokens import TokenIds

KEPT = 300  # most frequent tokens, which stay: articles, question words, marks, digits
BAND = 500  # a token is exchanged for one of at most so many ranks more or less frequent


class ShuffledWords:
    """Draws exchanges."""

    def __init__(self, texts: Sequence[TokenIds], vocabulary: int, special: int) -> None:
        """Count.

        :param texts: of the passages.
        :param vocabulary: V.
        :param special: tokens from 0 that are never exchanged.
        """
        counts = np.bincount(np.concatenate(texts), minlength=vocabulary).astype(np.float64)
        counts[:special] = np.inf
        self._by_rank = np.argsort(-counts, kind="stable")[max(KEPT, special) :]
        self._same = np.arange(vocabulary)

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw an exchange.

        :param rng: of the step.
        :returns: (V,) the token that stands for each; each stands for one.
        """
        ranks = np.arange(len(self._by_rank))
        moved = np.argsort(ranks + rng.uniform(0, BAND, len(ranks)))
        exchange = self._same.copy()
        exchange[self._by_rank] = self._by_rank[moved]
        return exchange
