"""Scores -> the rank of the right passage, and its mean reciprocal: the figures of a validation.

A passage that scores as high as the right one counts as ranked before it. `benchmark/figures` gives ties their fair
share instead, and corrects for rounding, which needs the vectors: here one run is compared with itself.
"""

import torch
from torch.nn.functional import normalize


def worst_ranks(scores: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return the rank of the right passage of each question.

    :param scores: (..., P), higher is better; the right passage is one of the P.
    :param own: (...) the score of the right passage.
    :returns: (...) int64, from 1; of equal scores the right one comes last.
    """
    return (scores >= own[..., None]).sum(-1)


def cosine_mrr(questions: torch.Tensor, passages: torch.Tensor) -> float:
    """Return the mean reciprocal rank of passage i for question i among all passages, by cosine.

    :param questions: (Q, H).
    :param passages: (Q, H).
    :returns: 0 to 1.

    >>> cosine_mrr(torch.eye(2), torch.eye(2)), cosine_mrr(torch.eye(2), torch.ones(2, 2))
    (1.0, 0.5)
    """
    scores = normalize(questions, dim=-1) @ normalize(passages, dim=-1).T
    return float((1 / worst_ranks(scores, scores.diagonal())).mean())
