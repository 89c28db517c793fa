"""Causal ALiBi attention over a packed batch: the one place where an implementation is chosen.

Enters: the fused projections of a layer, (T, N, 3, D). Leaves: (T, N, D). A text attends to itself only.

ALiBi adds slope * key position to the scores; what is constant along a row leaves softmax unchanged, so the position of
the query is not needed. Source: arXiv 2108.12409; transformers ``build_alibi_tensor``.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F

from .packing import PackedBatch, Run

Implementation = Literal["alibi_feature", "alibi_bias"]


def alibi_slopes(heads: int, device: torch.device) -> torch.Tensor:
    """Slope of each head: 2^(-8i/N), and the odd steps of 2N for the heads above a power of two.

    :param heads: N.
    :param device: where to put them.
    :returns: (N,) float32.
    Source: arXiv 2108.12409, section 3.

    >>> alibi_slopes(2, torch.device("cpu")).tolist()
    [0.0625, 0.00390625]
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    slopes += [2 ** (-4 * i / power) for i in range(1, 2 * (heads - power) + 1, 2)]
    return torch.tensor(slopes, dtype=torch.float32, device=device)


def choose_implementation(dtype: torch.dtype) -> Implementation:
    """Name the implementation for a dtype.

    :param dtype: of the projections.
    :returns: ``alibi_feature`` in float32, where the position survives as one number; ``alibi_bias`` below it, where a
        position of 2,048 would be rounded to 8 bits: there the bias is relative, exact near the query.
    """
    return "alibi_feature" if dtype in (torch.float32, torch.float64) else "alibi_bias"


def packed_attention(
    fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor, implementation: Implementation | None = None
) -> torch.Tensor:
    """Causal ALiBi attention of each text over itself.

    :param fused: (T, N, 3, D) queries, keys, values, as Bloom's query_key_value gives them.
    :param batch: where each text starts and ends.
    :param slopes: (N,) float32.
    :param implementation: force one; by default ``choose_implementation`` decides.
    :returns: (T, N, D), same dtype.
    """
    attend = _with_feature if (implementation or choose_implementation(fused.dtype)) == "alibi_feature" else _with_bias
    return attend(fused, batch, slopes)


def _with_feature(fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Carry slope * position as one more feature of the keys, so that the fast causal kernel needs no mask."""
    head_dim = fused.shape[-1]
    padded = F.pad(fused, (0, 8 - head_dim % 8))  # the kernel wants a multiple of 8; at least one feature is free
    padded[:, :, 0, head_dim] = math.sqrt(head_dim)  # times the kernel's 1/sqrt(D): one
    padded[:, :, 1, head_dim] = positions(batch, fused.device)[:, None] * slopes
    # split, not slices: the backward of a slice allocates zeros for the whole pack, once a text
    outputs = [
        F.scaled_dot_product_attention(*_heads(rows, run), is_causal=True, scale=1 / math.sqrt(head_dim))
        for rows, run in zip(padded.split([run.tokens for run in batch.runs]), batch.runs, strict=True)
    ]
    return _rows(outputs)[..., :head_dim]


def _with_bias(fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Add slope * (key position - query position), with the causal mask, as an explicit bias."""
    outputs = []
    for rows, run in zip(fused.split([run.tokens for run in batch.runs]), batch.runs, strict=True):
        place = torch.arange(run.length, device=fused.device, dtype=torch.float32)
        distance = place[None, :] - place[:, None]  # (L, L), 0 on the diagonal, negative before
        bias = (slopes[:, None, None] * distance).masked_fill(distance > 0, -torch.inf)  # (N, L, L)
        outputs.append(F.scaled_dot_product_attention(*_heads(rows, run), attn_mask=bias.to(fused.dtype)))
    return _rows(outputs)


def positions(batch: PackedBatch, device: torch.device) -> torch.Tensor:
    """Place of each token in its own text, from 0.

    :param batch: the packed batch.
    :param device: where to put them.
    :returns: (T,) float32.
    """
    rows = [torch.arange(run.length, dtype=torch.float32).repeat(run.count) for run in batch.runs]
    return torch.cat(rows).to(device)


def _heads(rows: torch.Tensor, run: Run) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query, key, value = rows.unflatten(0, run).permute(3, 0, 2, 1, 4)  # 3 x (count, N, L, D)
    return query, key, value


def _rows(outputs: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([output.transpose(1, 2).flatten(0, 1) for output in outputs])  # (T, N, D)
