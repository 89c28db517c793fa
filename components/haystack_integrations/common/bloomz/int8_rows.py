"""Rows of float32 -> whole numbers, and the way back: one scale and one floor a row, found as the row comes.

Two ways to the same numbers: torch's fused operator, one pass over the rows where the processor multiplies bytes
without loss, and the plain one, the reference, for any number of levels. They differ only where a number lies halfway
between two integers.
"""

from functools import cache
from typing import NamedTuple

import torch

from haystack_integrations.common.bloomz.int8_kernels import input_levels

TINY = 1e-30  # a row of zeros needs a scale too
FUSED_LEVELS = 255  # what the fused operator rounds to
FUSED_BYTES = 8  # it writes scale and floor behind each row
FLOAT_BYTES = 4


class WholeNumbers(NamedTuple):
    """Rows as `lowest + steps * whole`: `whole` (..., in) uint8 or float32, the others (..., 1) float32."""

    whole: torch.Tensor
    steps: torch.Tensor
    lowest: torch.Tensor

    def rounded(self) -> torch.Tensor:
        """Return (..., in), the rows that the whole numbers stand for."""
        return (self.whole * self.steps).add_(self.lowest)


def whole_numbers(rows: torch.Tensor) -> WholeNumbers:
    """Round rows to as many levels as this machine's kernels multiply without error.

    :param rows: (..., in) float32.
    :returns: their whole numbers, from 0 to `input_levels()`.
    """
    levels = input_levels()
    fused = levels == FUSED_LEVELS and has_fused() and rows.shape[-1] % FLOAT_BYTES == 0
    return fused_whole_numbers(rows) if fused else plain_whole_numbers(rows, levels)


@cache
def has_fused() -> bool:
    """Whether torch was built with the fused operator; looked up at first use."""
    return hasattr(torch.ops.quantized, "embedding_bag_byte_prepack")


def plain_whole_numbers(rows: torch.Tensor, levels: int) -> WholeNumbers:
    """Round rows, one operation after the other.

    :param rows: (..., in) float32.
    :param levels: the largest whole number.
    :returns: whole numbers in float32.
    """
    lowest = rows.amin(-1, keepdim=True)
    steps = (rows.amax(-1, keepdim=True) - lowest).clamp_min_(TINY).div_(levels)
    return WholeNumbers((rows - lowest).mul_(steps.reciprocal()).round_(), steps, lowest)


def fused_whole_numbers(rows: torch.Tensor) -> WholeNumbers:
    """Round rows to 255 levels in one pass, a fifth of the plain way's time: torch's operator for embedding tables.

    :param rows: (..., in) float32, `in` a multiple of 4: scale and floor are read where they stand.
    :returns: whole numbers in uint8.
    """
    fused = torch.ops.quantized.embedding_bag_byte_prepack.default(rows)
    floats = fused.view(torch.float32)
    # The operator passes over a NaN: the sum of a row that is not finite keeps it from becoming a number.
    lowest = torch.add(floats[..., -1:], rows.sum(-1, keepdim=True), alpha=0)
    return WholeNumbers(fused[..., :-FUSED_BYTES].contiguous(), floats[..., -2:-1], lowest)
