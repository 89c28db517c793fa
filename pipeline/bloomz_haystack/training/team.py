"""The processes that train together, one per GPU: who computes what, and sums over all.

A single process needs none of this; several are started by `accelerate launch` (or torchrun), which set the variables
read here. Every process holds the whole model and reads all rows; several machines share the folder of the run. Knows
nothing of models or data.
"""

import logging
import os
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.distributed as dist


class Team(NamedTuple):
    """Process `rank` of `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def sum(self, tensors: Iterable[torch.Tensor]) -> None:
        """Add up tensors over all processes, in place, the same result on each.

        :param tensors: of the same shapes everywhere.
        """
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join_team() -> Team:
    """Return the team of the processes that the launcher started; a team of one without a launcher.

    :returns: the place of this process in it.
    :raises ImportError: if there are several and accelerate is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        from accelerate import PartialState
    except ImportError as error:
        message = 'accelerate is needed to train on several processes: pip install "bloomz-haystack[train]"'
        raise ImportError(message) from error
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.process_index > 0:
        logging.getLogger("bloomz_haystack").setLevel(logging.ERROR)  # one voice
    return Team(state.process_index, state.num_processes, state.device)
