"""Rows of whole numbers times weights of 8 bits: the kernels there are. All give the same numbers, one is the fastest.

Products of whole numbers add up to whole numbers, without rounding, so which kernel a machine takes moves no vector:
those of integers agree to the last bit, the widened one within float32. Enters: (out, in) int8 weights, one scale an
output; then rows that hold whole numbers from 0 to `input_levels()`, in uint8 or float32. Leaves: float32.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F

PACKED_ROWS = 256  # oneDNN packs for a number of rows; from 16 to 2,048 the layout is the same


class Int8Kernel(Protocol):
    """A product with weights that are packed."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply (..., in) whole numbers: (..., out) float32."""
        ...

    def integers(self) -> torch.Tensor:
        """Read the weights back: (out, in) int8."""
        ...


class OneDnnKernel:
    """oneDNN's, called as torch's own compiler calls it; `torch._int_mm`, which cannot pack, takes twice as long."""

    def __init__(self, integers: torch.Tensor, scales: torch.Tensor) -> None:
        """Pack the weights."""
        # Looked up here, not when the module is imported: torch may be built without oneDNN. By the overload's name: to
        # choose among several, torch writes the tensors out in an error message for each that fails.
        self._multiply = torch.ops.onednn.qlinear_pointwise.default
        self._packed = torch.ops.onednn.qlinear_prepack(integers, [PACKED_ROWS, integers.shape[1]])
        self._scales, self._zeros = scales, torch.zeros(len(scales), dtype=torch.int64)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        bytes_ = rows.to(torch.uint8)
        return self._multiply(
            bytes_, 1.0, 0, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )

    def integers(self) -> torch.Tensor:
        """Unpack the weights."""
        return self._packed.to_dense().t().contiguous()


class FbgemmKernel:
    """fbgemm's, up to three times as fast as oneDNN's on a processor without VNNI.

    Told the scale of the input, which is 1, so that rows do not share one as in `quantized::linear_dynamic`.
    """

    def __init__(self, integers: torch.Tensor, scales: torch.Tensor) -> None:
        """Pack the weights."""
        self._multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with _fbgemm_packs():
            weight = torch._make_per_channel_quantized_tensor(integers, scales.double(), zeros, 0)
            self._packed = torch.ops.quantized.linear_prepack(weight, None)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return self._multiply(rows.float(), 1.0, 0, self._packed)

    def integers(self) -> torch.Tensor:
        """Unpack the weights."""
        return torch.ops.quantized.linear_unpack(self._packed)[0].int_repr()


class WidenedKernel:
    """Weights kept in 8 bits, widened to float32 for each product: on any machine; slow with few rows."""

    def __init__(self, integers: torch.Tensor, scales: torch.Tensor) -> None:
        """Keep the weights."""
        self._integers, self._scales = integers, scales

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return F.linear(rows.float(), self._integers.float()).mul_(self._scales)

    def integers(self) -> torch.Tensor:
        """Return the weights."""
        return self._integers


class KernelChoice(NamedTuple):
    """The kernel of a shape of layer, and the milliseconds of CPU that each way took; none if it was not timed."""

    kernel: str
    milliseconds: dict[str, float]


KERNELS: dict[str, Callable[[torch.Tensor, torch.Tensor], Int8Kernel]] = {
    "onednn": OneDnnKernel,
    "fbgemm": FbgemmKernel,
    "widened": WidenedKernel,
}


@cache
def usable_levels() -> dict[str, int]:
    """Return the kernels that work here, each with the largest whole number it multiplies without error.

    :returns: 255, or 127 where the processor adds two products in 16 bits: without VNNI, a pair above 2^15 is cut
        without a word, and half the levels never get there. Asked of the kernels themselves, since which instructions
        they take is their own affair.
    """
    found = {name: _exact_levels(kernel) for name, kernel in KERNELS.items()}
    return {name: levels for name, levels in found.items() if levels}


@cache
def input_levels() -> int:
    """Return the largest whole number of an input: one for all kernels of a machine, so that all give the same."""
    return min(usable_levels().values())


def _exact_levels(kernel: Callable[[torch.Tensor, torch.Tensor], Int8Kernel]) -> int:
    integers = torch.full((16, 64), 127, dtype=torch.int8)
    integers[8:] = -127
    try:
        multiply = kernel(integers, torch.ones(16))
        for levels in (255, 127):
            exact = levels * integers.sum(1, dtype=torch.float32)
            rows = torch.full((32, 64), float(levels))
            if (multiply(rows) == exact).all() and (multiply(rows[:1]) == exact).all():
                return levels
    except (AttributeError, RuntimeError):  # no such operator, or none for this processor
        pass
    return 0


@contextmanager
def _fbgemm_packs() -> Iterator[None]:
    """Choose fbgemm for what is packed: one switch for the whole process, so it is put back."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantised tensors will go; then so does this kernel
            yield
    finally:
        torch.backends.quantized.engine = before
