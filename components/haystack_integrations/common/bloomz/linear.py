"""Matrix products of a Bloom: the one place where their engine is chosen.

Enters: the plain `nn.Linear` of a loaded checkpoint. Leaves: a module in its place that gives the same product, only
faster. `nn.Linear` is the reference, and what training uses. Knows nothing of attention or of texts.

oneDNN with weights packed once, against `F.linear` (MKL) on one AVX-512 core of an AMD EPYC: 1.15 times faster from
64 rows on, 2 times at 15 rows; GELU and the residual sum cost nothing beside it. Source: `torch._inductor` freezes
models on a CPU with the same two operators. Where torch was built without them, layers stay plain.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from haystack_integrations.common.bloomz.bloom import BloomBody, BloomFeedForward, linear_of
from haystack_integrations.common.bloomz.int8 import Int8Embedding, Int8Linear, Precision
from haystack_integrations.common.bloomz.int8_choice import choose_kernel
from haystack_integrations.common.bloomz.int8_kernels import PACKED_ROWS


class PackedOperators(NamedTuple):
    """oneDNN's operators, overloads by name: see `int8_kernels`."""

    pack: Callable[..., torch.Tensor]
    multiply: Callable[..., torch.Tensor]
    multiply_add: Callable[..., torch.Tensor]


@cache
def packed_operators() -> PackedOperators | None:
    """Return oneDNN's operators, if they work here; looked up at first use, since importing must work without them.

    :returns: None where torch was built without oneDNN, or without it for this processor.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        names = torch.ops.mkldnn
        found = PackedOperators(
            names._reorder_linear_weight.default, names._linear_pointwise.default, names._linear_pointwise.binary
        )
        rows, weight = torch.ones(2, 16), torch.ones(16, 16)
        product = found.multiply(rows, found.pack(weight, PACKED_ROWS), torch.zeros(16), "none", [], "")
    except (AttributeError, RuntimeError):
        return None
    return found if bool((product == 16).all()) else None


class PackedLinear(nn.Module):
    """A linear layer in float32 on a CPU, its weight in oneDNN's own layout; without gradients."""

    def __init__(self, plain: nn.Linear) -> None:
        """Pack the weight.

        :param plain: float32, on a CPU; the caller drops it, so that its weight is not kept twice.
        """
        super().__init__()
        operators = packed_operators()
        assert operators is not None, "prepare_linear packs only where there are operators"
        self.bias = plain.bias
        self._operators = operators
        self._packed = operators.pack(plain.weight.detach(), PACKED_ROWS)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply.

        :param rows: (..., in).
        :returns: (..., out).
        """
        return self._operators.multiply(rows, self._packed, self.bias, "none", [], "")

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply, then GELU, in one pass.

        :param rows: (T, in).
        :returns: (T, out).
        """
        return self._operators.multiply(rows, self._packed, self.bias, "gelu", [], "tanh")

    def add(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Multiply, then add, in one pass.

        :param rows: (T, in).
        :param residual: (T, out).
        :returns: (T, out).
        """
        return self._operators.multiply_add(rows, residual, self._packed, self.bias, "add")


class SilentMLP(nn.Module):
    """In the place of an MLP whose last matrix is zero: the bundled retriever has one, two thirds of its products."""

    def forward(self, _: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Add nothing.

        :param residual: (T, H).
        :returns: the residual.
        """
        return residual


def mlp_add(mlp: BloomFeedForward | SilentMLP, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return the sum of what a layer's MLP makes of rows and a residual.

    :param mlp: Bloom's own, or a silent one.
    :param rows: (T, H).
    :param residual: (T, H).
    :returns: (T, H).
    """
    if isinstance(mlp, SilentMLP):
        return residual
    return linear_add(mlp.dense_4h_to_h, linear_gelu(mlp.dense_h_to_4h, rows), residual)


def linear_gelu(linear: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Return GELU of a product, in its tanh form, as Bloom computes it.

    :param linear: any linear layer.
    :param rows: (T, in).
    :returns: (T, out).
    """
    if isinstance(linear, PackedLinear | Int8Linear):
        return linear.gelu(rows)
    return F.gelu(linear(rows), approximate="tanh")


def linear_add(linear: nn.Module, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return the sum of a product and a residual.

    :param linear: any linear layer.
    :param rows: (T, in).
    :param residual: (T, out).
    :returns: (T, out).
    """
    return linear.add(rows, residual) if isinstance(linear, PackedLinear) else linear(rows) + residual


def prepare_body(model: BloomBody, precision: Precision | None) -> bool:
    """Put faster layers in the place of plain ones.

    The last projection stays as it is: the forward's shortcut reads its weight.

    :param model: changed in place, layer by layer, so that no more than one weight is there twice; Hugging Face's own
        forward still works on it.
    :param precision: as for `prepare_linear`; "int8" serves the table of word vectors too.
    :returns: whether any layer is another one now.
    """
    changed = False
    if precision == "int8":  # the largest one first, while there is nothing else yet
        model.word_embeddings = Int8Embedding(model.word_embeddings)
    for block in model.h:
        attention = [(block.self_attention, "query_key_value"), (block.self_attention, "dense")]
        mlp = [(block.mlp, "dense_h_to_4h"), (block.mlp, "dense_4h_to_h")]
        if _is_zero(block.mlp.dense_4h_to_h):
            block.mlp, mlp, changed = SilentMLP(), [], True
        for parent, name in attention + mlp:
            if block is model.h[-1] and name == "query_key_value":
                continue
            plain = getattr(parent, name)
            # Attention takes the exponential of its scores, and of their errors: the bundled retriever's vectors differ
            # by a cosine of 0.00002 with fine inputs here, 0.002 without, for a sixth of the time.
            setattr(parent, name, prepare_linear(plain, precision, fine=name == "query_key_value"))
            changed |= getattr(parent, name) is not plain
    return changed


def prepare_linear(linear: nn.Module, precision: Precision | None, *, fine: bool = False) -> nn.Module:
    """Choose the engine of one layer.

    :param linear: any layer.
    :param precision: "int8", or None for the same numbers as the layer's own.
    :param fine: in int8, inputs of 16 bits.
    :returns: the faster layer; the same one where there is none (on CUDA, below float32, for adapters).
    """
    if type(linear) is not nn.Linear:
        return linear
    if precision == "int8":
        choice = choose_kernel(linear, lambda: prepare_linear(_in_float32(linear), None), fine=fine)
        return Int8Linear(linear, fine=fine, kernel=choice.kernel, choice=choice)
    fits = linear.weight.device.type == "cpu" and linear.weight.dtype == torch.float32
    return PackedLinear(linear) if fits and packed_operators() else linear


def _in_float32(linear: nn.Linear) -> nn.Linear:
    return linear_of(linear.weight.detach().float(), linear.bias.detach().float())


def _is_zero(linear: nn.Module) -> bool:
    return type(linear) is nn.Linear and not linear.bias.any() and not linear.weight.any()
