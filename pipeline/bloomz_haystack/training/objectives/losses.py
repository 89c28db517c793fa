"""Vectors and scores -> the loss of a step. Knows nothing of models or data."""

import torch
import torch.nn.functional as F


def info_nce(
    questions: torch.Tensor,
    passages: torch.Tensor,
    logit_scale: torch.Tensor,
    passage_groups: torch.Tensor,
    *,
    symmetric: bool = False,
) -> torch.Tensor:
    """Contrast each question's own passage with all other passages of the batch.

    :param questions: (B, H) vectors, of any length.
    :param passages: (P, H) vectors, P >= B; row i < B answers question i, the others are hard negatives.
    :param logit_scale: () logarithm of 1/temperature, trainable.
    :param passage_groups: (P,) int64; passages of the same group hold the same text: a question's own passage is no
        negative of it, wherever else it stands in the batch.
    :param symmetric: average with the loss passage -> question, of the first B passages.
    :returns: () mean cross-entropy, in nats.
    Source: arXiv 2103.00020, section 2.3.
    """
    own = torch.arange(len(questions), device=questions.device)
    logits = logit_scale.exp() * F.normalize(questions, dim=-1) @ F.normalize(passages, dim=-1).T  # (B, P)
    same = passage_groups[own][:, None] == passage_groups[None, :]
    same[own, own] = False
    logits = logits.masked_fill(same, -torch.inf)
    loss = F.cross_entropy(logits, own)
    return (loss + F.cross_entropy(logits[:, own].T, own)) / 2 if symmetric else loss


def pair_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy on two labels, pair by pair.

    :param logits: (B, 2).
    :param labels: (B,) int64, 1 for a passage that answers the question.
    :returns: () mean, in nats.
    Source: model card of cmarkea/bloomz-560m-reranking.
    """
    return F.cross_entropy(logits, labels)


def listwise_cross_entropy(log_odds: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Contrast, for each question of a grid, the log-odds of its own passage with those of the other passages.

    :param log_odds: (..., n, n), question i being answered by passage i.
    :param known: (..., n, n) bool, False where a passage may answer too and is no negative; true on the diagonal.
    :returns: () mean cross-entropy, in nats.
    Source: arXiv 1904.09171 (softmax over the candidates of a question).
    """
    own = torch.arange(log_odds.shape[-1], device=log_odds.device).expand(log_odds.shape[:-1])
    logits = log_odds.masked_fill(~known, -torch.inf)
    return F.cross_entropy(logits.flatten(0, -2), own.flatten())
