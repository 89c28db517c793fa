"""Token ids -> packed batch: texts laid end to end, no padding, and the plan of which texts share a batch.

Enters: arrays of token ids. Leaves: `PackedBatch`. Knows nothing of text, of the model or of a device.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch


class Run(NamedTuple):
    """Neighbours of equal length in a pack: their rows are a (count, length, ...) view, without a copy."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nothing here uses
    length: int

    @property
    def tokens(self) -> int:
        """Tokens of the run."""
        return self.count * self.length


class PackedBatch(NamedTuple):
    """B texts of T tokens in all.

    `input_ids` (T,) int64; `positions` (T,) float32, the place of each token in its own text, from 0;
    `cu_seqlens` (B+1,) int32 from 0 to T; `max_seqlen` in tokens; `runs` covers the texts in order.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    cu_seqlens: torch.Tensor
    max_seqlen: int
    runs: list[Run]

    def to(self, device: torch.device) -> "PackedBatch":
        """Move the tensors to a device.

        :param device: where the model is.
        :returns: the same batch there.
        """
        moved = {name: getattr(self, name).to(device) for name in ("input_ids", "positions", "cu_seqlens")}
        return self._replace(**moved)


def pack(token_ids: Sequence[npt.NDArray[np.int64]]) -> PackedBatch:
    """Lay token ids end to end.

    :param token_ids: B arrays of at least one token id each; neighbours of equal length are computed together.
    :returns: the packed batch, on the CPU.
    :raises ValueError: if there is no text, or a text has no token (an empty text has no last token).

    >>> pack([np.array([5, 6]), np.array([7])]).cu_seqlens.tolist()
    [0, 2, 3]
    """
    lengths = [len(ids) for ids in token_ids]
    if not lengths or min(lengths) == 0:
        raise ValueError(f"every text needs at least one token, but got lengths {lengths[:8]}")
    cu_seqlens = np.cumsum([0, *lengths], dtype=np.int32)
    positions = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], lengths)
    return PackedBatch(
        input_ids=torch.from_numpy(np.concatenate(token_ids)),
        positions=torch.from_numpy(positions.astype(np.float32)),
        cu_seqlens=torch.from_numpy(cu_seqlens),
        max_seqlen=max(lengths),
        runs=[Run(len(list(group)), length) for length, group in groupby(lengths)],
    )


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group texts of similar length into batches of at most `batch_tokens` tokens, longest first.

    Longest first: what does not fit in memory fails at the first batch, and the time left shown is never too short.

    :param lengths: tokens of each text.
    :param batch_tokens: token budget of a batch; one text longer than it gets a batch of its own.
    :returns: positions in `lengths`, batch by batch, each position once.

    >>> plan_batches([2, 9, 3, 4], batch_tokens=10)
    [[1], [3, 2, 0]]
    """
    batches: list[list[int]] = []
    room = 0
    for position in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        if not batches or lengths[position] > room:
            batches.append([])
            room = batch_tokens
        batches[-1].append(position)
        room -= lengths[position]
    return batches
