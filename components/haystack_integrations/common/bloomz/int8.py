"""The same layers in fewer bytes: linears and the table of word vectors of 8 bits. No calibration data is needed.

Enters: plain layers of a loaded checkpoint, of any float dtype. Leaves: modules that take and give float32. The product
itself is that of a kernel of `int8_kernels`.
"""

from copy import copy
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from haystack_integrations.common.bloomz.int8_kernels import KERNELS, KernelChoice, usable_levels
from haystack_integrations.common.bloomz.int8_rows import TINY, whole_numbers

Precision = Literal["int8"]

TABLE_ROWS = 512  # of a matrix, quantised at once: large blocks leave holes that the allocator does not give back
EXACT_ROWS = 64  # of the table, kept in float32: those that one number dominates most
FEW_ROWS = 64  # so few wait for the weights: two products as one read them once; with many rows two are faster


def check_precision(precision: str | None) -> None:
    """Refuse what is not known.

    :param precision: from a user.
    :raises ValueError: if it is neither None nor "int8".
    """
    if precision is not None and precision not in get_args(Precision):
        raise ValueError(
            f"precision must be None or 'int8', but got {precision!r} (for another dtype of the weights, "
            "model_kwargs={'dtype': 'bfloat16'})"
        )


class Int8Embedding(nn.Module):
    """A table of vectors of 8 bits, one scale a vector: of Bloom-560m's 2.2 GB it is nearly half.

    A vector with one number far above the others would lose them to its scale. Tokens that open and close a text have
    such vectors, and are in every text: rounded, the bundled ranker's two moved all its probabilities down by 0.06.
    """

    def __init__(self, plain: nn.Embedding) -> None:
        """Quantise the table, a part at a time: in float32 all of it would take 1 GB.

        :param plain: of any float dtype; the caller drops it.
        """
        super().__init__()
        # No parameters: what turns a model to float32 leaves them alone.
        self.weight = torch.empty(plain.weight.shape, dtype=torch.int8)  # (V, H)
        self._scales = torch.empty(len(self.weight))  # (V,)
        dominance = torch.empty(len(self.weight))  # (V,), of a row's largest number over its length
        for start in range(0, len(self.weight), TABLE_ROWS):
            part = slice(start, start + TABLE_ROWS)
            rows = plain.weight.detach()[part].float()
            self.weight[part], self._scales[part] = _quantised(rows)
            dominance[part] = rows.abs().amax(1) / torch.linalg.vector_norm(rows, dim=1).clamp_min_(TINY)
        exact = dominance.topk(min(EXACT_ROWS, len(self.weight))).indices
        self._scales[exact] = 0.0
        self._exact = F.pad(plain.weight.detach()[exact].float(), (0, 0, 1, 0))  # (1 + EXACT_ROWS, H), first of zeros
        self._places = torch.zeros(len(self.weight), dtype=torch.int32)  # (V,), in `_exact`
        self._places[exact] = torch.arange(1, len(self._exact), dtype=torch.int32)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up.

        :param ids: (...,) int64.
        :returns: (..., H) float32.
        """
        rounded = F.embedding(ids, self.weight).float().mul_(self._scales[ids][..., None])
        return rounded.add_(F.embedding(self._places[ids], self._exact))


class Int8Linear(nn.Module):
    """A linear layer with weights of 8 bits, one scale an output, and inputs of 8 bits, one scale and one floor a row.

    A scale a row, found as the row comes: no calibration, and a text's vector does not depend on its neighbours, as it
    would with one scale for the whole batch. From the row's smallest to its largest number, and not as far below zero
    as above: rows reach far to one side.
    """

    def __init__(
        self,
        plain: nn.Linear,
        *,
        fine: bool = False,
        kernel: str | None = None,
        choice: KernelChoice | None = None,
    ) -> None:
        """Quantise and pack the weight.

        :param plain: of any float dtype, on a CPU; the caller drops it.
        :param fine: inputs of 16 bits, in two products, of the rounded rows and of what rounding left: the error of the
            weights alone remains.
        :param kernel: of `KERNELS`; None takes the first that works here.
        :param choice: why that one; kept to be shown.
        """
        super().__init__()
        self._fine = fine
        self.choice = choice
        self.shape = f"{plain.in_features} -> {plain.out_features}"
        integers, scales = _quantised(plain.weight.detach())  # (out, in)
        self.bias = nn.Parameter(plain.bias.detach().float(), requires_grad=False)
        self._multiply = KERNELS[kernel or next(iter(usable_levels()))](integers, scales)
        self._scales = scales
        sums = [part.sum(1, dtype=torch.float32) for part in integers.split(TABLE_ROWS)]
        self._sums = torch.cat(sums) * scales  # (out,), what a row of ones gives

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply.

        :param rows: (..., in) float32.
        :returns: (..., out) float32.
        """
        found = whole_numbers(rows)
        if not self._fine:
            return torch.addcmul(self.bias, found.lowest, self._sums).addcmul_(self._multiply(found.whole), found.steps)
        rest = whole_numbers(rows - found.rounded())
        out = torch.addcmul(self.bias, found.lowest + rest.lowest, self._sums)
        if found.steps.numel() > FEW_ROWS:
            out.addcmul_(self._multiply(found.whole), found.steps)
            return out.addcmul_(self._multiply(rest.whole), rest.steps)
        coarse, finer = self._multiply(torch.stack([found.whole, rest.whole]).flatten(0, -2)).view(2, *out.shape)
        return out.addcmul_(coarse, found.steps).addcmul_(finer, rest.steps)

    def integers(self) -> torch.Tensor:
        """Return the weights: (out, in) int8, the same whatever the kernel."""
        return self._multiply.integers()

    def by_kernel(self, name: str) -> "Int8Linear":
        """Return a layer of the same weights that multiplies by another kernel.

        :param name: of `KERNELS`.
        :returns: a copy that shares all but the packed weights.
        """
        other = copy(self)
        other._multiply = KERNELS[name](self.integers(), self._scales)
        return other

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply, then GELU in its form with erf: a fifth of the time of the form with tanh, which Bloom computes.

        The two differ by at most 0.0005, less near zero: below what the next product rounds away.

        :param rows: (T, in) float32.
        :returns: (T, out) float32.
        """
        return F.gelu(self(rows))


def _quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round (R, H) rows of any float dtype to int8, from -127 to 127, by one scale a row: (R,) float32."""
    integers, scales = torch.empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
    for start in range(0, len(weight), TABLE_ROWS):
        part = slice(start, start + TABLE_ROWS)
        rows = weight[part].float()
        scales[part] = torch.linalg.vector_norm(rows, torch.inf, dim=1).clamp_min_(TINY).div_(127)
        integers[part] = (rows / scales[part, None]).round_()
    return integers, scales
