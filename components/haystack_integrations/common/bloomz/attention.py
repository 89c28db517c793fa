"""Causal ALiBi attention over a packed batch: the one place where an implementation is chosen.

Enters: the fused projections of a layer, (T, N, 3, D). Leaves: (T, N, D). A text attends to itself only.

ALiBi adds slope * key position to the scores; what is constant along a row leaves softmax unchanged, so the position of
the query is not needed. Source: arXiv 2108.12409; transformers `build_alibi_tensor`.
"""

import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F

from haystack_integrations.common.bloomz.packing import PackedBatch, Run

Implementation = Literal["alibi_feature", "alibi_bias", "alibi_varlen"]


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


def choose_implementation(dtype: torch.dtype, device: torch.device) -> Implementation:
    """Name the implementation for a dtype and a device.

    :param dtype: of the projections.
    :param device: where they are.
    :returns: `alibi_feature` in float32, where the position survives as one number; `alibi_varlen`, one call for
        the whole batch, in 16 bits on a GPU with flash attention (Ampere or later); `alibi_bias` in 16 bits
        elsewhere, where a kernel may round the scores, and a position of 2,048 with them: there the bias is relative,
        exact near the query.
    """
    if dtype in (torch.float32, torch.float64):
        return "alibi_feature"
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "alibi_varlen" if ampere and flash_attention() is not None else "alibi_bias"


@cache
def flash_attention() -> Callable[..., Any] | None:
    """Return torch's attention over texts of any length; looked up at first use: its import takes as long as torch's.

    :returns: None before torch 2.11, which has none that knows a window.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


def packed_attention(
    fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor, implementation: Implementation | None = None
) -> torch.Tensor:
    """Causal ALiBi attention of each text over itself.

    :param fused: (T, N, 3, D) queries, keys, values, as Bloom's query_key_value gives them.
    :param batch: where each text starts and ends.
    :param slopes: (N,) float32.
    :param implementation: force one; by default `choose_implementation` decides.
    :returns: (T, N, D), same dtype.
    """
    attend = _IMPLEMENTATIONS[implementation or choose_implementation(fused.dtype, fused.device)]
    return attend(fused, batch, slopes)


def _with_feature(fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Attend text by text, equal lengths together; the fast causal kernel needs no mask."""
    head_dim = fused.shape[-1]
    padded = _carry_positions(fused, batch, slopes)
    # split, not slices: the backward of a slice allocates zeros for the whole pack, once a text
    outputs = [
        F.scaled_dot_product_attention(*_heads(rows, run), is_causal=True, scale=1 / math.sqrt(head_dim))
        for rows, run in zip(padded.split([run.tokens for run in batch.runs]), batch.runs, strict=True)
    ]
    return _rows(outputs)[..., :head_dim]


def _with_varlen(fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Attend to all texts in one call of flash attention, which adds scores in float32 but knows no ALiBi."""
    head_dim, ends, longest = fused.shape[-1], batch.cu_seqlens, batch.max_seqlen
    query, key, value = _carry_positions(fused, batch, slopes).unbind(2)  # 3 x (T, N, D + 8)
    causal = (-1, 0)
    scale = 1 / math.sqrt(head_dim)
    attend = flash_attention()
    assert attend is not None, "choose_implementation names this way only where there is one"
    return attend(query, key, value, ends, ends, longest, longest, scale=scale, window_size=causal)[..., :head_dim]


def _carry_positions(fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Carry slope * position as more features of the keys, each against a one in the query.

    One number in float32; in 16 bits three, each what the ones before it left over: together they keep 24 bits, and
    their products are added up in float32.
    """
    head_dim = fused.shape[-1]
    features = 1 if fused.dtype in (torch.float32, torch.float64) else 3
    padded = F.pad(fused, (0, features + -(head_dim + features) % 8))  # the kernels want a multiple of 8
    left = batch.positions[:, None] * slopes * math.sqrt(head_dim)  # (T, N), times the kernel's 1/sqrt(D)
    for place in range(head_dim, head_dim + features):
        padded[:, :, 0, place] = 1.0
        padded[:, :, 1, place] = left
        left = left - left.to(fused.dtype)
    return padded


def _with_bias(fused: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Add slope * (key position - query position), with the causal mask, as an explicit bias."""
    outputs = []
    for rows, run in zip(fused.split([run.tokens for run in batch.runs]), batch.runs, strict=True):
        place = torch.arange(run.length, device=fused.device, dtype=torch.float32)
        distance = place[None, :] - place[:, None]  # (L, L), 0 on the diagonal, negative before
        bias = (slopes[:, None, None] * distance).masked_fill(distance > 0, -torch.inf)  # (N, L, L)
        outputs.append(F.scaled_dot_product_attention(*_heads(rows, run), attn_mask=bias.to(fused.dtype)))
    return _rows(outputs)


_IMPLEMENTATIONS: dict[Implementation, Callable[[torch.Tensor, PackedBatch, torch.Tensor], torch.Tensor]] = {
    "alibi_feature": _with_feature,
    "alibi_bias": _with_bias,
    "alibi_varlen": _with_varlen,
}


def _heads(rows: torch.Tensor, run: Run) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query, key, value = rows.unflatten(0, run).permute(3, 0, 2, 1, 4)  # 3 x (count, N, L, D)
    return query, key, value


def _rows(outputs: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([output.transpose(1, 2).flatten(0, 1) for output in outputs])  # (T, N, D)
