"""An objective -> its batches, step by step, drawn by other processes while this one computes.

Drawing is Python, row by row; a GPU would wait for it. A batch depends on its step alone, so the batches are the same
with any number of workers. Knows nothing of what a batch holds.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

_Batch = TypeVar("_Batch")


class _Steps(Dataset[_Batch]):
    """The batch of each step from `first` to `last`."""

    def __init__(self, draw: Callable[[int], _Batch], first: int, last: int) -> None:
        self._draw, self._first, self._last = draw, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, place: int) -> _Batch:
        return self._draw(self._first + place)


def batches(draw: Callable[[int], _Batch], first: int, last: int, workers: int) -> Iterator[_Batch]:
    """Yield the batches of a run.

    :param draw: step -> batch, the same in every process; touches no GPU.
    :param first: step to start with.
    :param last: step to stop before.
    :param workers: processes that draw; 0 draws in this one, on demand.
    :returns: one batch per step, in order.
    """
    context = "fork" if workers else None  # rows are large, and never change: they are shared, not copied
    steps = _Steps(draw, first, last)
    return iter(
        DataLoader(steps, batch_size=None, collate_fn=_as_it_is, num_workers=workers, multiprocessing_context=context)
    )


def _as_it_is(batch: _Batch) -> _Batch:
    return batch
