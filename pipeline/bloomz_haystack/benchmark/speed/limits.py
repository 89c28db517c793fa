"""What this machine can do at most: its matrix product and its memory, timed beside what is compared with them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from haystack_integrations.common.bloomz.linear import prepare_linear

# On a CPU where the product is at its fastest: from 2,048 rows on its result no longer fits in the cache. On a GPU far
# above the time that it takes to begin: 1,024 rows reach a sixteenth of an H100's rate.
PRODUCT_ROWS = {"cpu": 1024, "cuda": 2**16}
READ_BYTES = {"cpu": 2**28, "cuda": 2**32}  # far above any cache


class Work(NamedTuple):
    """What a run cannot do without: arithmetic, and bytes read once from memory."""

    flop: float = 0.0
    bytes_read: float = 0.0


class Rates(NamedTuple):
    """What the machine reaches: FLOP/s of a large matrix product, bytes/s of a long read."""

    flop: float
    bytes_read: float


class Probes(NamedTuple):
    """Two functions to be timed in each round, and the work that each does."""

    product: Callable[[], object]
    read: Callable[[], object]
    product_work: float
    read_work: float


def make_probes(hidden: int, device: torch.device, dtype: torch.dtype, rows: int | None = None) -> Probes:
    """Return the probes, their memory allocated.

    :param hidden: H; the product is the largest of a Bloom layer, (rows, H) x (H, 4H).
    :param device: where.
    :param dtype: of the product.
    :param rows: tokens; None takes what suits the device.
    :returns: the probes.
    """
    rows = rows or PRODUCT_ROWS[device.type]
    states = torch.randn(rows, hidden, device=device).to(dtype)
    # By the engine of ours, which on a CPU beats torch.mm: a limit must not be below what is measured against it.
    layer = nn.Linear(hidden, 4 * hidden, device=device, dtype=dtype).requires_grad_(False)
    product = prepare_linear(layer, None)
    # A product with one vector reads its matrix once and does next to no arithmetic.
    matrix = torch.ones(READ_BYTES[device.type] // 4096, 1024, device=device)
    vector = torch.ones(1024, device=device)
    return Probes(
        product=lambda: product(states),
        read=lambda: torch.mv(matrix, vector),
        product_work=2.0 * rows * hidden * 4 * hidden,
        read_work=float(matrix.nbytes),
    )


def least_seconds(work: Work, rates: Rates) -> float:
    """Return the least time that the machine needs.

    :param work: what must be done.
    :param rates: what the machine reaches.
    :returns: seconds: the larger of arithmetic and reading, since the two overlap.

    >>> least_seconds(Work(flop=20.0, bytes_read=30.0), Rates(flop=10.0, bytes_read=10.0))
    3.0
    """
    return max(work.flop / rates.flop, work.bytes_read / rates.bytes_read)


def bloom_work(tokens: int, layers: int, hidden: int, weight_bytes: int) -> Work:
    """Count the linears of a Bloom; attention, norms and GELU are left out (about 1 % at 150 tokens).

    :param tokens: rows, without padding.
    :param layers: computed for every token.
    :param hidden: H; a layer multiplies by 12 H^2 weights.
    :param weight_bytes: bytes of one weight.
    :returns: the arithmetic, and the weights read once.

    >>> bloom_work(tokens=1, layers=24, hidden=1024, weight_bytes=4).flop  # the 604 MFLOP of Bloom-560m
    603979776.0
    """
    weights = 12.0 * hidden**2 * layers
    return Work(flop=2 * weights * tokens, bytes_read=weights * weight_bytes)
