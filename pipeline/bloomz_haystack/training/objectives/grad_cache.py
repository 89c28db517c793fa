"""Texts and a loss over all of them -> gradients, in the memory of a few texts.

A contrastive loss needs the vectors of the whole batch at once, but their activations do not fit. So: compute all
vectors without activations; take the loss and its gradient with respect to the vectors; compute each chunk again, with
activations, and pass its part of that gradient on. The result is the plain gradient (arXiv 2101.06983), whatever the
size of a chunk and the number of processes that share them. Knows nothing of what the loss is.
"""

from collections.abc import Callable, Sequence, Sized
from typing import Any

import torch

from bloomz_haystack.training.team import Team
from haystack_integrations.common.bloomz.packing import plan_batches

Compute = Callable[[Sequence[Any]], torch.Tensor]  # n texts -> (n, K), with gradients


def compute_in_chunks(
    compute: Compute, texts: Sequence[Sized], width: int, chunk_tokens: int, team: Team
) -> torch.Tensor:
    """Compute the outputs of all texts, without gradients, each process some of the chunks.

    :param compute: the model.
    :param texts: n texts, whose length is their tokens, the same on every process.
    :param width: K.
    :param chunk_tokens: tokens computed together.
    :param team: the processes.
    :returns: (n, K) float32, the same on every process.
    """
    with torch.no_grad():
        chunks = _own_chunks(texts, chunk_tokens, team)
        return _gathered([compute([texts[i] for i in chunk]) for chunk in chunks], chunks, (len(texts), width), team)


def backward(
    compute: Compute,
    loss: Callable[[torch.Tensor], torch.Tensor],
    texts: Sequence[Sized],
    width: int,
    chunk_tokens: int,
    team: Team,
    *,
    cached: bool = True,
) -> torch.Tensor:
    """Add the gradients of the loss to the parameters behind `compute` and `loss`.

    Those behind `compute` are this process's part and still have to be summed; those behind `loss` are whole.

    :param compute: the model; it must give the same numbers twice (no dropout).
    :param loss: (n, K) outputs of all texts -> ().
    :param texts: n texts, the same on every process.
    :param width: K.
    :param chunk_tokens: tokens computed together.
    :param team: the processes.
    :param cached: compute each chunk twice and keep the activations of one; False keeps those of all.
    :returns: () the loss, without gradient.
    """
    chunks = _own_chunks(texts, chunk_tokens, team)
    with torch.set_grad_enabled(not cached or len(chunks) == 1):  # a single chunk is kept: nothing to save
        parts = [compute([texts[i] for i in chunk]) for chunk in chunks]
    outputs = _gathered([part.detach() for part in parts], chunks, (len(texts), width), team).requires_grad_()
    value = loss(outputs)
    if torch.isfinite(value):
        value.backward()
        assert outputs.grad is not None
        for place, chunk in enumerate(chunks):
            part = parts[place] if parts[place].requires_grad else compute([texts[i] for i in chunk])
            part.backward(outputs.grad[chunk])
            parts[place] = part.detach()  # frees its activations
    return value.detach()


def _own_chunks(texts: Sequence[Sized], chunk_tokens: int, team: Team) -> list[list[int]]:
    return plan_batches([len(ids) for ids in texts], chunk_tokens)[team.rank :: team.size]


def _gathered(
    parts: Sequence[torch.Tensor], chunks: Sequence[Sequence[int]], shape: tuple[int, int], team: Team
) -> torch.Tensor:
    outputs = torch.zeros(shape, device=team.device)
    for part, chunk in zip(parts, chunks, strict=True):
        outputs[chunk] = part.float()
    team.sum([outputs])
    return outputs
