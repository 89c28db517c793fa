"""Vectors and scores -> the loss of a step. Knows nothing of models or data."""

import torch
import torch.nn.functional as F

MAX_LOGIT_SCALE = 100.0  # as CLIP clamps it


def info_nce(
    questions: torch.Tensor,
    passages: torch.Tensor,
    logit_scale: torch.Tensor,
    passage_groups: torch.Tensor,
    *,
    symmetric: bool = False,
) -> torch.Tensor:
    """Contrast each question's own passage with the other passages of the batch.

    :param questions: (B, H) vectors, of any length.
    :param passages: (B, H) vectors, row i answering question i.
    :param logit_scale: () logarithm of 1/temperature, trainable; the scale is clamped at 100.
    :param passage_groups: (B,) int64; passages of the same group hold the same text and are no negatives of each other.
    :param symmetric: average with the loss passage -> question.
    :returns: () mean cross-entropy, in nats.
    Source: arXiv 2103.00020, section 2.3.
    """
    scale = logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
    logits = scale * F.normalize(questions, dim=-1) @ F.normalize(passages, dim=-1).T  # (B, B)
    same = passage_groups[:, None] == passage_groups[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, target)
    return (loss + F.cross_entropy(logits.T, target)) / 2 if symmetric else loss


def pair_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy on two labels, pair by pair.

    :param logits: (B, 2).
    :param labels: (B,) int64, 1 for a context that answers the question.
    :returns: () mean, in nats.
    Source: model card of cmarkea/bloomz-560m-reranking.
    """
    return F.cross_entropy(logits, labels)
