"""What is kept of a context: keys and values of every layer, in few bytes, and the way back to the dtype of the model.

Keys are kept without their ALiBi bias, so they hold at any position, and attention is causal, so the first L tokens of
what is kept are what a text of L tokens would have given. Knows nothing of who asks or of how much room there is.
"""

from typing import Literal, NamedTuple, get_args

import torch

StoreDtype = Literal["float16", "float32", "int8"]
STORE_DTYPES: tuple[str, ...] = get_args(StoreDtype)

_INT8_LARGEST = 127


class PrefixShape(NamedTuple):
    """Sizes of a model: N heads of D numbers, layers that keep keys and values, H where the last layer keeps its input.

    The last layer of a packed forward reads its tokens only through the last one, so their normed states (H a token)
    serve where keys and values would take 2 H.
    """

    heads: int
    head_dim: int
    layers: int
    last_width: int
    store_dtype: StoreDtype

    def bytes_of(self, tokens: int) -> int:
        """Bytes that a context takes.

        :param tokens: of the context.
        :returns: bytes.

        >>> PrefixShape(16, 64, 23, 1024, "float16").bytes_of(127) / 2**20  # Bloom-560m, a passage
        11.658203125
        """
        numbers = tokens * (2 * self.layers * self.heads * self.head_dim + self.last_width)
        if self.store_dtype != "int8":
            return numbers * (2 if self.store_dtype == "float16" else 4)
        scales = tokens * (2 * self.layers * self.heads + (1 if self.last_width else 0))
        return numbers + 2 * scales


class PrefixStates(NamedTuple):
    """What is kept of L tokens; in int8, a float16 scale for each row of D (or H) numbers, else no scales.

    `keys` (layers, N, D, L), transposed as the product with the queries wants them; `values` (layers, N, L, D);
    `last` (L, H), or (L, 0) where the last layer is like the others.
    """

    keys: torch.Tensor
    values: torch.Tensor
    last: torch.Tensor
    key_scales: torch.Tensor | None = None  # (layers, N, 1, L)
    value_scales: torch.Tensor | None = None  # (layers, N, L, 1)
    last_scales: torch.Tensor | None = None  # (L, 1)

    @property
    def tokens(self) -> int:
        """L."""
        return self.last.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self if tensor is not None)

    def is_finite(self) -> bool:
        """Whether every number survived: float16 ends at 65,504, and so do the scales of int8."""
        kept = self[:3] if self.key_scales is None else self[3:]
        return all(bool(tensor.isfinite().all()) for tensor in kept if tensor is not None)

    def write_layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep a layer.

        :param layer: which.
        :param key: (L, N, D).
        :param value: (L, N, D).
        """
        _write(self.keys[layer], _of(self.key_scales, layer), key.permute(1, 2, 0), dim=1)
        _write(self.values[layer], _of(self.value_scales, layer), value.transpose(0, 1), dim=2)

    def write_last(self, normed: torch.Tensor) -> None:
        """Keep the input of the last layer.

        :param normed: (L, H), after the layer's first norm.
        """
        _write(self.last, self.last_scales, normed, dim=1)

    def read_keys(self, layer: int, key: torch.Tensor) -> None:
        """Read the keys of the first tokens.

        :param layer: which.
        :param key: (N, D, L') to be filled.
        """
        first = key.shape[2]
        _read(self.keys[layer, :, :, :first], _of(self.key_scales, layer, (..., slice(first))), key)

    def read_values(self, layer: int, value: torch.Tensor) -> None:
        """Read the values of the first tokens.

        :param layer: which.
        :param value: (N, L', D) to be filled.
        """
        first = value.shape[1]
        _read(self.values[layer, :, :first], _of(self.value_scales, layer, (slice(None), slice(first))), value)

    def read_last(self, normed: torch.Tensor) -> None:
        """Read the first tokens of the last layer's input.

        :param normed: (L', H) to be filled.
        """
        first = len(normed)
        _read(self.last[:first], None if self.last_scales is None else self.last_scales[:first], normed)


def empty_states(shape: PrefixShape, tokens: int, device: torch.device) -> PrefixStates:
    """Make room for a context.

    :param shape: of the model.
    :param tokens: of the context.
    :param device: where the model is.
    :returns: states of `shape.bytes_of(tokens)` bytes, to be written.
    """
    layers, heads, dim = shape.layers, shape.heads, shape.head_dim
    sizes = [(layers, heads, dim, tokens), (layers, heads, tokens, dim), (tokens, shape.last_width)]
    dtype = getattr(torch, shape.store_dtype)
    tensors = [torch.empty(size, dtype=dtype, device=device) for size in sizes]
    if shape.store_dtype != "int8":
        return PrefixStates(*tensors)
    sizes = [(layers, heads, 1, tokens), (layers, heads, tokens, 1), (tokens, min(shape.last_width, 1))]
    scales = [torch.empty(size, dtype=torch.float16, device=device) for size in sizes]
    return PrefixStates(*tensors, *scales)


def _write(kept: torch.Tensor, scales: torch.Tensor | None, given: torch.Tensor, dim: int) -> None:
    if scales is None or not given.numel():
        kept.copy_(given)
        return
    # The scale is rounded first, so that the numbers are divided by what they will be multiplied with.
    scales.copy_(given.abs().amax(dim, keepdim=True) / _INT8_LARGEST)
    kept.copy_((given / scales.to(given.dtype).clamp_min(1e-8)).round_().clamp_(-_INT8_LARGEST, _INT8_LARGEST))


def _read(kept: torch.Tensor, scales: torch.Tensor | None, out: torch.Tensor) -> None:
    if scales is None:
        out.copy_(kept)
    else:
        torch.mul(kept, scales.to(out.dtype), out=out)


def _of(scales: torch.Tensor | None, layer: int, tokens: tuple | slice = slice(None)) -> torch.Tensor | None:
    return None if scales is None else scales[layer][tokens]
