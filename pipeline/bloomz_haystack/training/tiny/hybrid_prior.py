"""Questions and passages of a grid -> what a hybrid search would make of them: the prior beside a ranker's log-odds.

A ranker orders what words and vectors have found. Where its loss adds their scores to its log-odds, as `BloomzRanker`
does, it learns what they do not know. Knows nothing of rows or of rankers.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.nn.functional import normalize

from bloomz_haystack.training.tiny.bag import TokenBag
from bloomz_haystack.training.tiny.bm25 import K1, B
from haystack_integrations.common.bloomz.tokens import TokenIds

VECTOR_SHARE, WORD_SHARE = 0.6, 0.4  # shares of the two searches, as in the store's hybrid search


class HybridPrior:
    """Scores by a bag's vectors and by BM25 over tokens."""

    def __init__(self, bag: TokenBag, passages: Iterable[TokenIds], vocabulary: int) -> None:
        """Count the tokens of the passages.

        :param bag: retriever of the same tokens, on the device where scores are computed.
        :param passages: whose tokens' document frequencies count.
        :param vocabulary: V.
        """
        frequency, total = np.zeros(vocabulary), 0
        for ids in passages:
            frequency[np.unique(ids)] += 1
            total += 1
        self._bag = bag.requires_grad_(False)
        device = bag.vectors.weight.device
        self._idf = torch.from_numpy(np.log(1 + (total - frequency + 0.5) / (frequency + 0.5))).float().to(device)

    @torch.no_grad()
    def shortfall(
        self, questions: Sequence[TokenIds], passages: Sequence[TokenIds], size: int, exchanged: torch.Tensor
    ) -> torch.Tensor:
        """Return how far each score is below the best one of its question.

        :param questions: G x n token arrays.
        :param passages: as many, none empty.
        :param size: n, of each grid.
        :param exchanged: (G,) bool: grids whose words are exchanged, so that vectors say nothing.
        :returns: (G, n, n) 1 - score / best, 0..1, a question a row.
        """
        near, words = self._vectors(questions, passages, size), self._words(questions, passages, size)
        scores = WORD_SHARE * words + VECTOR_SHARE * near * ~exchanged[:, None, None]
        return 1 - scores / scores.amax(-1, keepdim=True).clamp(min=1e-6)

    def _vectors(self, questions: Sequence[TokenIds], passages: Sequence[TokenIds], size: int) -> torch.Tensor:
        vectors = self._bag([*questions, *passages])
        # The Bloom that a bag is written into ends with a layer norm.
        asked, found = normalize(vectors - vectors.mean(1, keepdim=True), dim=-1).unflatten(0, (2, -1, size))
        return (asked @ found.transpose(1, 2)).clamp(min=0)

    def _words(self, questions: Sequence[TokenIds], passages: Sequence[TokenIds], size: int) -> torch.Tensor:
        """BM25 over its best, times the share of the question, weighted by idf, that the best passage holds."""
        asked, counts = self._counts(questions).clamp(max=1), self._counts(passages)
        lengths = counts.sum(1, keepdim=True)
        shares = counts * (K1 + 1) / (counts + K1 * (1 - B + B * lengths / lengths.mean()))
        asked, shares, held = (
            each.unflatten(0, (-1, size)) for each in (asked * self._idf, shares, counts.clamp(max=1))
        )
        scores = asked @ shares.transpose(1, 2)
        best, place = scores.max(-1, keepdim=True)
        covered = (asked @ held.transpose(1, 2)).gather(-1, place) / asked.sum(-1, keepdim=True).clamp(min=1e-6)
        return covered * scores / best.clamp(min=1e-6)

    def _counts(self, texts: Sequence[TokenIds]) -> torch.Tensor:
        """(B, V) how often each text holds each token."""
        device = self._idf.device
        rows = torch.from_numpy(np.repeat(np.arange(len(texts)), [len(ids) for ids in texts])).to(device)
        tokens = torch.from_numpy(np.concatenate(texts)).to(device)
        counts = torch.zeros(len(texts), len(self._idf), device=device)
        return counts.index_put_((rows, tokens), torch.ones((), device=device), accumulate=True)
