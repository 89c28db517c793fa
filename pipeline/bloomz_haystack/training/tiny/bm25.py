"""Token ids of passages and questions -> BM25 scores, for hard negatives that share words and no answer."""

from collections.abc import Sequence

import numpy as np
import torch

from haystack_integrations.common.bloomz.tokens import TokenIds

K1, B = 1.5, 0.75


class TokenBm25:
    """BM25 of P passages, tokens in place of words: the scores of bm25s, which would add up in another order.

    Own code because of that order: equal scores decide which negatives a ranker is trained on, and a run must give the
    same weights again. It also runs on the GPU that trains.
    Source: Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with Lucene's idf.
    """

    def __init__(self, passages: Sequence[TokenIds], device: torch.device) -> None:
        """Count tokens.

        :param passages: token ids of each.
        :param device: of the scores.
        """
        held = [np.unique(ids, return_counts=True) for ids in passages]
        tokens, counts = (np.concatenate(parts) for parts in zip(*held, strict=True))
        passage = np.repeat(np.arange(len(passages)), [len(kinds) for kinds, _ in held])
        lengths = np.asarray([len(ids) for ids in passages])
        frequency = np.bincount(tokens)
        idf = np.log(1 + (len(passages) - frequency + 0.5) / (frequency + 0.5))
        shares = counts * (K1 + 1) / (counts + K1 * (1 - B + B * lengths / lengths.mean())[passage])
        self._weights = (
            torch.sparse_coo_tensor(
                torch.from_numpy(np.stack([passage, tokens])),
                torch.from_numpy((idf[tokens] * shares).astype(np.float32)),
                (len(passages), len(frequency)),
                check_invariants=False,  # explicit, or torch warns that it does not check
            )
            .coalesce()
            .to(device)
        )

    def scores(self, questions: Sequence[TokenIds]) -> torch.Tensor:
        """Return the score of every passage for each question.

        :param questions: token ids of each of B.
        :returns: (B, P) float32.
        """
        asked = torch.zeros(self._weights.shape[1], len(questions))
        for place, ids in enumerate(questions):
            known = np.asarray(ids)[np.asarray(ids) < len(asked)]
            asked[known, place] = 1.0
        return torch.sparse.mm(self._weights, asked.to(self._weights.device)).T
